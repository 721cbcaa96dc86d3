package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// Session is one request's view of a visitor's session, with the changes that it has made. It is safe for concurrent use by the
// goroutines of the request.
type Session struct {
	m      *Manager
	begun  time.Time                 // when the request began
	handle atomic.Pointer[driver.ID] // for logs: of the session that is stored, or was until it ended; nil if there was none

	mu      sync.Mutex
	state   state
	used    bool  // From was called: the response depends on the session
	err     error // what stops the next commit: see fail
	readErr error // what From returns when state is failed

	cred     credentials // what the request carried; token is the session's own once it has one
	id       driver.ID
	verifier driver.Hash
	setToken setToken
	stale    bool          // the browser has a cookie that leads nowhere
	next     *ticket.Token // what the response gives the browser in place of token: see rotated
	theft    bool          // token was stolen
	sent     bool          // the response header has left
	told     bool          // the handler knows of err
	refused  bool          // the response reports err: nothing more is committed
	request  *http.Request // nil under servers that are not net/http

	signedOut bool // the response has yet to say so

	record   *driver.Record // as the store had it; shared, not to be modified
	now      time.Time      // the store's time when record was read
	readAt   time.Time      // and ours, if somebody is signed in
	draft    driver.Draft   // what the request sees once it has changed something
	edited   bool           // draft is in use
	ops      []driver.Op    // not yet committed
	roomMade int            // index of the last of ops that made a value smaller, -1 for none

	whose   *driver.Principal // of the session that the token names, whether or not it opens it
	whoseID driver.Secret     // the @id of that session
	events  []Event           // not yet told: see unlock

	secret driver.Secret     // the @id of the session; zero: not chosen yet
	box    *ticket.Sealer    // of secret; nil: not needed so far
	who    *driver.Principal // what record's has sealed; the rest of it may be older

	readOnly bool // the record is a copy that the store cannot vouch for
	fresh    bool // the route wants no cached copy
	passive  bool // the route's requests are no use of the session
	down     Down
}

// state says what a session is to its request.
type state uint8

const (
	unread    state = iota // nobody has asked for it
	anonymous              // there is none: the first write makes one
	live
	gone     // it ended or got another token while the request ran: empty, refuses writes, sends no cookie
	degraded // the store is down, or a key is missing: empty, refuses writes, sends no cookie
	failed   // reading it failed, with readErr
)

// setToken says what to do with the cookie.
type setToken uint8

const (
	keepCookie setToken = iota
	setCookie
	deleteCookie
	handedOut // the application gave the token to the client itself
)

type contextKey struct{}

func sessionOf(ctx context.Context) (*Session, error) {
	if s, ok := ctx.Value(contextKey{}).(*Session); ok {
		return s, nil
	}
	return nil, ErrNoManager
}

// From returns the session of a request that went through [Manager.Handler] or [Manager.Load]. The first call reads it: at most
// one round trip, none when this process has a current copy. An unknown visitor gets an empty session, which is stored, and whose
// cookie is set, when the first change is. After a nil error reading fields cannot fail.
//
// Errors: [ErrNoManager]; [ErrUnavailable] if the store is down, unless the [Route] says otherwise; [ErrAmbiguous]; [ErrSealed] if
// Config.Keys lacks the key of a value, whichever the request would read; one that says so if Config.UserKey has changed. A route that
// ends sessions has Down: [DownAnonymous]: [Session.SignOut] works also where the store does not answer, and where a key is missing, and
// SignIn after it.
func From(ctx context.Context) (*Session, error) {
	s, err := sessionOf(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock(ctx)
	s.used = true
	if s.state == unread {
		s.read(ctx)
	}
	if s.state == failed {
		s.told = true
		return nil, s.readErr
	}
	return s, nil
}

func (s *Session) begin(m *Manager, h http.Header) {
	s.m, s.begun = m, time.Now()
	s.cred = m.read(h)
}

// read asks the store for the session that the request's token names. The caller holds the lock.
func (s *Session) read(ctx context.Context) {
	s.record, s.edited, s.readOnly, s.secret = nil, false, false, driver.Secret{}
	first := s.state == unread
	if first && s.cred.refused != "" {
		s.refusedToken(s.cred.refused, "")
	}
	switch {
	case s.cred.ambiguous:
		s.cannotRead(ErrAmbiguous)
		return
	case !s.cred.found:
		s.state = anonymous
		return
	}
	s.id, s.verifier = s.cred.token.ID(), s.cred.token.VerifierHash()
	r, now, err := s.load(ctx)
	switch {
	case err == nil:
		s.accept(ctx, r, now)
	case errors.Is(err, driver.ErrNotFound) && time.Since(s.begun) >= driver.SupersededFor:
		s.state = gone // it may have moved, and the word of that be forgotten: the browser may have a newer cookie
	case errors.Is(err, driver.ErrNotFound):
		s.state = anonymous
	case errors.Is(err, driver.ErrMoved):
		s.state = gone
	case s.down == DownAnonymous:
		s.state = degraded
		s.m.cfg.Logger.ErrorContext(ctx, "session: the store is down; the visitor is served as an unknown one", "error", err)
	case s.down == DownReadOnly && s.readStale(ctx):
		s.m.cfg.Logger.ErrorContext(ctx, "session: the store is down; the visitor is served from a copy", "error", err)
	default:
		s.cannotRead(fmt.Errorf("%w: %v", ErrUnavailable, err))
	}
	if first && s.state == anonymous && !s.theft && s.m.cfg.OnEvent != nil {
		s.refusedToken("unknown", s.id.String())
	}
}

// load asks the store for the record of s.id. A copy in this process may be from before another one changed the token, so one that the
// token does not open is no answer. The caller holds the lock.
func (s *Session) load(ctx context.Context) (*driver.Record, time.Time, error) {
	store, copies := s.m.store.(driver.FreshLoader)
	if copies && s.fresh {
		return store.LoadFresh(ctx, s.id)
	}
	r, now, err := s.m.store.Load(ctx, s.id)
	if copies && err == nil && r.Tokens.Status(s.verifier, now) == driver.Unknown {
		return store.LoadFresh(ctx, s.id)
	}
	return r, now, err
}

// readStale makes this process's copy the session, read-only, if there is one.
func (s *Session) readStale(ctx context.Context) bool {
	store, ok := s.m.store.(driver.StaleLoader)
	if !ok {
		return false
	}
	r, now, ok := store.LoadStale(s.id)
	if !ok || r.Tokens.Status(s.verifier, now) == driver.Unknown { // the token may be newer than the copy
		return false
	}
	if s.accept(ctx, r, now); s.state == live {
		s.readOnly = true
	}
	return true
}

// readAgain reads a session that may have been read before: one that was there and is no longer has ended while the request ran.
func (s *Session) readAgain(ctx context.Context) {
	was := s.state
	s.read(ctx)
	if s.state == anonymous && (was == live || was == gone) {
		s.state = gone
	}
}

func (s *Session) cannotRead(err error) { s.state, s.readErr, s.err = failed, err, err }

// accept makes r the session, if the request's token opens it.
func (s *Session) accept(ctx context.Context, r *driver.Record, now time.Time) {
	s.whose, s.whoseID = r.Principal, r.Secret
	switch r.Tokens.Status(s.verifier, now) {
	case driver.Current, driver.Grace:
		switch err := s.canOpen(r); {
		case err == nil:
			s.become(r, now)
		case s.down == DownAnonymous:
			s.state = degraded
			s.m.cfg.Logger.ErrorContext(ctx, "session: a session cannot be read; the visitor is served as an unknown one", "error", err)
		default:
			s.cannotRead(err)
		}
	case driver.Superseded:
		s.state = gone
	case driver.Unknown:
		if s.goOn() {
			s.accept(ctx, r, now)
			return
		}
		s.foreign(ctx, r, now)
	}
}

func (s *Session) become(r *driver.Record, now time.Time) {
	s.state, s.record, s.whose, s.now, s.edited = live, r, r.Principal, now, false
	if r.Principal != nil { // who is signed in since when is all that is asked of the time
		s.readAt = time.Now()
		s.noteUser(r.Principal)
	}
	if s.handle.Load() == nil {
		id := s.id
		s.handle.Store(&id)
	}
}

// Reload drops the view, with what was not committed, and reads the store: for connections that live long. It counts as a use of
// the session, but for [Route].Passive. [ErrEnded] if the session is there no longer.
func (s *Session) Reload(ctx context.Context) error {
	s.mu.Lock()
	defer s.unlock(ctx)
	if s.refused {
		return s.err
	}
	s.ops, s.err, s.told = nil, nil, false
	s.readAgain(ctx)
	switch s.state {
	case failed:
		s.told = true
		return s.err
	case gone:
		return ErrEnded
	}
	if s.state == live && !s.passive && s.record.TouchDue(s.verifier, s.now) {
		if err := s.m.store.Touch(ctx, s.id, s.verifier); err != nil {
			return fromStore(err)
		}
	}
	return nil
}

// Degraded reports that the session stands in for one that could not be read, most often since the store is down: see [DownAnonymous] and
// [DownReadOnly].
func (s *Session) Degraded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == degraded || s.readOnly
}

// fields returns the values as the request sees them. The caller holds the lock.
func (s *Session) fields() driver.Fields {
	if s.edited {
		return s.draft.Fields()
	}
	if s.record != nil && s.state == live {
		return s.record.Fields
	}
	return nil
}

// get returns one value as the request sees it and as it is stored. It must not be modified.
func (s *Session) get(k driver.Key) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fields().Get(k)
}

// view returns all values as the request sees them and as they are stored, safe to read while the request goes on changing them, and the
// secret that opens them.
func (s *Session) view() (driver.Fields, driver.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.edited {
		return s.fields(), s.secret
	}
	return append(driver.Fields(nil), s.draft.Fields()...), s.secret
}

// fail keeps the first error for the commit.
func (s *Session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

// change applies op to the view and keeps it for the commit.
func (s *Session) change(op driver.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	if s.err = s.refusal(); s.err != nil {
		return
	}
	if len(s.ops) >= driver.MaxOps {
		s.err = fmt.Errorf("%w: field %q: a commit has at most %d operations: commit more often", ErrTooLarge, op.Key, driver.MaxOps)
		return
	}
	if op.Kind == driver.Set {
		if op.Value, s.err = s.sealed(op.Key, op.Value); s.err != nil {
			return
		}
	}
	s.edit()
	before := s.room(op.Key)
	if _, err := s.draft.Do(&op); err != nil {
		s.err = fromOp(err)
		return
	}
	s.buffer(op, s.room(op.Key)-before)
}

// room returns how many bytes the value under k takes in the view.
func (s *Session) room(k driver.Key) int {
	if v, ok := s.draft.Fields().Get(k); ok {
		return len(k) + len(v)
	}
	return 0
}

// refusal says why the session takes no changes.
func (s *Session) refusal() error {
	switch {
	case s.state == gone:
		return ErrEnded
	case s.state == degraded, s.readOnly:
		return ErrUnavailable
	}
	return nil
}

func (s *Session) edit() {
	if !s.edited {
		var r *driver.Record
		if s.state == live {
			r = s.record
		}
		s.draft, s.edited = driver.NewDraft(r, s.m.cfg.MaxSize), true
	}
}

// buffer keeps op, in place of an earlier one on the same value where the two come to the same: a loop of changes to one value is
// one operation. grown is by how many bytes the value has grown with it: one that needs more room does not move to before one that
// made room, or the store would refuse the change.
func (s *Session) buffer(op driver.Op, grown int) {
	if op.Kind == driver.Clear {
		s.ops, s.roomMade = append(s.ops[:0], op), 0
		return
	}
	at := s.mergeable(&op, grown)
	if at == len(s.ops) {
		s.ops = append(s.ops, op)
	} else if before := &s.ops[at]; op.Kind == driver.Add {
		before.Delta += op.Delta
	} else {
		*before = op
	}
	if grown < 0 {
		s.roomMade = max(s.roomMade, at)
	}
}

// mergeable returns the index of the operation that op can be merged into, len(s.ops) if there is none.
func (s *Session) mergeable(op *driver.Op, grown int) int {
	if len(s.ops) == 0 {
		s.roomMade = -1
	}
	for i := len(s.ops) - 1; i >= 0; i-- {
		before := &s.ops[i]
		if before.Kind == driver.Clear || before.Kind == driver.UnsetEntries || op.Kind == driver.UnsetEntries {
			break
		}
		if before.Key != op.Key {
			continue
		}
		if grown > 0 && i <= s.roomMade && i < len(s.ops)-1 {
			break
		}
		sum := before.Delta + op.Delta
		if op.Kind == driver.Set || op.Kind == driver.Unset ||
			op.Kind == driver.Add && before.Kind == driver.Add && (sum > before.Delta) == (op.Delta > 0) {
			return i
		}
		break
	}
	return len(s.ops)
}
