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
	r, now, _, err := s.LoadAndReport(ctx, id)
	return r, now, err
}

// LoadAndReport implements driver.LoadReporter.
func (s *Store) LoadAndReport(
	ctx context.Context, id driver.ID,
) (r *driver.Record, now time.Time, cached bool, err error) {
	now = s.clock.now()
	if err := ctx.Err(); err != nil {
		return nil, now, false, err
	}
	var mark readMark
	var known, asked bool
	if s.near != nil {
		if err := s.ends.refusal(id); err != nil {
			return nil, now, true, err
		}
		if r, mark, known = s.near.lookup(id); r == nil && known {
			if r, asked, err = s.loadUnconfirmed(ctx, id); err != nil {
				return nil, s.clock.now(), !asked, err
			}
			now = s.clock.now()
		}
	}
	if r == nil || !r.Live(now) {
		r, now, err = s.load(ctx, id, mark, known)
		return r, now, false, err
	}
	if id.UserData {
		return r, now, true, nil
	}
	if err := s.syncGlobalRevocation(ctx); err != nil {
		return nil, s.clock.now(), false, err
	}
	if s.global.covers(r) {
		now = s.clock.now()
		return nil, now, !asked, endedSince(now, s.global.time())
	}
	return r, now, !asked, nil
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
	if r == nil || !r.Live(now) || !id.UserData && s.global.covers(r) {
		return nil, now, false
	}
	return r, now, true
}

// load asks the server. It reads a session that this process does not know without tracking:
// otherwise made-up tokens would fill the server's tracking table. No token makes up a user.
func (s *Store) load(ctx context.Context, id driver.ID, mark readMark, known bool) (*driver.Record, time.Time, error) {
	if err := s.ends.refusal(id); err != nil {
		return nil, s.clock.now(), err
	}
	if err := s.syncRevocation(ctx, id); err != nil {
		return nil, s.clock.now(), err
	}
	client := s.plain
	if known = known || id.UserData; known {
		client = s.tracked
	}
	r, asked, err := s.readRecord(ctx, client, id)
	now := s.clock.now()
	if over := new(endedAtError); errors.As(err, &over) {
		return nil, now, endedSince(now, over.at)
	}
	if err != nil {
		return nil, now, err
	}
	if !r.Live(now) { // somebody removed the key's expiry
		return nil, now, driver.ErrNotFound
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

// endedAtError is the error of readRecord for a session that ended. It matches driver.ErrNotFound.
type endedAtError struct {
	at     time.Time // by the server's clock; zero: not known
	stored bool      // the session is stored, and revoked
}

func (e *endedAtError) Error() string { return driver.ErrNotFound.Error() }

func (e *endedAtError) Is(target error) bool { return target == driver.ErrNotFound }

// readRecord reads a session, and after it the revocations of its bucket. So it refuses what was
// revoked before the read of the session. asked is when the read was sent.
func (s *Store) readRecord(
	ctx context.Context, client rueidis.Client, id driver.ID,
) (r *driver.Record, asked time.Time, err error) {
	key := s.keys.record(id)
	var values, revocations map[string]string
	var sent time.Time
	err = s.withRetry(ctx, place(id.Bucket), readOnly, func(ctx context.Context) (err error) {
		sent = time.Now()
		if id.UserData { // no revocation concerns it
			values, err = client.Do(ctx, client.B().Hgetall().Key(key).Build()).AsStrMap()
			return err
		}
		revocationsKey := s.keys.revocationsOf(key)
		res := client.DoMulti(ctx, client.B().Hgetall().Key(key).Build(), client.B().Hgetall().Key(revocationsKey).Build())
		if values, err = res[0].AsStrMap(); err == nil {
			revocations, err = res[1].AsStrMap()
		}
		return err
	})
	if err != nil {
		return nil, asked, aboutSession(id, err)
	}
	asked = sent
	r, err = decodeHash(values)
	switch {
	case errors.Is(err, driver.ErrEnded):
		at, err := parseEnded(values["@ended"])
		if err != nil {
			return nil, asked, fmt.Errorf("redisstore: session %s: %w", id, err)
		}
		return nil, asked, &endedAtError{at: at}
	case errors.Is(err, driver.ErrMoved):
		return nil, asked, err
	case errors.Is(err, driver.ErrNotFound) && id.UserData:
		return nil, asked, err
	case errors.Is(err, driver.ErrNotFound): // EndAll may have ended it
		return nil, asked, &endedAtError{at: s.global.time()}
	case err == nil && !id.UserData:
		var at time.Time
		if at, err = s.revokedAt(id, r, revocations); !at.IsZero() {
			return nil, asked, &endedAtError{at: at, stored: true}
		}
	}
	if err != nil {
		return nil, asked, fmt.Errorf("redisstore: session %s: %w", id, err)
	}
	return r, asked, nil
}

// endedMargin is added to the age of an end that the server reports. Its times and the estimate of
// its clock are in whole milliseconds, and the estimate may be behind. A request that follows the
// end must never seem to have begun before it.
const endedMargin = 2 * time.Millisecond

// endedSince returns the error for a session that ended at a server's time. The zero time means
// that the session is unknown.
func endedSince(now, at time.Time) error { return driver.EndedSince(now.Add(endedMargin), at) }

// parseEnded returns the time in an "ended" marker, before the attempt.
func parseEnded(marker string) (time.Time, error) {
	if len(marker) == timeWidth+nameWidth {
		if at, ok := parseTime(marker[:timeWidth]); ok {
			return time.UnixMilli(at), nil
		}
	}
	return time.Time{}, fmt.Errorf("ended marker %.80q: %w", marker, driver.ErrFormat)
}

// decodeHash returns the record of a session's whole hash. It returns driver.ErrNotFound if there
// is no hash, driver.ErrMoved for a "moved" marker, and driver.ErrEnded for an "ended" marker.
func decodeHash(values map[string]string) (*driver.Record, error) {
	moving, marked := values["@moving"]
	state := values["@s"]
	leaving := len(state) > 1 && (state[1] == '2' || state[1] == '3') // a sign-in is under way
	if marked != leaving || marked && len(moving) != nameWidth+timeWidth {
		return nil, fmt.Errorf("%w: @s begins with %.2q, and @moving is %.80q", driver.ErrFormat, state, moving)
	}
	return decodeValues(values, driver.Decode)
}

// decodeValues is decodeHash for the values that decode needs, and for markers.
func decodeValues(
	values map[string]string, decode func([]driver.Field) (*driver.Record, error),
) (*driver.Record, error) {
	delete(values, "@moving") // belongs to the scripts of a sign-in
	switch ended, moved := values["@ended"], values["@moved"]; {
	case len(values) == 0:
		return nil, driver.ErrNotFound
	case len(values) == 1 && ended != "":
		return nil, driver.ErrEnded
	case len(values) == 1 && moved != "":
		return nil, driver.ErrMoved
	}
	fields := make([]driver.Field, 0, len(values))
	for k, v := range values {
		fields = append(fields, driver.Field{Key: driver.Key(k), Value: []byte(v)})
	}
	return decode(fields)
}
