package session

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Change says what changed in a session; see [Session.Watch].
type Change struct {
	// Fields are the names of the fields whose values changed, sorted.
	Fields []string

	// Missed reports that the session may have had other values in between. A reader that is slower
	// than the changes gets several of them as one. After an outage of the store nobody knows.
	Missed bool
}

// Watch yields the changes that other requests commit to the session, on all nodes, as they commit
// them. It is for responses that stay open: server-sent events and WebSockets. When Watch yields,
// the Session shows the new values, under its own uncommitted changes.
//
//	for change, err := range s.Watch(r.Context()) {
//
// Watch yields states, not operations: two commits in a row may be one Change. The last state is
// always yielded. A commit of this request alone is not yielded; together with others' it may be.
//
// Watch ends without an error when ctx is done. Otherwise it yields one error and ends:
//
//   - [ErrEnded]: the session has ended, or the request's token is no longer accepted.
//   - [ErrUnavailable]: the store has not answered for Config.WatchTimeout. A shorter outage only
//     delays changes, and sets Change.Missed.
//   - [ErrInvalid]: the session is not stored, or another Watch of this request still runs.
//
// Watch on the data of a user ([Session.UserData]) also ends when the session ends through which
// the data was opened. It stores the data if it is not stored yet.
//
// Watch does not extend the idle timeout. To end a response when the user may no longer have it,
// use [Route.Context].
//
// A store that does not report changes is read once a second. All watchers of one session in this
// process share its reads.
func (s *Session) Watch(ctx context.Context) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		held, release, err := s.holdWatch(ctx)
		if err != nil {
			yield(Change{}, err)
			return
		}
		defer release()
		w, err := s.beginWatch()
		if err != nil {
			yield(Change{}, err)
			return
		}
		defer s.endWatch(w)
		for {
			r, now, err := w.next(held)
			if ctx.Err() != nil {
				return
			}
			if held.Err() != nil {
				err = context.Cause(held)
			}
			if err != nil {
				yield(Change{}, err)
				return
			}
			if change, ok := s.follow(ctx, w, r, now); ok && !yield(change, nil) {
				return
			}
		}
	}
}

// reported is what the request's Watch has reported so far.
type reported struct {
	record *driver.Record // nil: no Watch runs
	own    uint64         // commits of this request since record
}

func (s *Session) beginWatch() (*watcher, error) {
	s.mu.Lock()
	err := s.refusal()
	switch {
	case err != nil:
	case s.state != live:
		err = fmt.Errorf("%w: nothing is stored that can be watched: commit a change first", ErrInvalid)
	case s.reported.record != nil:
		err = fmt.Errorf("%w: another Watch of this request still runs", ErrInvalid)
	default:
		s.reported = reported{s.view.record, s.view.ahead}
		if s.owned != nil && s.owned.followed {
			s.owned.followed = false
			s.reported.record = withoutFields(s.view.record)
		}
	}
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	w := s.newWatcher()
	s.mu.Unlock()
	w.start()
	return w, nil
}

// withoutFields returns the record as it was before anybody stored a field.
func withoutFields(r *driver.Record) *driver.Record {
	before := *r
	before.Fields = nil
	return &before
}

func (s *Session) endWatch(w *watcher) {
	w.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reported = reported{}
}

// follow makes r the session as the request sees it, and reports what others have changed.
func (s *Session) follow(ctx context.Context, w *watcher, r *driver.Record, now time.Time) (change Change, changed bool) {
	s.lock()
	defer s.unlock(ctx)
	if s.state != live {
		return change, false
	}
	gap := w.gap
	switch known := s.view.revision(); {
	case r.Revision >= known:
		s.become(r, now)
	// This request changed the session after r was read, or a failover lost changes.
	case !s.reread(ctx):
		w.signal(false)
		return change, false
	default:
		r = s.view.record
		gap = gap || r.Revision < known
	}
	before, expected := s.reported.record, s.reported.record.Revision+s.reported.own
	onlyOwn := s.reported.own > 0 && r.Revision == expected && !gap
	s.reported, w.gap = reported{record: r}, false
	if onlyOwn || r == before {
		return change, false
	}
	change.Fields = before.Fields.Changed(r.Fields)
	change.Missed = gap || r.Revision != expected+1
	return change, len(change.Fields) > 0
}

// Context returns a context that is cancelled as soon as the request no longer meets the route. Use
// it for a response that stays open, such as a WebSocket. After a sign-out, a revocation, the
// expiry of the session or MaxAuthAge, it is cancelled within milliseconds, on all nodes.
// [context.Cause] returns the reason: [ErrEnded], [ErrNotSignedIn], [ErrNotFresh], another error of
// [Route.Check], or [ErrUnavailable] if the store has not answered for Config.WatchTimeout.
//
// When the token of the request is no longer accepted, the context is cancelled with ErrEnded. The
// client then connects again with its newer token.
//
// If the request does not meet the route now, the returned context is already cancelled. It is also
// cancelled with ctx. Call the returned function when the response is over.
//
// A visitor without a stored session has nothing that can end. If the route admits such a visitor,
// only ctx and the returned function cancel the context.
func (rt Route) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	held, cancel := context.WithCancelCause(ctx)
	release := func() { cancel(context.Canceled) }
	w, err := rt.watch(ctx)
	if err != nil {
		cancel(err)
	}
	if w == nil {
		return held, release
	}
	go w.hold(held, cancel, &rt)
	return held, release
}

// hold cancels ctx when the session has ended, or no longer meets the route.
func (w *watcher) hold(ctx context.Context, cancel context.CancelCauseFunc, rt *Route) {
	defer w.stop()
	for {
		_, now, err := w.next(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil && !w.until.IsZero() && !now.Before(w.until) {
			err = rt.isMetBy(w.principal, now)
		}
		if err != nil {
			cancel(err)
			return
		}
	}
}

// watch begins to watch the session of a request that meets the route. The watcher is nil if there
// is nothing to watch.
func (rt *Route) watch(ctx context.Context) (*watcher, error) {
	if err := rt.Check(ctx); err != nil {
		return nil, err
	}
	s, err := From(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	st, w := s.state, s.newWatcher()
	if w.principal = s.identity.principal; w.principal != nil && rt.MaxAuthAge != 0 {
		w.until = w.principal.Authenticated.Add(rt.MaxAuthAge + time.Millisecond)
	}
	s.mu.Unlock()
	switch st {
	case ended, moved:
		return nil, ErrEnded
	case live, readOnly:
		w.start()
		return w, nil
	}
	return nil, nil
}

// watcher reads the record of a session again whenever it may have changed. One goroutine uses it.
type watcher struct {
	s       *Session
	id      driver.ID
	shared  *sharedRead
	wake    chan struct{} // holds a value: the record may have changed
	missed  atomic.Bool   // the store may have missed changes
	release func()        // stops the store's calls; nil: the store is polled

	verifier  driver.Hash
	until     time.Time         // the store's time at which next returns in any case; zero: none
	principal *driver.Principal // whom until concerns
	started   bool
	gap       bool           // changes may have been missed since the caller last cleared it
	failing   time.Time      // since when the store has not answered; zero: it answers
	last      *driver.Record // the newest record
	lastNow   time.Time      // the store's time when last was read
	lastAt    time.Time      // this process's time then
}

// pollEvery is how often a watcher reads from a store that reports no changes, or that does not
// answer.
const pollEvery = time.Second

// newWatcher returns a watcher that has not begun. The caller holds s.mu.
func (s *Session) newWatcher() *watcher {
	return &watcher{
		s: s, id: s.cred.id, verifier: s.cred.verifier, wake: make(chan struct{}, 1),
		last: s.view.record, lastNow: s.view.now, lastAt: time.Now(),
	}
}

func (w *watcher) start() {
	if store, ok := w.s.m.store.(driver.Watcher); ok {
		w.release = store.Watch(w.id, w.signal)
	}
	w.shared = w.s.m.reads.join(w.id)
}

// signal makes next read the record again. It does not block.
func (w *watcher) signal(missed bool) {
	if missed {
		w.missed.Store(true)
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) stop() {
	if w.release != nil {
		w.release()
	}
	w.s.m.reads.leave(w.id, w.shared)
}

// next waits until the record may have changed, and returns it and the store's time. The first call
// does not wait: the record may have changed before the watcher began. While the store does not
// answer, next goes on for Config.WatchTimeout.
func (w *watcher) next(ctx context.Context) (*driver.Record, time.Time, error) {
	for {
		if w.started && !w.wait(ctx) {
			return nil, time.Time{}, ctx.Err()
		}
		w.started = true
		w.gap = w.missed.Swap(false) || w.gap // before the read
		r, now, at, err := w.shared.load(ctx, w)
		switch {
		case err == nil:
			w.failing, w.last, w.lastNow, w.lastAt = time.Time{}, r, now, at
			if !w.accepted() {
				return nil, now, ErrEnded
			}
			return r, now, nil
		case errors.Is(err, driver.ErrNotFound), errors.Is(err, driver.ErrMoved):
			return nil, now, ErrEnded
		case ctx.Err() != nil:
			return nil, now, ctx.Err()
		}
		w.gap = true
		if w.failing.IsZero() {
			w.failing = time.Now()
		}
		switch now := w.lastNow.Add(time.Since(w.lastAt)); {
		case time.Since(w.failing) >= w.s.m.cfg.WatchTimeout:
			return nil, now, fmt.Errorf("%w: %v", ErrUnavailable, err)
		case !now.Before(w.last.Deadline): // no use of the session extends it
			return nil, now, ErrEnded
		case !w.until.IsZero() && !now.Before(w.until):
			return w.last, now, nil
		}
	}
}

// accepted reports whether the record accepts the request's token, which may be a newer one by now.
func (w *watcher) accepted() bool {
	for range 2 {
		if status := w.last.Tokens.Status(w.verifier, w.lastNow); status == driver.Current || status == driver.Grace {
			return true
		}
		w.s.lock()
		w.s.adoptRotated()
		w.verifier = w.s.cred.verifier
		w.s.mu.Unlock()
		w.s.calls.Unlock()
	}
	return false
}

// wait waits until the record is due to be read. It reports false when ctx is done.
func (w *watcher) wait(ctx context.Context) bool {
	d := time.Until(w.lastAt.Add(w.due().Sub(w.lastNow)))
	if !w.failing.IsZero() {
		d = min(pollEvery, w.s.m.cfg.WatchTimeout-time.Since(w.failing))
	} else if w.release == nil {
		d = min(d, pollEvery)
	}
	select {
	case <-ctx.Done():
		return false
	case <-w.wake:
	case <-time.After(max(d, time.Millisecond)):
	}
	return true
}

// due returns the store's time at which something ends although nobody changes the record.
func (w *watcher) due() time.Time {
	at := w.last.Expires()
	t := &w.last.Tokens
	if graceEnds := t.PreviousUntil; !graceEnds.IsZero() && !t.Current.Equal(w.verifier) && graceEnds.Before(at) {
		at = graceEnds
	}
	if !w.until.IsZero() && w.until.Before(at) {
		at = w.until
	}
	return at
}
