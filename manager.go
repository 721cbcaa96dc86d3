package session

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// Manager applies one Config to one store. It is safe for concurrent use. It has nothing to close:
// the application closes the store, after the last request.
type Manager struct {
	// What has keys is behind pointers, so that printing a Manager prints no key.
	cfg   *Config
	given *Config // cfg without the defaults for CrossOrigin, OnError and Logger
	keys  *ticket.Ring

	store      driver.Store
	csrfExempt patterns
	updates    updateQueue
	reads      sharedReads
	touches    chan struct{} // bounds the touches that run at the same time
	userIDs    *userCache
	observers  *observers  // nil: none
	local      bool        // somebody on this node gets events: Config.OnEvent, or observers
	listening  bool        // somebody gets events: on this node, or on others
	feed       driver.Feed // to other nodes; nil: none

	userFields  map[string]userField // Config.UserFields by name
	undecodable sync.Map             // fields whose stored values did not decode, once logged
}

// New checks cfg and returns a Manager of the sessions in store. The error names the field of cfg
// that is wrong, and says why.
func New(store driver.Store, cfg Config) (*Manager, error) {
	if store == nil {
		return nil, errors.New("session: New needs a store: memstore.New() for a start")
	}
	cfg, err := cfg.checked()
	if err != nil {
		return nil, err
	}
	given := cfg
	if cfg.CrossOrigin == nil {
		cfg.CrossOrigin = http.NewCrossOriginProtection()
	}
	if cfg.OnError == nil {
		cfg.OnError = defaultOnError
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	keys, err := ticket.NewRing(cfg.Keys, cfg.UnsignedUntil, cfg.UserKey)
	if err != nil {
		return nil, errors.New("session: Config.Keys: " + err.Error())
	}
	exempt, err := newPatterns(cfg.CSRFExempt)
	if err != nil {
		return nil, errors.New("session: Config.CSRFExempt: " + err.Error())
	}
	m := &Manager{
		cfg: &cfg, given: &given, keys: keys, store: store, csrfExempt: exempt,
		updates: updateQueue{sessions: map[driver.ID]*updateTurn{}},
		touches: make(chan struct{}, maxTouches),
		userIDs: newUserCache(cachedUsers),
	}
	if m.userFields, err = userFieldsOf(store, &cfg); err != nil {
		return nil, err
	}
	m.observers = newObservers(&cfg)
	m.listen()
	return m, nil
}

// Config returns the configuration in force, with the policy and the defaults filled in. A nil
// CrossOrigin, OnError or Logger stays nil. The keys are blank: their number is right, and [New]
// refuses them.
func (m *Manager) Config() Config {
	c := *m.cfg
	c.CrossOrigin, c.OnError, c.Logger = m.given.CrossOrigin, m.given.OnError, m.given.Logger
	c.KeepFields, c.CSRFExempt, c.ClearSiteData = slices.Clone(c.KeepFields), slices.Clone(c.CSRFExempt), slices.Clone(c.ClearSiteData)
	c.Observers, c.UserFields = slices.Clone(c.Observers), slices.Clone(c.UserFields)
	if c.Keys != nil {
		c.Keys = make([][]byte, len(c.Keys))
	}
	if c.UserKey != nil {
		c.UserKey = []byte{0}
	}
	return c
}

// Load returns a context from which [From] gets the session of a request. Load and [Manager.Commit]
// are the middleware for servers that are not net/http. They describe the request as an
// [http.Request] with Method, URL, Host, Header and, with Config.CSRF, Body. Load reads nothing
// else and keeps r. It does no I/O but what the check of a CSRF token needs. If r's context has a
// session of m already, Load returns that context: the middleware is nested.
//
// Errors: [ErrCrossOrigin], [ErrCSRF], and those of [From] with Config.CSRF. Do not call the
// handler then. Call Commit with the context, which is never nil, and send an error response.
func (m *Manager) Load(r *http.Request) (context.Context, error) {
	if s, err := sessionOf(r.Context()); err == nil && s.m == m {
		return r.Context(), nil
	}
	x := &exchange{Context: r.Context()}
	x.session.begin(m, r.Header)
	if r.URL == nil {
		r.URL = &url.URL{}
	}
	x.session.request = r
	if err := x.check(r); err != nil {
		x.session.stop(phaseAnswered, err)
		return x, err
	}
	return x, nil
}

// Commit stores the changes of ctx's session and returns what to add to the response header:
// Set-Cookie, Vary, Cache-Control, Clear-Site-Data; nil if the session was not used. Call it once,
// before the header leaves. After an error, which it logs, send an error response (see [Status])
// with the returned header, and nothing that the handler wrote.
func (m *Manager) Commit(ctx context.Context) (http.Header, error) {
	s, err := sessionOf(ctx)
	if err != nil {
		return nil, err
	}
	return m.commit(ctx, s, nil)
}

// Fail is [Manager.Commit] for a request whose handler failed. It drops the changes that are not
// committed, logs err and returns what to add to the header of the error response. That includes
// Retry-After or WWW-Authenticate where they belong to the status of err. If err is nil, because
// the handler panicked or another part of the server reports its error, Fail logs nothing.
func (m *Manager) Fail(ctx context.Context, err error) http.Header {
	s, missing := sessionOf(ctx)
	if missing != nil {
		return nil
	}
	s.Discard()
	h, _ := m.commit(ctx, s, err)
	return h
}

// commit is Commit for a request that failed with failure, unless that is nil.
func (m *Manager) commit(ctx context.Context, s *Session, failure error) (http.Header, error) {
	h := http.Header{}
	err := s.commitBeforeHeader(ctx, true)
	s.writeHeader(h)
	if failure == nil {
		failure = err
	}
	if failure != nil {
		s.log(ctx, failure)
		setErrorHeader(h, failure)
	}
	m.touch(ctx, s)
	if len(h) == 0 {
		return nil, err
	}
	return h, err
}

// Discard is [Session.Discard] for ctx's session. Unlike [From], it does not read the session.
// Without a session it does nothing.
func (m *Manager) Discard(ctx context.Context) {
	if s, err := sessionOf(ctx); err == nil {
		s.Discard()
	}
}

// detached returns ctx without its cancellation, and with the commit's own limit: a client that
// hangs up does not lose a commit.
func (m *Manager) detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), m.cfg.CommitTimeout)
}
