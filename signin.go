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

// Login is what an application knows when it signs somebody in. Only User is needed. Texts that a client sends may be long or broken:
// what is over their bound, or not UTF-8, is cut off.
type Login struct {
	User      string        // the application's id of the user, 1 to 256 bytes of any kind
	Methods   []string      // how they proved it, as in RFC 8176: "pwd", "otp", "hwk"; at most 16 of 32 bytes
	Level     int           // assurance level reached, as the application counts, 0 to 99
	Device    string        // a label for people: "Firefox on Linux"; 128 bytes are kept
	UserAgent string        // 512 bytes are kept
	Address   string        // as the application trusts it: often not RemoteAddr; 64 bytes are kept
	Remember  time.Duration // lifetime of this session and of its cookie, at most Config.MaxRemember; 0: Config.Lifetime, and no Max-Age
	Lifetime  time.Duration // of this session, less than Config.Lifetime: an identity provider's limit, a computer that many use; 0: as long

	// Began is when the authentication began: when the password was sent, or the visitor left for the identity provider. A revocation of the
	// user's sessions after it refuses the sign-in. Default: the beginning of this request; at most 24 h ago. A handler that revokes and
	// signs in, for a reset password, sets it to the time after the revocation.
	Began time.Time
}

// SignIn makes l.User the session's user, in a new session under a new token; the one before leads nowhere. Of an anonymous session the
// fields of Config.KeepFields come along, of one of the same user all, of another user's none. What the request has changed so far, and not
// committed, comes along in any case. It commits.
//
// Errors: [ErrTooMany] when Config.MaxPerUser refuses; [ErrRevoked]; [ErrHeaderSent]; [ErrInvalid] for a Login out of its bounds; those of
// [Session.Commit]. errors.ErrUnsupported if the store does not know users.
func (s *Session) SignIn(ctx context.Context, l Login) error {
	s.mu.Lock()
	defer s.unlock(ctx)
	store, ok := s.m.store.(driver.UserStore)
	if !ok {
		return fmt.Errorf("session: the store does not know users: %w", errors.ErrUnsupported)
	}
	in, err := s.m.signIn(&l, s.begun)
	if err != nil {
		return err
	}
	if s.err == nil && (s.state == degraded || s.readOnly) {
		s.err = ErrUnavailable
	}
	if s.err == nil || s.state == gone && errors.Is(s.err, ErrEnded) { // signing in is how to go on after an end
		s.err = s.enter(ctx, store, in, l.Began)
	}
	s.told = s.err != nil
	if errors.Is(s.err, ErrTooMany) || errors.Is(s.err, ErrRevoked) { // nothing has happened, and the session goes on as it was
		err, s.err, s.told = s.err, nil, false
		return err
	}
	return s.err
}

// enter signs in. The caller holds the lock.
func (s *Session) enter(ctx context.Context, store driver.UserStore, in *driver.SignIn, began time.Time) error {
	if s.sent {
		return ErrHeaderSent
	}
	if err := s.mayHaveToken(); err != nil && !errors.Is(err, ErrNotSignedIn) { // with Session.BearerToken the new one has a way back
		return err
	}
	ctx, cancel := s.m.detached(ctx)
	defer cancel()
	t := ticket.New()
	t.Bucket = driver.BucketOf(in.Origin.Principal.Owner)
	in.Origin.Verifier = t.VerifierHash()
	ops, err := s.resealedOps(in.Origin.Secret)
	if err != nil {
		return err
	}
	in.Change = driver.Change{Verifier: in.Origin.Verifier, Ops: ops, MaxSize: s.m.cfg.MaxSize}
	var before *driver.Record
	if s.state == live {
		in.From = &driver.Credential{ID: s.id, Verifier: s.verifier}
		before = s.record
	}
	res, err := twice(func() (*driver.Result, error) {
		in.Ago = max(0, time.Since(began)) // with each try: a revocation since the first one refuses the second
		return store.SignIn(ctx, t.ID(), in)
	})
	if err != nil {
		return fromStore(err)
	}
	defer s.signedIn(res, in.From)
	s.ops = nil
	s.newToken(t)
	s.handle.Store(&driver.ID{Bucket: s.id.Bucket, Selector: s.id.Selector})
	s.state, s.readOnly, s.record, s.edited, s.secret = live, false, nil, false, in.Origin.Secret
	s.whose, s.whoseID = in.Origin.Principal, in.Origin.Secret
	if s.who, err = s.sealer().OpenPrincipal(in.Origin.Principal); err != nil {
		return err
	}
	if res.Record != nil {
		s.become(res.Record, res.Now)
		return nil
	}
	// As far as this request knows; it must not go on with the view of whoever was signed in before.
	if made, err := driver.NewSignedIn(res.Now, in, before); err == nil {
		s.become(made.Record, made.Now)
	}
	s.refresh(ctx)
	return nil
}

// signIn checks a login and makes of it what the store is asked.
func (m *Manager) signIn(l *Login, begun time.Time) (*driver.SignIn, error) {
	p := &driver.Principal{
		User: l.User, Owner: m.owner(l.User), Methods: slices.Clone(l.Methods), Level: l.Level,
		Device: cut(l.Device, driver.MaxDevice), UserAgent: cut(l.UserAgent, driver.MaxUserAgent), Address: cut(l.Address, driver.MaxAddress),
		Persistent: l.Remember > 0 || m.cfg.Cookie.Persistent,
	}
	if err := p.Check(); err != nil {
		return nil, fmt.Errorf("%w: Login: %v", ErrInvalid, err)
	}
	idle, lifetime, err := m.limits(l)
	if err != nil {
		return nil, err
	}
	if l.Began.IsZero() {
		l.Began = begun
	}
	secret, owner := ticket.NewSecret(), p.Owner
	if m.cfg.Seal {
		var err error
		if p, err = m.keys.Sealer(secret).SealPrincipal(p); err != nil {
			return nil, err
		}
	}
	return &driver.SignIn{
		Origin: driver.Origin{Secret: secret, Idle: idle, Lifetime: lifetime, Principal: p},
		Carry:  m.resealing(secret, m.carry(owner)),
		Max:    m.cfg.MaxPerUser,
		Refuse: m.cfg.RefuseExtra,
	}, nil
}

// limits are those of the session that a login begins.
func (m *Manager) limits(l *Login) (idle, lifetime time.Duration, err error) {
	switch {
	case l.Remember != 0 && l.Remember < time.Millisecond || l.Remember > m.cfg.MaxRemember:
		return 0, 0, fmt.Errorf("%w: Login.Remember is %v: it is 1ms to Config.MaxRemember, %v, and 0 for none", ErrInvalid, l.Remember, m.cfg.MaxRemember)
	case l.Lifetime != 0 && (l.Lifetime < time.Millisecond || l.Lifetime > m.cfg.Lifetime):
		return 0, 0, fmt.Errorf("%w: Login.Lifetime is %v: it is 1ms to Config.Lifetime, %v, and 0 for that", ErrInvalid, l.Lifetime, m.cfg.Lifetime)
	case l.Lifetime != 0 && l.Remember != 0:
		return 0, 0, fmt.Errorf("%w: Login has both Lifetime and Remember", ErrInvalid)
	case l.Remember != 0:
		return l.Remember, l.Remember, nil // who is remembered may stay away
	case l.Lifetime != 0:
		return min(m.cfg.IdleTimeout, l.Lifetime), l.Lifetime, nil
	}
	return m.cfg.IdleTimeout, m.cfg.Lifetime, nil
}

// carry says which fields of the session before come along.
func (m *Manager) carry(owner driver.Hash) func(*driver.Record) driver.Fields {
	return func(from *driver.Record) driver.Fields {
		if from.Principal != nil {
			if from.Principal.Owner == owner {
				return from.Fields
			}
			return nil
		}
		var kept driver.Fields
		for _, f := range from.Fields {
			if field, _, _ := f.Key.Split(); slices.Contains(m.cfg.KeepFields, field) {
				kept = append(kept, f)
			}
		}
		return kept
	}
}

// owner is what the store knows a user by.
func (m *Manager) owner(user string) driver.Hash {
	owner := m.keys.Owner(user)
	m.names.note(owner, user)
	return owner
}

// cut returns the beginning of a text, whole characters of at most so many bytes.
func cut(s string, most int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}
