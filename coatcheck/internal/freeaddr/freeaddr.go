// Package freeaddr finds addresses for the servers that tests start.
package freeaddr

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// given holds the addresses that Next has returned.
var given sync.Map

// Next returns an address of loopback on which nobody listens, as host:port. In one process it
// returns each address once. The port is below the range from which systems take ports for outgoing
// connections. So it stays free until the server has started, and while it restarts. The error says
// that there is no such port. Next is safe for concurrent use.
func Next() (string, error) {
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 13000+rand.IntN(3000)) //nolint:gosec // no secret
		ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
		if err != nil {
			continue
		}
		if err := ln.Close(); err != nil {
			return "", err
		}
		if _, taken := given.LoadOrStore(addr, true); !taken {
			return addr, nil
		}
	}
	return "", errors.New("no free port on loopback: end some of the processes that listen there")
}
