package migrate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// Options configures a [Migration].
type Options struct {
	// Move copies the values of an old session into fields of s. It returns who is signed in, or
	// nil. It must not commit, and must not sign in. If Login.Authenticated is zero,
	// Old.Authenticated is used; if that is zero, too, the user counts as authenticated a year ago,
	// so that a Route with a MaxAuthAge asks again. If Login has neither Lifetime nor Remember, the
	// new session ends at Old.Deadline at the latest. After an error or a panic the old session is
	// kept, and the visitor is unknown. It is required.
	Move func(ctx context.Context, old *Old, s *session.Session) (*session.Login, error)

	// KeepUntil is until when going back to the old program is possible: until then old sessions
	// and their cookies stay. What the visitor changes in the new session does not change the old
	// one. If the new session ends, so does the old one: see [Migration.OnEvent]. Default: zero, an
	// old session ends when it has been moved.
	KeepUntil time.Time

	// OnFailure is called for an old session that cannot be moved, after it was logged. err wraps
	// [ErrDecode], is an error of Move, or says what the new session refuses, such as
	// session.ErrTooLarge. The old session stays as it is. Default: none.
	OnFailure func(ctx context.Context, err error)

	// UserKey is Config.UserKey of the Manager, if that is set: users who were revoked are noted
	// under a keyed hash.
	UserKey []byte

	// Logger is where failures are logged. No log has an id or a value of an old session.
	// Default: slog.Default().
	Logger *slog.Logger
}

// Migration moves the sessions of a source to a Manager. It is safe for concurrent use. It has
// nothing to close.
type Migration struct {
	manager *session.Manager
	source  Source
	ledger  ledger
	o       Options
}

// New returns a migration of the sessions of source to manager. store is the manager's. Errors: an
// option is missing.
func New(manager *session.Manager, store driver.Store, source Source, o Options) (*Migration, error) {
	switch {
	case manager == nil || store == nil || source == nil:
		return nil, errors.New("migrate: New needs a Manager, its store and a Source")
	case o.Move == nil:
		return nil, errors.New("migrate: Options.Move is missing")
	case len(source.Cookies()) == 0 || source.Cookies()[0].Name == "":
		return nil, errors.New("migrate: the Source has no name of a cookie")
	case source.Cookies()[0].Name == manager.Config().Cookie.Name:
		return nil, errors.New("migrate: the Manager and the Source have the same name of the cookie: set Config.Cookie.Name")
	case !o.KeepUntil.IsZero() && !isKeeper(source):
		return nil, errors.New("migrate: Options.KeepUntil needs a Source that is a Keeper")
	case manager.Config().UserKey != nil && o.UserKey == nil:
		return nil, errors.New("migrate: Options.UserKey is missing: the Manager has a UserKey")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Migration{manager, source, ledger{store, o.UserKey}, o}, nil
}

func isKeeper(source Source) bool { _, ok := source.(Keeper); return ok }

// maxTime is how long a request may take between reading an old session and storing the new one. A
// store refuses to store a session again for driver.SupersededFor after its end. So the slowest of
// several requests does not bring back a session that another one has moved and ended.
const maxTime = driver.SupersededFor / 4

// longAgo is when a user authenticated whose time of authentication is not known.
const longAgo = 365 * 24 * time.Hour

// Handler returns the middleware. Put it inside session.Manager.Handler and outside all handlers
// that use sessions:
//
//	sessions.Handler(migration.Handler(app))
//
// If the old or the new store does not answer, the client gets the answer of session.Error, status
// 503, and next is not called.
func (m *Migration) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		drop, err := m.Migrate(r.Context(), r.Header)
		if err != nil {
			session.Error(w, r, err)
			return
		}
		if drop {
			m.dropCookies(w.Header())
		} else if _, has := m.source.ID(r.Header); has {
			r = r.WithContext(context.WithValue(r.Context(), headerKey{}, w.Header()))
		}
		next.ServeHTTP(w, r)
	})
}

// headerKey is the key of the response's header in the context of a request whose old cookie stays.
type headerKey struct{}

// dropCookies deletes the old library's cookies. A browser refuses a cookie with a prefix that is
// not Secure.
func (m *Migration) dropCookies(h http.Header) {
	for _, c := range m.source.Cookies() {
		c.Value, c.MaxAge = "", -1
		c.Secure = c.Secure || strings.HasPrefix(c.Name, "__")
		h.Add("Set-Cookie", c.String())
	}
}

// Migrate moves the old session that a request header names, if the visitor has no session. It is
// the middleware for servers that are not net/http: call it after session.Manager.Load, with the
// context that Load returned, and before any handler uses the session. If drop is true, the
// response must delete the cookie that Source.Cookie names.
//
// Errors: session.ErrUnavailable if a store does not answer. Call no handler then.
func (m *Migration) Migrate(ctx context.Context, h http.Header) (drop bool, err error) {
	id, ok := m.source.ID(h)
	if !ok {
		return false, nil
	}
	s, err := session.From(ctx)
	if err != nil || s.Degraded() {
		return false, nil //nolint:nilerr // the handler gets the same error from From, and decides
	}
	x := move{Migration: m, s: s, id: id, secret: m.source.Cookies()[0].Name + "\x00" + id}
	if s.Info().Handle != "" {
		return x.cleanUp(ctx)
	}
	return x.run(ctx)
}

// move is the migration of one session in one request.
type move struct {
	*Migration
	s      *session.Session
	id     string // of the old session
	secret string // the id with the cookie's name: sources do not share sessions
	apart  bool   // the secret is random: other requests with this id may be another visitor's
}

func (m *Migration) keeps() bool { return time.Now().Before(m.o.KeepUntil) }

// cleanUp ends the old session of a visitor who has a session: the one that continues it.
func (x *move) cleanUp(ctx context.Context) (drop bool, err error) {
	handle, err := x.ledger.moved(ctx, x.secret)
	if err != nil {
		return false, unavailable(err)
	}
	if handle == pendingHandle { // after Adopt, something failed
		return x.complete(ctx, x.s.Info().Handle, false, latest(x.s.Info().Deadline, x.o.KeepUntil))
	}
	if x.keeps() {
		return false, nil
	}
	ended := handle == "" || x.source.End(ctx, x.id) == nil // otherwise a later request tries again
	return ended, nil
}

// run continues the old session.
func (x *move) run(ctx context.Context) (drop bool, err error) {
	if handle, err := x.ledger.moved(ctx, x.secret); err != nil || handle != "" && handle != pendingHandle {
		return x.resume(ctx, handle, err)
	}
	began := time.Now()
	old, err := x.load(ctx)
	switch {
	case errors.Is(err, ErrNone): // another request may have moved it since the ledger was read
		handle, err := x.ledger.moved(ctx, x.secret)
		return x.resume(ctx, handle, err)
	case errors.Is(err, ErrDecode):
		x.failed(ctx, err)
		return false, nil
	case err != nil:
		return false, unavailable(err)
	}
	login, err := x.copy(ctx, old)
	if err != nil {
		x.failed(ctx, err)
		return false, nil
	}
	revoked, err := x.isRevoked(ctx, login)
	if err != nil {
		return false, unavailable(err)
	}
	if old.Shared && login == nil {
		x.apart, x.secret = true, rand.Text()
	} else if err := x.ledger.begin(ctx, x.secret, latest(old.Expires, x.o.KeepUntil)); err != nil {
		return false, unavailable(err)
	}
	if revoked {
		return x.settle(ctx, old, session.ErrRevoked)
	}
	if time.Since(began) > maxTime {
		return false, unavailable(fmt.Errorf("reading the old session took more than %v", maxTime))
	}
	return x.settle(ctx, old, x.s.Adopt(ctx, []byte(x.secret), login))
}

// resume continues the session that another request moved. err is why handle is not known. The
// handle is empty if there is no such session.
func (x *move) resume(ctx context.Context, handle string, err error) (drop bool, _ error) {
	switch {
	case err != nil:
		return false, unavailable(err)
	case handle == refusedHandle, handle == pendingHandle: // the old session is gone
		return true, nil
	case handle == overHandle:
		return x.source.End(ctx, x.id) == nil, nil
	}
	err = x.s.Resume(ctx, []byte(x.secret), handle)
	switch {
	case err == nil && x.keeps():
		return false, nil
	case err == nil, errors.Is(err, session.ErrNotFound):
		return x.source.End(ctx, x.id) == nil, nil
	}
	return false, x.skipped(err)
}

// settle does what follows an Adopt that returned err: it notes that the old session was moved, and
// ends it.
func (x *move) settle(ctx context.Context, old *Old, err error) (drop bool, _ error) {
	over := errors.Is(err, session.ErrNotFound) || errors.Is(err, session.ErrRevoked)
	switch {
	case err == nil, over:
	case errors.Is(err, session.ErrCrossOrigin), errors.Is(err, session.ErrEnded),
		errors.Is(err, session.ErrUnavailable), errors.Is(err, session.ErrUnknownOutcome):
		return false, x.skipped(err)
	default:
		x.failed(ctx, err)
		if !x.apart {
			return false, unavailable(x.ledger.setMoved(ctx, x.secret, refusedHandle))
		}
		return false, nil
	}
	handle := x.s.Info().Handle
	if over {
		x.s.Discard()
		handle = overHandle
	}
	return x.complete(ctx, handle, over, latest(old.Expires, x.o.KeepUntil))
}

// complete notes that the session with this handle continues the old one, and ends the old one. If
// it fails, the visitor's next request completes the move.
func (x *move) complete(ctx context.Context, handle string, over bool, until time.Time) (drop bool, _ error) {
	if keeper, ok := x.source.(Keeper); ok && !over && x.keeps() {
		if err := keeper.Keep(ctx, handle, x.id, until); err != nil {
			return false, unavailable(err)
		}
	}
	if !x.apart {
		if err := x.ledger.setMoved(ctx, x.secret, handle); err != nil {
			return false, unavailable(err)
		}
	}
	if !over && x.keeps() {
		return false, nil
	}
	if err := x.source.End(ctx, x.id); err != nil {
		x.o.Logger.ErrorContext(ctx, "migrate: an old session was moved and could not be ended; the next request tries again",
			"session", handle, "error", err)
		return false, nil
	}
	return true, nil
}

// skipped returns the error for the client if a session was not moved this time. A request that
// another site caused gets no cookie: the visitor's next request moves the session. Nor does a
// request whose own session has a newer token: the browser has it.
func (x *move) skipped(err error) error {
	if errors.Is(err, session.ErrCrossOrigin) || errors.Is(err, session.ErrEnded) {
		x.s.Discard()
		return nil
	}
	return err
}

// load reads the old session.
func (x *move) load(ctx context.Context) (old *Old, err error) {
	defer func() {
		if why := recover(); why != nil {
			old, err = nil, fmt.Errorf("%w: the Source panicked: %v", ErrDecode, why)
		}
	}()
	return x.source.Load(ctx, x.id)
}

// copy lets the application copy the values, and completes the login.
func (x *move) copy(ctx context.Context, old *Old) (l *session.Login, err error) {
	defer func() {
		if why := recover(); why != nil {
			l, err = nil, fmt.Errorf("migrate: Options.Move panicked: %v", why)
		}
	}()
	l, err = x.o.Move(ctx, old, x.s)
	if err != nil || l == nil {
		return nil, err
	}
	full := *l
	if full.Authenticated.IsZero() {
		full.Authenticated = old.Authenticated
	}
	switch now := time.Now(); {
	case full.Authenticated.IsZero():
		full.Authenticated = now.Add(-longAgo)
	case full.Began.IsZero(): // the store then knows of a revocation since, as far back as it can
		full.Began = latest(full.Authenticated, now.Add(time.Hour-driver.MaxSignInTime))
	}
	if full.Lifetime == 0 && full.Remember == 0 && !old.Deadline.IsZero() {
		left := time.Until(old.Deadline).Truncate(time.Millisecond)
		full.Lifetime = max(min(left, x.manager.Config().Lifetime), time.Millisecond)
	}
	return &full, nil
}

// isRevoked reports whether RevokeUser was called for the user after the authentication.
func (x *move) isRevoked(ctx context.Context, l *session.Login) (bool, error) {
	if l == nil {
		return false, nil
	}
	at, err := x.ledger.revoked(ctx, l.User)
	return !at.IsZero() && !l.Authenticated.After(at), err
}

// failed reports an old session that cannot be moved. The visitor is unknown.
func (x *move) failed(ctx context.Context, err error) {
	x.s.Discard()
	x.o.Logger.ErrorContext(ctx, "migrate: an old session cannot be moved; it is kept, and the visitor starts anew", "error", err)
	if x.o.OnFailure != nil {
		x.o.OnFailure(ctx, err)
	}
}

func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %v", session.ErrUnavailable, err)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// OnEvent ends the old session that is kept for a session that has ended. With Options.KeepUntil,
// call it from Config.OnEvent of every node; without, it does nothing. It waits for the old
// store, so that a user who has signed out is signed out of the old program, too. If the old store
// does not answer, the failure is logged, and the old session lives until its own end.
//
// A session that has ended elsewhere, by RevokeAll or by the command, keeps its old session.
func (m *Migration) OnEvent(ctx context.Context, e session.Event) {
	if m == nil || !m.keeps() {
		return
	}
	handle := e.Handle
	switch e.Kind {
	case session.EventSignedOut:
		if h, ok := ctx.Value(headerKey{}).(http.Header); ok {
			m.dropCookies(h)
		}
	case session.EventRevoked, session.EventEvicted, session.EventExpired, session.EventStolen:
	case session.EventSignedIn:
		handle = e.Before
	default:
		return
	}
	keeper, ok := m.source.(Keeper)
	if !ok || handle == "" {
		return
	}
	if err := keeper.EndKept(context.WithoutCancel(ctx), handle); err != nil {
		m.o.Logger.ErrorContext(ctx, "migrate: a session has ended, and the old session that it continues has not",
			"session", handle, "error", err)
	}
}

// RevokeUser is Manager.RevokeUser, and also covers the old sessions of the user that were not
// moved yet: none that began before is moved any more. Use it in place of Manager.RevokeUser while
// the migration runs. An old session whose time of authentication is not known counts as older. The
// old program does not learn of the revocation.
//
// Errors: those of Manager.RevokeUser. After session.ErrUnavailable call it again.
func (m *Migration) RevokeUser(ctx context.Context, user string, keep ...string) (n int, err error) {
	if user != "" {
		if err := m.ledger.setRevoked(ctx, user, time.Now().Add(mostEntry)); err != nil {
			return 0, unavailable(err)
		}
	}
	return m.manager.RevokeUser(ctx, user, keep...)
}
