package redisstore

import (
	"context"
	"strconv"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Create implements driver.Store.
func (s *Store) Create(ctx context.Context, id driver.ID, o *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
	res, err := driver.NewRecord(s.clock.now(), o, c)
	if err != nil {
		return nil, err
	}
	args := s.createArgs(o, res.Record)
	var generation uint64
	if s.near != nil {
		generation = s.near.generation(id)
	}
	var r reply
	err = s.withRetry(ctx, place(id.Bucket), idempotent, func(ctx context.Context) (err error) {
		if r, err = s.exec(ctx, s.tracked, createScript, []string{s.keys.record(id)}, args); err == nil && r.status == "ok" {
			r, err = r.withRevision()
		}
		return err
	})
	if err != nil {
		return nil, aboutSession(id, err)
	}
	switch r.status {
	case "ok":
	case "again":
		return &driver.Result{Now: s.clock.now()}, nil
	case "exists":
		return nil, driver.ErrExists
	default:
		return nil, r.failure("session " + id.String())
	}
	if res, err = driver.NewRecord(r.now, o, c); err != nil {
		return nil, err
	}
	if s.near != nil {
		s.near.add(id, res.Record, r.asked, generation)
	}
	return res, nil
}

// createArgs returns the arguments of create.lua, which writes the other metadata.
func (s *Store) createArgs(o *driver.RecordSpec, r *driver.Record) []string {
	first := milliseconds(r.Idle - r.Created.Sub(r.Seen)) // see driver.RecordSpec.FirstUse
	args := make([]string, 0, 7+2*len(r.Fields))
	args = append(args, driver.Hash(o.Secret).String(), o.Verifier.String(), strconv.Itoa(r.Size),
		milliseconds(o.Idle), milliseconds(o.Lifetime), first, s.trackedArg())
	for _, v := range driver.Encode(r) {
		switch v.Key {
		case "@s", "@l":
		default:
			args = append(args, string(v.Key), string(v.Value))
		}
	}
	return args
}

// trackedArg tells a script on one session whether to keep its key tracked.
func (s *Store) trackedArg() string {
	if s.near != nil {
		return "1"
	}
	return "0"
}

// plan says what a script on one session need not do, because this process has a copy of the
// session. A copy that is out of date does no harm: the time of the creation and whether somebody
// is signed in never change, and other uses of the session only make a touch less due.
type plan struct {
	keys   []string  // the session and, unless nobody is signed in, its bucket's revocations
	global string    // the time of the global revocation; "0" if the session was created later
	clock  bool      // the script must read the time: a touch may be due
	at     time.Time // the store's time
}

// plan looks up the copy. shown is the verifier that the client has shown.
func (s *Store) plan(id driver.ID, shown driver.Hash) plan {
	key := s.keys.record(id)
	p := plan{keys: []string{key}, global: s.global.argument(), clock: true, at: s.clock.now()}
	var r *driver.Record
	if s.near != nil {
		r = s.near.peek(id)
	}
	if id.UserData { // no revocation concerns it
		p.global = "0"
	} else if r == nil || r.Principal != nil {
		p.keys = append(p.keys, s.keys.revocationsOf(key))
	}
	if r != nil {
		if !s.global.covers(r) {
			p.global = "0"
		}
		// The script runs up to Timeout later. Without the margin, a session would be touched too
		// late, and expire too early.
		p.clock = !r.Live(p.at) || r.TouchDue(shown, p.at.Add(s.opt.Timeout))
	}
	return p
}

// Apply implements driver.Store.
func (s *Store) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	if err := s.ends.refusal(id); err != nil {
		return nil, err
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	if err := s.syncRevocation(ctx, id); err != nil {
		return nil, err
	}
	p := s.plan(id, shown(c))
	args := applyArgs(c, &p, s.near != nil)
	var r reply
	err := s.withRetry(ctx, place(id.Bucket), notIdempotent, func(ctx context.Context) (err error) {
		if r, err = s.execOnSession(ctx, applyScript, id, p.keys, args); err == nil && r.status == "ok" && c.Renew != nil {
			r, err = r.withGeneration()
		}
		return err
	})
	if err != nil {
		err = aboutSession(id, err)
	} else {
		err = r.sessionError(id)
	}
	if err == nil && r.status == "refused" {
		return nil, r.refused(c) // the copy is still right
	}
	var values [][]byte
	if err == nil {
		values, err = r.values(len(c.Ops))
	}
	if err != nil {
		s.dropCopy(id)
		return nil, err
	}
	if !r.timed {
		r.now = p.at
	}
	res := s.updateCopy(id, c, &r)
	res.Values, res.Renewed = values, c.Renew != nil && !r.kept
	return res, nil
}

// shown returns the verifier that the client has shown: none, if the request itself got it.
func shown(c *driver.Change) (verifier driver.Hash) {
	if !c.Issued {
		verifier = c.Verifier
	}
	return verifier
}

// applyArgs returns the arguments of apply.lua.
func applyArgs(c *driver.Change, p *plan, tracked bool) []string {
	maxSize := c.MaxSize
	if maxSize == 0 {
		maxSize = driver.DefaultMaxSize
	}
	count := 4 + 4*len(c.Ops)
	if c.Renew != nil {
		count += 4
	}
	args := make([]string, 0, count)
	flags := digit(p.clock) + digit(tracked) + digit(c.Issued)
	args = append(args, c.Verifier.String(), strconv.Itoa(maxSize), p.global, flags)
	if n := c.Renew; n != nil && n.Grace > 0 {
		grace := strconv.FormatInt(max(n.Grace.Milliseconds(), 1), 10)
		args = append(args, "rotate", n.Verifier.String(), grace, milliseconds(n.MinAge))
	} else if n != nil {
		args = append(args, "renew", n.Verifier.String(), "", "")
	}
	for i := range c.Ops {
		op := &c.Ops[i]
		var a, b string
		switch op.Kind {
		case driver.Set:
			a = string(op.Value)
		case driver.Add:
			a = strconv.FormatInt(op.Delta, 10)
			if op.Within != nil {
				b = strconv.FormatInt(op.Within.Min, 10) + " " + strconv.FormatInt(op.Within.Max, 10)
			}
		case driver.Swap:
			a, b = optional(op.Old), optional(op.Value)
		case driver.Limit:
			a = strconv.Itoa(op.Most)
		}
		args = append(args, op.Kind.String(), string(op.Key), a, b)
	}
	return args
}

// optional encodes a value that may be missing.
func optional(v []byte) string {
	if v == nil {
		return ""
	}
	return "=" + string(v)
}

// updateCopy makes the same change on this process's copy. The result has the new record, or none
// if there is no copy of the version before.
func (s *Store) updateCopy(id driver.ID, c *driver.Change, r *reply) *driver.Result {
	if s.near == nil {
		return &driver.Result{Now: r.now}
	}
	var res *driver.Result
	made := s.near.replace(id, r.revision-1, r.asked, func(old *driver.Record) *driver.Record {
		if !r.timed && old.TouchDue(shown(c), r.now) { // the script did not note a use
			return nil
		}
		var err error
		res, err = old.Apply(r.now, c)
		if err != nil || res.Record.Revision != r.revision {
			return nil
		}
		if c.Renew != nil && res.Record.Tokens.Generation != r.generation {
			return nil
		}
		return res.Record
	})
	if made == nil {
		return &driver.Result{Now: r.now}
	}
	res.Now = r.now
	return res
}

// dropCopy drops this process's copy of a session that ended, or whose state is not known.
func (s *Store) dropCopy(id driver.ID) {
	if s.near != nil {
		s.near.drop(id)
	}
}

// Touch implements driver.Store.
func (s *Store) Touch(ctx context.Context, id driver.ID, verifier driver.Hash) error {
	r, repeated, err := s.execTouch(ctx, id, verifier)
	if err != nil || repeated { // an earlier try may have touched it, at another time
		s.dropCopy(id)
		return err
	}
	if s.near != nil {
		s.near.replace(id, r.revision-1, r.asked, func(old *driver.Record) *driver.Record {
			next, err := old.Touch(r.now, verifier)
			if err != nil || next.Revision != r.revision {
				return nil
			}
			return next
		})
	}
	return nil
}

// execTouch runs touch.lua. It also reports whether the script ran more than once, or may have.
func (s *Store) execTouch(ctx context.Context, id driver.ID, verifier driver.Hash) (reply, bool, error) {
	if err := s.ends.refusal(id); err != nil {
		return reply{}, false, err
	}
	if err := s.syncRevocation(ctx, id); err != nil {
		return reply{}, false, err
	}
	p := s.plan(id, verifier)
	args := []string{verifier.String(), p.global, s.trackedArg()}
	var r reply
	tries := 0
	err := s.withRetry(ctx, place(id.Bucket), idempotent, func(ctx context.Context) (err error) {
		tries++
		r, err = s.execOnSession(ctx, touchScript, id, p.keys, args)
		return err
	})
	if err != nil { // a try that was left behind may still write r and tries
		return reply{}, true, aboutSession(id, err)
	}
	if err = r.sessionError(id); err == nil && r.status != "ok" {
		err = errReply
	}
	return r, tries > 1, err
}
