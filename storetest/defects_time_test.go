package storetest_test

import (
	"context"
	"time"

	"github.com/coatcheck-go/session/driver"
)

func init() { defects = append(defects, timeDefects...) }

// timeDefects concern time, restarts and other processes.
var timeDefects = []defect{
	{"sessions end a millisecond late", []string{"time/idle", "time/deadline"}, func(b *broken) {
		b.load = func(ctx context.Context, id driver.ID) (r *driver.Record, now time.Time, err error) {
			err = b.transaction(ctx, func(at time.Time) (err error) {
				now = at
				r, err = b.live(id, now.Add(-time.Millisecond))
				return err
			})
			return r, now, err
		}
	}},
	{"a read extends the session", []string{"time/idle"}, func(b *broken) {
		b.load = func(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
			if r, now, err := b.exampleStore.Load(ctx, id); err == nil {
				used := *r
				used.Seen = now
				b.put(id, &used)
			}
			return b.exampleStore.Load(ctx, id)
		}
	}},
	{"a touch does not extend the session", []string{"time/touch-prolongs", "time/touch-interval"},
		func(b *broken) {
			b.touch = func(ctx context.Context, id driver.ID, verifier driver.Hash) error {
				_, _, err := b.exampleStore.Load(ctx, id)
				return err
			}
		}},
	{"a change does not extend the session", []string{"time/change-prolongs", "time/passes"}, func(b *broken) {
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			before, _, _ := b.exampleStore.Load(ctx, id)
			res, err := b.exampleStore.Apply(ctx, id, c)
			if err == nil {
				b.edit(id, func(r *driver.Record) { r.Seen = before.Seen })
				res.Record = nil
			}
			return res, err
		}
	}},
	{"a touch moves the deadline", []string{"time/deadline", "time/deadline-before-idle"}, func(b *broken) {
		b.touch = func(ctx context.Context, id driver.ID, verifier driver.Hash) error {
			if err := b.exampleStore.Touch(ctx, id, verifier); err != nil {
				return err
			}
			b.edit(id, func(r *driver.Record) { r.Deadline = r.Deadline.Add(time.Minute) })
			return nil
		}
	}},
	{"a renewal moves the deadline", []string{"time/deadline", "token/renew"}, func(b *broken) {
		b.afterApply(func(id driver.ID, c *driver.Change, res *driver.Result) {
			if c.Renew != nil {
				b.edit(id, func(r *driver.Record) { r.Deadline = r.Deadline.Add(time.Minute) })
				res.Record = nil
			}
		})
	}},
	{"each touch writes", []string{"time/touch-interval", "time/near-deadline", "record/revision"},
		func(b *broken) {
			b.touch = func(ctx context.Context, id driver.ID, verifier driver.Hash) error {
				if err := b.exampleStore.Touch(ctx, id, verifier); err != nil {
					return err
				}
				b.edit(id, func(r *driver.Record) { r.Revision++ })
				return nil
			}
		}},
	{"an expired session blocks its id", []string{"time/expired-then-create"}, func(b *broken) {
		b.create = func(ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
			there := false
			b.edit(id, func(r *driver.Record) { there = r.Secret != spec.Secret })
			if there {
				return nil, driver.ErrExists
			}
			return b.exampleStore.Create(ctx, id, spec, c)
		}
	}},
	{"expired sessions are never removed", []string{"time/leaves-nothing"},
		func(b *broken) { b.keepsExpired = true }},
	{"limits are cut to a week", []string{"time/years"}, func(b *broken) {
		b.create = func(ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
			cut := *spec
			cut.Idle = min(spec.Idle, 7*24*time.Hour)
			return b.exampleStore.Create(ctx, id, &cut, c)
		}
	}},
	{"limits are cut to seconds", []string{"time/whole-milliseconds"}, func(b *broken) {
		b.create = func(ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
			cut := *spec
			cut.Idle = spec.Idle.Truncate(time.Second)
			return b.exampleStore.Create(ctx, id, &cut, c)
		}
	}},
	{"a session has its whole idle limit before its first use", []string{"time/first-use"}, func(b *broken) {
		b.create = func(ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
			whole := *spec
			whole.FirstUse = 0
			return b.exampleStore.Create(ctx, id, &whole, c)
		}
	}},
	{"the creating request counts as the first use", []string{"time/first-use"}, func(b *broken) {
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			shown := *c
			shown.Issued = false
			return b.exampleStore.Apply(ctx, id, &shown)
		}
	}},
	{"the limit of the first use becomes the idle limit", []string{"time/first-use-prolongs"}, func(b *broken) {
		b.create = func(ctx context.Context, id driver.ID, spec *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
			short := *spec
			if spec.FirstUse > 0 {
				short.Idle, short.FirstUse = min(spec.Idle, spec.FirstUse), 0
			}
			return b.exampleStore.Create(ctx, id, &short, c)
		}
	}},
	{"a restart loses the last change", []string{"reopen/acknowledged", "reopen/under-load"}, func(b *broken) {
		before := map[driver.ID]*driver.Record{}
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			b.mu.Lock()
			before[id] = b.records[id]
			b.mu.Unlock()
			return b.exampleStore.Apply(ctx, id, c)
		}
		b.onReopen = func() {
			for id, r := range before {
				if b.records[id] != nil {
					b.records[id] = r
				}
			}
		}
	}},
	{"a restart brings ended sessions back", []string{"reopen/acknowledged", "reopen/under-load"},
		func(b *broken) {
			ended := map[driver.ID]*driver.Record{}
			b.end = func(ctx context.Context, id driver.ID) error {
				b.mu.Lock()
				if r := b.records[id]; r != nil {
					ended[id] = r
				}
				b.mu.Unlock()
				return b.exampleStore.End(ctx, id)
			}
			b.onReopen = func() {
				for id, r := range ended {
					b.records[id] = r
				}
			}
		}},
	{"a restart drops the principal", []string{"reopen/acknowledged"}, func(b *broken) {
		b.onReopen = func() {
			for id := range b.records {
				b.edit(id, func(r *driver.Record) { r.Principal = nil })
			}
		}
	}},
	{"a restart extends limits", []string{"reopen/limits", "reopen/acknowledged"}, func(b *broken) {
		b.onReopen = func() {
			for id := range b.records {
				b.edit(id, func(r *driver.Record) { r.Deadline, r.Seen = r.Deadline.Add(time.Second), r.Seen.Add(time.Second) })
			}
		}
	}},
	{"a cache is never invalidated", []string{"second/sees", "second/ended"}, func(b *broken) {
		b.load = cached(b)
	}},
	{"writes use a cached record", []string{"second/together", "second/renewed", "second/ended"},
		func(b *broken) {
			load := cached(b)
			b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
				r, now, err := load(ctx, id)
				if err != nil {
					return nil, err
				}
				res, err := r.Apply(now, c)
				if err == nil {
					b.put(id, res.Record)
				}
				return res, err
			}
			b.load = load
		}},
}

// cached returns a Load that reads each record once.
func cached(b *broken) func(context.Context, driver.ID) (*driver.Record, time.Time, error) {
	copies := newCopies()
	return func(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
		if r := copies.get(id); r != nil {
			return r, b.now(), nil
		}
		r, now, err := b.exampleStore.Load(ctx, id)
		if err == nil {
			copies.put(id, r)
		}
		return r, now, err
	}
}
