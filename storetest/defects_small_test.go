package storetest_test

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/coatcheck-go/session/driver"
)

func init() { defects = append(defects, smallDefects...) }

// smallDefects are each caught by one case.
var smallDefects = []defect{
	{"a session without values is removed", []string{"record/empty"}, func(b *broken) {
		b.afterApply(func(id driver.ID, _ *driver.Change, res *driver.Result) {
			if len(res.Record.Fields) == 0 {
				b.put(id, nil)
			}
		})
	}},
	{"unset sets null", []string{"op/set-and-unset"}, func(b *broken) {
		b.beforeApply(func(_ driver.ID, c *driver.Change) {
			for i := range c.Ops {
				if c.Ops[i].Kind == driver.Unset {
					c.Ops[i].Kind, c.Ops[i].Value = driver.Set, []byte("null")
				}
			}
		})
	}},
	{"values are text", []string{"op/bytes"}, func(b *broken) {
		b.beforeApply(func(_ driver.ID, c *driver.Change) {
			for i := range c.Ops {
				c.Ops[i].Value = bytes.ToValidUTF8(c.Ops[i].Value, []byte("?"))
			}
		})
	}},
	{"additions are applied first", []string{"op/in-order"}, func(b *broken) {
		b.beforeApply(func(_ driver.ID, c *driver.Change) {
			slices.SortStableFunc(c.Ops, func(x, y driver.Op) int {
				if (x.Kind == driver.Add) == (y.Kind == driver.Add) {
					return 0
				} else if x.Kind == driver.Add {
					return -1
				}
				return 1
			})
		})
	}},
	{"unknown operations are ignored", []string{"op/unknown-kind"}, func(b *broken) {
		b.beforeApply(func(_ driver.ID, c *driver.Change) {
			c.Ops = slices.DeleteFunc(c.Ops, func(op driver.Op) bool { return op.Kind == 0 || op.Kind > driver.Limit })
		})
	}},
	{"the number of values is limited too low", []string{"size/fields"}, func(b *broken) {
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			if len(c.Ops) >= driver.MaxFields {
				return nil, &driver.OpError{Err: driver.ErrTooLarge}
			}
			return b.exampleStore.Apply(ctx, id, c)
		}
	}},
	{"reads come from a replica", []string{"concurrent/own-writes"}, func(b *broken) {
		replica := newCopies()
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			if r, _, err := b.exampleStore.Load(ctx, id); err == nil {
				replica.put(id, r) // the replica is one change behind
			}
			return b.exampleStore.Apply(ctx, id, c)
		}
		b.load = func(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
			if r := replica.get(id); r != nil {
				return r, b.now(), nil
			}
			return b.exampleStore.Load(ctx, id)
		}
	}},
	{"a renewal drops the operations", []string{"token/renew-with-changes"}, func(b *broken) {
		b.beforeApply(func(_ driver.ID, c *driver.Change) {
			if c.Renew != nil {
				c.Ops = nil
			}
		})
	}},
	{"a confirmed rotation can be repeated with the old token", []string{"token/rotate-late"}, func(b *broken) {
		b.beforeApply(func(id driver.ID, c *driver.Change) {
			b.edit(id, func(r *driver.Record) {
				if c.Renew != nil && r.Tokens.PreviousAccepted {
					r.Tokens.PreviousUntil, r.Tokens.Unused = time.Time{}, true
				}
			})
		})
	}},
	{"a repeated rotation starts the grace period", []string{"token/rotate-repeated"}, func(b *broken) {
		b.beforeApply(func(id driver.ID, c *driver.Change) {
			b.edit(id, func(r *driver.Record) {
				if c.Renew != nil && r.Tokens.Current == c.Renew.Verifier {
					r.Tokens.PreviousUntil, r.Tokens.Unused = b.now().Add(c.Renew.Grace), false
				}
			})
		})
	}},
	{"a renewal does not end the grace period", []string{"token/rotate-then-renew"}, func(b *broken) {
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			before, now, _ := b.exampleStore.Load(ctx, id)
			res, err := b.exampleStore.Apply(ctx, id, c)
			if err == nil && c.Renew != nil && c.Renew.Grace == 0 {
				b.edit(id, func(r *driver.Record) {
					r.Tokens.Previous, r.Tokens.PreviousAccepted = before.Tokens.Previous, true
					r.Tokens.PreviousUntil = now.Add(time.Hour)
				})
				res.Record = nil
			}
			return res, err
		}
	}},
}
