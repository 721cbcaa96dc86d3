package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// maxAttempts bounds an Update against other processes. Within this one, Updates take turns.
const maxAttempts = 100

// update replaces the value under k by what f makes of it, atomically, and commits the other
// changes with it. f gets nil if there is no value. It runs without a lock of the session.
func (s *Session) update(ctx context.Context, k driver.Key, f func(present []byte) ([]byte, error)) error {
	defer s.emitNow(ctx) // after the turn: a listener may Update the session, too
	// An Observer that blocks must not do so within the turn, for which other requests wait.
	ctx, o := s.m.observers.observe(ctx, OperationUpdate, s.id())
	defer o.abandon()
	err := s.updateObserved(ctx, k, f, o)
	o.names(s)
	o.end(err)
	return err
}

func (s *Session) updateObserved(
	ctx context.Context, k driver.Key, f func(present []byte) ([]byte, error), o *observation,
) error {
	limited, cancel := s.m.detached(ctx)
	defer cancel()
	release, waited, err := s.waitForTurn(limited)
	if err != nil {
		o.outcome(OutcomeConflict)
		return err
	}
	defer release()
	if waited {
		s.catchUp(limited)
	}
	stored, present, err := s.both(k)
	for attempt := range maxAttempts {
		if err != nil {
			return err
		}
		next, err := o.function(f, present)
		if err != nil {
			return err
		}
		var conflict *driver.OpError
		if conflict, present, err = s.swap(ctx, k, stored, next); conflict == nil {
			return err
		}
		stored = conflict.Present
		if attempt > 0 { // the first conflict is an old view; further ones are another process
			time.Sleep(jitter(attempt))
		}
		if limited.Err() != nil {
			break
		}
	}
	o.outcome(OutcomeConflict)
	return s.giveUp(fmt.Errorf("%w: other processes keep changing field %q", ErrUnavailable, k))
}

// catchUp reads what the Updates before this one have stored. So f gets their result, and is called
// once: it may ask a server for something that can be had only once.
func (s *Session) catchUp(ctx context.Context) {
	s.lock()
	defer s.calls.Unlock()
	defer s.mu.Unlock()
	if s.state == live && s.outcome.err == nil {
		s.reread(ctx)
	}
}

// giveUp fails the outcome with err, and returns err to the handler.
func (s *Session) giveUp(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outcome.fail(err)
	return s.outcome.returned(err)
}

// jitter returns a random time to wait, longer after more attempts.
func jitter(attempt int) time.Duration {
	return rand.N(time.Millisecond << min(attempt, 5)) //nolint:gosec // it is no secret
}

// swap replaces the stored value old by next, which is in clear. conflict has the value that is
// stored instead of old, present is that in clear, and err is why it does not open.
func (s *Session) swap(ctx context.Context, k driver.Key, old, next []byte) (conflict *driver.OpError, present []byte, err error) {
	s.lock()
	defer s.calls.Unlock()
	defer s.mu.Unlock()
	if err := s.canSend(k); err != nil {
		return nil, nil, err
	}
	if next, err = s.identity.seal(k, next); err != nil {
		s.outcome.fail(err)
		return nil, nil, s.outcome.returned(err)
	}
	_, err = s.send(ctx, nil, driver.Op{Kind: driver.Swap, Key: k, Old: old, Value: next})
	if errors.As(err, &conflict) {
		present, err = s.identity.open(k, conflict.Present)
		return conflict, present, err
	}
	return nil, nil, s.outcome.returned(err)
}

// take removes the value under k and returns it, to one caller only. It commits the other changes
// with it. If there is no value it does nothing.
func (s *Session) take(ctx context.Context, k driver.Key) ([]byte, bool, error) {
	s.lock()
	defer s.unlock(ctx)
	if err := s.canSend(k); err != nil {
		return nil, false, err
	}
	stored, ok := s.view.fields().Get(k)
	if !ok {
		return nil, false, nil
	}
	if err := s.m.keys.CanOpen(k, stored); err != nil { // what cannot be read stays where it is
		return nil, false, err
	}
	last := len(s.view.ops)
	res, err := s.send(ctx, nil, driver.Op{Kind: driver.Take, Key: k})
	if err != nil {
		return nil, false, s.outcome.returned(err)
	}
	if last >= len(res.Values) || res.Values[last] == nil {
		return nil, false, nil
	}
	b, err := s.identity.open(k, res.Values[last])
	return b, err == nil, err
}

// canSend returns why a change of k that talks to the store now cannot be made.
func (s *Session) canSend(k driver.Key) error {
	err := s.refusal()
	if err == nil {
		if err = k.Check(); err != nil {
			err = fromOp(err)
		}
	}
	s.outcome.fail(err)
	return s.outcome.report()
}

// both returns a value as the request sees it, as it is stored and in clear.
func (s *Session) both(k driver.Key) (stored, present []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored, _ = s.view.fields().Get(k)
	present, err = s.identity.open(k, stored)
	return stored, present, err
}

// waitForTurn waits for the session's other Updates in this process. It reports whether there were
// any.
func (s *Session) waitForTurn(ctx context.Context) (release func(), waited bool, err error) {
	id := s.id()
	if id == (driver.ID{}) { // it is not stored yet
		return func() {}, false, nil
	}
	if release, waited, err = s.m.updates.wait(ctx, id); err != nil {
		return nil, false, s.giveUp(err)
	}
	return release, waited, nil
}

// updateQueue lets one Update of a session run at a time in this process, so that Updates do not
// make each other's comparisons fail. Other sessions do not wait.
type updateQueue struct {
	mu       sync.Mutex
	sessions map[driver.ID]*updateTurn
}

type updateTurn struct {
	free  chan struct{} // holds one value while nobody has the turn
	users int           // how many have the turn or wait for it
}

// wait waits for the turn of a session, and reports whether another Update had it. Its error
// matches ErrUnavailable.
func (q *updateQueue) wait(ctx context.Context, id driver.ID) (release func(), waited bool, err error) {
	q.mu.Lock()
	turn := q.sessions[id]
	if turn == nil {
		turn = &updateTurn{free: make(chan struct{}, 1)}
		turn.free <- struct{}{}
		q.sessions[id] = turn
	}
	waited = turn.users > 0
	turn.users++
	q.mu.Unlock()
	leave := func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if turn.users--; turn.users == 0 {
			delete(q.sessions, id)
		}
	}
	select {
	case <-turn.free:
		return func() { turn.free <- struct{}{}; leave() }, waited, nil
	case <-ctx.Done():
		leave()
		return nil, false, fmt.Errorf("%w: other updates of the session took too long", ErrUnavailable)
	}
}
