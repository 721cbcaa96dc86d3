package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/redis/rueidis"
)

// clientOption returns what all connections have in common. By default the client waits 12 s for
// a server that hangs.
func clientOption(o *Options) rueidis.ClientOption {
	return rueidis.ClientOption{
		DialCtxFn:        dialTCP,
		Dialer:           net.Dialer{Timeout: min(o.Timeout, time.Second), KeepAlive: time.Second},
		ConnWriteTimeout: 2 * time.Second,
		ClientName:       "coatcheck",
		// withRetry does it. The client reuses a command's memory while a lost connection may still
		// read it.
		DisableRetry:  true,
		ClientSetInfo: rueidis.DisableClientSetInfo, // Redis 7.0 does not have it

		AlwaysPipelining:    true, // reads invalidations as they arrive
		PipelineMultiplex:   -1,   // one connection a node keeps replies and invalidations in order
		ReadBufferEachConn:  64 << 10,
		WriteBufferEachConn: 64 << 10,
	}
}

func dialUnix(ctx context.Context, path string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
	return d.DialContext(ctx, "unix", path)
}

// dial makes the two clients: tracked for records and changes, and plain for what must not fill
// the server's tracking table. If the server refuses tracking, both are the same client, and
// there is no near cache.
func (s *Store) dial(opt rueidis.ClientOption) (err error) {
	plain := opt
	plain.DisableCache = true
	if s.plain, err = rueidis.NewClient(plain); err != nil {
		return err
	}
	if s.near == nil {
		s.tracked = s.plain
		return nil
	}
	// NOLOOP: the store updates its copies after its own writes.
	opt.ClientTrackingOptions = []string{"NOLOOP"}
	opt.NewCacheStoreFn = s.newInvalidationReceiver
	s.tracked, err = rueidis.NewClient(opt)
	if errors.Is(err, rueidis.ErrNoCache) {
		s.opt.Logger.Warn("redisstore: the server refuses client tracking, so every read is a round trip: "+
			"allow CLIENT TRACKING (+client|tracking) to use the near cache", "error", err)
		s.near, s.tracked, err = nil, s.plain, nil
	}
	if err != nil {
		s.plain.Close()
	}
	return err
}

// dialUntil is dial, but returns as soon as ctx is done.
func (s *Store) dialUntil(ctx context.Context, opt rueidis.ClientOption) error {
	done := make(chan error, 1)
	go func() { done <- s.dial(opt) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		go func() {
			if err := <-done; err == nil {
				s.closeClients()
			}
		}()
		return ctx.Err()
	}
}

func (s *Store) closeClients() {
	if !s.ownsClients {
		return
	}
	s.plain.Close()
	if s.tracked != s.plain {
		s.tracked.Close()
	}
}
