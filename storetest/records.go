package storetest

import (
	"errors"
	"reflect"
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// recordCases: a session is stored, found and changed, and not confused with another one.
var recordCases = []testCase{
	{
		name: "record/create-and-load",
		why: "A session is found as it was created. Its times are the store's, in whole milliseconds, because " +
			"other languages read the same record.",
		run: func(k *kit) {
			v := newVisitor()
			res, err := k.tryCreate(v, set("theme", `"dark"`), add("visits", 1))
			if err != nil {
				k.Fatal(err)
			}
			k.mustMatchStored(v, res)
			if len(res.Values) != 2 || res.Values[0] != nil || string(res.Values[1]) != "1" {
				k.Errorf("Result.Values is %q, want nil and 1", res.Values)
			}
			r, now := k.loadAt(v)
			k.mustHaveValues(r, "theme", `"dark"`, "visits", "1")
			want := &driver.Record{
				Secret: v.secret, Tokens: driver.Tokens{Current: v.verifier}, Idle: longIdle,
				Created: r.Created, Seen: r.Created, Deadline: r.Created.Add(longLifetime),
				Revision: 1, Size: r.Size, Fields: r.Fields,
			}
			if !same(r, want) {
				k.Errorf("the record is %s\nwant          %s", text(r), text(want))
			}
			if r.Created.After(now) || res.Now.After(now) || now.Sub(r.Created) > time.Minute {
				k.Errorf("created at %v, result at %v, the store's time is %v", r.Created, res.Now, now)
			}
			k.mustBeWholeMilliseconds(r, res.Now)
		},
	},
	{
		name: "record/principal",
		why: "Who is signed in, and how they authenticated, decides what a session may do. Nothing of it is " +
			"lost or altered.",
		run: func(k *kit) {
			v := newVisitor()
			o := v.spec(longIdle, longLifetime)
			o.Principal = &driver.Principal{
				User: "\x00\xff user:1", Authenticated: time.UnixMilli(1_700_000_000_123), Methods: []string{"pwd", "otp"}, Level: 2,
				Device: "Ada's <phone>", UserAgent: "curl/8", Address: "2001:db8::1", Persistent: true,
			}
			if _, err := k.store.Create(k.Context(), v.id, o, v.change()); err != nil {
				k.Fatal(err)
			}
			k.apply(v, set("theme", `"dark"`), clearAll())
			got := k.load(v).Principal
			if got == nil {
				k.Fatal("the principal is missing")
			}
			p := *got
			if !p.Authenticated.Equal(o.Principal.Authenticated) {
				k.Errorf("authenticated at %v, want %v", p.Authenticated, o.Principal.Authenticated)
			}
			p.Authenticated = o.Principal.Authenticated
			if !reflect.DeepEqual(&p, o.Principal) {
				k.Errorf("the principal is %+v, want %+v", p, *o.Principal)
			}
		},
	},
	{
		name: "record/empty",
		why: "A session without values is a session. Signing in needs no field, and clearing all fields does " +
			"not sign out.",
		run: func(k *kit) {
			v := k.create()
			k.mustHave(v)
			k.apply(v, set("theme", `"dark"`))
			k.apply(v, unset("theme"))
			k.mustHave(v)
			k.apply(v)
			k.mustHave(v)
		},
	},
	{
		name: "record/absent",
		why: "P3: A store never adopts a token that was not issued here. Only Create and SignIn make a " +
			"session; no other method does.",
		run: func(k *kit) {
			v := newVisitor()
			k.mustBeEnded(v)
			if err := k.store.End(k.Context(), v.id); err != nil {
				k.Errorf("End without a session: %v, want nil", err)
			}
			k.mustBeEnded(v)
		},
	},
	{
		name: "record/create-refused",
		why: "P1: Create is all or nothing. If one operation is refused, there is no session, and the same " +
			"Create may succeed later.",
		run: func(k *kit) {
			v := newVisitor()
			o := v.spec(longIdle, longLifetime)
			_, err := k.store.Create(k.Context(), v.id, o, v.change(set("a", `1`), set("b", `"x"`), add("b", 1)))
			var op *driver.OpError
			if !errors.Is(err, driver.ErrNotInteger) || !errors.As(err, &op) || op.Index != 2 || op.Key != "b" {
				k.Errorf("Create: %v, want ErrNotInteger in operation 2", err)
			}
			k.mustBeEnded(v)
			if _, err := k.store.Create(k.Context(), v.id, o, v.change(set("a", `1`))); err != nil {
				k.Fatalf("Create after a refused Create: %v", err)
			}
			k.mustHave(v, "a", "1")
		},
	},
	{
		name: "record/create-twice",
		why: "P1: A node that does not know the outcome of Create repeats it. With the same Secret, it is the " +
			"same creation and changes nothing, not even what was written since. With another Secret, it must " +
			"not take over the session.",
		run: createTwice,
	},
	{
		name: "record/create-at-once",
		why: "P3: If several calls create the same id, exactly one makes the session and the others get " +
			"ErrExists. Otherwise two visitors share a session.",
		run: func(k *kit) {
			v := newVisitor()
			var mu sync.Mutex
			made, secret := 0, driver.Secret{}
			concurrently(20, func(int) {
				mine := v
				mine.secret, mine.verifier = driver.Secret(newHash()), newHash()
				_, err := k.store.Create(k.Context(), v.id, mine.spec(longIdle, longLifetime), mine.change(add("n", 1)))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					made, secret = made+1, mine.secret
				case !errors.Is(err, driver.ErrExists):
					k.Errorf("Create: %v, want ErrExists", err)
				}
			})
			if made != 1 {
				k.Fatalf("%d creations succeeded, want 1", made)
			}
			if k.load(v).Secret != secret {
				k.Error("the record is not the one whose creation succeeded")
			}
			k.mustHave(v, "n", "1")
		},
	},
	{
		name: "record/create-after-end",
		why: "P2: A caller that derives the id from an old session of another program may be late. Less than " +
			"SupersededFor after End, Create must not bring the session back.",
		run: func(k *kit) {
			v := k.create()
			k.end(v)
			late := v
			late.secret = driver.Secret(newHash())
			for _, again := range []visitor{v, late} {
				if _, err := k.tryCreate(again); !errors.Is(err, driver.ErrExists) {
					k.Errorf("Create after End: %v, want ErrExists", err)
				}
			}
			k.mustBeEnded(v)
		},
	},
	{
		name: "record/revision",
		why: "Nodes compare revisions to find out whether their copy is the newest. Each change adds one; a " +
			"refused change and a read add none.",
		run: func(k *kit) {
			v := k.create()
			want := k.load(v).Revision
			step := func(what string, by uint64) {
				k.Helper()
				want += by
				if got := k.load(v).Revision; got != want {
					k.Errorf("the revision after %s is %d, want %d", what, got, want)
				}
			}
			step("Load", 0)
			k.apply(v, set("theme", `"dark"`))
			step("Apply", 1)
			k.apply(v, set("theme", `"dark"`))
			step("Apply of the same value", 1)
			k.apply(v)
			step("Apply without operations", 1)
			k.mustRefuseOp(v, driver.ErrNotInteger, 0, add("theme", 1))
			step("a refused change", 0)
			k.touch(v)
			step("Touch that is not due", 0)
		},
	},
	{
		name: "record/snapshots",
		why: "A request works on the record that it read while others change the session. A record that a " +
			"store has returned never changes.",
		run: func(k *kit) {
			v := k.create(set("theme", `"dark"`), set("cart:1", `{"n":1}`), add("visits", 1))
			old := k.load(v)
			before := text(old)
			res := k.apply(v, set("theme", `"lite"`), add("visits", 1), unset("cart:1"), set("cart:2", `2`))
			afterFirst := ""
			if res.Record != nil {
				afterFirst = text(res.Record)
			}
			k.apply(v, clearAll(), set("z", `1`))
			k.applyChange(v, &driver.Change{Verifier: v.verifier, Renew: &driver.Renewal{Verifier: newHash()}})
			k.end(v)
			if now := text(old); now != before {
				k.Errorf("a record changed after it was read\nto   %s\nfrom %s", now, before)
			}
			if res.Record != nil && text(res.Record) != afterFirst {
				k.Errorf("the record of a Result changed later\nto   %s\nfrom %s", text(res.Record), afterFirst)
			}
		},
	},
	{
		name: "record/change-not-modified",
		why: "A store does not modify what the caller passes in. The caller logs it, and computes its own view " +
			"from the same operations.",
		run: func(k *kit) {
			v := k.create(set("theme", `"dark"`))
			ops := func() []driver.Op {
				return []driver.Op{
					set("theme", `"lite"`), add("visits", 2), add("visits", 3), swap("theme", `"lite"`, nil),
					take("visits"), set("cart:1", `1`), unsetEntries("cart"),
				}
			}
			c, want := v.change(ops()...), v.change(ops()...)
			k.applyChange(v, c)
			if !reflect.DeepEqual(c, want) {
				k.Errorf("the store modified the change\nto   %+v\nfrom %+v", c, want)
			}
		},
	},
	{
		name: "record/apart",
		why: "P3: Sessions do not affect each other, even with the same bucket, and even with the same " +
			"selector in two buckets.",
		run: func(k *kit) {
			const n = 200
			all := make([]visitor, n)
			twin := newVisitor()
			concurrently(n, func(i int) {
				v := newVisitor()
				if i < 50 { // the same bucket
					v.id.Bucket = twin.id.Bucket
				} else if i < 100 { // the same selector
					v.id = driver.ID{Bucket: uint16(i), Selector: twin.id.Selector}
				}
				all[i] = v
				if _, err := k.tryCreate(v, add("i", int64(i))); err != nil {
					k.Errorf("Create: %v", err)
				}
			})
			concurrently(n, func(i int) {
				if i%3 == 0 {
					if err := k.store.End(k.Context(), all[i].id); err != nil {
						k.Errorf("End: %v", err)
					}
				} else if _, err := k.store.Apply(k.Context(), all[i].id, all[i].change(add("i", 1000))); err != nil {
					k.Errorf("Apply: %v", err)
				}
			})
			for i, v := range all {
				if i%3 == 0 {
					k.mustBeEnded(v)
				} else {
					k.mustHave(v, "i", decimal(int64(i+1000)))
				}
			}
		},
	},
}

func createTwice(k *kit) {
	v := newVisitor()
	o := v.spec(longIdle, longLifetime)
	c := v.change(add("visits", 1))
	for range 3 {
		res, err := k.store.Create(k.Context(), v.id, o, c)
		if err != nil {
			k.Fatalf("Create: %v", err)
		}
		k.mustMatchStored(v, res)
	}
	k.mustHave(v, "visits", "1")
	k.apply(v, add("visits", 5))
	before := k.load(v)
	if _, err := k.store.Create(k.Context(), v.id, o, c); err != nil {
		k.Fatalf("a repeated Create: %v", err)
	}
	other := v
	other.secret, other.verifier = driver.Secret(newHash()), newHash()
	if _, err := k.tryCreate(other); !errors.Is(err, driver.ErrExists) {
		k.Errorf("Create with another Secret: %v, want ErrExists", err)
	}
	if after := k.load(v); !same(before, after) {
		k.Errorf("a repeated Create changed the record:\nbefore %s\nafter  %s", text(before), text(after))
	}
}

// mustBeWholeMilliseconds checks that all times are in whole milliseconds. Encoded records cannot
// show that they are not.
func (k *kit) mustBeWholeMilliseconds(r *driver.Record, more ...time.Time) {
	k.Helper()
	for _, t := range append(more, r.Created, r.Seen, r.Deadline, r.Tokens.PreviousUntil) {
		if !t.IsZero() && t.Nanosecond()%int(time.Millisecond) != 0 {
			k.Errorf("%v is not in whole milliseconds", t)
		}
	}
	if r.Idle%time.Millisecond != 0 {
		k.Errorf("the idle limit %v is not in whole milliseconds", r.Idle)
	}
}
