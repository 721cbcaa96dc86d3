package redisstore

import (
	"context"
	"strconv"

	"github.com/coatcheck-go/session/driver"
)

// Create implements driver.Store.
func (s *Store) Create(ctx context.Context, id driver.ID, o *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
	res, err := driver.NewRecord(s.clock.now(), o, c)
	if err != nil {
		return nil, err
	}
	args := createArgs(o, res.Record)
	var generation uint64
	if s.near != nil {
		generation = s.near.generation(id)
	}
	var r reply
	err = s.withRetry(ctx, place(id.Bucket), idempotent, func(ctx context.Context) (err error) {
		if r, err = s.exec(ctx, s.tracked, createScript, []string{s.keys.session(id)}, args); err == nil && r.status == "ok" {
			r, err = r.withRevision()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	switch r.status {
	case "ok":
	case "again":
		return &driver.Result{Now: s.clock.now()}, nil
	case "exists":
		return nil, driver.ErrExists
	default:
		return nil, errReply
	}
	if res, err = driver.NewRecord(r.now, o, c); err != nil {
		return nil, err
	}
	if s.near != nil {
		s.near.add(id, res.Record, r.asked, generation)
	}
	return res, nil
}

// createArgs returns the arguments of create.lua. The server fills in the record's times.
func createArgs(o *driver.RecordSpec, r *driver.Record) []string {
	values := driver.Encode(r)
	args := make([]string, 4, 4+2*len(values))
	args[0], args[1] = milliseconds(o.Idle), milliseconds(o.Lifetime)
	args[3] = milliseconds(r.Idle - r.Created.Sub(r.Seen)) // see driver.RecordSpec.FirstUse
	for _, v := range values {
		switch v.Key {
		case "@id":
			args[2] = string(v.Value)
		case "@idle", "@created", "@seen", "@deadline":
		default:
			args = append(args, string(v.Key), string(v.Value))
		}
	}
	return args
}

// Apply implements driver.Store.
func (s *Store) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	if err := s.ends.refusal(id); err != nil {
		return nil, err
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	if err := s.syncGlobalRevocation(ctx); err != nil {
		return nil, err
	}
	args := applyArgs(c, s.global.argument())
	var r reply
	err := s.withRetry(ctx, place(id.Bucket), notIdempotent, func(ctx context.Context) (err error) {
		r, err = s.execOnSession(ctx, applyScript, id, args)
		return err
	})
	if err == nil {
		err = r.sessionError()
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
	return &driver.Result{Values: values, Record: s.updateCopy(id, c, &r), Now: r.now, Renewed: c.Renew != nil && !r.kept}, nil
}

// applyArgs returns the arguments of apply.lua. global is the time of the global revocation.
func applyArgs(c *driver.Change, global string) []string {
	maxSize := c.MaxSize
	if maxSize == 0 {
		maxSize = driver.DefaultMaxSize
	}
	args := make([]string, 7, 7+4*len(c.Ops))
	args[0], args[1] = c.Verifier.String(), strconv.Itoa(maxSize)
	args[3], args[4], args[5], args[6] = "0", "0", global, "0"
	if c.Issued {
		args[6] = "1"
	}
	if c.Renew != nil {
		args[2] = c.Renew.Verifier.String()
		if grace := c.Renew.Grace; grace > 0 {
			args[3] = strconv.FormatInt(max(grace.Milliseconds(), 1), 10)
			args[4] = milliseconds(c.Renew.MinAge)
		}
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

// updateCopy makes the same change on this process's copy. It returns the new record, or nil if
// there is no copy of the version before.
func (s *Store) updateCopy(id driver.ID, c *driver.Change, r *reply) *driver.Record {
	if s.near == nil {
		return nil
	}
	return s.near.replace(id, r.revision-1, r.asked, func(old *driver.Record) *driver.Record {
		res, err := old.Apply(r.now, c)
		if err != nil || res.Record.Revision != r.revision {
			return nil
		}
		return res.Record
	})
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
	if err := s.syncGlobalRevocation(ctx); err != nil {
		return reply{}, false, err
	}
	var r reply
	tries := 0
	err := s.withRetry(ctx, place(id.Bucket), idempotent, func(ctx context.Context) (err error) {
		tries++
		r, err = s.execOnSession(ctx, touchScript, id, []string{verifier.String(), s.global.argument()})
		return err
	})
	if err != nil { // a try that was left behind may still write r and tries
		return reply{}, true, err
	}
	if err = r.sessionError(); err == nil && r.status != "ok" {
		err = errReply
	}
	return r, tries > 1, err
}
