package storetest_test

import (
	"context"
	"time"

	"github.com/coatcheck-go/session/driver"
)

func init() { defects = append(defects, rotationDefects...) }

// rotationDefects are those about tokens that change by age.
var rotationDefects = []defect{
	{"rotations do not look at the age", []string{"rotation/age", "rotation/at-once", "second/rotated", "rotation/lost"}, func(b *broken) {
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			spoilt := *c
			if c.Renew != nil {
				spoilt.Renew = &driver.Renewal{Verifier: c.Renew.Verifier, Grace: c.Renew.Grace}
			}
			return b.exampleStore.Apply(ctx, id, &spoilt)
		}
	}},
	{"the age is the session's", []string{"rotation/age", "rotation/lost", "rotation/used"}, func(b *broken) {
		b.beforeApply(func(id driver.ID, c *driver.Change) {
			if c.Renew != nil && c.Renew.Grace > 0 {
				b.edit(id, func(r *driver.Record) { r.Tokens.Issued = time.Time{} })
			}
		})
	}},
	{"a renewal has the age of the session", []string{"rotation/renewal", "token/renew"}, func(b *broken) {
		b.afterApply(func(id driver.ID, c *driver.Change, res *driver.Result) {
			if c.Renew != nil && c.Renew.Grace == 0 {
				b.edit(id, func(r *driver.Record) { r.Tokens.Issued = time.Time{} })
				res.Record = nil
			}
		})
	}},
	{"renewals wait for an age", []string{"rotation/renewal"}, func(b *broken) {
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			r, now, err := b.exampleStore.Load(ctx, id)
			spoilt := *c
			if err == nil && c.Renew != nil && c.Renew.Grace == 0 && r.TokenAge(now) < c.Renew.MinAge {
				spoilt.Renew = nil
			}
			return b.exampleStore.Apply(ctx, id, &spoilt)
		}
	}},
	{"a rotation that waits refuses the rest", []string{"rotation/age", "rotation/at-once", "rotation/used"}, func(b *broken) {
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			r, now, err := b.exampleStore.Load(ctx, id)
			if err == nil && c.Renew != nil && r.Tokens.Current != c.Renew.Verifier && !r.RenewalDue(c.Renew, c.Verifier, now) {
				return nil, driver.ErrMoved
			}
			return b.exampleStore.Apply(ctx, id, c)
		}
	}},
	{"a rotation that waits forgets the rest", []string{"rotation/age", "rotation/lost"}, func(b *broken) {
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			r, now, err := b.exampleStore.Load(ctx, id)
			if err == nil && c.Renew != nil && r.Tokens.Current != c.Renew.Verifier && !r.RenewalDue(c.Renew, c.Verifier, now) {
				return &driver.Result{Record: r, Now: now}, nil
			}
			return b.exampleStore.Apply(ctx, id, c)
		}
	}},
	{"each rotation says that it took place", []string{"rotation/age", "rotation/at-once", "second/rotated"}, func(b *broken) {
		b.afterApply(func(_ driver.ID, c *driver.Change, res *driver.Result) { res.Renewed = c.Renew != nil })
	}},
	{"a repeated rotation says that it did not take place", []string{"rotation/repeated"}, func(b *broken) {
		seen := map[driver.Hash]bool{}
		b.afterApply(func(_ driver.ID, c *driver.Change, res *driver.Result) {
			if c.Renew != nil {
				res.Renewed = !seen[c.Renew.Verifier]
				seen[c.Renew.Verifier] = true
			}
		})
	}},
	{"a lost token counts as a generation", []string{"rotation/lost"}, func(b *broken) {
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
	{"a rotation survives an operation that was refused", []string{"rotation/refused"}, func(b *broken) {
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			res, err := b.exampleStore.Apply(ctx, id, c)
			if err != nil && c.Renew != nil {
				_, _ = b.exampleStore.Apply(ctx, id, &driver.Change{Verifier: c.Verifier, Renew: c.Renew})
			}
			return res, err
		}
	}},
}
