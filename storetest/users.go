package storetest

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// signInCases: a sign-in replaces one session by another. All cases about users need a
// driver.UserStore.
var signInCases = []testCase{
	{
		name: "sign-in/new",
		why: "P3: A visitor without a session gets a new one, exactly as package driver makes it. The user's " +
			"list has it at once.",
		run: func(k *kit) {
			o := newOwner()
			v := o.visitor()
			in := o.login(v)
			in.Change.Ops = []driver.Op{set("theme", `"dark"`), add("logins", 3)}
			res := k.mustSignIn(v, in)
			if len(res.Evicted) != 0 {
				k.Errorf("Result.Evicted is %v", res.Evicted)
			}
			k.mustMatchSignIn(v, in, nil)
			k.mustHave(v, "theme", `"dark"`, "logins", "3")
			k.mustHaveSessions(o, v)
			k.apply(v, add("logins", 1))
			k.touch(v)
			k.end(v)
			k.mustBeEnded(v)
			k.mustHaveSessions(o)
		},
	},
	{
		name: "sign-in/carries",
		why: "P3, P1: A sign-in ends the old session and carries its fields over as the application says. The " +
			"old token, which may have been planted, is refused with ErrMoved.",
		run: func(k *kit) {
			o := newOwner()
			from, v := k.create(set("cart", `"tea"`), set("planted", `1`), add("n", 5)), o.visitor()
			before := k.load(from)
			in := o.login(v, from)
			var carriedFrom *driver.Record
			in.Carry = func(r *driver.Record) (driver.Fields, error) {
				carriedFrom = r
				return driver.Fields{r.Fields[0], r.Fields[1]}, nil
			}
			in.Change.Ops = []driver.Op{add("n", 1)}
			k.mustSignIn(v, in)
			if carriedFrom == nil || !same(carriedFrom, before) {
				k.Error("Carry was not called with the record of the old session")
			}
			k.mustMatchSignIn(v, in, before)
			k.mustHave(v, "cart", `"tea"`, "n", "6")
			k.mustBeMoved(from, driver.ErrMoved)
			k.mustHave(v, "cart", `"tea"`, "n", "6")
			k.mustHaveSessions(o, v)
			again := o.visitor() // a step-up replaces the session by another one of the same user
			k.pause()
			k.mustSignIn(again, o.login(again, v))
			k.mustBeMoved(v, driver.ErrMoved)
			k.mustHave(again, "cart", `"tea"`, "n", "6")
			k.mustHaveSessions(o, again)
		},
	},
	{
		name: "sign-in/moved-for-a-while",
		why: "P3: A slow request with the old token gets ErrMoved for as long as requests run. After that, the " +
			"id is unknown.",
		needs: func(h *Harness) bool { return h.Unit >= driver.SupersededFor },
		run: func(k *kit) {
			o := newOwner()
			from, v := k.create(), o.visitor()
			at := k.mustSignIn(v, o.login(v, from)).Now
			k.waitUntilJustBefore(at.Add(driver.SupersededFor))
			k.mustBeMoved(from, driver.ErrMoved)
			k.waitUntil(at.Add(driver.SupersededFor + time.Millisecond))
			k.mustBeEnded(from)
			k.load(v)
		},
	},
	{
		name: "sign-in/moved-and-ended",
		why: "P3: A sign-out with the old token says that the session has moved, because the new one is alive. " +
			"It leaves the moved marker in place. Otherwise a request that is under way with the old token " +
			"could start a session over the new one.",
		run: func(k *kit) {
			o := newOwner()
			from, v := k.create(), o.visitor()
			k.mustSignIn(v, o.login(v, from))
			nodes := []*kit{k}
			if k.h.Second != nil {
				nodes = append(nodes, k.other())
			}
			for _, node := range nodes {
				if err := node.store.End(k.Context(), from.id); !errors.Is(err, driver.ErrMoved) {
					k.Errorf("End of a replaced session: %v, want ErrMoved", err)
				}
				if store, ok := node.store.(driver.EndReporter); ok {
					ended, err := store.EndAndReport(k.Context(), from.id, driver.Hash{}, newAttempt())
					if ended || !errors.Is(err, driver.ErrMoved) {
						k.Errorf("EndAndReport of a replaced session: %v, %v, want false and ErrMoved", ended, err)
					}
				}
				for _, reader := range nodes {
					reader.mustBeMoved(from, driver.ErrMoved)
				}
			}
			k.load(v)
		},
	},
	{
		name: "sign-in/principal",
		why: "A store keeps the principal as it was given, whatever bytes the id has. The store sets the time " +
			"of the authentication.",
		run: principals,
	},
	{
		name: "sign-in/authenticated-before",
		why: "P5: A user can have authenticated long before the sign-in, at an identity provider. The store " +
			"subtracts that duration from its own time. Everything else in the session begins with the sign-in.",
		run: func(k *kit) {
			o := newOwner()
			for _, ago := range []time.Duration{
				time.Millisecond, 90*time.Minute + 7*time.Millisecond, driver.MaxAuthenticatedAgo,
			} {
				v := o.visitor()
				in := o.login(v)
				in.AuthenticatedAgo = ago
				k.pause()
				k.mustSignIn(v, in)
				k.mustMatchSignIn(v, in, nil)
				r := k.load(v)
				if got := r.Created.Sub(r.Principal.Authenticated); got != ago {
					k.Errorf("the user authenticated %v before the sign-in, want %v", got, ago)
				}
			}
			for _, ago := range []time.Duration{-time.Millisecond, driver.MaxAuthenticatedAgo + time.Millisecond} {
				v := o.visitor()
				in := o.login(v)
				in.AuthenticatedAgo = ago
				_ = k.mustRefuseSignIn(o, v, driver.ErrPrincipal, in) // which has checked it
			}
		},
	},
	{
		name: "sign-in/sealed-principal",
		why: "P4: Of a sealed principal, a store knows only the owner. It keeps the sealed text unchanged, and " +
			"counts and lists the session.",
		run: sealedPrincipals,
	},
	{
		name: "sign-in/bad-principal",
		why:  "P10: A principal outside the format's bounds is refused, and the visitor keeps the old session.",
		run: func(k *kit) {
			o, from := newOwner(), k.create(set("cart", `"tea"`))
			long := func(n int) string { return strings.Repeat("x", n) }
			for name, falsify := range map[string]func(p *driver.Principal){
				"no user":          func(p *driver.Principal) { p.User = "" },
				"long user":        func(p *driver.Principal) { p.User = long(driver.MaxUser + 1) },
				"many methods":     func(p *driver.Principal) { p.Methods = make([]string, driver.MaxMethods+1) },
				"long method":      func(p *driver.Principal) { p.Methods = []string{long(driver.MaxMethod + 1)} },
				"level":            func(p *driver.Principal) { p.Level = driver.MaxLevel + 1 },
				"negative level":   func(p *driver.Principal) { p.Level = -1 },
				"long device":      func(p *driver.Principal) { p.Device = long(driver.MaxDevice + 1) },
				"long user agent":  func(p *driver.Principal) { p.UserAgent = long(driver.MaxUserAgent + 1) },
				"long address":     func(p *driver.Principal) { p.Address = long(driver.MaxAddress + 1) },
				"sealed and clear": func(p *driver.Principal) { p.Sealed = "~1" },
				"long sealed text": func(p *driver.Principal) { p.User, p.Methods, p.Sealed = "", nil, "~"+long(driver.MaxInfo) },
				"unmarked sealed":  func(p *driver.Principal) { p.User, p.Methods, p.Sealed = "", nil, long(9) },
				"broken character": func(p *driver.Principal) { p.Device = "\xff" },
			} {
				v := o.visitor()
				in := o.login(v, from)
				falsify(in.Spec.Principal)
				if err := k.mustRefuseSignIn(o, v, driver.ErrPrincipal, in); err == nil {
					k.Fatal(name)
				}
			}
			k.apply(from, add("n", 1))
		},
	},
	{
		name: "sign-in/refused-change",
		why: "P1: If operations or carried fields of a sign-in are refused, nothing has happened: the cart is " +
			"where it was, and nobody is signed in.",
		run: signInRefused,
	},
	{
		name: "sign-in/no-session-before",
		why: "P3: A browser that sends an id without its token, or the token of an ended session, had no " +
			"session. Nothing is carried over and nothing ends. Otherwise any client that knows an id, which " +
			"is public, could sign others out.",
		timed: true,
		run:   noSessionBefore,
	},
	{
		name: "sign-in/rotated-before",
		why: "P3: A token in its grace period is the visitor's own: the fields of the session are carried " +
			"over.",
		run: func(k *kit) {
			o := newOwner()
			v := o.visitor()
			from := k.create(set("cart", `"tea"`))
			next := from.with(newHash())
			k.applyChange(from, from.rotation(next.verifier, time.Hour))
			k.mustSignIn(v, o.login(v, from))
			k.mustHave(v, "cart", `"tea"`)
			k.mustBeMoved(next, driver.ErrMoved)
		},
	},
	{
		name: "sign-in/over-another-user",
		why: "P3: A sign-in over another user's session ends that session and removes it from that user's " +
			"list.",
		run: func(k *kit) {
			ada, bob := newOwner(), newOwner()
			from, other := k.signIn(ada), k.signIn(ada)
			v := bob.visitor()
			in := bob.login(v, from)
			in.Carry = func(*driver.Record) (driver.Fields, error) { return nil, nil }
			k.mustSignIn(v, in)
			k.mustHave(v)
			k.mustBeMoved(from, driver.ErrMoved)
			k.mustHaveSessions(ada, other)
			k.mustHaveSessions(bob, v)
		},
	},
	{
		name: "sign-in/repeated",
		why: "P1: A node that does not know the outcome of a sign-in repeats it. It succeeds, and nothing is " +
			"done twice. Another sign-in at that id is refused.",
		run: signInRepeated,
	},
	{
		name: "sign-in/against-writers",
		why: "P1: A write on the old session is either acknowledged and carried over, or refused. No " +
			"acknowledged increment is lost, and none is accepted once the sign-in has returned.",
		run: signInAgainstWriters,
	},
	{
		name: "sign-in/against-takes",
		why: "P1: A value that a request took while the visitor signed in is not carried over to be taken " +
			"again.",
		run: func(k *kit) {
			for range 50 {
				o := newOwner()
				from, v := k.create(set("once", `"it"`)), o.visitor()
				var taken atomic.Int64
				concurrently(5, func(i int) {
					if i == 0 {
						if _, err := k.users().SignIn(k.Context(), v.id, o.login(v, from)); err != nil {
							k.Errorf("SignIn: %v", err)
						}
						return
					}
					res, err := k.store.Apply(k.Context(), from.id, from.change(take("once")))
					if err == nil && len(res.Values) == 1 && res.Values[0] != nil {
						taken.Add(1)
					} else if err != nil && !errors.Is(err, driver.ErrMoved) {
						k.Errorf("Apply: %v, want ErrMoved or none", err)
					}
				})
				if _, ok := k.load(v).Fields.Get("once"); ok {
					taken.Add(1)
				}
				if taken.Load() != 1 {
					k.Fatalf("%d takers got the value, want 1", taken.Load())
				}
			}
		},
	},
	{
		name: "sign-in/cancelled",
		why:  "A sign-in whose context is already done returns an error that says so, and changes nothing.",
		run: func(k *kit) {
			ctx, cancel := context.WithCancel(k.Context())
			cancel()
			o := newOwner()
			from, v := k.create(set("cart", `"tea"`)), o.visitor()
			_, err := k.users().SignIn(ctx, v.id, o.login(v, from))
			if err == nil || errors.Is(err, driver.ErrNotFound) || errors.Is(err, driver.ErrMoved) {
				k.Errorf("SignIn with a cancelled context: %v", err)
			}
			if list, err := k.users().Sessions(ctx, o.hash, driver.SessionCursor{}, 100); err == nil {
				k.Errorf("Sessions with a cancelled context: %v and no error, want an error", list)
			}
			k.apply(from, add("n", 1))
			k.mustBeEnded(v)
			k.mustHaveSessions(o)
		},
	},
}

// mustMatchSignIn checks a record that was not used since its sign-in. The last of several steps of
// a sign-in may count as a use.
func (k *kit) mustMatchSignIn(v visitor, in *driver.SignIn, from *driver.Record) {
	k.Helper()
	r, now := k.loadAt(v)
	want, err := driver.NewSignedIn(r.Created, in, from)
	if err != nil {
		k.Fatal(err)
	}
	if r.Seen.Before(r.Created) || r.Seen.After(now) || r.Revision > 2 || r.Revision < 2 && r.Seen.After(r.Created) {
		k.Errorf("created at %v, last use %v, revision %d: want a last use at the sign-in", r.Created, r.Seen, r.Revision)
	}
	want.Record.Seen, want.Record.Revision = r.Seen, r.Revision
	if !same(r, want.Record) {
		k.Errorf("the record is %s\nwant          %s", text(r), text(want.Record))
	}
	if r.Created.After(now) || now.Sub(r.Created) > k.h.Slack+time.Minute {
		k.Errorf("created and authenticated at %v, the store's time is %v", r.Created, now)
	}
	k.mustBeWholeMilliseconds(r, r.Principal.Authenticated)
}

func sealedPrincipals(k *kit) {
	k.mustKeepPrincipals(
		driver.Principal{Sealed: "~1"},
		driver.Principal{Sealed: "~\"at\":0,\"user\"", Level: 2, Persistent: true},
		driver.Principal{Sealed: "~" + strings.Repeat("s", driver.MaxInfo-1)},
	)
	o := newOwner()
	enter := func(most int, from ...visitor) visitor {
		k.Helper()
		k.pause()
		v := o.visitor()
		in := o.limited(v, most, false, from...)
		in.Spec.Principal.User, in.Spec.Principal.Methods = "", nil
		in.Spec.Principal.Sealed = "~1" + driver.Hash(v.secret).String()
		k.mustSignIn(v, in)
		return v
	}
	first, second := enter(0), enter(0)
	k.mustHaveSessions(o, first, second)
	third := enter(2) // the limit counts sealed sessions
	k.mustBeEnded(first)
	fourth := enter(2, second)
	k.mustHaveSessions(o, third, fourth)
	k.mustEndUser(o, driver.Selection{}, third, fourth)
}

var errCarry = errors.New("a field that does not open")

func signInRefused(k *kit) {
	o := newOwner()
	from, old := k.create(set("cart", `"tea"`), add("n", 1)), k.signIn(o)
	v := o.visitor()
	in := o.limited(v, 1, false, from) // a success would end the old session
	in.Carry = func(*driver.Record) (driver.Fields, error) { return nil, errCarry }
	_ = k.mustRefuseSignIn(o, v, errCarry, in)
	k.apply(from, add("n", 1))
	for want, op := range map[error]driver.Op{
		driver.ErrNotInteger: add("cart", 1),
		driver.ErrOp:         {Kind: 99, Key: "x"},
		driver.ErrName:       set("a/b", `1`),
		driver.ErrTooLarge:   set("big", strings.Repeat("x", driver.DefaultMaxSize)),
	} {
		in := o.limited(v, 1, false, from)
		in.Change.Ops = []driver.Op{set("x", `1`), op}
		var bad *driver.OpError
		if err := k.mustRefuseSignIn(o, v, want, in); !errors.As(err, &bad) || bad.Index != 1 {
			k.Errorf("SignIn: %v, want an error for operation 1", err)
		}
		k.apply(from, add("n", 1))
	}
	k.mustSignIn(v, o.limited(v, 1, false, from))
	k.mustHave(v, "cart", `"tea"`, "n", "6")
	k.mustBeEnded(old)
}

func noSessionBefore(k *kit) {
	o := newOwner()
	enter := func(what string, from visitor) {
		k.Helper()
		v := o.visitor()
		in := o.login(v, from)
		in.Carry = func(*driver.Record) (driver.Fields, error) {
			k.Errorf("Carry was called for %s", what)
			return nil, nil
		}
		k.mustSignIn(v, in)
		k.mustHave(v)
	}
	live := k.create(set("cart", `"tea"`))
	enter("an unknown token", live.with(newHash()))
	enter("no token", live.with(driver.Hash{}))
	next := live.with(newHash())
	k.applyChange(live, live.renewal(next.verifier))
	enter("a superseded token", live)
	k.apply(next, add("n", 1))
	k.mustHave(next, "cart", `"tea"`, "n", "1")
	enter("an unknown id", newVisitor())
	ended := k.create(set("cart", `"tea"`))
	k.end(ended)
	enter("an ended session", ended)
	k.mustBeEnded(ended)
	ada := newOwner()
	other := k.signIn(ada)
	enter("another user's id", other.with(newHash()))
	k.mustHaveSessions(ada, other)
	expired := k.createFor(k.h.Unit, 8*k.h.Unit, set("cart", `"tea"`))
	k.waitUntil(k.load(expired).Expires())
	enter("an expired session", expired)
	k.mustBeEnded(expired)
}

func signInRepeated(k *kit) {
	o := newOwner()
	old, from := k.signIn(o), k.create(add("n", 1))
	k.pause()
	v := o.visitor()
	in := o.limited(v, 1, false, from)
	in.Change.Ops = []driver.Op{add("n", 1)}
	if res := k.mustSignIn(v, in); !sameIDs(res.Evicted, idsOf(old)) {
		k.Errorf("Result.Evicted is %v, want %v", res.Evicted, old.id)
	}
	before := k.load(v)
	for range 3 {
		if res := k.mustSignIn(v, in); len(res.Evicted) > 1 {
			k.Errorf("Result.Evicted is %v", res.Evicted)
		}
		if after := k.load(v); !same(before, after) {
			k.Errorf("before a repeated sign-in: %s\nafter:                    %s", text(before), text(after))
		}
	}
	k.mustHaveSessions(o, v)
	k.apply(v, add("n", 10))
	k.mustSignIn(v, in)
	refuse := *in
	refuse.RefuseExtra = true
	k.mustSignIn(v, &refuse)
	k.mustHave(v, "n", "12")
	k.mustBeMoved(from, driver.ErrMoved)
	other := o.visitor()
	other.id = v.id
	from = k.create()
	_ = k.mustRefuseSignIn(o, other, driver.ErrExists, o.login(other, from))
	k.apply(from, add("n", 1))
	anonymous := o.visitor() // not signed in, but with an id in the user's bucket
	if _, err := k.tryCreate(anonymous); err != nil {
		k.Fatalf("Create: %v", err)
	}
	other.id = anonymous.id
	_ = k.mustRefuseSignIn(o, anonymous, driver.ErrExists, o.login(other))
	k.mustHave(v, "n", "12")
}

func signInAgainstWriters(k *kit) {
	for range 30 {
		o := newOwner()
		from, v := k.create(), o.visitor()
		k.raceWrites(from, v, "the sign-in", func() error {
			_, err := k.users().SignIn(k.Context(), v.id, o.login(v, from))
			return err
		})
		if k.Failed() {
			return
		}
	}
}
