package redisstore

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

var (
	//go:embed lua/apply.lua
	applySource string
	//go:embed lua/create.lua
	createSource string
	//go:embed lua/touch.lua
	touchSource string

	//go:embed lua/move.lua
	moveSource string
	//go:embed lua/signin.lua
	signInSource string
	//go:embed lua/enduser.lua
	endUserSource string
	//go:embed lua/revokeall.lua
	revokeAllSource string
	//go:embed lua/end.lua
	endSource string
	//go:embed lua/clean.lua
	cleanSource string
	//go:embed lua/publish.lua
	publishSource string

	moveScript    = rueidis.NewLuaScript(moveSource)
	signInScript  = rueidis.NewLuaScript(signInSource)
	endUserScript = rueidis.NewLuaScript(endUserSource)
	endScript     = rueidis.NewLuaScript(endSource)
	cleanScript   = rueidis.NewLuaScript(cleanSource)
	publishScript = rueidis.NewLuaScript(publishSource)

	revokeAllScript = rueidis.NewLuaScript(revokeAllSource)

	applyScript  = rueidis.NewLuaScript(applySource)
	createScript = rueidis.NewLuaScript(createSource)
	touchScript  = rueidis.NewLuaScript(touchSource)
)

// applyArgs are the arguments of apply.lua for a change; everybody says when all were revoked.
func applyArgs(c *driver.Change, everybody string) []string {
	maxSize := c.MaxSize
	if maxSize == 0 {
		maxSize = driver.DefaultMaxSize
	}
	args := make([]string, 6, 6+4*len(c.Ops))
	args[0], args[1], args[3], args[4], args[5] = c.Verifier.String(), strconv.Itoa(maxSize), "0", "0", everybody
	if c.Renew != nil {
		args[2] = c.Renew.Verifier.String()
		if grace := c.Renew.Grace; grace > 0 {
			args[3] = strconv.FormatInt(max(grace.Milliseconds(), 1), 10)
			args[4] = strconv.FormatInt(c.Renew.MinAge.Milliseconds(), 10)
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

// optional is how a value that may be missing is written.
func optional(v []byte) string {
	if v == nil {
		return ""
	}
	return "=" + string(v)
}

// createArgs are the arguments of create.lua for a record; its times are the server's to fill in.
func createArgs(o *driver.RecordSpec, r *driver.Record) []string {
	values := driver.Encode(r)
	args := make([]string, 3, 3+2*len(values))
	args[0], args[1] = strconv.FormatInt(o.Idle.Milliseconds(), 10), strconv.FormatInt(o.Lifetime.Milliseconds(), 10)
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

// reply is what a script answered.
type reply struct {
	status   string
	kept     bool      // "kept": as "ok", but the token stayed
	asked    time.Time // when the script was sent
	now      time.Time // the server's
	revision uint64
	rest     []rueidis.RedisMessage
}

// exec runs a script on one session and the revocations of its bucket.
func (s *Store) exec(ctx context.Context, script *rueidis.Lua, id driver.ID, args []string) (r reply, err error) {
	key := s.keys.session(id)
	keys := []string{key, s.keys.revocationsOf(key)}
	r, err = s.execKeys(ctx, script, keys, args)
	if moving(err) {
		r, err = s.execMoving(ctx, script, id, keys[:1], args)
	}
	if err != nil || r.status != "ok" {
		return r, err
	}
	return r.withRevision()
}

// withRevision takes the revision from the rest.
func (r reply) withRevision() (_ reply, err error) {
	if len(r.rest) == 0 {
		return r, errReply
	}
	if r.revision, err = r.rest[0].AsUint64(); err != nil {
		return r, errReply
	}
	r.rest = r.rest[1:]
	return r, nil
}

// execKeys runs a script on the connection that tracks its keys.
func (s *Store) execKeys(ctx context.Context, script *rueidis.Lua, keys, args []string) (r reply, err error) {
	return s.execOn(ctx, s.tracked, script, keys, args)
}

// execPlain runs a script of many keys. Redis 7.0 notes all keys of a script with each of its commands that reads, if it tracks, which took
// 11 s with 10,000 keys.
func (s *Store) execPlain(ctx context.Context, script *rueidis.Lua, keys, args []string) (r reply, err error) {
	return s.execOn(ctx, s.plain, script, keys, args)
}

// execOn runs a script; after {"ok"} comes the server's time, and after {"kept"}, which is returned as an "ok".
func (s *Store) execOn(ctx context.Context, client rueidis.Client, script *rueidis.Lua, keys, args []string) (r reply, err error) {
	asked := time.Now()
	return s.replied(script.Exec(ctx, client, keys, args), asked)
}

func (s *Store) replied(res rueidis.RedisResult, asked time.Time) (r reply, err error) {
	r.asked = asked
	m, err := res.ToArray()
	if err != nil {
		return r, err
	}
	if len(m) == 0 {
		return r, errReply
	}
	if r.status, err = m[0].ToString(); err != nil {
		return r, errReply
	}
	if r.kept = r.status == "kept"; r.kept {
		r.status = "ok"
	}
	if r.status != "ok" {
		r.rest = m[1:]
		return r, nil
	}
	if len(m) < 3 { // an answer without a time
		return r, nil
	}
	seconds, err1 := m[1].ToString()
	micros, err2 := m[2].ToString()
	sec, err3 := strconv.ParseInt(seconds, 10, 64)
	usec, err4 := strconv.ParseInt(micros, 10, 64)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return r, errReply
	}
	at := time.Unix(sec, usec*1000)
	s.clock.set(at, asked, time.Now())
	r.now, r.rest = at.Truncate(time.Millisecond), m[3:]
	return r, nil
}

// errReply says that a script answered what it never should. What it did is then not known.
var errReply = fmt.Errorf("%w: unexpected reply of a script", driver.ErrUnknown)

// refused turns the reply {"refused", index, why, present} into the error that driver.Store promises.
func (r *reply) refused(c *driver.Change) error {
	if len(r.rest) < 2 {
		return errReply
	}
	index, err := r.rest[0].AsInt64()
	why, err2 := r.rest[1].ToString()
	if err != nil || err2 != nil || index < 0 || index >= int64(len(c.Ops)) {
		return errReply
	}
	e := &driver.OpError{Index: int(index), Key: c.Ops[index].Key}
	if len(r.rest) > 2 && !r.rest[2].IsNil() {
		if v, err := r.rest[2].AsBytes(); err == nil {
			e.Present = v
		}
	}
	switch why {
	case "conflict":
		e.Err = driver.ErrConflict
	case "integer":
		e.Err = driver.ErrNotInteger
	case "overflow":
		e.Err = driver.ErrOverflow
	case "large":
		e.Err = fmt.Errorf("%w: %d bytes", driver.ErrTooLarge, c.MaxSize)
	case "fields":
		e.Err = fmt.Errorf("%w: it would have more than %d fields and entries", driver.ErrTooLarge, driver.MaxFields)
	default:
		return errReply
	}
	return e
}

// names are two lists of sessions, of which the reply has the first one's length.
func (r *reply) names(bucket uint16) (first, second []driver.ID, err error) {
	if len(r.rest) == 0 {
		return nil, nil, errReply
	}
	n, err := r.rest[0].AsInt64()
	if err != nil || n < 0 || int(n) >= len(r.rest) {
		return nil, nil, errReply
	}
	all, err := sessionNames(bucket, r.rest[1:])
	if err != nil {
		return nil, nil, err
	}
	return all[:n:n], all[n:], nil
}

func sessionNames(bucket uint16, list []rueidis.RedisMessage) ([]driver.ID, error) {
	ids := make([]driver.ID, len(list))
	for i := range list {
		name, err := list[i].ToString()
		if err != nil {
			return nil, errReply
		}
		selector, err := driver.ParseHash(name)
		if err != nil {
			return nil, errReply
		}
		ids[i] = driver.ID{Bucket: bucket, Selector: selector}
	}
	return ids, nil
}

// values are the results of the operations, nil if none has one.
func (r *reply) values(n int) ([][]byte, error) {
	if len(r.rest) == 0 {
		return nil, nil
	}
	if len(r.rest) != n {
		return nil, errReply
	}
	out := make([][]byte, n)
	for i := range r.rest {
		if r.rest[i].IsNil() {
			continue
		}
		v, err := r.rest[i].AsBytes()
		if err != nil {
			return nil, errReply
		}
		out[i] = v
	}
	return out, nil
}
