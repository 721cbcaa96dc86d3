package session

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Session is one request's view of a visitor's session, with the changes that the request made.
// It is safe for concurrent use by the goroutines of the request. Methods without a context never
// wait for the store, also not for a commit that another goroutine has begun.
type Session struct {
	m       *Manager
	began   time.Time // when the request began
	request *http.Request
	// An adapter's, in place of Config.OnError; or nil.
	onError func(w http.ResponseWriter, r *http.Request, err error)
	handle  atomic.Pointer[driver.ID] // for logs, also after the end; nil: not stored
	firstID driver.ID                 // what handle points at, until another id takes its place

	calls sync.Mutex // held by a call that talks to the store, from its beginning to its end
	mu    sync.Mutex // guards the fields below; never held while the store is asked

	state    state
	readErr  error         // why reading failed; nil unless state is failed
	waited   time.Duration // what the last read took, if the store failed; else 0
	cred     credentials
	mode     routeMode
	view     view
	identity identity
	response response
	outcome  outcome
	reported reported
	events   []Event // unlock emits them

	data  *Session  // the data of the user who is signed in; nil: nobody has asked for it
	owned *userData // s is the data of a user; nil: it is a session
}

// state is what the session is to its request.
type state uint8

const (
	unread    state = iota // nobody has asked for it
	anonymous              // nothing is stored: the first write creates a session
	live                   // view.record is the session
	readOnly               // view.record is a copy of unknown age; writes are refused
	ended                  // it ended while the request ran; writes are refused
	moved                  // the browser has a newer cookie; writes are refused
	degraded               // the store is down, or a key is missing: empty; writes are refused
	failed                 // reading it failed, with readErr
)

// lock begins a call that talks to the store. unlock ends it.
func (s *Session) lock() {
	s.calls.Lock()
	s.mu.Lock()
}

// unlock releases both locks, and emits the events of the call: a listener may use the session.
func (s *Session) unlock(ctx context.Context) {
	events := s.events
	s.events = nil
	s.mu.Unlock()
	s.calls.Unlock()
	if len(events) > 0 {
		s.m.emitAll(ctx, events)
	}
}

type contextKey struct{}

func sessionOf(ctx context.Context) (*Session, error) {
	if s, ok := ctx.Value(contextKey{}).(*Session); ok {
		return s, nil
	}
	return nil, ErrNoManager
}

// From returns the session of a request that went through [Manager.Handler] or [Manager.Load]. The
// first call reads it: at most one round trip, none if this process has a current copy. After a nil
// error, reading fields never waits and returns no error: a mistake is kept, and fails the commit.
//
// If a request goes through several Managers, From returns the session of the innermost one.
//
// An unknown visitor gets an empty session. It is stored, and its cookie set, with the first
// change. If the visitor's session ended, or got a new token, after the request began, the session
// is empty, too, and its changes are refused with [ErrEnded].
//
// Errors:
//   - [ErrNoManager];
//   - [ErrUnavailable] if the store is down, unless [Route].Down says otherwise;
//   - [ErrAmbiguous];
//   - [ErrSealed] if Config.Keys lacks the key of any value of the session;
//   - another error if Config.UserKey has changed since the user signed in.
//
// Give a route that signs out Down: [DownAnonymous]. There [Session.SignOut] works although the
// store is down or a key is missing.
func From(ctx context.Context) (*Session, error) {
	s, err := sessionOf(ctx)
	if err != nil {
		return nil, err
	}
	s.lock()
	defer s.unlock(ctx)
	if s.response.sent && !s.response.used {
		s.m.cfg.Logger.WarnContext(ctx, "session: the session is first used after the response header has left, "+
			"so the response says nothing about caching: call From earlier")
	}
	s.response.used = true
	if s.state == unread {
		s.read(ctx)
	}
	if s.state == failed {
		s.outcome.reported = true
		return nil, s.readErr
	}
	return s, nil
}

func (s *Session) begin(m *Manager, h http.Header) {
	s.m, s.began = m, time.Now()
	s.cred = m.credentialsOf(h)
	s.view.limit, s.identity.m = m.cfg.MaxSize, m
}

// Reload drops the view, with all changes that are not committed, and reads the session from the
// store: for connections that stay open. It extends the idle timeout, unless [Route].Passive is
// set. It returns [ErrEnded] if the session has ended.
//
// The user data of the session is read again, too: see [Session.UserData].
func (s *Session) Reload(ctx context.Context) error {
	if err := s.reload(ctx); err != nil {
		return err
	}
	for d := s.opened(); d != nil; d = d.owned.before {
		if err := d.Reload(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) reload(ctx context.Context) error {
	s.lock()
	defer s.unlock(ctx)
	if s.outcome.phase != phaseOpen {
		return s.outcome.err
	}
	s.response.streams = s.response.sent
	s.view.discard()
	s.outcome.forgive()
	if s.owned != nil {
		s.readData(ctx)
	} else {
		s.readAgain(ctx)
	}
	switch s.state {
	case failed:
		return s.outcome.returned(s.readErr)
	case ended, moved:
		return ErrEnded
	}
	if s.touchIsDue() {
		return fromStore(s.storeTouch(ctx))
	}
	return nil
}

// touchIsDue reports that this use of the session has to be written to the store. The request's own
// use of a token that it issued does not count as the first one.
func (s *Session) touchIsDue() bool {
	verifier := s.cred.verifier
	if s.response.bringsToken() {
		verifier = driver.Hash{}
	}
	if s.owned != nil && !s.owned.touchIsDue(s.view.record, s.view.now) {
		return false
	}
	return s.state == live && !s.mode.passive && s.view.record.TouchDue(verifier, s.view.now)
}

// Degraded reports that the session stands in for one that could not be read. See [DownAnonymous]
// and [DownReadOnly].
func (s *Session) Degraded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == degraded || s.state == readOnly
}

// Discard drops the changes that are not committed, and the mistake that would fail the commit. It
// is for adapters of web frameworks: call it when a handler has failed, before the response to its
// error. What is changed afterwards is committed. [Error] does it by itself.
func (s *Session) Discard() {
	s.discard()
	for d := s.opened(); d != nil; d = d.owned.before {
		d.discard()
	}
}

func (s *Session) discard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view.discard()
	s.outcome.forgive()
}

// hasChanges reports whether there are changes that are not committed.
func (s *Session) hasChanges() bool {
	s.mu.Lock()
	changed := len(s.view.ops) > 0
	s.mu.Unlock()
	for d := s.opened(); d != nil; d = d.owned.before {
		changed = changed || d.hasChanges()
	}
	return changed
}

// Clear unsets all fields.
func (s *Session) Clear() { s.change(driver.Op{Kind: driver.Clear}) }

// get returns one value as the request sees it and as it is stored. It must not be modified.
func (s *Session) get(k driver.Key) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view.fields().Get(k)
}

// value returns one value as the request sees it, opened. It must not be modified.
func (s *Session) value(k driver.Key) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.view.fields().Get(k)
	b, err := s.identity.open(k, b)
	return b, ok && err == nil, err
}

// snapshot returns all values as the request sees them and as they are stored, and the secret that
// opens them.
func (s *Session) snapshot() (driver.Fields, driver.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view.snapshot(), s.identity.secret
}

// id returns the id of the session, or the zero ID if it is not stored.
func (s *Session) id() driver.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == anonymous && s.owned == nil {
		return driver.ID{}
	}
	return s.cred.id
}

// fail keeps the first error for the commit.
func (s *Session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outcome.fail(err)
}

// change applies op to the view and keeps it for the commit.
func (s *Session) change(op driver.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outcome.err != nil {
		return
	}
	err := s.refusal()
	if err == nil && op.Kind == driver.Set {
		op.Value, err = s.identity.seal(op.Key, op.Value)
	}
	if err == nil {
		err = s.view.change(op)
	}
	s.outcome.fail(err)
}

// refusal says why the session takes no changes.
func (s *Session) refusal() error {
	switch s.state {
	case ended, moved:
		return ErrEnded
	case degraded, readOnly:
		return ErrUnavailable
	case failed: // also after Error has dropped the outcome
		return s.readErr
	}
	return nil
}
