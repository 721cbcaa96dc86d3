package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// Commit stores the changes made so far, in one atomic step. Afterwards the view is exact: it has
// other requests' changes too. So if several requests add to a counter and commit, each reads a
// count of its own. With nothing changed, Commit does nothing.
//
// The middleware commits before the response header leaves. Call Commit to act on the outcome, and
// after the header has left (streams, WebSockets). A commit goes on when ctx is cancelled, for at
// most Config.CommitTimeout.
//
// Errors: [ErrEnded], [ErrUnavailable], [ErrUnknownOutcome], [ErrHeaderSent], [ErrCrossOrigin], and
// what a change did wrong: [ErrTooLarge], [ErrInvalid], [ErrDecode], [ErrSealed]. After an error
// the session takes no more changes. What another goroutine does wrong while the store works fails
// the next commit.
func (s *Session) Commit(ctx context.Context) error {
	s.lock()
	defer s.unlock(ctx)
	s.response.streams = s.response.sent
	if s.outcome.err != nil || len(s.view.ops) == 0 {
		return s.outcome.report()
	}
	ops := s.view.ops
	res, err := s.send(ctx, nil)
	if err == nil && res.Record == nil {
		s.refresh(ctx, ops, res)
	}
	return s.outcome.returned(err)
}

// refresh makes the view exact after a commit of ops whose answer did not have the record. Others
// may have changed the session since: what ops changed reads as they left it. The commit has
// succeeded, whatever comes of this.
func (s *Session) refresh(ctx context.Context, ops []driver.Op, res *driver.Result) {
	if s.reread(ctx) {
		s.view.settleUnder(ops, res)
	}
}

// reread makes the view exact under the changes that are not committed. It reports false if that
// fails. Then the next change finds out why.
func (s *Session) reread(ctx context.Context) bool {
	ctx, cancel := s.m.detached(ctx)
	defer cancel()
	r, now, err := s.load(ctx, s.cred.id, s.cred.verifier)
	if err != nil {
		return false
	}
	status := r.Tokens.Status(s.cred.verifier, now)
	if status != driver.Current && status != driver.Grace {
		return false
	}
	s.become(r, now)
	return true
}

// commitBeforeHeader is the middleware's commit. After it, it is too late for a new cookie. What
// another goroutine does wrong meanwhile fails the next commit.
//
// It commits the session first, and then the user data. So after an error the data is unchanged, or
// its outcome is unknown. A request that the visitor repeats does not add to a cart twice.
func (s *Session) commitBeforeHeader(ctx context.Context, canSetCookie bool) error {
	if err := s.commitOwn(ctx, canSetCookie); err != nil {
		return err
	}
	return s.commitData(ctx)
}

func (s *Session) commitOwn(ctx context.Context, canSetCookie bool) error {
	s.lock()
	defer s.unlock(ctx)
	var rot *rotation
	if s.outcome.err == nil && canSetCookie {
		rot = s.dueRotation(ctx)
	}
	err := s.outcome.err
	switch {
	case err != nil:
	case rot != nil && len(s.view.ops) == 0:
		s.rotate(ctx, rot)
	case rot != nil:
		var res *driver.Result
		if res, err = s.send(ctx, &rot.renewal); err == nil {
			s.rotated(rot, res)
		}
	case len(s.view.ops) > 0:
		_, err = s.send(ctx, nil)
	}
	s.recheckCookie(ctx)
	s.response.sent = true
	return err
}

// recheckAfter is how old the store's word on a new token may be when the response header leaves.
const recheckAfter = 50 * time.Millisecond

// recheckCookie drops a new token from the response if another request has superseded it meanwhile,
// or has ended the session: this response would overwrite a newer cookie. The caller holds both
// locks.
func (s *Session) recheckCookie(ctx context.Context) {
	if s.response.cookie != setCookie || s.response.rotatedTo != nil ||
		time.Since(s.began)-s.response.confirmed < recheckAfter {
		return
	}
	ctx, cancel := s.m.detached(ctx)
	defer cancel()
	switch r, now, err := s.load(ctx, s.cred.id, s.cred.verifier); {
	case errors.Is(err, driver.ErrNotFound):
		s.lost(driver.ErrNotFound)
	case errors.Is(err, driver.ErrMoved), err == nil && r.Tokens.Status(s.cred.verifier, now) != driver.Current:
		s.lost(driver.ErrMoved)
	}
}

// stop drops what was not committed, and all that follows, because of err.
func (s *Session) stop(p phase, err error) {
	s.stopOwn(p, err)
	for d := s.opened(); d != nil; d = d.owned.before {
		d.stopOwn(p, err)
	}
}

func (s *Session) stopOwn(p phase, err error) {
	s.lock()
	defer s.calls.Unlock()
	defer s.mu.Unlock()
	s.view.discard()
	s.outcome.stop(p, err)
}

// send commits the buffered changes, with a renewal if given, and then more operations. Its error
// also fails the outcome, unless it is a refusedOp of more, which is the store's own error. The
// caller holds both locks, as for all functions below.
func (s *Session) send(ctx context.Context, renew *driver.Renewal, more ...driver.Op) (*driver.Result, error) {
	if err := s.maySend(ctx); err != nil {
		s.outcome.fail(err)
		return nil, err
	}
	ctx, cancel := s.m.detached(ctx)
	defer cancel()
	c := driver.Change{
		Verifier: s.cred.verifier, Issued: s.response.bringsToken(), Ops: s.view.begin(), Renew: renew, MaxSize: s.m.cfg.MaxSize,
	}
	pending := len(c.Ops)
	if len(more) > 0 {
		c.Ops = append(c.Ops[:pending:pending], more...)
	}
	var res *driver.Result
	var err error
	returned := false
	defer func() {
		if !returned {
			s.storePanicked()
		}
	}()
	switch {
	case s.owned != nil:
		res, err = s.sendData(ctx, &c)
	case s.state == anonymous:
		res, err = s.create(ctx, ticket.New(), s.m.cfg.FirstUseTimeout, &c)
	default:
		res, err = s.apply(ctx, &c)
	}
	returned = true
	switch {
	case refusedOp(err, pending) != nil:
		s.view.restore()
		return nil, err
	case err != nil:
		s.view.restore()
		s.lost(err)
		err = fromStore(err)
		s.outcome.fail(err)
		return nil, err
	case res.Record != nil:
		s.view.end()
		s.become(res.Record, res.Now)
	default:
		s.view.settle(c.Ops, res)
	}
	s.response.confirmed = time.Since(s.began)
	s.reported.own++
	return res, nil
}

// maySend returns why the changes must not be sent to the store.
func (s *Session) maySend(ctx context.Context) error {
	switch {
	case s.owned != nil:
		return s.mayWriteData(ctx)
	case s.state == anonymous:
		return s.mayIssueToken()
	}
	return nil
}

// storePanicked ends a commit in which the store panicked. Nobody knows whether it stored anything.
func (s *Session) storePanicked() {
	s.view.end()
	s.outcome.fail(ErrUnknownOutcome)
}

// lost notes what an error of the store says about the session: that it is over.
func (s *Session) lost(err error) {
	switch {
	case errors.Is(err, driver.ErrMoved):
		s.leave(moved)
	case errors.Is(err, driver.ErrNotFound):
		s.leave(ended)
	}
}

// create stores a session that is not stored yet, under the token t.
func (s *Session) create(
	ctx context.Context, t ticket.Token, firstUse time.Duration, c *driver.Change,
) (*driver.Result, error) {
	c.Verifier = t.VerifierHash()
	o := driver.RecordSpec{
		Secret: s.identity.chosenSecret(), Verifier: c.Verifier,
		Idle: s.m.cfg.IdleTimeout, FirstUse: firstUse, Lifetime: s.m.cfg.Lifetime,
	}
	res, err := s.storeCreate(ctx, t.ID(), &o, c)
	if err != nil {
		return nil, err
	}
	if res.Record == nil { // nobody else has the token: the record is known
		made, err := driver.NewRecord(res.Now, &o, c)
		if err != nil {
			return nil, err
		}
		res.Record, res.Values = made.Record, made.Values
	}
	s.issue(t, s.m.cookieFor(res.Record.Principal, res.Record.Deadline.Sub(res.Now)))
	s.setHandle()
	s.identity.named = res.Record
	s.emit(s.event(EventCreated, s.cred.id, res.Now))
	return res, nil
}

// apply changes the session. If the browser has used the token that this request rotated to, the
// request goes on with that one.
func (s *Session) apply(ctx context.Context, c *driver.Change) (*driver.Result, error) {
	res, err := s.storeApply(ctx, c)
	if errors.Is(err, driver.ErrMoved) && s.adoptRotated() {
		c.Verifier = s.cred.verifier
		return s.storeApply(ctx, c)
	}
	return res, err
}

// mayIssueToken says why the response cannot carry a new token.
func (s *Session) mayIssueToken() error {
	switch {
	case s.response.sent, s.response.closed:
		return ErrHeaderSent
	case s.response.cookie == handedOut:
		return nil
	case s.cred.inHeader:
		return fmt.Errorf("%w: the token in the Authorization header opens no session, "+
			"and a new token cannot go back in a cookie: use BearerToken", ErrNotSignedIn)
	}
	// A request that another site caused came without the cookie, because of SameSite. A new cookie
	// would replace the visitor's own.
	return s.m.checkOrigin(s.request)
}

// issue makes t the session's token, on its way to the client in this cookie.
func (s *Session) issue(t ticket.Token, c newCookie) {
	s.cred.use(t)
	s.response.newCookie = c
	s.response.rotatedTo, s.response.confirmed = nil, time.Since(s.began)
	s.response.issued, s.response.renewed = true, false
	if s.response.cookie != handedOut && !s.cred.inHeader {
		s.response.cookie = setCookie
	}
}

// refusedOp returns the error of an operation with this index or a higher one, if the caller can go
// on after it: a comparison failed, or a limit would be exceeded. Otherwise it returns nil.
func refusedOp(err error, index int) *driver.OpError {
	if err == nil {
		return nil
	}
	var op *driver.OpError
	if !errors.As(err, &op) || op.Index < index {
		return nil
	}
	for _, reason := range []error{driver.ErrConflict, driver.ErrFull, driver.ErrOverflow} {
		if errors.Is(op.Err, reason) {
			return op
		}
	}
	return nil
}
