package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/redis/rueidis"
)

// clientOption is what all connections have in common. The client's own defaults take 12 s to give up a node that hangs.
func clientOption(o *Options) rueidis.ClientOption {
	return rueidis.ClientOption{
		Dialer:              net.Dialer{Timeout: min(o.Timeout, time.Second), KeepAlive: time.Second},
		ConnWriteTimeout:    2 * time.Second,
		ClientName:          "coatcheck",
		DisableRetry:        true,                         // attempt does it: the client reuses a command's memory while a lost connection may still read it
		ClientSetInfo:       rueidis.DisableClientSetInfo, // one thing less to allow, which Redis 7.0 has not
		AlwaysPipelining:    true,                         // so that invalidations are read as they come
		PipelineMultiplex:   -1,                           // one connection to a node: replies and invalidations are in order on one only
		ReadBufferEachConn:  64 << 10,
		WriteBufferEachConn: 64 << 10,
	}
}

func dialUnix(ctx context.Context, path string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
	return d.DialContext(ctx, "unix", path)
}

// dialUntil is dial for a caller who may give up before the client does.
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

// dial connects twice: with tracking, for records and changes, and without, for what must not fill the server's tracking table.
// If the server refuses tracking, both are the same, and there is no near cache.
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
	opt.ClientTrackingOptions = []string{"NOLOOP"} // what we write ourselves, we keep up to date ourselves
	opt.NewCacheStoreFn = func(rueidis.CacheStoreOption) rueidis.CacheStore { return &tracking{s.near, s.ends, &s.all} }
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

// tracking receives the invalidations of one connection. It is called by the connection's reader and must not block. It keeps nothing
// for the client, whose own cache is not used.
type tracking struct {
	near *near
	ends *ends
	all  *everybody
}

func (t *tracking) Delete(keys []rueidis.RedisMessage) {
	if keys == nil { // FLUSHALL, or the tracking table was emptied
		t.near.distrust()
		t.all.told.Add(1)
		return
	}
	for i := range keys {
		key, err := keys[i].ToString()
		if err != nil {
			continue
		}
		if id, ok := t.near.keys.parse(key); ok {
			t.near.drop(id)
		} else if bucket, ok := t.near.keys.parseRevocations(key); ok {
			t.near.buckets[bucket].Add(1)
		} else if key == t.near.keys.all() {
			t.all.told.Add(1)
			t.near.lease.checkup()
		}
	}
}

// Close is called when the connection is lost: what changes from now on, it will not tell.
func (t *tracking) Close(error) {
	t.near.distrust()
	t.near.lease.end()
	t.ends.reassert()
}

func (t *tracking) Flight(string, string, time.Duration, time.Time) (m rueidis.RedisMessage, e rueidis.CacheEntry) {
	return m, e
}
func (t *tracking) Update(string, string, rueidis.RedisMessage) int64 { return 0 }
func (t *tracking) Cancel(string, string, error)                      {}
