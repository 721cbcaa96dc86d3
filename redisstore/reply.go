package redisstore

import (
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// reply is the reply of a script: {status, time, …}.
type reply struct {
	status     string
	kept       bool      // the script replied "kept": as "ok", but the token was not renewed
	asked      time.Time // when the script was sent
	now        time.Time // the server's; after "ok" an estimate if the script did not read its time
	timed      bool      // the script read the server's time
	revision   uint64
	generation uint32                 // apply.lua with a renewal
	rest       []rueidis.RedisMessage // what follows, for example lists
}

// errReply is an unexpected reply. The script may have changed something.
var errReply = fmt.Errorf("%w: unexpected reply of a script", driver.ErrUnknown)

// parseReply reads the status. After "ok" and "kept" it reads the server's time, too, and sets the
// clock.
func (s *Store) parseReply(res rueidis.RedisResult, asked time.Time) (r reply, err error) {
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
	r.rest = m[1:]
	if r.kept = r.status == "kept"; r.kept {
		r.status = "ok"
	}
	if r.status != "ok" || len(m) == 1 { // a step of move.lua replies without a time
		return r, nil
	}
	ms, err := m[1].AsInt64()
	if err != nil || ms < 0 {
		return r, errReply
	}
	r.rest = m[2:]
	if r.timed = ms > 0; r.timed {
		s.clock.setMilliseconds(ms, asked, time.Now())
		r.now = time.UnixMilli(ms)
	} else {
		r.now = s.clock.now()
	}
	return r, nil
}

// withRevision moves the revision out of the rest.
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

// withGeneration moves the generation out of the rest.
func (r reply) withGeneration() (reply, error) {
	n, err := r.integer(0)
	if err != nil || n < 0 || n > 1<<32-1 {
		return r, errReply
	}
	r.generation, r.rest = uint32(n), r.rest[1:]
	return r, nil
}

// sessionError returns the error of a script on one session, nil for "ok" and "refused".
func (r *reply) sessionError(id driver.ID) error {
	switch r.status {
	case "ok", "refused":
		return nil
	case "gone":
		return driver.ErrNotFound
	case "moved":
		return driver.ErrMoved
	}
	return r.failure("session " + id.String())
}

// failure returns the error of a script that stopped before it wrote anything, or that sent a reply
// which the caller does not expect. about says what the script was called for.
func (r *reply) failure(about string) error {
	name := "?"
	if len(r.rest) > 0 {
		if text, err := r.rest[0].ToString(); err == nil {
			name = text
		}
	}
	switch r.status {
	case "malformed":
		return fmt.Errorf("redisstore: %s: the stored %.40q is malformed: %w", about, name, driver.ErrFormat)
	case "invalid":
		return fmt.Errorf("redisstore: %s: the script refuses %.40q: %w", about, name, driver.ErrOp)
	}
	return errReply
}

// integer returns one of the rest.
func (r *reply) integer(i int) (int64, error) {
	if i >= len(r.rest) {
		return 0, errReply
	}
	n, err := r.rest[i].AsInt64()
	if err != nil {
		return 0, errReply
	}
	return n, nil
}

// text returns one of the rest.
func (r *reply) text(i int) (string, error) {
	if i >= len(r.rest) {
		return "", errReply
	}
	text, err := r.rest[i].ToString()
	if err != nil {
		return "", errReply
	}
	return text, nil
}

// list returns one of the rest that is a list.
func (r *reply) list(i int) ([]rueidis.RedisMessage, error) {
	if i >= len(r.rest) {
		return nil, errReply
	}
	list, err := r.rest[i].ToArray()
	if err != nil {
		return nil, errReply
	}
	return list, nil
}

// sessions returns one of the rest that is a list of names, as the sessions of a bucket.
func (r *reply) sessions(i int, bucket uint16) ([]driver.ID, error) {
	list, err := r.list(i)
	if err != nil {
		return nil, err
	}
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

// hash returns one of the rest that is a list of names and values.
func (r *reply) hash(i int) (map[string]string, error) {
	list, err := r.list(i)
	if err != nil || len(list)%2 != 0 {
		return nil, errReply
	}
	values := make(map[string]string, len(list)/2)
	for i := 0; i < len(list); i += 2 {
		name, err1 := list[i].ToString()
		value, err2 := list[i+1].ToString()
		if err1 != nil || err2 != nil {
			return nil, errReply
		}
		values[name] = value
	}
	return values, nil
}

// refused turns the reply {"refused", index, why, present} into a driver.OpError.
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
	case "entries":
		e.Err = fmt.Errorf("%w: at most %d are allowed", driver.ErrFull, c.Ops[index].Most)
	case "large":
		e.Err = fmt.Errorf("%w: %d bytes", driver.ErrTooLarge, c.MaxSize)
	case "fields":
		e.Err = fmt.Errorf("%w: it would have more than %d fields and entries", driver.ErrTooLarge, driver.MaxFields)
	default:
		return errReply
	}
	return e
}

// values returns the results of n operations, or nil if no operation has one.
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
