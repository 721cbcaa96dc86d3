package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// EndAll implements driver.UserStore: for an incident. It notes the time, so that no sign-in that began before gets through, and removes
// every session of the namespace, on every primary, a batch at a time. Interrupted, it can be called again.
func (s *Store) EndAll(ctx context.Context) error {
	var now string
	err := s.attempt(ctx, reading, func(ctx context.Context) error {
		t, err := s.plain.Do(ctx, s.plain.B().Time().Build()).AsIntSlice()
		if err == nil && len(t) != 2 {
			err = errReply
		}
		if err == nil {
			now = strconv.FormatInt(t[0]*1000+t[1]/1000, 10)
		}
		return err
	})
	if err != nil {
		return err
	}
	err = s.attempt(ctx, repeatable, func(ctx context.Context) error {
		return s.plain.Do(ctx, s.plain.B().Set().Key(s.keys.all()).Value(now).Px(revokedFor).Build()).Error()
	})
	if err != nil {
		return err
	}
	for addr, node := range s.plain.Nodes() {
		var info string
		err := s.attempt(ctx, reading, func(ctx context.Context) (err error) {
			info, err = node.Do(ctx, node.B().Info().Section("replication").Build()).ToString()
			return err
		})
		if err == nil && infoValue(info, "role") != "master" {
			continue
		}
		if err == nil {
			err = s.endNode(ctx, node)
		}
		if err != nil {
			return fmt.Errorf("redisstore: sessions on %s are not all ended, call again: %w", addr, err)
		}
	}
	if s.near != nil {
		s.near.distrust()
	}
	return nil
}

// revokedFor is how long it is known when everybody's sessions were ended: as long as a user's index may name one of them. Who finds it there
// must not take it for one that expired.
const revokedFor = 400 * 24 * time.Hour

// endNode removes the sessions that one primary has.
func (s *Store) endNode(ctx context.Context, node rueidis.Client) error {
	for cursor := uint64(0); ; {
		var page rueidis.ScanEntry
		err := s.attempt(ctx, reading, func(ctx context.Context) (err error) {
			page, err = node.Do(ctx, node.B().Scan().Cursor(cursor).Match(s.keys.prefix+"*"+keyMiddle+"*").Count(1000).Build()).AsScanEntry()
			return err
		})
		if err != nil {
			return err
		}
		if err := s.attempt(ctx, repeatable, func(ctx context.Context) error { return s.endKeys(ctx, page.Elements) }); err != nil {
			return err
		}
		if cursor = page.Cursor; cursor == 0 {
			return nil
		}
	}
}

// endKeys removes the sessions among keys.
func (s *Store) endKeys(ctx context.Context, keys []string) error {
	var dels []rueidis.Completed
	for _, key := range keys {
		if id, ok := s.keys.parse(key); ok {
			s.ends.add(id, driver.Hash{}) // in the index it is older than the time noted above
			s.forget(id)
			dels = append(dels, s.tracked.B().Del().Key(key).Build())
		}
	}
	for _, res := range s.tracked.DoMulti(ctx, dels...) {
		if err := res.Error(); err != nil {
			return err
		}
	}
	return nil
}

// refusedByAll refuses a sign-in whose authentication began before everybody's sessions were ended.
func (s *Store) refusedByAll(ctx context.Context, ago time.Duration) error {
	if ago > driver.MaxAgo {
		return driver.ErrRevoked
	}
	at, err := s.revokedAll(ctx)
	if err == nil && at != 0 && s.clock.now().Add(-ago).UnixMilli() <= at {
		return driver.ErrRevoked
	}
	return err
}

// revokedAll returns when everybody's sessions were ended, in milliseconds; 0: not as far as anybody remembers.
func (s *Store) revokedAll(ctx context.Context) (at int64, err error) {
	err = s.attempt(ctx, reading, func(ctx context.Context) (err error) {
		at, err = s.plain.Do(ctx, s.plain.B().Get().Key(s.keys.all()).Build()).AsInt64()
		if rueidis.IsRedisNil(err) {
			at, err = 0, nil
		}
		return err
	})
	return at, err
}
