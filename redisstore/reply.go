package redisstore

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// reply is the reply of a script.
type reply struct {
	status   string
	kept     bool      // the script replied "kept": as "ok", but the token was not renewed
	asked    time.Time // when the script was sent
	now      time.Time // the server's
	revision uint64
	rest     []rueidis.RedisMessage
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
	if r.kept = r.status == "kept"; r.kept {
		r.status = "ok"
	}
	if r.status != "ok" {
		r.rest = m[1:]
		return r, nil
	}
	if len(m) < 3 { // some scripts reply without a time
		return r, nil
	}
	seconds, err1 := m[1].ToString()
	micros, err2 := m[2].ToString()
	sec, err3 := strconv.ParseInt(seconds, 10, 64)
	usec, err4 := strconv.ParseInt(micros, 10, 64)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return r, errReply
	}
	serverTime := time.Unix(sec, usec*1000)
	s.clock.set(serverTime, asked, time.Now())
	r.now, r.rest = serverTime.Truncate(time.Millisecond), m[3:]
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

// sessionError returns the error of a script on one session, nil for "ok" and "refused".
func (r *reply) sessionError() error {
	switch r.status {
	case "ok", "refused":
		return nil
	case "gone":
		return driver.ErrNotFound
	case "moved":
		return driver.ErrMoved
	}
	return errReply
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

// names returns two lists of sessions. The reply gives the length of the first.
func (r *reply) names(bucket uint16) (first, second []driver.ID, err error) {
	if len(r.rest) == 0 {
		return nil, nil, errReply
	}
	n, err := r.rest[0].AsInt64()
	if err != nil || n < 0 || int(n) >= len(r.rest) {
		return nil, nil, errReply
	}
	all, err := parseNames(bucket, r.rest[1:])
	if err != nil {
		return nil, nil, err
	}
	return all[:n:n], all[n:], nil
}

// parseNames reads hashes of selectors as the sessions of a bucket.
func parseNames(bucket uint16, list []rueidis.RedisMessage) ([]driver.ID, error) {
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
