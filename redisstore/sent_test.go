package redisstore_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/redisstore"
)

// cancelAt returns patient options of a store, and a context that is cancelled when the store sends
// data with all these texts. arm starts the search.
func cancelAt(t testing.TB, texts ...string) (o redisstore.Options, ctx context.Context, arm func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var armed atomic.Bool
	return showSent(o, func(sent []byte) {
		missing := func(text string) bool { return !bytes.Contains(sent, []byte(text)) }
		if armed.Load() && !slices.ContainsFunc(texts, missing) {
			cancel()
		}
	}), ctx, func() { armed.Store(true) }
}

// showSent returns patient options of a store that shows look all data before it sends it.
func showSent(o redisstore.Options, look func(sent []byte)) redisstore.Options {
	return onDial(o, func(conn net.Conn) net.Conn { return lookingConn{conn, look} })
}

// onDial returns patient options of a store that uses what wrap returns for each new connection.
func onDial(o redisstore.Options, wrap func(net.Conn) net.Conn) redisstore.Options {
	o.Client = func(c *rueidis.ClientOption) { c.DialCtxFn = wrapping(c.DialCtxFn, wrap) }
	return patient(o)
}

// wrapping returns a function that dials, and returns what wrap makes of the connection.
func wrapping(dial dialFn, wrap func(net.Conn) net.Conn) dialFn {
	return func(ctx context.Context, to string, d *net.Dialer, config *tls.Config) (net.Conn, error) {
		conn, err := dial(ctx, to, d, config)
		if err != nil {
			return nil, err
		}
		return wrap(conn), nil
	}
}

// lookingConn shows look all data before it sends it.
type lookingConn struct {
	net.Conn
	look func(sent []byte)
}

func (c lookingConn) Write(b []byte) (int, error) {
	c.look(b)
	return c.Conn.Write(b)
}

// logBuffer is a log that a test reads while a store writes it.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
