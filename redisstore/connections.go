package redisstore

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// connections are the open connections of the store's own clients to a standalone server. The
// server behind the address can change: a Kubernetes service, a DNS name or a TCP proxy leads new
// connections to the new primary, and leaves open ones on the old one. The client never closes
// those, so the store does. The client then dials the address again. The zero connections are
// ready.
type connections struct {
	mu   sync.Mutex
	open map[*connection]struct{}
}

// connection is a connection that leaves the set when the client closes it.
type connection struct {
	net.Conn
	set    *connections
	dialed time.Time // before the server was reached
}

// Close closes the connection.
func (c *connection) Close() error {
	c.set.mu.Lock()
	delete(c.set.open, c)
	c.set.mu.Unlock()
	return c.Conn.Close()
}

// follow makes a client's option dial through the set.
func (c *connections) follow(opt *rueidis.ClientOption) {
	dial := opt.DialCtxFn
	opt.DialCtxFn = func(ctx context.Context, to string, d *net.Dialer, config *tls.Config) (net.Conn, error) {
		began := time.Now()
		conn, err := dial(ctx, to, d, config)
		if err != nil {
			return nil, err
		}
		tracked := &connection{conn, c, began}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.open == nil {
			c.open = map[*connection]struct{}{}
		}
		c.open[tracked] = struct{}{}
		return tracked, nil
	}
}

// dialTCP dials as the client does by default.
func dialTCP(ctx context.Context, to string, d *net.Dialer, config *tls.Config) (net.Conn, error) {
	if config == nil {
		return d.DialContext(ctx, "tcp", to)
	}
	secure := tls.Dialer{NetDialer: d, Config: config}
	return secure.DialContext(ctx, "tcp", to)
}

// closeOlder closes the connections that were dialed before a time.
func (c *connections) closeOlder(than time.Time) {
	c.mu.Lock()
	var older []*connection
	for conn := range c.open {
		if conn.dialed.Before(than) {
			older = append(older, conn)
		}
	}
	c.mu.Unlock()
	for _, conn := range older {
		_ = conn.Close() // the client notices, and reports it
	}
}
