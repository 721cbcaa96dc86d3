package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// Adopt continues a session of another program under a token of this Manager: for a migration. It
// commits the changes that this request made, as the first values of the session. It signs in
// l.User if l is not nil. The response carries the token in a cookie. Package migrate calls Adopt
// after it has read the old session.
//
// secret is what only the old session's browser knows, such as the value of its cookie: at least 16
// bytes, which nobody can guess. The caller has checked that the old program accepts it. The token
// is derived from secret. So if several requests adopt the same session at the same time, also on
// several nodes, exactly one of them stores it. The others drop their changes, continue with the
// session that is stored, and send the same cookie.
//
// The token is replaced by a random one when it is a minute old, as with Config.RotateEvery. From
// then on, secret and the old cookie name no session.
//
// An adopted session that has ended is not stored again within a minute of its end, unless
// [Manager.RevokeAll] ended it and l is nil. The caller must take less than that between reading
// the old session and Adopt, and must remember that secret was adopted: see [Session.Resume].
//
// Errors:
//   - [ErrNotFound] if the session was adopted and has ended, or has another token by now;
//   - [ErrInvalid] if the visitor has a session already, or secret is too short;
//   - [ErrEnded] if the visitor's session has ended or has a newer token since the request began;
//   - those of [Session.SignIn], or of [Session.Commit] if l is nil.
//
// After ErrNotFound, ErrInvalid, ErrTooMany and ErrRevoked the visitor is unknown.
func (s *Session) Adopt(ctx context.Context, secret []byte, l *Login) error {
	s.lock()
	defer s.unlock(ctx)
	if err := s.mayAdopt(secret); err != nil {
		return err
	}
	t := ticket.Derived(secret)
	var err error
	if l == nil {
		err = s.adoptAnonymous(ctx, t)
	} else {
		err = s.adoptSignedIn(ctx, t, *l)
		t.Bucket = driver.BucketOf(s.m.owner(l.User))
	}
	switch {
	case errors.Is(err, errExists):
		s.view.discard()
		return s.resume(ctx, t)
	case errors.Is(err, ErrTooMany), errors.Is(err, ErrRevoked), errors.Is(err, ErrInvalid):
		s.view.discard()
		return err
	}
	s.outcome.fail(err)
	return s.outcome.returned(err)
}

// Resume continues the session that an earlier [Session.Adopt] of secret stored, and that has this
// handle. It stores nothing. It sends the session's cookie again, because the visitor may not have
// received the response to Adopt. Changes that this request made are dropped.
//
// Errors: [ErrNotFound], [ErrInvalid], [ErrEnded] and [ErrUnavailable], as of Adopt.
func (s *Session) Resume(ctx context.Context, secret []byte, handle string) error {
	s.lock()
	defer s.unlock(ctx)
	if err := s.mayAdopt(secret); err != nil {
		return err
	}
	t := ticket.Derived(secret)
	id, err := driver.ParseID(handle)
	t.Bucket = id.Bucket
	if err != nil || t.ID() != id {
		return fmt.Errorf("%w: Resume: %q is not the handle of a session that was adopted with this secret", ErrInvalid, handle)
	}
	s.view.discard()
	return s.resume(ctx, t)
}

// leastSecret is the least length of an old session's secret, in bytes.
const leastSecret = 16

// mayAdopt returns why the request cannot adopt a session. The caller holds both locks, as for all
// functions below.
func (s *Session) mayAdopt(secret []byte) error {
	switch {
	case s.owned != nil:
		return errUserData
	case s.outcome.err != nil:
		return s.outcome.report()
	case s.refusal() != nil:
		return s.refusal()
	case s.state != anonymous:
		return fmt.Errorf("%w: Adopt: the visitor has a session", ErrInvalid)
	case len(secret) < leastSecret:
		return fmt.Errorf("%w: Adopt: the secret has %d bytes, at least %d are needed", ErrInvalid, len(secret), leastSecret)
	}
	return s.mayIssueToken()
}

// adoptAnonymous stores a session in which nobody is signed in. It is not new to its visitor, so
// Config.FirstUseTimeout does not apply.
func (s *Session) adoptAnonymous(ctx context.Context, t ticket.Token) error {
	ctx, cancel := s.m.detached(ctx)
	defer cancel()
	c := driver.Change{Ops: s.view.begin(), MaxSize: s.m.cfg.MaxSize}
	returned := false
	defer func() {
		if !returned {
			s.storePanicked()
		}
	}()
	res, err := s.create(ctx, t, 0, &c)
	returned = true
	if err != nil {
		s.view.restore()
		return fromStore(err)
	}
	s.view.end()
	s.become(res.Record, res.Now)
	return nil
}

// adoptSignedIn stores a session in which somebody is signed in.
func (s *Session) adoptSignedIn(ctx context.Context, t ticket.Token, l Login) error {
	store, err := s.m.users()
	if err != nil {
		return err
	}
	in, err := s.m.signIn(&l, s.began)
	if err != nil {
		return err
	}
	return s.enter(ctx, store, in, &l, t)
}

// resume makes the session with the derived token t the request's own.
func (s *Session) resume(ctx context.Context, t ticket.Token) error {
	limited, cancel := s.m.detached(ctx)
	defer cancel()
	verifier := t.VerifierHash()
	r, now, err := s.load(limited, t.ID(), verifier)
	status := driver.Unknown
	switch {
	case err == nil:
		status = r.Tokens.Status(verifier, now)
	case !errors.Is(err, driver.ErrNotFound) && !errors.Is(err, driver.ErrMoved):
		err = fromStore(err)
		s.outcome.fail(err)
		return s.outcome.returned(err)
	}
	if status != driver.Current && status != driver.Grace {
		return ErrNotFound
	}
	s.cred.use(t)
	if err := s.identity.recognize(r); err != nil {
		s.cannotRead(err)
		return s.outcome.returned(err)
	}
	s.become(r, now)
	if status == driver.Current { // otherwise a response with a newer token is on its way
		s.issue(t, s.m.cookieFor(r.Principal, r.Deadline.Sub(now)))
	}
	return nil
}
