package redistest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports are below the range from which systems take ports for outgoing connections. So a stopped
// server's port is still free when the server restarts.
const lowestPort, highestPort = 16000, 32000

// reserved holds the ports that this process has reserved. The UDP socket on the same port keeps
// other processes from reserving the port, also while the server is stopped. The system closes it
// with the process.
var reserved = struct {
	sync.Mutex
	ports map[int]net.PacketConn
}{ports: map[int]net.PacketConn{}}

// reservePort returns a free port of loopback. A process that does not use this package may take
// the port before the server does. Then the server does not start, and the caller tries another
// port.
func reservePort() (int, error) {
	reserved.Lock()
	defer reserved.Unlock()
	for range 1000 {
		port := lowestPort + rand.IntN(highestPort-lowestPort) //nolint:gosec // no secret
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		mark, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp", addr)
		if err != nil {
			continue
		}
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
		if err != nil {
			mark.Close()
			continue
		}
		l.Close()
		reserved.ports[port] = mark
		return port, nil
	}
	return 0, errors.New("redistest: no free port on loopback: end some of the processes that listen there")
}

func releasePort(port int) {
	reserved.Lock()
	defer reserved.Unlock()
	if mark := reserved.ports[port]; mark != nil {
		mark.Close()
		delete(reserved.ports, port)
	}
}
