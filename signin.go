package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// Login is what an application knows when it signs somebody in. Only User is needed. Texts that a
// client sends may be long or broken: SignIn cuts them at their bound, and replaces what is not
// UTF-8. It copies all texts, so they may be valid only for the request, as under fasthttp.
type Login struct {
	// User is the application's id of the user: 1 to 256 bytes of any kind.
	User string
	// Methods says how the user proved it, as in RFC 8176: "pwd", "otp", "hwk". At most 16 of 32
	// bytes.
	Methods []string
	// Level is the assurance level reached, as the application counts: 0 to 99.
	Level int
	// Device is a label for people: "Firefox on Linux". The first 128 bytes are kept.
	Device string
	// UserAgent is the browser's own description. The first 512 bytes are kept.
	UserAgent string
	// Address is the client's, as the application trusts it: often not RemoteAddr. The first 64
	// bytes are kept.
	Address string
	// Remember is the lifetime of this session and of its cookie, and its idle timeout, too. At
	// most Config.MaxRemember. Default: Config.Lifetime, and a cookie without Max-Age.
	Remember time.Duration
	// Lifetime is a shorter lifetime for this session: for the limit of an identity provider, or
	// for a shared computer. At most Config.Lifetime. Default: Config.Lifetime.
	Lifetime time.Duration
	// Began is when the authentication began: when the password was sent, or the visitor left for
	// the identity provider. At most 24 h ago. If the user's sessions were revoked since, SignIn
	// returns ErrRevoked. A handler that revokes and then signs in, as after a password reset, sets
	// Began to the time after the revocation. Default: the beginning of this request.
	Began time.Time
	// Authenticated is when the user authenticated, if that was before this sign-in: the auth_time
	// of an identity provider. Route.MaxAuthAge and Info.Authenticated use it. At most 10 years
	// ago. It may be a minute ahead, since clocks differ, and then counts as now. Default: the time
	// of the sign-in.
	Authenticated time.Time
}

// SignIn makes l.User the session's user. It commits. The user gets a new session under a new
// token; the token before no longer opens a session.
//
// Fields of the session before are kept as follows: of an anonymous session those that
// Config.KeepFields names; of a session of the same user all; of another user's session none.
// Changes that this request made and did not commit are kept in any case.
//
// After nil the response carries the new token even if the handler fails or panics later, unless
// the session has ended or has a newer token by then.
//
// For a minute after SignIn, the token of the session before reads as an empty session. Writes to
// it and [Session.CSRFToken] fail with [ErrEnded]. A browser that did not receive the response to
// the sign-in waits that long before a form with a CSRF token works again.
//
// Errors: [ErrTooMany] if Config.MaxPerUser refuses the sign-in; [ErrRevoked]; [ErrHeaderSent];
// [ErrInvalid] if a field of l is out of its bounds; those of [Session.Commit];
// errors.ErrUnsupported if the store does not know users. After ErrTooMany and ErrRevoked the
// session goes on as it was.
func (s *Session) SignIn(ctx context.Context, l Login) error {
	if err := s.closeData(ctx); err != nil {
		return err
	}
	if err := s.signIn(ctx, l); err != nil {
		return err
	}
	s.joinAtSignIn(ctx)
	return nil
}

func (s *Session) signIn(ctx context.Context, l Login) error {
	s.lock()
	defer s.unlock(ctx)
	store, ok := s.m.store.(driver.UserStore)
	if !ok {
		return fmt.Errorf("session: the store does not support users: %w", errors.ErrUnsupported)
	}
	in, err := s.m.signIn(&l, s.began)
	if err != nil {
		return err
	}
	switch s.state {
	case degraded, readOnly, failed:
		s.outcome.fail(s.refusal())
	case ended, moved: // signing in is how to go on after an end
		if errors.Is(s.outcome.err, ErrEnded) {
			s.outcome.forgive()
		}
	}
	if s.outcome.err != nil {
		return s.outcome.report()
	}
	err = s.enter(ctx, store, in, &l, ticket.New())
	if errors.Is(err, ErrTooMany) || errors.Is(err, ErrRevoked) {
		return err
	}
	s.outcome.fail(err)
	return s.outcome.returned(err)
}

// enter signs in, under the token t, in the user's bucket. The caller holds both locks.
func (s *Session) enter(ctx context.Context, store driver.UserStore, in *driver.SignIn, l *Login, t ticket.Token) error {
	// ErrNotSignedIn is no obstacle: BearerToken can hand out the new token.
	if err := s.mayIssueToken(); err != nil && !errors.Is(err, ErrNotSignedIn) {
		return err
	}
	ops, err := s.identity.reseal(s.view.ops, in.Spec.Secret)
	if err != nil {
		return err
	}
	ctx, cancel := s.m.detached(ctx)
	defer cancel()
	t.Bucket = driver.BucketOf(in.Spec.Principal.Owner)
	in.Spec.Verifier = t.VerifierHash()
	in.Change = driver.Change{Verifier: in.Spec.Verifier, Ops: ops, MaxSize: s.m.cfg.MaxSize}
	in.Elapsed = max(0, time.Since(l.Began))
	if !l.Authenticated.IsZero() {
		in.AuthenticatedAgo = max(0, time.Since(l.Authenticated))
	}
	before := s.view.record
	if before != nil {
		in.From = &driver.Credential{ID: s.cred.id, Verifier: s.cred.verifier}
	}
	s.view.begin()
	returned := false
	defer func() {
		if !returned {
			s.storePanicked()
		}
	}()
	res, err := s.storeSignIn(ctx, store, t.ID(), in)
	returned = true
	if err != nil {
		s.view.restore()
		return fromStore(err)
	}
	s.view.end()
	// The session exists from here on, so its token leaves, whatever comes.
	s.issue(t, s.m.cookieFor(in.Spec.Principal, in.Spec.Lifetime))
	s.setHandle()
	if err := s.signedIn(res, in, before); err != nil {
		s.reset()
		s.cannotRead(err)
		return err
	}
	s.emitSignedIn(res, in.From)
	if res.Record == nil {
		s.refresh(ctx, nil, nil)
	}
	return nil
}

// signedIn makes s the session of a sign-in that the store has made.
func (s *Session) signedIn(res *driver.Result, in *driver.SignIn, before *driver.Record) (err error) {
	// Changes made while the store worked are sealed for the session before.
	if s.view.ops, err = s.identity.reseal(s.view.ops, in.Spec.Secret); err != nil {
		return err
	}
	record := res.Record
	if record == nil {
		if record, err = signedInRecord(res.Now, in, before); err != nil {
			return err
		}
	}
	if err := s.identity.recognize(record); err != nil {
		return err
	}
	s.become(record, res.Now)
	return nil
}

// signedInRecord returns the record of a sign-in as far as this request knows it. The request must
// not go on with the view of the session before.
func signedInRecord(now time.Time, in *driver.SignIn, before *driver.Record) (*driver.Record, error) {
	made, err := driver.NewSignedIn(now, in, before)
	if err != nil { // before was older than what the store had
		bare := *in
		bare.Change.Ops = nil
		if made, err = driver.NewSignedIn(now, &bare, nil); err != nil {
			return nil, err
		}
	}
	return made.Record, nil
}

// signIn checks a login and returns the request to the store.
func (m *Manager) signIn(l *Login, began time.Time) (*driver.SignIn, error) {
	p := &driver.Principal{
		User: strings.Clone(l.User), Owner: m.owner(l.User), Methods: slices.Clone(l.Methods), Level: l.Level,
		Device: cut(l.Device, driver.MaxDevice), UserAgent: cut(l.UserAgent, driver.MaxUserAgent), Address: cut(l.Address, driver.MaxAddress),
		Persistent: l.Remember > 0 || m.cfg.Cookie.Persistent,
	}
	for i := range p.Methods {
		p.Methods[i] = strings.Clone(p.Methods[i])
	}
	if err := p.Check(); err != nil {
		return nil, fmt.Errorf("%w: Login: %v", ErrInvalid, err)
	}
	idle, lifetime, err := m.limits(l)
	if err != nil {
		return nil, err
	}
	if l.Began.IsZero() {
		l.Began = began
	}
	if ago := time.Since(l.Began); ago > driver.MaxSignInTime {
		return nil, fmt.Errorf("%w: Login.Began is %v ago: it is at most %v", ErrInvalid, ago.Round(time.Second), driver.MaxSignInTime)
	}
	if err := l.checkAuthenticated(); err != nil {
		return nil, err
	}
	secret, owner := ticket.NewSecret(), p.Owner
	if m.cfg.Seal {
		var err error
		if p, err = m.keys.Sealer(secret).SealPrincipal(p); err != nil {
			return nil, err
		}
	}
	return &driver.SignIn{
		Spec:        driver.RecordSpec{Secret: secret, Idle: idle, Lifetime: lifetime, Principal: p},
		Carry:       m.carry(owner, secret),
		MaxSessions: m.cfg.MaxPerUser,
		RefuseExtra: m.cfg.RefuseExtra,
	}, nil
}

// maxClockSkew is how far the clock of an identity provider may be ahead.
const maxClockSkew = time.Minute

// checkAuthenticated returns an error if l.Authenticated is out of its bounds.
func (l *Login) checkAuthenticated() error {
	if l.Authenticated.IsZero() {
		return nil
	}
	// enter computes the time again, a moment later.
	const most = driver.MaxAuthenticatedAgo - time.Minute
	switch ago := time.Since(l.Authenticated); {
	case ago > most:
		return fmt.Errorf("%w: Login.Authenticated is %v, which is more than 10 years ago", ErrInvalid,
			l.Authenticated.Format(time.RFC3339))
	case ago < -maxClockSkew:
		return fmt.Errorf("%w: Login.Authenticated is %v in the future: at most %v is allowed; check the clocks", ErrInvalid,
			-ago.Round(time.Second), maxClockSkew)
	}
	return nil
}

// limits returns the time limits of the session that a login begins.
func (m *Manager) limits(l *Login) (idle, lifetime time.Duration, err error) {
	switch {
	case l.Remember > 0 && l.Remember <= maxCookieAge && m.cfg.MaxRemember == 0:
		return 0, 0, fmt.Errorf("%w: Config.MaxRemember is 0, so Login.Remember is not allowed; set it to at least %v",
			ErrInvalid, max(l.Remember, m.cfg.Lifetime))
	case l.Remember != 0 && l.Remember < time.Millisecond || l.Remember > m.cfg.MaxRemember:
		return 0, 0, fmt.Errorf("%w: Login.Remember is %v: it must be 1ms to Config.MaxRemember (%v), or 0", ErrInvalid, l.Remember, m.cfg.MaxRemember)
	case l.Lifetime != 0 && (l.Lifetime < time.Millisecond || l.Lifetime > m.cfg.Lifetime):
		return 0, 0, fmt.Errorf("%w: Login.Lifetime is %v: it must be 1ms to Config.Lifetime (%v), or 0", ErrInvalid, l.Lifetime, m.cfg.Lifetime)
	case l.Lifetime != 0 && l.Remember != 0:
		return 0, 0, fmt.Errorf("%w: Login has both Lifetime and Remember", ErrInvalid)
	case l.Remember != 0:
		return l.Remember, l.Remember, nil
	case l.Lifetime != 0:
		return min(m.cfg.IdleTimeout, l.Lifetime), l.Lifetime, nil
	}
	return m.cfg.IdleTimeout, m.cfg.Lifetime, nil
}

// carry returns what decides which fields of the session before are kept, sealed for the session
// with the secret.
func (m *Manager) carry(owner driver.Hash, secret driver.Secret) func(*driver.Record) (driver.Fields, error) {
	resealer := m.keys.Resealer(secret)
	return func(from *driver.Record) (driver.Fields, error) {
		return resealer.Fields(from.Secret, m.kept(from, owner))
	}
}

// kept returns the fields of a session that are kept when the owner signs in.
func (m *Manager) kept(from *driver.Record, owner driver.Hash) driver.Fields {
	if from.Principal != nil {
		if from.Principal.Owner == owner {
			return from.Fields
		}
		return nil
	}
	var kept driver.Fields
	for _, f := range from.Fields {
		field, _, _ := f.Key.Split()
		if _, users := m.userFields[field]; users || slices.Contains(m.cfg.KeepFields, field) {
			kept = append(kept, f)
		}
	}
	return kept
}

// cut returns the beginning of a text, whole characters of at most so many bytes.
func cut(s string, most int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= most {
		return strings.Clone(s)
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return strings.Clone(s[:most])
}
