package redisstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// Load implements driver.Store.
func (s *Store) Load(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	now := s.clock.now()
	if err := ctx.Err(); err != nil {
		return nil, now, err
	}
	if s.near == nil {
		return s.load(ctx, id, readMark{}, false)
	}
	if err := s.ends.refusal(id); err != nil {
		return nil, now, err
	}
	r, mark, known := s.near.lookup(id)
	if r != nil && r.Live(now) && s.global.current() {
		if s.global.covers(r) {
			return nil, now, driver.ErrNotFound
		}
		return r, now, nil
	}
	return s.load(ctx, id, mark, known)
}

// LoadFresh implements driver.FreshLoader: it asks the server.
func (s *Store) LoadFresh(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	if s.near == nil {
		return s.load(ctx, id, readMark{}, false)
	}
	_, mark, known := s.near.lookup(id)
	return s.load(ctx, id, mark, known)
}

// LoadStale implements driver.StaleLoader. It returns this process's copy, even if the copy is out
// of date. The copy was read at most Options.MaxAge ago.
func (s *Store) LoadStale(id driver.ID) (*driver.Record, time.Time, bool) {
	now := s.clock.now()
	if s.near == nil || s.ends.has(id) {
		return nil, now, false
	}
	r := s.near.stale(id)
	if r == nil || !r.Live(now) || s.global.covers(r) {
		return nil, now, false
	}
	return r, now, true
}

// load asks the server. It reads a session that this process does not know without tracking:
// otherwise made-up tokens would fill the server's tracking table.
func (s *Store) load(ctx context.Context, id driver.ID, mark readMark, known bool) (*driver.Record, time.Time, error) {
	if err := s.ends.refusal(id); err != nil {
		return nil, s.clock.now(), err
	}
	if err := s.syncGlobalRevocation(ctx); err != nil {
		return nil, s.clock.now(), err
	}
	client := s.plain
	if known {
		client = s.tracked
	}
	r, asked, err := s.readRecord(ctx, client, id)
	now := s.clock.now()
	if err != nil {
		return nil, now, err
	}
	if err := s.ends.refusal(id); err != nil {
		return nil, now, err
	}
	if r.Principal != nil {
		s.expiry.watch(id, r)
	}
	switch {
	case s.near == nil:
	case known:
		s.near.fill(id, r, asked, mark)
	default:
		s.near.learn(id)
	}
	return r, now, nil
}

// errRevoked is the error for a session that is stored, and revoked.
var errRevoked = fmt.Errorf("%w: it was revoked", driver.ErrNotFound)

// readRecord reads a session, and after it the revocations of its bucket. So it refuses what was
// revoked before the read of the session. asked is when the read was sent.
func (s *Store) readRecord(
	ctx context.Context, client rueidis.Client, id driver.ID,
) (r *driver.Record, asked time.Time, err error) {
	key := s.keys.session(id)
	revocationsKey := s.keys.revocationsOf(key)
	var values, revocations map[string]string
	var sent time.Time
	err = s.withRetry(ctx, place(id.Bucket), readOnly, func(ctx context.Context) (err error) {
		sent = time.Now()
		res := client.DoMulti(ctx, client.B().Hgetall().Key(key).Build(), client.B().Hgetall().Key(revocationsKey).Build())
		if values, err = res[0].AsStrMap(); err == nil {
			revocations, err = res[1].AsStrMap()
		}
		return err
	})
	if err != nil {
		return nil, asked, err
	}
	asked = sent
	r, err = decodeHash(values)
	if errors.Is(err, driver.ErrNotFound) || errors.Is(err, driver.ErrMoved) {
		return nil, asked, err
	}
	if err == nil {
		var revoked bool
		if revoked, err = s.isRevoked(id, r, revocations); revoked {
			return nil, asked, errRevoked
		}
	}
	if err != nil {
		return nil, asked, fmt.Errorf("redisstore: session %s: %w", id, err)
	}
	return r, asked, nil
}

// decodeHash returns the record of a session's hash. It returns driver.ErrNotFound if there is no
// hash, and driver.ErrMoved if there is only a "moved" marker.
func decodeHash(values map[string]string) (*driver.Record, error) {
	moving := values["@moving"]
	delete(values, "@moving") // belongs to the scripts of a sign-in
	if len(values) == 0 {
		if moving != "" {
			return nil, driver.ErrMoved
		}
		return nil, driver.ErrNotFound
	}
	fields := make([]driver.Field, 0, len(values))
	for k, v := range values {
		fields = append(fields, driver.Field{Key: driver.Key(k), Value: []byte(v)})
	}
	return driver.Decode(fields)
}
