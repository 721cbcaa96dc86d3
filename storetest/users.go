package storetest

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// signInCases: one session takes the place of another. Like all cases about users they are for a driver.UserStore.
var signInCases = []testCase{
	{
		name: "sign-in/new",
		why:  "P3: a visitor who had no session gets one that is theirs, exactly as package driver makes it, and it is in the list at once.",
		run: func(k *kit) {
			o := newOwner()
			v := o.visitor()
			in := o.login(v)
			in.Change.Ops = []driver.Op{set("theme", `"dark"`), add("logins", 3)}
			res := k.enters(v, in)
			if len(res.Evicted) != 0 {
				k.Errorf("Result.Evicted is %v", res.Evicted)
			}
			k.asSignedIn(v, in, nil)
			k.has(v, "theme", `"dark"`, "logins", "3")
			k.hasSessions(o, v)
			k.apply(v, add("logins", 1))
			k.touch(v)
			k.end(v)
			k.gone(v)
			k.hasSessions(o)
		},
	},
	{
		name: "sign-in/carries",
		why: "P3, P1: the session before goes: its fields come along as the application says, and whoever knows its token, the one that was " +
			"planted, perhaps, has nothing, and is told that there is a newer one.",
		run: func(k *kit) {
			o := newOwner()
			from, v := k.create(set("cart", `"tea"`), set("planted", `1`), add("n", 5)), o.visitor()
			before := k.load(from)
			in := o.login(v, from)
			var met *driver.Record
			in.Carry = func(r *driver.Record) (driver.Fields, error) {
				met = r
				return driver.Fields{r.Fields[0], r.Fields[1]}, nil
			}
			in.Change.Ops = []driver.Op{add("n", 1)}
			k.enters(v, in)
			if met == nil || !same(met, before) {
				k.Error("Carry was not called with the record that the browser had")
			}
			k.asSignedIn(v, in, before)
			k.has(v, "cart", `"tea"`, "n", "6")
			k.moved(from, driver.ErrMoved)
			k.has(v, "cart", `"tea"`, "n", "6")
			k.hasSessions(o, v)
			again := o.visitor() // step-up: a session of the same user takes the place of theirs
			k.pause()
			k.enters(again, o.login(again, v))
			k.moved(v, driver.ErrMoved)
			k.has(again, "cart", `"tea"`, "n", "6")
			k.hasSessions(o, again)
		},
	},
	{
		name:  "sign-in/moved-for-a-while",
		why:   "P3: a slow request is told that the session moved for as long as requests run, and no longer: then the id was never there.",
		needs: func(h *Harness) bool { return h.Unit >= driver.SupersededFor },
		run: func(k *kit) {
			o := newOwner()
			from, v := k.create(), o.visitor()
			at := k.enters(v, o.login(v, from)).Now
			k.justBefore(at.Add(driver.SupersededFor))
			k.moved(from, driver.ErrMoved)
			k.at(at.Add(driver.SupersededFor + time.Millisecond))
			k.gone(from)
			k.load(v)
		},
	},
	{
		name: "sign-in/moved-and-ended",
		why:  "P3: a sign-out with the token from before does not let a request that is under way with it open a session over the new one.",
		run: func(k *kit) {
			o := newOwner()
			from, v := k.create(), o.visitor()
			k.enters(v, o.login(v, from))
			nodes := []*kit{k}
			if k.h.Second != nil {
				nodes = append(nodes, k.other())
			}
			for _, node := range nodes {
				node.end(from)
				if store, ok := node.store.(driver.EndReporter); ok {
					if ended, err := store.EndAndReport(k.Context(), from.id, driver.Hash{}); ended || err != nil {
						k.Errorf("EndAndReport of what has moved: %v, %v", ended, err)
					}
				}
				for _, reader := range nodes {
					reader.moved(from, driver.ErrMoved)
				}
			}
			k.load(v)
		},
	},
	{
		name: "sign-in/principal",
		why:  "Whom a session belongs to is stored as it was given, whatever bytes an id has; when they authenticated is the store's to say.",
		run:  principals,
	},
	{
		name: "sign-in/sealed-principal",
		why:  "P4: of a principal whose user is sealed a store knows the owner alone: it keeps the text as it is, and counts and lists the session.",
		run:  sealedPrincipals,
	},
	{
		name: "sign-in/bad-principal",
		why:  "P10: a principal out of the format's bounds is refused, and the visitor stays who they were.",
		run: func(k *kit) {
			o, from := newOwner(), k.create(set("cart", `"tea"`))
			for name, spoil := range map[string]func(p *driver.Principal){
				"no user":          func(p *driver.Principal) { p.User = "" },
				"long user":        func(p *driver.Principal) { p.User = strings.Repeat("u", driver.MaxUser+1) },
				"many methods":     func(p *driver.Principal) { p.Methods = make([]string, driver.MaxMethods+1) },
				"long method":      func(p *driver.Principal) { p.Methods = []string{strings.Repeat("m", driver.MaxMethod+1)} },
				"level":            func(p *driver.Principal) { p.Level = driver.MaxLevel + 1 },
				"negative level":   func(p *driver.Principal) { p.Level = -1 },
				"long device":      func(p *driver.Principal) { p.Device = strings.Repeat("d", driver.MaxDevice+1) },
				"long user agent":  func(p *driver.Principal) { p.UserAgent = strings.Repeat("a", driver.MaxUserAgent+1) },
				"long address":     func(p *driver.Principal) { p.Address = strings.Repeat("1", driver.MaxAddress+1) },
				"sealed and clear": func(p *driver.Principal) { p.Sealed = "~1" },
				"long sealed text": func(p *driver.Principal) { p.User, p.Sealed = "", strings.Repeat("s", driver.MaxSealed+1) },
				"broken character": func(p *driver.Principal) { p.Device = "\xff" },
			} {
				v := o.visitor()
				in := o.login(v, from)
				spoil(in.Spec.Principal)
				if err := k.barred(o, v, driver.ErrPrincipal, in); err == nil {
					k.Fatal(name)
				}
			}
			k.apply(from, add("n", 1))
		},
	},
	{
		name: "sign-in/refused-change",
		why:  "P1: a sign-in whose operations or carried fields are refused has not happened: the cart is where it was, and nobody is signed in.",
		run:  signInRefused,
	},
	{
		name: "sign-in/no-session-before",
		why: "P3: a browser that shows an id without its token, or the token of a session that is over, had no session: nothing comes along, " +
			"and nothing ends: who knows an id (it is public) could otherwise sign others out.",
		run: noSessionBefore,
	},
	{
		name: "sign-in/rotated-before",
		why:  "P3: a token that was rotated out and is still accepted is the visitor's own: what they had comes along.",
		run: func(k *kit) {
			o := newOwner()
			v := o.visitor()
			from := k.create(set("cart", `"tea"`))
			next := from.with(newHash())
			k.applyChange(from, from.rotation(next.verifier, time.Hour))
			k.enters(v, o.login(v, from))
			k.has(v, "cart", `"tea"`)
			k.moved(next, driver.ErrMoved)
		},
	},
	{
		name: "sign-in/over-another-user",
		why:  "P3: signing in over another user's session ends that one, and its owner's list knows.",
		run: func(k *kit) {
			ada, bob := newOwner(), newOwner()
			from, other := k.signIn(ada), k.signIn(ada)
			v := bob.visitor()
			in := bob.login(v, from)
			in.Carry = func(*driver.Record) (driver.Fields, error) { return nil, nil }
			k.enters(v, in)
			k.has(v)
			k.moved(from, driver.ErrMoved)
			k.hasSessions(ada, other)
			k.hasSessions(bob, v)
		},
	},
	{
		name: "sign-in/repeated",
		why: "P1: a node that did not hear the outcome of a sign-in repeats it: it succeeds, and nothing is done twice. Another sign-in at " +
			"that id is refused.",
		run: signInRepeated,
	},
	{
		name: "sign-in/against-writers",
		why: "P1: a write on the session before was acknowledged and came along, or is refused: no increment is acknowledged and lost, and " +
			"none accepted once the sign-in has returned.",
		run: signInAgainstWriters,
	},
	{
		name: "sign-in/against-takes",
		why:  "P1: a value that a request took while the visitor signed in does not come along to be taken again.",
		run: func(k *kit) {
			for range 50 {
				o := newOwner()
				from, v := k.create(set("once", `"it"`)), o.visitor()
				var taken atomic.Int64
				together(5, func(i int) {
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
					k.Fatalf("the value was there for %d, want 1", taken.Load())
				}
			}
		},
	},
	{
		name: "sign-in/cancelled",
		why:  "A sign-in whose context is done already is an error that says so, and changes nothing.",
		run: func(k *kit) {
			ctx, cancel := context.WithCancel(k.Context())
			cancel()
			o := newOwner()
			from, v := k.create(set("cart", `"tea"`)), o.visitor()
			if _, err := k.users().SignIn(ctx, v.id, o.login(v, from)); err == nil || errors.Is(err, driver.ErrNotFound) || errors.Is(err, driver.ErrMoved) {
				k.Errorf("SignIn with a cancelled context: %v", err)
			}
			if list, err := k.users().Sessions(ctx, o.hash); err == nil {
				k.Errorf("Sessions with a cancelled context: %v and no error", list)
			}
			k.apply(from, add("n", 1))
			k.gone(v)
			k.hasSessions(o)
		},
	},
}

// asSignedIn checks a record that has not been used since its sign-in.
func (k *kit) asSignedIn(v visitor, in *driver.SignIn, from *driver.Record) {
	k.Helper()
	r, now := k.loadAt(v)
	want, err := driver.NewSignedIn(r.Created, in, from)
	if err != nil {
		k.Fatal(err)
	}
	if ends := r.Created.Add(min(in.Spec.Idle, time.Minute)); r.Expires().Before(ends) || r.Seen.After(r.Created) {
		k.Errorf("seen at %v, created at %v: it may be kept as seen before it was made, and lives a minute at least", r.Seen, r.Created)
	}
	want.Record.Seen = r.Seen
	if !same(r, want.Record) {
		k.Errorf("the record is %s\nwant          %s", text(r), text(want.Record))
	}
	if r.Created.After(now) || now.Sub(r.Created) > k.h.Slack+time.Minute {
		k.Errorf("created and authenticated at %v, and it is %v", r.Created, now)
	}
	k.wholeMilliseconds(r, r.Principal.Authenticated)
}

func principals(k *kit) {
	long := func(n int) string { return strings.Repeat("é", n/2) }
	methods := make([]string, driver.MaxMethods)
	for i := range methods {
		methods[i] = long(driver.MaxMethod)
	}
	k.keepsPrincipals(
		driver.Principal{User: "ada"},
		driver.Principal{User: "\x00"},
		driver.Principal{User: "\xff\xfe"},
		driver.Principal{User: "a:b {c} \r\n\" \\ é 😀"},
		driver.Principal{User: strings.Repeat("\xff", driver.MaxUser)},
		driver.Principal{User: "ada", Methods: []string{"pwd", "otp"}, Level: 2, Device: "Firefox on Linux", UserAgent: "Mozilla/5.0", Address: "2001:db8::1"},
		driver.Principal{User: "ada", Persistent: true, Methods: []string{"", "a b", "\"\\\x00\u2028<>&"}, Device: "\"at\":0"},
		driver.Principal{
			User: "ada", Methods: methods, Level: driver.MaxLevel, Device: long(driver.MaxDevice),
			UserAgent: long(driver.MaxUserAgent), Address: long(driver.MaxAddress),
		},
	)
}

// keepsPrincipals signs in as each of some, and checks that the store has it as it was given.
func (k *kit) keepsPrincipals(principals ...driver.Principal) {
	k.Helper()
	for _, p := range principals {
		o := newOwner()
		v := o.visitor()
		in := o.login(v)
		p.Owner = o.hash
		p.Authenticated = time.UnixMilli(1) // not the caller's to say
		given := p
		in.Spec.Principal = &given
		k.enters(v, in)
		if !reflect.DeepEqual(given, p) {
			k.Errorf("the caller's principal became %+v", given)
		}
		r := k.load(v)
		got := *r.Principal
		if !got.Authenticated.Equal(r.Created) {
			k.Errorf("authenticated at %v, and the session was made at %v", got.Authenticated, r.Created)
		}
		got.Authenticated = p.Authenticated
		if len(got.Methods) == 0 {
			got.Methods = p.Methods
		}
		if !reflect.DeepEqual(got, p) {
			k.Errorf("the principal is %+v\nwant             %+v", got, p)
		}
		k.apply(v, add("n", 1))
		if after := k.load(v).Principal; !reflect.DeepEqual(after, r.Principal) {
			k.Errorf("a change made of the principal %+v", after)
		}
		k.hasSessions(o, v)
	}
}

func sealedPrincipals(k *kit) {
	k.keepsPrincipals(
		driver.Principal{Sealed: "~1"},
		driver.Principal{Sealed: "\"at\":0,\"user\"", Methods: []string{"pwd"}, Level: 2, Persistent: true},
		driver.Principal{Sealed: strings.Repeat("s", driver.MaxSealed)},
	)
	o := newOwner()
	enter := func(most int, from ...visitor) visitor {
		k.Helper()
		k.pause()
		v := o.visitor()
		in := o.limited(v, most, false, from...)
		in.Spec.Principal.User, in.Spec.Principal.Sealed = "", "~1"+driver.Hash(v.secret).String()
		k.enters(v, in)
		return v
	}
	first, second := enter(0), enter(0)
	k.hasSessions(o, first, second)
	third := enter(2) // the limit knows them
	k.gone(first)
	fourth := enter(2, second)
	k.hasSessions(o, third, fourth)
	k.endUser(o, driver.Selection{}, third, fourth)
}

var errCarry = errors.New("a field that does not open")

func signInRefused(k *kit) {
	o := newOwner()
	from, old := k.create(set("cart", `"tea"`), add("n", 1)), k.signIn(o)
	v := o.visitor()
	in := o.limited(v, 1, false, from) // the old one would have to go
	in.Carry = func(*driver.Record) (driver.Fields, error) { return nil, errCarry }
	_ = k.barred(o, v, errCarry, in)
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
		if err := k.barred(o, v, want, in); !errors.As(err, &bad) || bad.Index != 1 {
			k.Errorf("SignIn: %v, want an error of operation 1", err)
		}
		k.apply(from, add("n", 1))
	}
	k.enters(v, o.limited(v, 1, false, from))
	k.has(v, "cart", `"tea"`, "n", "6")
	k.gone(old)
}

func noSessionBefore(k *kit) {
	o := newOwner()
	enter := func(what string, from visitor) {
		k.Helper()
		v := o.visitor()
		in := o.login(v, from)
		in.Carry = func(*driver.Record) (driver.Fields, error) {
			k.Errorf("Carry is called for %s", what)
			return nil, nil
		}
		k.enters(v, in)
		k.has(v)
	}
	live := k.create(set("cart", `"tea"`))
	enter("a foreign token", live.with(newHash()))
	enter("no token", live.with(driver.Hash{}))
	next := live.with(newHash())
	k.applyChange(live, live.renewal(next.verifier))
	enter("a replaced token", live)
	k.apply(next, add("n", 1))
	k.has(next, "cart", `"tea"`, "n", "1")
	enter("an unknown id", newVisitor())
	ended := k.create(set("cart", `"tea"`))
	k.end(ended)
	enter("an ended session", ended)
	k.gone(ended)
	ada := newOwner()
	other := k.signIn(ada)
	enter("another user's id", other.with(newHash()))
	k.hasSessions(ada, other)
	expired := k.createFor(k.h.Unit, 8*k.h.Unit, set("cart", `"tea"`))
	k.at(k.load(expired).Expires())
	enter("an expired session", expired)
	k.gone(expired)
}

func signInRepeated(k *kit) {
	o := newOwner()
	old, from := k.signIn(o), k.create(add("n", 1))
	k.pause()
	v := o.visitor()
	in := o.limited(v, 1, false, from)
	in.Change.Ops = []driver.Op{add("n", 1)}
	if res := k.enters(v, in); !sameIDs(res.Evicted, idsOf(old)) {
		k.Errorf("Result.Evicted is %v, want %v", res.Evicted, old.id)
	}
	before := k.load(v)
	for range 3 {
		if res := k.enters(v, in); len(res.Evicted) > 1 {
			k.Errorf("Result.Evicted is %v", res.Evicted)
		}
		if after := k.load(v); !same(before, after) {
			k.Errorf("a repeated sign-in made of %s\n%s", text(before), text(after))
		}
	}
	k.hasSessions(o, v)
	k.apply(v, add("n", 10))
	k.enters(v, in)
	refuse := *in
	refuse.RefuseExtra = true
	k.enters(v, &refuse)
	k.has(v, "n", "12")
	k.moved(from, driver.ErrMoved)
	other := o.visitor()
	other.id = v.id
	from = k.create()
	_ = k.barred(o, other, driver.ErrExists, o.login(other, from))
	k.apply(from, add("n", 1))
	anonymous := o.visitor() // of nobody, in the user's bucket all the same
	if _, err := k.store.Create(k.Context(), anonymous.id, anonymous.origin(longIdle, longLifetime), anonymous.change()); err != nil {
		k.Fatalf("Create: %v", err)
	}
	other.id = anonymous.id
	_ = k.barred(o, anonymous, driver.ErrExists, o.login(other))
	k.has(v, "n", "12")
}

func signInAgainstWriters(k *kit) {
	for range 30 {
		o := newOwner()
		from, v := k.create(), o.visitor()
		k.racing(from, v, "the sign-in", func() error {
			_, err := k.users().SignIn(k.Context(), v.id, o.login(v, from))
			return err
		})
		if k.Failed() {
			return
		}
	}
}
