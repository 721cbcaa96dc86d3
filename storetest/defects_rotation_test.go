package storetest_test

import (
	"context"
	"time"

	"github.com/coatcheck-go/session/driver"
)

func init() { defects = append(defects, rotationDefects...) }

// rotationDefects concern tokens that rotate by age.
var rotationDefects = []defect{
	{"rotations ignore the age", []string{"rotation/age", "rotation/at-once", "second/rotated", "rotation/lost"},
		func(b *broken) {
			b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
				falsified := *c
				if c.Renew != nil {
					falsified.Renew = &driver.Renewal{Verifier: c.Renew.Verifier, Grace: c.Renew.Grace}
				}
				return b.exampleStore.Apply(ctx, id, &falsified)
			}
		}},
	{"a rotation uses the age of the session", []string{"rotation/age", "rotation/lost", "rotation/used"},
		func(b *broken) {
			b.beforeApply(func(id driver.ID, c *driver.Change) {
				if c.Renew != nil && c.Renew.Grace > 0 {
					b.edit(id, func(r *driver.Record) { r.Tokens.Issued = time.Time{} })
				}
			})
		}},
	{"after a renewal the token has the age of the session", []string{"rotation/renewal", "token/renew"},
		func(b *broken) {
			b.afterApply(func(id driver.ID, c *driver.Change, res *driver.Result) {
				if c.Renew != nil && c.Renew.Grace == 0 {
					b.edit(id, func(r *driver.Record) { r.Tokens.Issued = time.Time{} })
					res.Record = nil
				}
			})
		}},
	{"renewals obey MinAge", []string{"rotation/renewal"}, func(b *broken) {
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			r, now, err := b.exampleStore.Load(ctx, id)
			falsified := *c
			if err == nil && c.Renew != nil && c.Renew.Grace == 0 && r.TokenAge(now) < c.Renew.MinAge {
				falsified.Renew = nil
			}
			return b.exampleStore.Apply(ctx, id, &falsified)
		}
	}},
	{"a rotation that is not due refuses the change", []string{"rotation/age", "rotation/at-once", "rotation/used"},
		func(b *broken) {
			b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
				r, now, err := b.exampleStore.Load(ctx, id)
				if err == nil && c.Renew != nil && r.Tokens.Current != c.Renew.Verifier &&
					!r.RenewalDue(c.Renew, c.Verifier, now) {
					return nil, driver.ErrMoved
				}
				return b.exampleStore.Apply(ctx, id, c)
			}
		}},
	{"a rotation that is not due drops the change", []string{"rotation/age", "rotation/lost"}, func(b *broken) {
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			r, now, err := b.exampleStore.Load(ctx, id)
			if err == nil && c.Renew != nil && r.Tokens.Current != c.Renew.Verifier &&
				!r.RenewalDue(c.Renew, c.Verifier, now) {
				return &driver.Result{Record: r, Now: now}, nil
			}
			return b.exampleStore.Apply(ctx, id, c)
		}
	}},
	{"each rotation reports that it took effect", []string{"rotation/age", "rotation/at-once", "second/rotated"},
		func(b *broken) {
			b.afterApply(func(_ driver.ID, c *driver.Change, res *driver.Result) { res.Renewed = c.Renew != nil })
		}},
	{"a repeated rotation reports that it had no effect", []string{"rotation/repeated"}, func(b *broken) {
		seen := map[driver.Hash]bool{}
		b.afterApply(func(_ driver.ID, c *driver.Change, res *driver.Result) {
			if c.Renew != nil {
				res.Renewed = !seen[c.Renew.Verifier]
				seen[c.Renew.Verifier] = true
			}
		})
	}},
	{"a lost token increases the generation", []string{"rotation/lost"}, func(b *broken) {
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			before, _, _ := b.exampleStore.Load(ctx, id)
			res, err := b.exampleStore.Apply(ctx, id, c)
			if err == nil && res.Renewed && before != nil && before.Tokens.Current != c.Verifier {
				b.edit(id, func(r *driver.Record) { r.Tokens.Generation = before.Tokens.Generation + 1 })
				res.Record = nil
			}
			return res, err
		}
	}},
	{"a rotation takes effect although an operation is refused", []string{"rotation/refused"}, func(b *broken) {
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			res, err := b.exampleStore.Apply(ctx, id, c)
			if err != nil && c.Renew != nil {
				_, _ = b.exampleStore.Apply(ctx, id, &driver.Change{Verifier: c.Verifier, Renew: c.Renew})
			}
			return res, err
		}
	}},
}
