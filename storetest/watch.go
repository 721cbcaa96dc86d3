package storetest

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// watchCases: a store says when a session may have changed.
var watchCases = []testCase{
	{
		name: "watch/change",
		why: "A watcher is woken after each change by this client, and Load then shows the change. Otherwise " +
			"an open page shows old values.",
		able: watches,
		run:  func(k *kit) { watchChanges(k, k.store) },
	},
	{
		name:  "watch/change-elsewhere",
		why:   "A watcher is woken after each change by another client, and Load then shows the change.",
		able:  watches,
		needs: shared,
		run:   func(k *kit) { watchChanges(k, k.h.Second(k.T, k.store)) },
	},
	{
		name: "watch/end",
		why: "A watcher is woken when its session ends, is revoked, is evicted or is replaced by a sign-in. " +
			"Otherwise the WebSocket of a revoked user stays open.",
		able:  watches,
		users: true,
		run:   func(k *kit) { watchEnds(k, k.users()) },
	},
	{
		name: "watch/end-elsewhere",
		why: "A watcher is woken when another client ends, revokes, evicts or replaces its session. Otherwise " +
			"the WebSocket of a revoked user stays open.",
		able:  watches,
		needs: shared,
		users: true,
		run:   func(k *kit) { watchEnds(k, k.h.Second(k.T, k.store).(driver.UserStore)) },
	},
	{
		name: "watch/many",
		why: "All watchers of a session are woken, and those of other sessions too. A watcher that has " +
			"stopped is not called again.",
		able: watches,
		run: func(k *kit) {
			v, other := k.create(add("n", 1)), k.create(add("n", 1))
			all := make([]*watch, 300)
			for i := range all {
				if all[i] = k.watch(k.store, v); i%3 == 0 {
					all[i] = k.watch(k.store, other)
				}
			}
			stopped := 0
			for i, w := range all {
				if i%2 == 0 {
					w.stop()
					w.wakes.Store(0)
					stopped++
				}
			}
			k.apply(v, add("n", 1))
			k.apply(other, add("n", 1))
			for i, w := range all {
				if i%2 == 1 {
					w.mustSee(k, "a change", counterIs(2))
				}
			}
			for i, w := range all {
				if n := w.wakes.Load(); i%2 == 0 && n != 0 {
					k.Errorf("a watcher of %d that have stopped was called %d times", stopped, n)
					return
				}
			}
			all[0].stop() // a second call does nothing
		},
	},
	{
		name: "watch/last-state",
		why: "Several clients change a session at the same time. Whoever reads it after each wake sees the " +
			"last state: no wake is lost between a read and a change.",
		able: watches,
		run: func(k *kit) {
			const writers, each = 4, 25
			stores := []driver.Store{k.store}
			if k.h.Second != nil {
				stores = append(stores, k.h.Second(k.T, k.store))
			}
			for range 5 {
				v := k.create()
				var readers []*watch
				for _, s := range stores {
					readers = append(readers, k.watch(s, v))
				}
				var all sync.WaitGroup
				for i := range writers {
					all.Go(func() {
						for range each {
							if _, err := stores[i%len(stores)].Apply(k.Context(), v.id, v.change(add("n", 1))); err != nil {
								k.Errorf("Apply: %v", err)
							}
						}
					})
				}
				for _, w := range readers {
					all.Go(func() { w.mustSee(k, "the last change", counterIs(writers*each)) })
				}
				all.Wait()
				for _, w := range readers {
					w.stop()
				}
			}
		},
	},
}

// watches reports whether a store is a driver.Watcher that can watch with its settings.
func watches(s driver.Store) bool {
	store, ok := s.(driver.Watcher)
	if !ok {
		return false
	}
	stop := store.Watch(newVisitor().id, func(bool) {})
	if stop != nil {
		stop()
	}
	return stop != nil
}

// watch reads a session after each wake.
type watch struct {
	store driver.Store
	v     visitor
	woken chan struct{}
	wakes atomic.Int64
	stop  func()
}

// watch begins to watch a session that exists.
func (k *kit) watch(s driver.Store, v visitor) *watch {
	k.Helper()
	w := &watch{store: s, v: v, woken: make(chan struct{}, 1)}
	w.stop = s.(driver.Watcher).Watch(v.id, func(bool) {
		w.wakes.Add(1)
		select {
		case w.woken <- struct{}{}:
		default:
		}
	})
	k.Cleanup(w.stop)
	if _, _, err := s.Load(k.Context(), v.id); err != nil {
		k.Fatalf("Load after Watch: %v", err)
	}
	return w
}

// seen is what a watcher waits to see: the answer of Load after a wake.
type seen func(r *driver.Record, err error) bool

func counterIs(n int) seen {
	return func(r *driver.Record, err error) bool {
		if err != nil {
			return false
		}
		b, _ := r.Fields.Get("n")
		return string(b) == strconv.Itoa(n)
	}
}

func isOver(_ *driver.Record, err error) bool {
	return errors.Is(err, driver.ErrNotFound) || errors.Is(err, driver.ErrMoved)
}

// mustSee reads the session after each wake until it is as expected. It fails if there is no
// further wake for half a minute.
func (w *watch) mustSee(k *kit, after string, expected seen) {
	k.Helper()
	for {
		if !w.wait(k) {
			r, _, err := w.store.Load(k.Context(), w.v.id)
			k.Errorf("after %s: no wake. Without one, Load shows it: %t", after, expected(r, err))
			return
		}
		if r, _, err := w.store.Load(k.Context(), w.v.id); expected(r, err) {
			return
		}
	}
}

// wait waits for a wake, and reports whether there was one.
func (w *watch) wait(k *kit) bool {
	for range 3000 {
		select {
		case <-w.woken:
			return true
		default:
			k.sleep(10 * time.Millisecond)
		}
	}
	return false
}

// watchChanges makes changes with a store. A watcher of k.store must see each.
func watchChanges(k *kit, writer driver.Store) {
	v := k.create(add("n", 1))
	w := k.watch(k.store, v)
	mustApply := func(what string, c *driver.Change, expected seen) {
		k.Helper()
		var reader sync.WaitGroup
		reader.Go(func() { w.mustSee(k, what, expected) }) // an early wake must not be the only one
		if _, err := writer.Apply(k.Context(), v.id, c); err != nil {
			k.Fatalf("Apply, %s: %v", what, err)
		}
		reader.Wait()
	}
	for i := range 20 { // each wake may be the last one, unless the read after it is noticed
		mustApply("an addition", v.change(add("n", 1)), counterIs(i+2))
	}
	mustApply("a comparison", v.change(swap("n", "21", "5")), counterIs(5))
	mustApply("a removal", v.change(clearAll()), counterIsMissing)
	before := k.load(v).Revision
	if err := writer.Touch(k.Context(), v.id, v.verifier); err != nil {
		k.Fatalf("Touch: %v", err)
	}
	// The touch may not be due.
	if _, err := writer.Apply(k.Context(), v.id, v.change()); err != nil {
		k.Fatalf("Apply without operations: %v", err)
	}
	w.mustSee(k, "a use", func(r *driver.Record, err error) bool { return err == nil && r.Revision > before })
	next := v.with(newHash())
	mustApply("a renewal", v.renewal(next.verifier), func(r *driver.Record, err error) bool {
		return err == nil && r.Tokens.Current.Equal(next.verifier)
	})
}

func counterIsMissing(r *driver.Record, err error) bool {
	if err != nil {
		return false
	}
	_, found := r.Fields.Get("n")
	return !found
}

// watchEnds ends sessions in all ways with a store. A watcher of k.store must see each end.
func watchEnds(k *kit, writer driver.UserStore) {
	o := newOwner()
	try := func(what string, v visitor, end func(v visitor) error) {
		k.Helper()
		w := k.watch(k.store, v)
		defer w.stop()
		k.pause()
		if err := end(v); err != nil {
			k.Fatalf("%s: %v", what, err)
		}
		w.mustSee(k, what, isOver)
	}
	signIn := func(v visitor, in *driver.SignIn) error {
		_, err := writer.SignIn(k.Context(), v.id, in)
		return err
	}
	endUser := func(sel driver.Selection) error {
		_, err := writer.EndUser(k.Context(), o.hash, sel)
		return err
	}
	end := func(v visitor) error { return writer.End(k.Context(), v.id) }
	try("the end of an anonymous session", k.create(), end)
	try("the end of a user's session", k.signIn(o), end)
	try("a revocation of one session", k.signIn(o), func(v visitor) error {
		return endUser(driver.Selection{Only: idsOf(v)})
	})
	try("a revocation of the user", k.signIn(o), func(visitor) error { return endUser(driver.Selection{}) })
	try("a sign-in over an anonymous session", k.create(), func(v visitor) error {
		next := o.visitor()
		return signIn(next, o.login(next, v))
	})
	try("a sign-in over the user's own session", k.signIn(o), func(v visitor) error {
		next := o.visitor()
		return signIn(next, o.login(next, v))
	})
	try("a sign-in over the limit", k.signIn(o), func(visitor) error {
		next := o.visitor()
		return signIn(next, o.limited(next, 1, false))
	})
	try("a revocation of all users", k.signIn(o), func(visitor) error { return writer.EndAll(k.Context()) })
}
