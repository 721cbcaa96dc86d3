package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// Commit stores the changes made so far, in one atomic step, and makes the view exact: it then has other requests' changes, too, and
// what was changed reads as this commit left it. So of requests that add to a counter and commit, each reads a count of its own.
// The middleware commits before the response header leaves; call Commit to act on the outcome, and after the header has left
// (streams, WebSockets). It outlives the cancellation of ctx, for at most Config.CommitTimeout. With nothing changed it does
// nothing.
//
// Errors: what a change did wrong ([ErrTooLarge], [ErrInvalid], [ErrDecode], [ErrSealed]), [ErrEnded], [ErrUnavailable], [ErrUnknownOutcome],
// [ErrHeaderSent], [ErrCrossOrigin]. After one the session takes no more changes.
func (s *Session) Commit(ctx context.Context) error {
	s.mu.Lock()
	defer s.unlock(ctx)
	if s.err == nil && len(s.ops) > 0 {
		ops := s.ops
		if res, err := s.send(ctx, nil, nil); err == nil && res.Record == nil {
			s.refresh(ctx)
			s.settle(ops, res) // others may have changed since what this commit did
		}
	}
	s.told = s.err != nil
	return s.err
}

// refresh makes the view exact after a commit. The commit has succeeded, whatever comes of this.
func (s *Session) refresh(ctx context.Context) {
	ctx, cancel := s.m.detached(ctx)
	defer cancel()
	r, now, err := s.load(ctx)
	if err != nil {
		return
	}
	switch r.Tokens.Status(s.verifier, now) {
	case driver.Current, driver.Grace:
		s.become(r, now)
	case driver.Superseded, driver.Unknown: // the next change hears of it
	}
}

// commitBeforeHeader is the middleware's commit. After it a new cookie is too late. cookie says whether the header can carry one.
func (s *Session) commitBeforeHeader(ctx context.Context, cookie bool) error {
	s.mu.Lock()
	defer s.unlock(ctx)
	var n *rotation
	if s.err == nil && cookie {
		n = s.rotation(ctx)
	}
	switch {
	case s.err != nil:
	case n == nil && len(s.ops) > 0:
		_, _ = s.send(ctx, nil, nil) // its error is s.err
	case n != nil && len(s.ops) > 0:
		if res, err := s.send(ctx, nil, &n.renewal); err == nil {
			s.rotated(n, res)
		}
	case n != nil:
		s.rotate(ctx, n)
	}
	s.sent = true
	return s.err
}

// refuse drops what was not committed, and all that the request changes from now on: err is its answer, and nothing else of it may
// take effect.
func (s *Session) refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops, s.err, s.edited, s.told, s.refused = nil, err, false, true, true
}

// send commits the buffered changes, with one more operation or a renewal if given, and makes its error stick. A failed comparison
// of last is returned as it is, and does not stick. The caller holds the lock.
func (s *Session) send(ctx context.Context, last *driver.Op, renew *driver.Renewal) (*driver.Result, error) {
	ctx, cancel := s.m.detached(ctx)
	defer cancel()
	c := driver.Change{Verifier: s.verifier, Ops: s.ops, Renew: renew, MaxSize: s.m.cfg.MaxSize}
	if last != nil {
		c.Ops = append(s.ops[:len(s.ops):len(s.ops)], *last)
	}
	var res *driver.Result
	var err error
	if s.state == anonymous {
		res, err = s.create(ctx, &c)
	} else {
		res, err = s.apply(ctx, &c)
	}
	if err != nil {
		if last != nil && isConflict(err, len(c.Ops)-1) {
			return nil, err
		}
		if errors.Is(err, driver.ErrNotFound) || errors.Is(err, driver.ErrMoved) {
			s.state = gone
			if s.setToken == setCookie {
				s.setToken = keepCookie
			}
		}
		s.err = err
		if !errors.Is(err, errRefused) {
			s.err = fromStore(err)
		}
		return nil, s.err
	}
	s.ops = nil
	if res.Record != nil {
		s.become(res.Record, res.Now)
		return res, nil
	}
	s.settle(c.Ops, res)
	return res, nil
}

// create stores a session that is not stored yet, under a new token.
func (s *Session) create(ctx context.Context, c *driver.Change) (*driver.Result, error) {
	if err := s.mayHaveToken(); err != nil {
		return nil, err
	}
	t := ticket.New()
	c.Verifier = t.VerifierHash()
	o := driver.Origin{Secret: s.ownSecret(), Verifier: c.Verifier, Idle: s.m.cfg.IdleTimeout, Lifetime: s.m.cfg.Lifetime}
	res, err := twice(func() (*driver.Result, error) { return s.m.store.Create(ctx, t.ID(), &o, c) })
	if err != nil {
		return nil, err
	}
	s.newToken(t)
	s.state, s.whose = live, nil
	s.handle.Store(&driver.ID{Bucket: s.id.Bucket, Selector: s.id.Selector})
	s.happened(s.own(EventCreated, s.id, res.Now))
	return res, nil
}

func (s *Session) apply(ctx context.Context, c *driver.Change) (*driver.Result, error) {
	change := func() (*driver.Result, error) {
		res, err := s.m.store.Apply(ctx, s.id, c)
		if errors.Is(err, driver.ErrMoved) && s.goOn() {
			c.Verifier = s.verifier
			res, err = s.m.store.Apply(ctx, s.id, c)
		}
		return res, err
	}
	if c.Renew != nil && c.Renew.Grace == 0 { // one that was seen is not done again
		return twice(change)
	}
	return change()
}

// twice makes a change that names all by values chosen here, so that it may be repeated where the outcome is not known. A second try that
// gets no answer does not make it known.
func twice(change func() (*driver.Result, error)) (*driver.Result, error) {
	res, err := change()
	if !errors.Is(err, driver.ErrUnknown) {
		return res, err
	}
	if again, err := change(); !errors.Is(fromStore(err), ErrUnavailable) {
		return again, err
	}
	return nil, err
}

// settle makes the view what the store's answer says of it, where the store does not have the whole record at hand. The store has
// checked the operations, so what the draft says of them does not matter; what they come to does not depend on what was there.
func (s *Session) settle(ops []driver.Op, res *driver.Result) {
	s.edit()
	for i := range ops {
		op := driver.Op{Kind: ops[i].Kind, Key: ops[i].Key, Value: ops[i].Value}
		switch {
		case op.Kind == driver.Add && i < len(res.Values) && res.Values[i] != nil:
			op.Kind, op.Value = driver.Set, res.Values[i]
		case op.Kind == driver.Add:
			continue
		case op.Kind == driver.Swap && op.Value != nil:
			op.Kind = driver.Set
		case op.Kind == driver.Swap, op.Kind == driver.Take:
			op.Kind = driver.Unset
		}
		_, _ = s.draft.Do(&op)
	}
}

// errRefused marks errors of this package among those of stores.
var errRefused = errors.New("refused before the store was asked")

// mayHaveToken says why the response cannot carry a new token.
func (s *Session) mayHaveToken() error {
	refuse := func(err error) error { return fmt.Errorf("%w (%w)", err, errRefused) }
	if s.sent {
		return refuse(ErrHeaderSent)
	}
	// A request that another site caused came without the cookie, held back by SameSite: a new one would take its place.
	if s.request != nil && !s.cred.inHeader && s.setToken != handedOut {
		if err := s.m.cfg.CrossOrigin.Check(s.request); err != nil {
			return refuse(fmt.Errorf("%w: %v", ErrCrossOrigin, err))
		}
	}
	if s.cred.inHeader && s.setToken != handedOut {
		return refuse(fmt.Errorf("%w: the token in the Authorization header leads nowhere, and a new one has no way back", ErrNotSignedIn))
	}
	return nil
}

// newToken makes t the session's token, on its way to the client.
func (s *Session) newToken(t ticket.Token) {
	s.cred.token, s.cred.found, s.next, s.stale = t, true, nil, s.cred.hasCookie
	s.id, s.verifier = t.ID(), t.VerifierHash()
	if s.setToken != handedOut && !s.cred.inHeader {
		s.setToken = setCookie
	}
}

func isConflict(err error, index int) bool {
	var op *driver.OpError
	return errors.As(err, &op) && op.Index == index && errors.Is(op.Err, driver.ErrConflict)
}

// maxAttempts bounds an Update against other processes; within this one they take turns.
const maxAttempts = 100

// update replaces the value under k by what f makes of it, atomically, and commits the other changes with it. The value is nil if
// there is none. f runs without the lock.
func (s *Session) update(ctx context.Context, k driver.Key, f func(present []byte) ([]byte, error)) error {
	wait, cancel := s.m.detached(ctx)
	defer cancel()
	defer s.tell(ctx) // when the turn is over, too
	release, err := s.turn(wait)
	if err != nil {
		return err
	}
	defer release()
	stored, _ := s.get(k)
	for attempt := range maxAttempts {
		present, err := s.open(k, stored)
		if err != nil {
			return err
		}
		next, err := f(present)
		if err != nil {
			return err
		}
		conflict, err := s.swap(ctx, k, stored, next)
		if conflict == nil {
			return err
		}
		stored = conflict.Present
		if attempt > 0 { // the first conflict is an old view; further ones are another process
			time.Sleep(rand.N(time.Millisecond << min(attempt, 5))) //nolint:gosec // jitter is no secret
		}
		if wait.Err() != nil {
			break
		}
	}
	err = fmt.Errorf("%w: other processes keep changing field %q", ErrUnavailable, k)
	s.fail(err)
	return err
}

// turn waits for the session's other Updates in this process.
func (s *Session) turn(ctx context.Context) (release func(), err error) {
	s.mu.Lock()
	id, isNew := s.id, s.state == anonymous
	s.mu.Unlock()
	if isNew {
		return func() {}, nil
	}
	if release, err = s.m.turns.take(ctx, id); err != nil {
		err = fmt.Errorf("%w: %v", ErrUnavailable, err)
		s.fail(err)
	}
	return release, err
}

// swap takes the old value as it is stored, and the next one in clear.
func (s *Session) swap(ctx context.Context, k driver.Key, old, next []byte) (conflict *driver.OpError, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(k); err != nil {
		return nil, err
	}
	if next, s.err = s.sealed(k, next); s.err != nil {
		return nil, s.err
	}
	_, err = s.send(ctx, &driver.Op{Kind: driver.Swap, Key: k, Old: old, Value: next}, nil)
	if err != nil && s.err == nil {
		errors.As(err, &conflict)
	}
	s.told = s.err != nil
	return conflict, err
}

// take removes the value under k and returns it, to one caller only. The other changes are committed with it. With nothing there
// it costs nothing.
func (s *Session) take(ctx context.Context, k driver.Key) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.unlock(ctx)
	if err := s.ready(k); err != nil {
		return nil, false, err
	}
	stored, ok := s.fields().Get(k)
	if !ok {
		return nil, false, nil
	}
	if err := s.m.keys.CanOpen(k, stored); err != nil { // what cannot be read stays where it is
		return nil, false, err
	}
	last := len(s.ops)
	res, err := s.send(ctx, &driver.Op{Kind: driver.Take, Key: k}, nil)
	if err != nil {
		s.told = true
		return nil, false, err
	}
	if last >= len(res.Values) || res.Values[last] == nil {
		return nil, false, nil
	}
	b, err := s.opened(k, res.Values[last])
	return b, err == nil, err
}

// ready returns why a change that talks to the store now cannot be made.
func (s *Session) ready(k driver.Key) error {
	if s.err == nil {
		s.err = s.refusal()
	}
	if s.err == nil {
		if err := k.Check(); err != nil {
			s.err = fromOp(err)
		}
	}
	s.told = s.err != nil
	return s.err
}

// Renew changes the token: call it when privilege changes. It commits. The token before is dead at once, the handle stays. A
// session that is not stored has no token to change. With a token from the Authorization header, hand the new one out with
// [Session.BearerToken]. Errors: as [Session.Commit].
func (s *Session) Renew(ctx context.Context) error {
	s.mu.Lock()
	defer s.unlock(ctx)
	if s.err == nil {
		s.err = s.refusal()
	}
	if s.err == nil {
		s.err = s.renew(ctx)
	}
	s.told = s.err != nil
	return s.err
}

func (s *Session) renew(ctx context.Context) error {
	if s.state != live {
		if len(s.ops) == 0 {
			return nil
		}
		_, err := s.send(ctx, nil, nil)
		return err
	}
	if s.sent {
		return ErrHeaderSent
	}
	t := s.cred.token.Renewed()
	if s.record != nil { // the token may be the one before
		t.Generation = s.record.Tokens.Generation + 1
	}
	res, err := s.send(ctx, nil, &driver.Renewal{Verifier: t.VerifierHash()})
	if err != nil {
		return err
	}
	s.newToken(t)
	s.happened(s.own(EventRenewed, s.id, res.Now))
	return nil
}

// SignOut ends the session, at once and for all requests, and drops what was not committed. The cookie is deleted, also when the
// store does not answer. s goes on as the empty session of an unknown visitor: what is set after that goes into a new one. Errors:
// [ErrUnavailable]; the session may then be alive, and s takes no changes.
func (s *Session) SignOut(ctx context.Context) error {
	s.mu.Lock()
	defer s.unlock(ctx)
	known, replaced := s.cred.found, s.state == gone
	s.ops, s.record, s.edited, s.readOnly, s.next, s.secret = nil, nil, false, false, nil, driver.Secret{}
	if !s.refused {
		s.err, s.told = nil, false
	}
	if s.setToken == setCookie || s.cred.hasCookie && !replaced {
		s.setToken = deleteCookie
	}
	if !replaced && (known || s.cred.hasCookie) {
		s.signedOut = true
	}
	if known {
		ctx, cancel := s.m.detached(ctx)
		defer cancel()
		id := s.cred.token.ID()
		ended, err := s.end(ctx, s.state == live)
		if ended {
			s.happened(s.own(EventSignedOut, id, s.m.now()))
		}
		if err != nil {
			s.state, s.told = gone, true
			s.err = fmt.Errorf("%w: signing out: %v", ErrUnavailable, err)
			return s.err
		}
	}
	s.state, s.whose, s.cred.found, s.cred.inHeader = anonymous, nil, false, false
	if replaced {
		s.state = gone
	}
	return nil
}

// end ends the session that is stored, and reports whether it was there; known is the answer of a store that does not tell. The caller
// holds the lock.
func (s *Session) end(ctx context.Context, known bool) (ended bool, err error) {
	id := s.cred.token.ID()
	if store, ok := s.m.store.(driver.OwnedEnder); ok {
		var owner driver.Hash
		if s.whose != nil {
			owner = s.whose.Owner
		}
		return store.EndOwned(ctx, id, owner)
	}
	return known, s.m.store.End(ctx, id)
}

// Token returns the token, for a client that will send it as "Authorization: Bearer". It commits, and stores the session if it was
// not. No cookie is set for a token that was handed out, and one that leads nowhere now is deleted. Only with Config.Bearer, and not for the
// token that a cookie brought: that one stays out of reach of scripts. Errors: as [Session.Commit].
func (s *Session) BearerToken(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.unlock(ctx)
	switch {
	case !s.m.cfg.Bearer:
		return "", errors.New("session: Token needs Config.Bearer")
	case s.state == live && s.cred.hasCookie && s.setToken == keepCookie && !s.cred.inHeader:
		return "", errors.New("session: this token lives in a cookie, out of reach of scripts: Renew it to hand it out")
	}
	if s.err == nil {
		s.err = s.refusal()
	}
	if s.err == nil && (s.state == anonymous || len(s.ops) > 0) {
		if s.state == anonymous {
			s.setToken = handedOut
		}
		_, _ = s.send(ctx, nil, nil) // its error is s.err
	}
	if s.err != nil {
		s.told = true
		return "", s.err
	}
	s.setToken = handedOut
	return s.cred.token.Text(s.m.keys), nil
}

func (s *Session) touchDue() (id driver.ID, verifier driver.Hash, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != live || s.record == nil || s.readOnly || s.passive {
		return id, verifier, false
	}
	return s.id, s.verifier, s.record.TouchDue(s.verifier, s.now)
}
