package storetest

import (
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// userDataCases: the data of a user is a record beside the sessions, and fields move to it.
var userDataCases = []testCase{
	{
		name: "userdata/own-record",
		why: "User data is read and changed as a session, and is no session: one with the same bucket and " +
			"selector is another record.",
		run: func(k *kit) {
			o := newOwner()
			data := k.createData(o, longIdle, add("n", 1))
			twin := o.visitor()
			twin.id.Selector = o.hash
			if _, err := k.tryCreate(twin, add("n", 10)); err != nil {
				k.Fatalf("Create of the session: %v", err)
			}
			k.apply(data, add("n", 1))
			k.mustHave(data, "n", "2")
			k.mustHave(twin, "n", "10")
			k.end(twin)
			k.mustBeEnded(twin)
			k.mustHave(data, "n", "2")
		},
	},
	{
		name: "userdata/revocations",
		why: "A revocation of a user, or of everybody, ends sessions and keeps user data: a cart is there at the " +
			"next sign-in. Data that was never stored did not end.",
		run: func(k *kit) {
			o, other := newOwner(), newOwner()
			data, session := k.createData(o, longIdle, add("n", 1)), k.signIn(o)
			k.mustEndUser(o, driver.Selection{}, session)
			k.mustHave(data, "n", "1")
			if err := k.users().EndAll(k.Context()); err != nil {
				k.Fatalf("EndAll: %v", err)
			}
			k.mustHave(data, "n", "1")
			k.apply(data, add("n", 1))
			k.mustHave(data, "n", "2")
			if _, _, err := k.store.Load(k.Context(), driver.UserDataID(other.hash)); !errors.Is(err, driver.ErrNotFound) ||
				errors.Is(err, driver.ErrEnded) {
				k.Errorf("Load of data that was never stored: %v, want ErrNotFound and not ErrEnded", err)
			}
			k.createData(other, longIdle)
		},
	},
	{
		name: "userdata/no-session",
		why:  "User data is in no list and in no count of sessions, and EndUser does not return it.",
		run: func(k *kit) {
			o := newOwner()
			k.createData(o, longIdle)
			session := k.signIn(o)
			k.mustHaveSessions(o, session)
			if s, ok := k.store.(driver.SessionCounter); ok {
				if c, err := s.Count(k.Context(), 0); err != nil || c.SignedIn != 1 || c.Anonymous != 0 {
					k.Errorf("Count: %+v, error %v, want one signed-in session", c, err)
				}
			}
			k.mustEndUser(o, driver.Selection{}, session)
		},
	},
	{
		name: "userdata/expiry",
		why: "User data that is not used for its idle limit is gone, to the millisecond, and is then created anew. " +
			"A use extends it. Nobody is told that a session has expired.",
		timed: true,
		run: func(k *kit) {
			o, reported := newOwner(), &expiries{}
			reported.listen(k.store)
			data := k.createData(o, 3*k.h.Unit, add("n", 1))
			k.waitUntil(k.load(data).Expires().Add(-k.h.Unit))
			if err := k.store.Touch(k.Context(), data.id, data.verifier); err != nil {
				k.Errorf("Touch: %v", err)
			}
			extended := k.load(data).Expires()
			if left := extended.Sub(k.now()); left < 2*k.h.Unit {
				k.Errorf("after a use %v are left", left)
			}
			k.waitUntil(extended)
			k.mustBeEnded(data)
			k.createData(o, longIdle, add("n", 5))
			k.mustHave(data, "n", "5")
			k.mustHaveSessions(o)
			if _, others := reported.of(nil); others != 0 {
				k.Errorf("%d reports of expired sessions", others)
			}
		},
	},
	{
		name:  "userdata/reopen",
		why:   "User data is there after a restart.",
		needs: canReopen,
		run: func(k *kit) {
			o := newOwner()
			data := k.createData(o, longIdle, add("n", 1))
			k.apply(data, add("n", 1))
			k.store = k.h.Reopen(k.T, k.store)
			k.mustHave(data, "n", "2")
			k.mustHaveSessions(o)
		},
	},
	{
		name:  "userdata/elsewhere",
		why:   "Two clients change the data of one user. Nothing is lost, and each sees what the other has done.",
		needs: shared,
		run: func(k *kit) {
			o, second := newOwner(), k.h.Second(k.T, k.store)
			data := k.createData(o, longIdle)
			var all sync.WaitGroup
			for _, s := range []driver.Store{k.store, second} {
				all.Go(func() {
					for range 50 {
						if _, err := s.Apply(k.Context(), data.id, data.change(add("n", 1))); err != nil {
							k.Errorf("Apply: %v", err)
						}
						_, _, _ = s.Load(k.Context(), data.id)
					}
				})
			}
			all.Wait()
			k.wait(k.h.Visible)
			for _, s := range []driver.Store{k.store, second} {
				r, _, err := s.Load(k.Context(), data.id)
				if err != nil {
					k.Fatalf("Load: %v", err)
				}
				k.mustHaveValues(r, "n", "100")
			}
		},
	},
	{
		name: "userdata/watch",
		why: "A watcher of user data is woken by a change and by a join. Otherwise the cart on the other device " +
			"does not update itself.",
		able: watches,
		run: func(k *kit) {
			o := newOwner()
			data, session := k.createData(o, longIdle, add("n", 1)), k.signIn(o)
			k.apply(session, set("n", "5"))
			w := k.watch(k.store, data)
			defer w.stop()
			k.apply(data, add("n", 1))
			w.mustSee(k, "a change", counterIs(2))
			k.mustJoin(session, data, []driver.Op{swap("n", "5", nil)}, []driver.Op{swap("n", "2", "7")})
			w.mustSee(k, "a join", counterIs(7))
		},
	},
	{
		name: "join/moves",
		why:  "A join removes fields from a session and sets them in the user data. What it does not name stays.",
		run: func(k *kit) {
			o := newOwner()
			data, session := k.createData(o, longIdle, set("a", `1`), set("keep", `"data"`)), k.signIn(o)
			k.apply(session, set("a", `2`), set("cart:x", `3`), set("keep", `"session"`))
			k.mustJoin(session, data,
				[]driver.Op{swap("a", `2`, nil), swap("cart:x", `3`, nil)},
				[]driver.Op{swap("a", `1`, `3`), swap("cart:x", nil, `3`)})
			k.mustHave(session, "keep", `"session"`)
			k.mustHave(data, "a", `3`, "cart:x", `3`, "keep", `"data"`)
		},
	},
	{
		name: "join/all-or-nothing",
		why: "A join that does not find the values that the caller has read, or that does not fit, changes " +
			"neither record. Otherwise a part of a cart is lost or counted twice.",
		run: func(k *kit) {
			o := newOwner()
			data, session := k.createData(o, longIdle, set("a", `1`)), k.signIn(o)
			k.apply(session, set("a", `2`), set("b", `2`))
			taken := []driver.Op{swap("a", `2`, nil), swap("b", `2`, nil)}
			k.mustRefuseJoin(session, data, driver.ErrConflict, []driver.Op{swap("a", `9`, nil)}, []driver.Op{swap("a", `1`, `3`)}, 0)
			k.mustRefuseJoin(session, data, driver.ErrConflict, taken, []driver.Op{swap("b", nil, `2`), swap("a", `9`, `3`)}, 0)
			k.mustRefuseJoin(session, data, driver.ErrConflict, taken, []driver.Op{swap("b", `1`, `2`)}, 0)
			k.mustRefuseJoin(session, data, driver.ErrConflict, taken, []driver.Op{swap("a", nil, `2`)}, 0)
			k.mustRefuseJoin(session, data, driver.ErrTooLarge, taken, []driver.Op{swap("b", nil, `2`), swap("a", `1`, `123456`)}, 8)
			k.mustRefuseJoin(session, data, driver.ErrOp, []driver.Op{set("a", `3`)}, nil, 0)
			k.mustRefuseJoin(session, data, driver.ErrOp, taken, []driver.Op{add("a", 1)}, 0)
			k.mustRefuseJoin(session, data, driver.ErrOp, taken, []driver.Op{swap("a", `1`, nil)}, 0)
			many := make([]driver.Op, 0, driver.MaxFields)
			for i := range driver.MaxFields {
				many = append(many, swap(driver.EntryKey("m", strconv.Itoa(i)), nil, `1`))
			}
			k.mustRefuseJoin(session, data, driver.ErrTooLarge, taken, many, 1<<20)
		},
	},
	{
		name: "join/no-data",
		why:  "A join into data that is not stored says so, and takes nothing from the session.",
		run: func(k *kit) {
			o := newOwner()
			session := k.signIn(o)
			k.apply(session, set("a", `2`))
			data := dataOf(o)
			_, _, err := k.joiner().Join(k.Context(), session.id, session.change(swap("a", `2`, nil)), data.id,
				data.change(swap("a", nil, `2`)))
			if !errors.Is(err, driver.ErrNoUserData) {
				k.Errorf("Join: %v, want ErrNoUserData", err)
			}
			k.mustHave(session, "a", `2`)
		},
	},
	{
		name: "join/ended",
		why: "A session that ended, was revoked or has another token joins nothing. Otherwise the request of a " +
			"revoked user changes the user's data.",
		run: func(k *kit) {
			o := newOwner()
			data := k.createData(o, longIdle, set("a", `1`))
			join := func(v visitor) error {
				taken, stored, err := k.joiner().Join(k.Context(), v.id, v.change(swap("a", `2`, nil)), data.id,
					data.change(swap("a", `1`, `3`)))
				if taken != nil || stored != nil {
					k.Error("Join has a result and an error")
				}
				k.mustHave(data, "a", `1`)
				return err
			}
			ended, revoked, renewed := k.signIn(o), k.signIn(o), k.signIn(o)
			for _, v := range []visitor{ended, revoked, renewed} {
				k.apply(v, set("a", `2`))
			}
			if err := join(renewed.with(newHash())); !errors.Is(err, driver.ErrMoved) && !errors.Is(err, driver.ErrBusy) {
				k.Errorf("Join with another token: %v, want ErrMoved or ErrBusy", err)
			}
			k.end(ended)
			k.mustEndUser(o, driver.Selection{Except: idsOf(renewed)}, revoked)
			for _, v := range []visitor{ended, revoked, o.visitor()} {
				if err := join(v); !errors.Is(err, driver.ErrNotFound) {
					k.Errorf("Join of a session that is over: %v, want ErrNotFound", err)
				}
			}
			k.mustJoin(renewed, data, []driver.Op{swap("a", `2`, nil)}, []driver.Op{swap("a", `1`, `3`)})
		},
	},
	{
		name: "join/repeated",
		why:  "A join that is sent again, because its reply was lost, is refused: a cart is not counted twice.",
		run: func(k *kit) {
			o := newOwner()
			data, session := k.createData(o, longIdle), k.signIn(o)
			k.apply(session, set("a", `2`))
			taken, put := []driver.Op{swap("a", `2`, nil)}, []driver.Op{swap("a", nil, `2`)}
			k.mustJoin(session, data, taken, put)
			k.mustRefuseJoin(session, data, driver.ErrConflict, taken, put, 0)
			k.apply(session, set("a", `2`))
			k.mustRefuseJoin(session, data, driver.ErrConflict, taken, put, 0)
		},
	},
	{
		name: "join/concurrent",
		why: "Several devices of a user join at the same time, while others change the data. Each addition is " +
			"counted once.",
		run: func(k *kit) { joinAtTheSameTime(k) },
	},
}

// joins reports whether a store is a driver.Joiner.
func joins(s driver.Store) bool { _, ok := s.(driver.Joiner); return ok }

func (k *kit) joiner() driver.Joiner { return k.store.(driver.Joiner) }

// dataOf returns the data of a user as a visitor.
func dataOf(o owner) visitor {
	return visitor{id: driver.UserDataID(o.hash), secret: driver.Secret(newHash()), verifier: o.hash}
}

// createData stores the data of a user.
func (k *kit) createData(o owner, idle time.Duration, ops ...driver.Op) visitor {
	k.Helper()
	v := dataOf(o)
	res, err := k.store.Create(k.Context(), v.id, v.spec(idle, driver.UserDataLifetime), v.change(ops...))
	if err != nil {
		k.Fatalf("Create of user data: %v", err)
	}
	k.mustMatchStored(v, res)
	return v
}

// mustJoin makes a join, and checks the results against the stored records.
func (k *kit) mustJoin(session, data visitor, take, put []driver.Op) {
	k.Helper()
	taken, stored, err := k.joiner().Join(k.Context(), session.id, session.change(take...), data.id, data.change(put...))
	if err != nil {
		k.Fatalf("Join: %v", err)
	}
	k.mustMatchStored(session, taken)
	k.mustMatchStored(data, stored)
}

// mustRefuseJoin makes a join that must be refused and have no effect.
func (k *kit) mustRefuseJoin(session, data visitor, want error, take, put []driver.Op, maxSize int) {
	k.Helper()
	before, beforeData := k.load(session), k.load(data)
	c := data.change(put...)
	c.MaxSize = maxSize
	taken, stored, err := k.joiner().Join(k.Context(), session.id, session.change(take...), data.id, c)
	if !errors.Is(err, want) || taken != nil || stored != nil {
		k.Errorf("Join: %v, results %v, want %v and no results", err, taken != nil || stored != nil, want)
	}
	var op *driver.OpError
	if !errors.As(err, &op) {
		k.Errorf("Join: the error is a %T, want a *driver.OpError", err)
	}
	if after, afterData := k.load(session), k.load(data); !same(before, after) || !same(beforeData, afterData) {
		k.Errorf("a refused join had an effect:\nsession %s\nthen    %s\ndata    %s\nthen    %s",
			text(before), text(after), text(beforeData), text(afterData))
	}
}

func joinAtTheSameTime(k *kit) {
	const devices, each = 4, 10
	o := newOwner()
	data := k.createData(o, longIdle)
	stores := []driver.Joiner{k.joiner()}
	if k.h.Second != nil {
		stores = append(stores, k.h.Second(k.T, k.store).(driver.Joiner))
	}
	var all sync.WaitGroup
	for i := range devices {
		s, v := stores[i%len(stores)], k.signIn(o)
		all.Go(func() {
			for range each {
				if _, err := s.Apply(k.Context(), v.id, v.change(add("n", 1))); err != nil {
					k.Errorf("Apply: %v", err)
				}
				if _, err := s.Apply(k.Context(), data.id, data.change(add("n", 1))); err != nil {
					k.Errorf("Apply to the data: %v", err)
				}
				if !k.joinCounter(s, v, data) {
					return
				}
			}
		})
	}
	all.Wait()
	r, err := k.loadFresh(k.Context(), data.id)
	if err != nil {
		k.Fatalf("Load: %v", err)
	}
	if n, _ := r.Fields.Get("n"); string(n) != "80" {
		k.Errorf("the sum is %s, want 80", n)
	}
}

// joinCounter moves the counter n, as often as it takes.
func (k *kit) joinCounter(s driver.Joiner, v, data visitor) bool {
	k.Helper()
	load := s.Load
	if fresh, ok := s.(driver.FreshLoader); ok {
		load = fresh.LoadFresh
	}
	for range 1000 {
		session, _, err := load(k.Context(), v.id)
		if err != nil {
			k.Errorf("Load: %v", err)
			return false
		}
		stored, _, err := load(k.Context(), data.id)
		if err != nil {
			k.Errorf("Load of the data: %v", err)
			return false
		}
		n, ok := session.Fields.Get("n")
		if !ok {
			return true
		}
		old, _ := stored.Fields.Get("n")
		_, _, err = s.Join(k.Context(), v.id, v.change(driver.Op{Kind: driver.Swap, Key: "n", Old: n}), data.id,
			data.change(driver.Op{Kind: driver.Swap, Key: "n", Old: old, Value: sum(n, old)}))
		if err != nil && !errors.Is(err, driver.ErrConflict) {
			k.Errorf("Join: %v", err)
			return false
		}
	}
	k.Error("a join met 1000 conflicts")
	return false
}

func sum(a, b []byte) []byte {
	x, _ := driver.ParseInt(a)
	y, _ := driver.ParseInt(b)
	return strconv.AppendInt(nil, x+y, 10)
}
