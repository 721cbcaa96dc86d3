package session

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// Manager applies one Config to one store. It is safe for concurrent use and has nothing to close: the application closes the
// store, after the last request.
type Manager struct {
	// What has keys is behind pointers, which is all that is printed of them.
	cfg   *Config
	given *Config // without the defaults that are no values
	keys  *ticket.Ring

	store      driver.Store
	turns      turns
	csrfExempt patterns
	heard      bool        // somebody is told of events: Config.OnEvent, or other nodes
	feed       driver.Feed // to other nodes; nil: none
	// names are those of users who were here, for events of sessions that are gone; nil: nobody listens.
	names  *names
	owners *owners
	// touches bounds how many uses are being written down at the same time; what is over it is written by a later request.
	touches chan struct{}
}

const maxTouches = 64

// New checks cfg and returns a Manager of the sessions in store. The error names the field and what is wrong with it.
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
		cfg: &cfg, given: &given, store: store, keys: keys, csrfExempt: exempt, turns: newTurns(), owners: &owners{}, touches: make(chan struct{}, maxTouches),
	}
	m.listen()
	return m, nil
}

// Config returns the configuration in force: defaults and policy filled in, but for CrossOrigin, OnError and Logger, where nil stays the
// default. Of keys it tells how many there are: they are blank, and [New] refuses blank ones.
func (m *Manager) Config() Config {
	c := *m.cfg
	c.CrossOrigin, c.OnError, c.Logger = m.given.CrossOrigin, m.given.OnError, m.given.Logger
	c.KeepFields, c.CSRFExempt, c.ClearSiteData = slices.Clone(c.KeepFields), slices.Clone(c.CSRFExempt), slices.Clone(c.ClearSiteData)
	if c.Keys != nil {
		c.Keys = make([][]byte, len(c.Keys))
	}
	if c.UserKey != nil {
		c.UserKey = []byte{0}
	}
	return c
}

// Load returns a context from which [From] gets the session that a request header names. It does no I/O, reads only Cookie and
// Authorization, and keeps nothing of h. With [Manager.Commit] it is the middleware for servers that are not net/http; these
// check for cross-origin requests themselves.
func (m *Manager) Load(ctx context.Context, h http.Header) context.Context {
	x := &exchange{Context: ctx}
	x.session.begin(m, h)
	return x
}

// Commit stores the changes of ctx's session and returns what to add to the response header: Set-Cookie, Vary, Cache-Control,
// Clear-Site-Data; nil if the session was not used. Call it once, before the header leaves. After an error send an error response
// (see [Status]) with the returned header, and nothing of what the handler made.
func (m *Manager) Commit(ctx context.Context) (http.Header, error) {
	s, err := sessionOf(ctx)
	if err != nil {
		return nil, err
	}
	err = s.commitBeforeHeader(ctx, true)
	h := http.Header{}
	s.writeHeader(h)
	m.touch(ctx, s)
	if len(h) == 0 {
		return nil, err
	}
	return h, err
}

// touch writes down that the session was used, if that is due. It does not delay the response, and its failure is none of the
// request.
func (m *Manager) touch(ctx context.Context, s *Session) {
	id, verifier, due := s.touchDue()
	if !due {
		return
	}
	select {
	case m.touches <- struct{}{}:
	default:
		return
	}
	ctx = context.WithoutCancel(ctx)
	go func() {
		defer func() { <-m.touches }()
		ctx, cancel := context.WithTimeout(ctx, m.cfg.CommitTimeout)
		defer cancel()
		if err := m.store.Touch(ctx, id, verifier); err != nil && !errors.Is(err, driver.ErrNotFound) && !errors.Is(err, driver.ErrMoved) {
			m.cfg.Logger.WarnContext(ctx, "session: a use was not written down; a later one will be", "session", id.String(), "error", err)
		}
	}()
}

// turns lets one Update of a session run at a time in this process, so that they do not make each other's comparisons fail.
type turns [64]chan struct{}

func newTurns() (t turns) {
	for i := range t {
		t[i] = make(chan struct{}, 1)
	}
	return t
}

var errBusy = errors.New("other updates of the session took too long")

func (t *turns) take(ctx context.Context, id driver.ID) (release func(), err error) {
	ch := t[int(id.Selector[1])%len(t)]
	select {
	case ch <- struct{}{}:
		return func() { <-ch }, nil
	case <-ctx.Done():
		return nil, errBusy
	}
}

// detached is ctx without its cancellation and with the commit's own limit: a client that hangs up does not lose a commit.
func (m *Manager) detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), m.cfg.CommitTimeout)
}
