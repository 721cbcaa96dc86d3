package session

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Observer watches what a [Manager] asks of its store, and the events, for metrics and traces. The
// modules adapters/otel and adapters/prometheus have Observers: see docs/observability.md.
//
// The methods are called concurrently. A panic of an Observer is recovered, and the first one is
// logged. An Observer that blocks delays only the request that it observes: no lock of another
// request is held meanwhile, and the time does not count towards Config.CommitTimeout. An Observer
// must not call methods of the request's [Session], because these wait for the call that is
// observed.
type Observer interface {
	// Start is called before a call of the store. The context that it returns, if not nil, is
	// passed to the store and to End. So a span that it begins is the parent of the spans of the
	// store's client. Of o, only Name and Handle are set.
	Start(ctx context.Context, o Operation) context.Context

	// End is called once for each Start that returned, when the store has answered.
	End(ctx context.Context, o Operation)

	// Event is called for each event of this node, after Config.OnEvent.
	Event(ctx context.Context, e Event)
}

// Operation is a call of the store, as an [Observer] sees it. It holds no token, no value and no
// user.
type Operation struct {
	// Name is one of the constants OperationLoad to OperationList.
	Name string
	// Handle names the session, as in Info. It is empty if the operation concerns several sessions,
	// and while an Update stores a new one.
	Handle string
	// Outcome is one of the constants OutcomeOK to OutcomeUnavailable.
	Outcome string
	// Duration is how long the store took. For OperationUpdate it includes the wait for other
	// Updates of the session, and the function of the Update.
	Duration time.Duration
	// Cached reports that a copy in this process answered, without a round trip.
	Cached bool
	// Err is the error of the store, with its cause: for traces, not for clients. If an Update's
	// function fails, Err only says so.
	Err error
}

// The names of operations.
const (
	OperationLoad    = "load"     // read a session
	OperationCreate  = "create"   // store a new anonymous session
	OperationCommit  = "commit"   // store changes, take a value, or change the token
	OperationUpdate  = "update"   // Value.Update or Map.Update, with its repetitions
	OperationTouch   = "touch"    // write that the session was used
	OperationSignIn  = "sign_in"  // store a new session of a user
	OperationJoin    = "join"     // move fields from a session to the user's data
	OperationEnd     = "end"      // end one session
	OperationEndUser = "end_user" // end sessions of a user: Manager.Revoke and RevokeUser
	OperationEndAll  = "end_all"  // end all sessions: Manager.RevokeAll
	OperationList    = "list"     // read one page of a user's sessions
)

// The outcomes of operations. Only OutcomeUnknown and OutcomeUnavailable show a fault of the store.
const (
	OutcomeOK          = "ok"
	OutcomeNotFound    = "not_found"   // no such session: it expired, or the token was made up
	OutcomeEnded       = "ended"       // the session ended less than a minute ago
	OutcomeMoved       = "moved"       // the session has a newer token
	OutcomeConflict    = "conflict"    // an Update gave up: others kept changing the value
	OutcomeRefused     = "refused"     // by a limit or a revocation, or the change is not valid
	OutcomeCanceled    = "canceled"    // the client hung up, or an Update's function failed
	OutcomeUnknown     = "unknown"     // the reply was lost: the change may be stored
	OutcomeUnavailable = "unavailable" // the store failed
)

// maxBackground bounds the goroutines that wait for Observers outside of requests.
const maxBackground = 64

// observers are the Observers of a Manager. All methods work on nil: nobody observes.
type observers struct {
	list       []*guarded
	logger     *slog.Logger
	background chan struct{}
	dropped    sync.Once // logs the first notification that is dropped
}

// guarded is an Observer whose panics are recovered.
type guarded struct {
	Observer
	panicked sync.Once // logs the first panic
}

func newObservers(cfg *Config) *observers {
	if len(cfg.Observers) == 0 {
		return nil
	}
	all := &observers{logger: cfg.Logger, background: make(chan struct{}, maxBackground)}
	for _, o := range cfg.Observers {
		all.list = append(all.list, &guarded{Observer: o})
	}
	return all
}

// guard calls f, and reports whether it returned.
func (all *observers) guard(ctx context.Context, g *guarded, f func()) (returned bool) {
	defer func() {
		if returned {
			return
		}
		why := recover()
		if why == nil { // runtime.Goexit
			return
		}
		g.panicked.Do(func() {
			all.logger.ErrorContext(ctx, "session: an Observer panicked; further panics of it are not logged",
				"panic", why, "stack", string(debug.Stack()))
		})
	}()
	f()
	return true
}

// events reports events. It returns when all Observers have.
func (all *observers) events(ctx context.Context, events []Event) {
	if all == nil {
		return
	}
	for _, e := range events {
		for _, g := range all.list {
			all.guard(ctx, g, func() { g.Event(ctx, e) })
		}
	}
}

// inBackground calls f on another goroutine. An Observer that blocks must not stop the work that
// others depend on, so f is dropped if too many calls wait.
func (all *observers) inBackground(f func()) {
	if all == nil {
		return
	}
	select {
	case all.background <- struct{}{}:
		go func() {
			defer func() { <-all.background }()
			f()
		}()
	default:
		all.dropped.Do(func() {
			all.logger.Error("session: an Observer blocks; what it cannot take is dropped")
		})
	}
}

// observation is a call of the store that is under way. Its methods work on nil.
type observation struct {
	all    *observers
	ctx    context.Context
	op     Operation
	began  time.Time
	failed uint64 // bits of the Observers whose Start panicked
	cancel context.CancelFunc
	done   bool
}

type observedKey struct{} // marks the context of an observed Update

// slowStart is how long the Observers' Start may take out of a deadline.
const slowStart = time.Millisecond

// observe begins an observation. It returns the context for the store. The caller holds no lock but
// Session.calls. It calls end, and defers abandon in case the store panics.
func (all *observers) observe(ctx context.Context, name string, id driver.ID) (context.Context, *observation) {
	if all == nil { // small enough to be inlined
		return ctx, nil
	}
	return all.start(ctx, name, id)
}

func (all *observers) start(ctx context.Context, name string, id driver.ID) (context.Context, *observation) {
	if ctx.Value(observedKey{}) != nil {
		return ctx, nil
	}
	o := &observation{all: all, op: Operation{Name: name}, began: time.Now()}
	if id != (driver.ID{}) {
		o.op.Handle = id.String()
	}
	live := ctx.Err() == nil
	deadline, limited := ctx.Deadline()
	for i, g := range all.list {
		returned := all.guard(ctx, g, func() {
			if next := g.Start(ctx, o.op); next != nil {
				ctx = next
			}
		})
		if !returned {
			o.failed |= 1 << i
		}
	}
	now := time.Now()
	if took := now.Sub(o.began); took > slowStart && limited && live {
		ctx, o.cancel = context.WithDeadline(context.WithoutCancel(ctx), deadline.Add(took))
	}
	o.ctx, o.began = ctx, now
	if name == OperationUpdate {
		ctx = context.WithValue(ctx, observedKey{}, true)
	}
	return ctx, o
}

// end ends the observation with the error of the store, or of the call that asked it.
func (o *observation) end(err error) {
	if o != nil {
		o.finish(err)
		o.report()
	}
}

// finish takes the time and the outcome. report then reports them.
func (o *observation) finish(err error) {
	o.done = true
	o.op.Duration = time.Since(o.began)
	if o.op.Err == nil {
		o.op.Err = err
	}
	if o.op.Outcome == "" {
		o.op.Outcome = outcomeOf(o.ctx, err)
	}
}

func (o *observation) report() {
	for i := len(o.all.list) - 1; i >= 0; i-- {
		if g := o.all.list[i]; o.failed&(1<<i) == 0 {
			o.all.guard(o.ctx, g, func() { g.End(o.ctx, o.op) })
		}
	}
	if o.cancel != nil {
		o.cancel()
	}
}

var errStorePanicked = errors.New("the store panicked")

// abandon ends an observation that nothing has ended.
func (o *observation) abandon() {
	if o != nil && !o.done {
		if o.op.Outcome == "" {
			o.op.Outcome = OutcomeUnknown
		}
		o.end(errStorePanicked)
	}
}

// function calls the application's function of an Update. If that fails or panics, the observation
// says so and no more: the error is the application's, and may name a value.
func (o *observation) function(f func(present []byte) ([]byte, error), present []byte) ([]byte, error) {
	if o == nil {
		return f(present)
	}
	o.op.Outcome, o.op.Err = OutcomeCanceled, errFunction
	next, err := f(present)
	if err == nil {
		o.op.Outcome, o.op.Err = "", nil
	}
	return next, err
}

var errFunction = errors.New("the function of the Update failed")

// outcome sets the outcome that the error does not tell.
func (o *observation) outcome(is string) {
	if o != nil {
		o.op.Outcome = is
	}
}

// names sets the session of an operation that has just stored it.
func (o *observation) names(s *Session) {
	if o != nil {
		o.op.Handle = handleOf(s)
	}
}

// uncached notes that no copy answered.
func (o *observation) uncached() {
	if o != nil {
		o.op.Cached = false
	}
}

// outcomeOf returns the outcome of an operation that ended with err: an error of the store or, for
// an Update, of this package.
func outcomeOf(ctx context.Context, err error) string {
	var op *driver.OpError
	switch {
	case err == nil:
		return OutcomeOK
	case errors.Is(err, driver.ErrEnded), errors.Is(err, ErrEnded):
		return OutcomeEnded
	case errors.Is(err, driver.ErrNotFound):
		return OutcomeNotFound
	case errors.Is(err, driver.ErrMoved):
		return OutcomeMoved
	case errors.Is(err, driver.ErrUnknown), errors.Is(err, ErrUnknownOutcome):
		return OutcomeUnknown
	case errors.As(err, &op) && errors.Is(op.Err, driver.ErrConflict):
		return OutcomeConflict
	case op != nil, isOneOf(err, driver.ErrTooMany, driver.ErrRevoked, driver.ErrPrincipal, driver.ErrExists),
		isOneOf(err, ErrInvalid, ErrTooLarge, ErrDecode, ErrSealed, ErrHeaderSent, ErrCrossOrigin, ErrNotSignedIn):
		return OutcomeRefused
	case errors.Is(err, context.Canceled), errors.Is(ctx.Err(), context.Canceled):
		return OutcomeCanceled
	}
	return OutcomeUnavailable
}

func isOneOf(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
