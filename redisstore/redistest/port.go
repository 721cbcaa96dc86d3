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

// reserved holds the ports that this process has reserved.
var reserved = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// reservePort returns a free port of loopback. Another process may take the port before the server
// does. Then the server does not start, and the caller tries another port.
func reservePort() (int, error) {
	reserved.Lock()
	defer reserved.Unlock()
	for range 1000 {
		port := lowestPort + rand.IntN(highestPort-lowestPort) //nolint:gosec // no secret
		if reserved.ports[port] {
			continue
		}
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		l.Close()
		reserved.ports[port] = true
		return port, nil
	}
	return 0, errors.New("redistest: no free port on loopback: end some of the processes that listen there")
}

func releasePort(port int) {
	reserved.Lock()
	defer reserved.Unlock()
	delete(reserved.ports, port)
}
