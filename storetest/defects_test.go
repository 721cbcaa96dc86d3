package storetest_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// defect is a mistake in a store. Most of them exist in other libraries.
type defect struct {
	name     string
	caughtBy []string
	breaks   func(b *broken)
}

var defects = []defect{
	{"a change is loaded, applied and saved in steps", []string{"concurrent/increments", "concurrent/take",
		"concurrent/different-fields", "concurrent/within", "concurrent/limit", "token/renew-at-once"},
		func(b *broken) {
			b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
				r, now, err := b.exampleStore.Load(ctx, id)
				if err != nil {
					return nil, err
				}
				time.Sleep(time.Millisecond)
				res, err := r.Apply(now, c)
				if err == nil {
					b.put(id, res.Record)
				}
				return res, err
			}
		}},
	{"a change of a live record is saved later", []string{"end/against-writers", "token/renew-against-writes",
		"concurrent/compare-and-set"},
		func(b *broken) {
			b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
				r, now, err := b.exampleStore.Load(ctx, id)
				if err != nil {
					return nil, err
				}
				res, err := r.Apply(now, c)
				if err == nil && len(c.Ops) > 0 {
					time.Sleep(time.Millisecond)
				}
				if err == nil {
					b.put(id, res.Record)
				}
				return res, err
			}
		}},
	{"a late write creates the session", []string{"end/slow-writer", "record/absent", "end/against-writers"},
		func(b *broken) {
			b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
				res, err := b.exampleStore.Apply(ctx, id, c)
				if errors.Is(err, driver.ErrNotFound) {
					spec := &driver.RecordSpec{
						Secret: driver.Secret{1}, Verifier: c.Verifier, Idle: time.Hour, Lifetime: time.Hour,
					}
					return b.exampleStore.Create(ctx, id, spec, c)
				}
				return res, err
			}
		}},
	{"a late touch brings the session back", []string{"end/touch-in-flight"}, func(b *broken) {
		var mu sync.Mutex
		read := map[driver.ID]*driver.Record{}
		b.load = func(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
			r, now, err := b.exampleStore.Load(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				read[id] = r
			}
			return r, now, err
		}
		b.touch = func(_ context.Context, id driver.ID, _ driver.Hash) error {
			mu.Lock()
			defer mu.Unlock()
			b.put(id, read[id])
			return nil
		}
	}},
	{"End takes effect a moment later", []string{"end/gone", "end/no-write-after", "end/leaves-nothing"},
		func(b *broken) {
			b.end = func(_ context.Context, id driver.ID) error {
				time.AfterFunc(time.Millisecond, func() { b.exampleStore.End(context.Background(), id) })
				return nil
			}
		}},
	{"ended sessions leave something behind", []string{"end/leaves-nothing"}, func(b *broken) {
		b.end = func(ctx context.Context, id driver.ID) error { b.leaked++; return b.exampleStore.End(ctx, id) }
	}},
	{"End without a session is an error", []string{"record/absent", "end/gone"}, func(b *broken) {
		b.end = func(ctx context.Context, id driver.ID) error {
			_, _, err := b.exampleStore.Load(ctx, id)
			return errors.Join(err, b.exampleStore.End(ctx, id))
		}
	}},
	{"operations are applied one at a time", []string{"op/all-or-nothing", "record/revision", "concurrent/whole-changes"},
		func(b *broken) {
			b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (res *driver.Result, err error) {
				for i := range c.Ops {
					one := *c
					one.Ops = c.Ops[i : i+1]
					if res, err = b.exampleStore.Apply(ctx, id, &one); err != nil {
						if op := opError(err); op != nil {
							op.Index = i
						}
						return nil, err
					}
					time.Sleep(10 * time.Microsecond)
				}
				return res, err
			}
		}},
	{"emptying a map unsets the field", []string{"op/entries", "op/as-driver-says"}, func(b *broken) {
		b.beforeApply(func(_ driver.ID, c *driver.Change) {
			for _, op := range c.Ops {
				if op.Kind == driver.UnsetEntries {
					c.Ops = append(c.Ops, driver.Op{Kind: driver.Unset, Key: op.Key})
				}
			}
		})
	}},
	{"integers are doubles", []string{"op/add-64-bits"}, func(b *broken) {
		b.afterApply(func(_ driver.ID, _ *driver.Change, res *driver.Result) {
			for i, v := range res.Values {
				if n, ok := driver.ParseInt(v); ok {
					res.Values[i] = strconv.AppendFloat(nil, float64(n), 'f', -1, 64)
				}
			}
		})
	}},
	{"no values in the result", []string{"op/add", "op/take", "record/create-and-load"}, func(b *broken) {
		b.afterApply(func(_ driver.ID, _ *driver.Change, res *driver.Result) { res.Values = nil })
		b.create = func(ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
			res, err := b.exampleStore.Create(ctx, id, spec, c)
			if res != nil {
				res.Values = nil
			}
			return res, err
		}
	}},
	{"no present value", []string{"op/swap", "op/add-within"}, func(b *broken) {
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			res, err := b.exampleStore.Apply(ctx, id, c)
			if op := opError(err); op != nil {
				op.Present = nil
			}
			return res, err
		}
	}},
	{"limits of maps are not kept", []string{"op/limit", "concurrent/limit"}, func(b *broken) {
		b.beforeApply(func(_ driver.ID, c *driver.Change) {
			for i := range c.Ops {
				if c.Ops[i].Kind == driver.Limit {
					c.Ops[i].Most = max(c.Ops[i].Most, driver.MaxFields)
				}
			}
		})
	}},
	{"bounds are not kept", []string{"op/add-within", "op/add-closer", "concurrent/within"}, func(b *broken) {
		b.beforeApply(func(_ driver.ID, c *driver.Change) {
			for i := range c.Ops {
				c.Ops[i].Within = nil
			}
		})
	}},
	{"Add counts text as 0", []string{"op/add-not-integer", "op/all-or-nothing"}, func(b *broken) {
		b.beforeApply(func(id driver.ID, c *driver.Change) {
			for i, op := range c.Ops {
				if op.Kind == driver.Add {
					c.Ops[i] = driver.Op{Kind: driver.Set, Key: op.Key, Value: strconv.AppendInt(nil, op.Delta, 10)}
				}
			}
		})
	}},
	{"invalid names are ignored", []string{"name/refused"}, func(b *broken) {
		b.beforeApply(func(_ driver.ID, c *driver.Change) {
			var good []driver.Op
			for _, op := range c.Ops {
				if op.Key == "" || op.Key.Check() == nil {
					good = append(good, op)
				}
			}
			c.Ops = good
		})
	}},
	{"names collide", []string{"name/distinct"}, func(b *broken) {
		b.beforeApply(func(_ driver.ID, c *driver.Change) {
			for i := range c.Ops {
				c.Ops[i].Key = driver.Key(strings.TrimSuffix(string(c.Ops[i].Key), ":"))
			}
		})
	}},
	{"no limit on bytes", []string{"size/bytes", "size/default"}, func(b *broken) {
		b.beforeApply(func(_ driver.ID, c *driver.Change) { c.MaxSize = 1 << 30 })
	}},
	{"the store has its own size limit", []string{"size/raised"}, func(b *broken) {
		b.beforeApply(func(_ driver.ID, c *driver.Change) { c.MaxSize = driver.DefaultMaxSize })
	}},
	{"long changes are truncated", []string{"size/operations"}, func(b *broken) {
		b.beforeApply(func(_ driver.ID, c *driver.Change) { c.Ops = c.Ops[:min(len(c.Ops), driver.MaxOps)] })
	}},
	{"any token is accepted", []string{"token/foreign", "token/renew"}, func(b *broken) {
		b.beforeApply(func(id driver.ID, c *driver.Change) {
			b.edit(id, func(r *driver.Record) { c.Verifier = r.Tokens.Current })
		})
	}},
	{"a touch accepts any token", []string{"token/foreign", "time/refused-does-not-prolong"}, func(b *broken) {
		b.touch = func(ctx context.Context, id driver.ID, verifier driver.Hash) error {
			b.edit(id, func(r *driver.Record) { verifier = r.Tokens.Current })
			return b.exampleStore.Touch(ctx, id, verifier)
		}
	}},
	{"a repeated renewal is refused", []string{"token/renew-repeated", "reopen/repeated"}, func(b *broken) {
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			r, _, err := b.exampleStore.Load(ctx, id)
			if err == nil && r.Tokens.Current != c.Verifier && c.Renew != nil && c.Renew.Grace == 0 {
				return nil, driver.ErrMoved
			}
			return b.exampleStore.Apply(ctx, id, c)
		}
	}},
	{"a rotation has no grace period", []string{"token/rotate", "token/rotate-again", "token/rotate-confirmed"},
		func(b *broken) {
			b.afterApply(func(id driver.ID, c *driver.Change, res *driver.Result) {
				if c.Renew != nil {
					b.edit(id, func(r *driver.Record) {
						r.Tokens.PreviousAccepted, r.Tokens.PreviousUntil = false, res.Now.Add(time.Minute)
					})
				}
				res.Record = nil
			})
		}},
	{"a touch does not confirm a rotation", []string{"token/rotate-confirmed"}, func(b *broken) {
		b.touch = func(ctx context.Context, id driver.ID, verifier driver.Hash) error {
			r, _, err := b.exampleStore.Load(ctx, id)
			if err == nil && r.Tokens.PreviousAccepted {
				return nil
			}
			return b.exampleStore.Touch(ctx, id, verifier)
		}
	}},
	{"Create overwrites", []string{"record/create-twice", "record/create-at-once"}, func(b *broken) {
		b.create = func(ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
			res, err := driver.NewRecord(b.now(), spec, c)
			if err == nil && ctx.Err() == nil {
				b.put(id, res.Record)
			}
			return res, err
		}
	}},
	{"a late Create brings an ended session back", []string{"record/create-after-end"}, func(b *broken) {
		b.create = func(ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
			res, err := b.exampleStore.Create(ctx, id, spec, c)
			if errors.Is(err, driver.ErrExists) && b.records[id] == nil {
				if res, err = driver.NewRecord(b.now(), spec, c); err == nil {
					b.put(id, res.Record)
				}
			}
			return res, err
		}
	}},
	{"a repeated Create is refused", []string{"record/create-twice", "reopen/repeated"}, func(b *broken) {
		b.create = func(ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
			if _, _, err := b.exampleStore.Load(ctx, id); err == nil {
				return nil, driver.ErrExists
			}
			return b.exampleStore.Create(ctx, id, spec, c)
		}
	}},
	{"a refused creation leaves an empty session", []string{"record/create-refused", "name/refused", "size/bytes"},
		func(b *broken) {
			b.create = func(ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
				res, err := b.exampleStore.Create(ctx, id, spec, &driver.Change{Verifier: c.Verifier})
				if err != nil || len(c.Ops) == 0 {
					return res, err
				}
				return b.exampleStore.Apply(ctx, id, c)
			}
		}},
	{"a change drops the principal", []string{"record/principal"}, func(b *broken) {
		b.afterApply(func(id driver.ID, _ *driver.Change, res *driver.Result) {
			b.edit(id, func(r *driver.Record) { r.Principal = nil })
			res.Record = nil
		})
	}},
	{"Clear changes a limit", []string{"op/clear"}, func(b *broken) {
		b.afterApply(func(id driver.ID, c *driver.Change, res *driver.Result) {
			for _, op := range c.Ops {
				if op.Kind == driver.Clear {
					b.edit(id, func(r *driver.Record) { r.Idle = time.Hour })
					res.Record = nil
				}
			}
		})
	}},
	{"records are read into one buffer", []string{"record/snapshots"}, func(b *broken) {
		shared := &driver.Record{}
		b.load = func(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
			r, now, err := b.exampleStore.Load(ctx, id)
			if err != nil {
				return nil, now, err
			}
			*shared = *r
			return shared, now, nil
		}
	}},
	{"the store modifies the change", []string{"record/change-not-modified"}, func(b *broken) {
		b.afterApply(func(_ driver.ID, c *driver.Change, _ *driver.Result) { clear(c.Ops) })
	}},
	{"the bucket is ignored", []string{"record/apart"}, func(b *broken) {
		b.create = func(ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
			id.Bucket = 0
			return b.exampleStore.Create(ctx, id, spec, c)
		}
		b.load = func(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
			id.Bucket = 0
			return b.exampleStore.Load(ctx, id)
		}
	}},
	{"the context is ignored", []string{"context/cancelled"}, func(b *broken) {
		b.apply = func(_ context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			return b.exampleStore.Apply(context.Background(), id, c)
		}
	}},
	{"End with a cancelled context returns nil", []string{"context/end-cancelled"}, func(b *broken) {
		b.end = func(ctx context.Context, id driver.ID) error { b.exampleStore.End(ctx, id); return nil }
	}},
	{"sessions end with the context that created them", []string{"context/not-kept"}, func(b *broken) {
		b.create = func(ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
			context.AfterFunc(ctx, func() { b.exampleStore.End(context.Background(), id) })
			return b.exampleStore.Create(ctx, id, spec, c)
		}
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			time.Sleep(time.Millisecond)
			return b.exampleStore.Apply(ctx, id, c)
		}
		b.load = func(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
			time.Sleep(time.Millisecond)
			return b.exampleStore.Load(ctx, id)
		}
	}},
}
