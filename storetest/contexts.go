package storetest

import (
	"context"
	"errors"

	"github.com/coatcheck-go/session/driver"
)

// contextCases: what the caller's context affects.
var contextCases = []testCase{
	{
		name: "context/cancelled",
		why: "A call whose context is already done returns an error that says so, and changes nothing. The " +
			"error is never the one of a missing session.",
		run: func(k *kit) {
			ctx, cancel := context.WithCancel(k.Context())
			cancel()
			v := k.create(set("theme", `"dark"`))
			before := k.load(v)
			check := func(what string, err error) {
				k.Helper()
				if err == nil {
					k.Errorf("%s with a cancelled context: no error", what)
				}
				for _, wrong := range []error{driver.ErrNotFound, driver.ErrMoved, driver.ErrExists} {
					if errors.Is(err, wrong) {
						k.Errorf("%s with a cancelled context: %v", what, err)
					}
				}
			}
			_, _, err := k.store.Load(ctx, v.id)
			check("Load", err)
			_, err = k.store.Apply(ctx, v.id, v.change(set("theme", `"lite"`)))
			check("Apply", err)
			check("Touch", k.store.Touch(ctx, v.id, v.verifier))
			w := newVisitor()
			_, err = k.store.Create(ctx, w.id, w.spec(longIdle, longLifetime), w.change())
			check("Create", err)
			if after := k.load(v); !same(before, after) {
				k.Errorf("the record changed\nto   %s\nfrom %s", text(after), text(before))
			}
			k.mustBeEnded(w)
		},
	},
	{
		name: "context/end-cancelled",
		why: "P2: An end with a cancelled context either takes effect or returns an error. nil means that the " +
			"session has ended.",
		run: func(k *kit) {
			ctx, cancel := context.WithCancel(k.Context())
			cancel()
			v := k.create()
			if err := k.store.End(ctx, v.id); err == nil {
				k.mustBeEnded(v)
			}
			k.end(v)
			k.mustBeEnded(v)
		},
	},
	{
		name: "context/not-kept",
		why: "A store does not keep its callers' contexts. What was stored under a context stays when that is " +
			"cancelled later.",
		run: func(k *kit) {
			ctx, cancel := context.WithCancel(k.Context())
			v := newVisitor()
			if _, err := k.store.Create(ctx, v.id, v.spec(longIdle, longLifetime), v.change(add("n", 1))); err != nil {
				k.Fatal(err)
			}
			if _, err := k.store.Apply(ctx, v.id, v.change(add("n", 1))); err != nil {
				k.Fatal(err)
			}
			cancel()
			k.mustHave(v, "n", "2")
			k.apply(v, add("n", 1))
			k.mustHave(v, "n", "3")
		},
	},
}
