package storetest_test

import (
	"context"

	"github.com/coatcheck-go/session/driver"
)

func init() { defects = append(defects, theftDefects...) }

// theftDefects concern what a record remembers to tell a stolen token from a late one.
var theftDefects = []defect{
	{"a renewed token counts as used", []string{"theft/renewal-lost", "theft/renewal-own-use"}, func(b *broken) {
		b.afterApply(func(id driver.ID, c *driver.Change, res *driver.Result) {
			if c.Renew != nil && c.Renew.Grace == 0 {
				b.edit(id, func(r *driver.Record) { r.Tokens.Unused = false })
				res.Record = nil
			}
		})
	}},
	{"a touch is no first use of a renewed token", []string{"theft/renewal-lost"}, func(b *broken) {
		b.touch = func(ctx context.Context, id driver.ID, verifier driver.Hash) error {
			r, _, err := b.exampleStore.Load(ctx, id)
			if err == nil && r.Tokens.Unused && !r.Tokens.PreviousAccepted {
				return nil
			}
			return b.exampleStore.Touch(ctx, id, verifier)
		}
	}},
	{"each request shows that the browser has its token", []string{"theft/renewal-own-use", "theft/own-rotation"},
		func(b *broken) {
			b.beforeApply(func(_ driver.ID, c *driver.Change) { c.Issued = false })
		}},
	{"a renewal counts a token that was never used", []string{"theft/renewal-overtakes", "theft/renewal-own-use"},
		func(b *broken) {
			b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
				before, _, _ := b.exampleStore.Load(ctx, id)
				res, err := b.exampleStore.Apply(ctx, id, c)
				if err == nil && res.Renewed && c.Renew.Grace == 0 && before != nil {
					b.edit(id, func(r *driver.Record) { r.Tokens.Generation = before.Tokens.Generation + 1 })
					res.Record = nil
				}
				return res, err
			}
		}},
	{"overtaken tokens are forgotten", []string{"theft/rotation-overtakes", "theft/renewal-overtakes", "theft/not-hidden"},
		func(b *broken) {
			b.afterApply(func(id driver.ID, _ *driver.Change, res *driver.Result) {
				b.edit(id, func(r *driver.Record) { r.Tokens.Overtaken = nil })
				res.Record = nil
			})
		}},
	{"the used token of an overtaken generation is forgotten",
		[]string{"theft/rotation-overtakes", "theft/renewal-overtakes", "theft/not-hidden"}, func(b *broken) {
			b.afterApply(func(id driver.ID, _ *driver.Change, res *driver.Result) {
				b.edit(id, func(r *driver.Record) {
					if o := r.Tokens.Overtaken; o != nil {
						r.Tokens.Overtaken = &driver.Overtaken{Generation: o.Generation}
					}
				})
				res.Record = nil
			})
		}},
}
