package redistest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports are taken from a range below the ones that systems give to outgoing connections, so that a
// stopped server's port is still free when it restarts.
const lowestPort, highestPort = 16000, 32000

// reserved holds the ports that this process has given out.
var reserved = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// reservePort finds a port of loopback that nobody uses. Another process may take it before the
// server does: then the server does not start, and the caller tries another.
func reservePort() (int, error) {
	reserved.Lock()
	defer reserved.Unlock()
	for range 1000 {
		port := lowestPort + rand.IntN(highestPort-lowestPort) //nolint:gosec // any free port will do
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
	return 0, errors.New("redistest: no free port on loopback: end what listens there")
}

func releasePort(port int) {
	reserved.Lock()
	defer reserved.Unlock()
	delete(reserved.ports, port)
}
