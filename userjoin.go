package session

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// maxJoins bounds the attempts of a join against other requests.
const maxJoins = 20

// join moves Config.UserFields from the session, through which s was opened, to the data s. The
// store does it in one step that compares what was read, so nothing is lost or counted twice,
// whatever is repeated. The caller holds both locks of s.
func (s *Session) join(ctx context.Context) error {
	from := s.owned.through
	if len(s.m.userFields) == 0 || s.state != live && s.state != anonymous {
		return nil
	}
	from.mu.Lock()
	due := from.hasUserFields()
	from.mu.Unlock()
	if !due {
		return nil
	}
	from.lock()
	defer from.calls.Unlock()
	defer from.mu.Unlock()
	ctx, cancel := s.m.detached(ctx)
	defer cancel()
	for attempt := range maxJoins {
		if !from.hasUserFields() || from.outcome.err != nil {
			return nil
		}
		again, err := s.joinOnce(ctx, from)
		if !again {
			return err
		}
		if attempt > 0 {
			time.Sleep(jitter(attempt))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("%w: other requests keep changing the user data", ErrUnavailable)
}

// hasUserFields reports whether the stored session has any of Config.UserFields.
func (s *Session) hasUserFields() bool {
	if s.state != live || s.view.record == nil {
		return false
	}
	for _, f := range s.view.record.Fields {
		name, _, _ := f.Key.Split()
		if _, ok := s.m.userFields[name]; ok {
			return true
		}
	}
	return false
}

// joinOnce is one attempt of join. again says that what it had read was changed meanwhile. It has
// then read both again.
func (s *Session) joinOnce(ctx context.Context, from *Session) (again bool, err error) {
	if s.state == anonymous {
		if err := s.createEmpty(ctx); err != nil {
			return false, err
		}
	}
	take, put, err := s.planJoin(from)
	if err != nil {
		return false, s.joinRefused(err)
	}
	taken, stored, err := s.storeJoin(ctx, from, take, put)
	switch {
	case err == nil:
		s.joined(ctx, stored)
		from.joined(ctx, taken)
		return false, nil
	case errors.Is(err, driver.ErrBusy):
		return false, nil // a later request joins
	case errors.Is(err, driver.ErrNoUserData):
		return true, s.replaceData(nil)
	case errors.Is(err, driver.ErrMoved) && from.adoptRotated():
		return true, nil
	case errors.Is(err, driver.ErrMoved), errors.Is(err, driver.ErrNotFound):
		from.lost(err)
		return false, ErrEnded
	case errors.Is(err, driver.ErrConflict), errors.Is(err, driver.ErrUnknown):
		if from.rereadFresh(ctx) && s.rereadFresh(ctx) {
			return true, nil
		}
		return false, fmt.Errorf("%w: joining the session and the user data: %v", ErrUnavailable, err)
	}
	var op *driver.OpError
	if errors.As(err, &op) {
		return false, s.joinRefused(fromOp(err))
	}
	return false, fromStore(err)
}

// createEmpty stores user data without fields, if no other request does it first.
func (s *Session) createEmpty(ctx context.Context) error {
	c := driver.Change{Verifier: s.owned.owner, MaxSize: s.m.cfg.MaxSize}
	res, err := s.sendData(ctx, &c)
	if err != nil {
		return fromStore(err)
	}
	if res.Record == nil {
		s.reread(ctx)
		return nil
	}
	s.become(res.Record, res.Now)
	return nil
}

// joinRefused explains why the fields of the session stay where they are.
func (s *Session) joinRefused(err error) error {
	return fmt.Errorf("%w: the fields of the session %s do not fit into its user's data, and stay in the session. "+
		"Make room, or remove them from the session: Manager.UserData opens the data without them",
		err, s.owned.through.cred.id)
}

// planJoin returns what to remove from the session, and what to set in the data.
func (s *Session) planJoin(from *Session) (take, put *driver.Change, err error) {
	take = &driver.Change{Verifier: from.cred.verifier, MaxSize: s.m.cfg.MaxSize}
	put = &driver.Change{Verifier: s.owned.owner, MaxSize: s.m.cfg.MaxSize}
	reseal, sealed := s.m.keys.Resealer(s.identity.secret), from.identity.sealer()
	for _, f := range from.view.record.Fields {
		name, _, _ := f.Key.Split()
		field, ok := s.m.userFields[name]
		if !ok {
			continue
		}
		old, _ := s.view.stored(f.Key)
		value := f.Value
		if field.adds {
			value, err = sumOf(f.Key, old, value)
		} else {
			value, err = reseal.Value(sealed, f.Key, value)
		}
		if err != nil {
			return nil, nil, err
		}
		take.Ops = append(take.Ops, driver.Op{Kind: driver.Swap, Key: f.Key, Old: f.Value})
		put.Ops = append(put.Ops, driver.Op{Kind: driver.Swap, Key: f.Key, Old: old, Value: value})
	}
	return take, put, nil
}

// sumOf returns the sum of two counts. A missing count a is nil, and counts as 0.
func sumOf(k driver.Key, a, b []byte) ([]byte, error) {
	if a == nil {
		a = []byte("0")
	}
	x, ok1 := driver.ParseInt(a)
	y, ok2 := driver.ParseInt(b)
	switch {
	case !ok1 || !ok2:
		return nil, notACount(k)
	case y > 0 && x > math.MaxInt64-y || y < 0 && x < math.MinInt64-y:
		return nil, fmt.Errorf("%w: field %q: the sum %d + %d does not fit in 64 bits", ErrInvalid, k, x, y)
	}
	return strconv.AppendInt(nil, x+y, 10), nil
}

// joined makes the outcome of a join the stored record. If it has to be read and that fails, the
// next read shows it.
func (s *Session) joined(ctx context.Context, res *driver.Result) {
	s.reported.own++
	if res.Record == nil {
		s.reread(ctx)
		return
	}
	s.become(res.Record, res.Now)
}

// rereadFresh is reread without copies.
func (s *Session) rereadFresh(ctx context.Context) bool {
	defer func(fresh bool) { s.mode.fresh = fresh }(s.mode.fresh)
	s.mode.fresh = true
	return s.reread(ctx)
}

// joinAtSignIn moves the fields of the anonymous session, which the new session has, to the data of
// the user. If it fails, they are still in the session, and the next UserData moves them.
func (s *Session) joinAtSignIn(ctx context.Context) {
	s.mu.Lock()
	due := s.hasUserFields()
	s.mu.Unlock()
	if !due {
		return
	}
	if _, err := s.UserData(ctx); err != nil {
		s.m.cfg.Logger.WarnContext(ctx, "session: the fields of an anonymous session did not join the data of its user; "+
			"a later request tries again", "session", s.id().String(), "error", err)
	}
}
