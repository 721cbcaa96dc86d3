package filestore

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/coatcheck-go/session/driver"
)

// The database has two buckets: the records by key, and the state of the store.
var (
	bucketSessions = []byte("sessions")
	bucketMeta     = []byte("meta")
)

// The values of bucketMeta. Numbers are decimal.
var (
	keyFormat  = []byte("format")
	keyTime    = []byte("time")    // milliseconds since 1970
	keyRecords = []byte("records") // the number of records
	keySum     = []byte("sum")     // sum of the records' checksums, modulo 2^64
	keyRevoked = []byte("revoked") // last revocation, in milliseconds, rounded up; absent: never
)

const format = "coatcheck sessions 1"

// state is the state of the store. The time, and the number and sum of the records, change with
// each transaction. So Open notices a page that the disk lost or returned in an older version.
type state struct {
	Time    time.Time
	Records uint64
	Sum     uint64
	Revoked time.Time // zero: never
}

// readState returns the state in the database.
func readState(db *bolt.DB, path string) (s state, err error) {
	err = db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketMeta)
		if b == nil {
			return notAStore(path, "it is an empty bbolt database")
		}
		if f := b.Get(keyFormat); string(f) != format {
			return notAStore(path, fmt.Sprintf("its format is %.60q, this program supports %q", f, format))
		}
		if tx.Bucket(bucketSessions) == nil {
			return damaged(path, "the bucket of sessions is missing")
		}
		var n [3]uint64
		for i, key := range [][]byte{keyTime, keyRecords, keySum} {
			if n[i], err = strconv.ParseUint(string(b.Get(key)), 10, 64); err != nil {
				return damaged(path, fmt.Sprintf("%q is %.40q, not a number", key, b.Get(key)))
			}
		}
		s = state{Time: time.UnixMilli(int64(n[0])), Records: n[1], Sum: n[2]}
		if text := b.Get(keyRevoked); text != nil {
			ms, err := strconv.ParseUint(string(text), 10, 63)
			if err != nil {
				return damaged(path, fmt.Sprintf("%q is %.40q, not a number", keyRevoked, text))
			}
			s.Revoked = time.UnixMilli(int64(ms))
		}
		return nil
	})
	return s, err
}

// makeBuckets creates the buckets in an empty database.
func makeBuckets(db *bolt.DB) error {
	return db.Update(func(tx *bolt.Tx) error {
		if _, err := tx.CreateBucket(bucketSessions); err != nil {
			return err
		}
		b, err := tx.CreateBucket(bucketMeta)
		if err != nil {
			return err
		}
		if err := b.Put(keyFormat, []byte(format)); err != nil {
			return err
		}
		s := state{Time: time.UnixMilli(0)}
		return s.write(tx)
	})
}

// write stores s in a transaction.
func (s *state) write(tx *bolt.Tx) error {
	b := tx.Bucket(bucketMeta)
	var revoked error
	if !s.Revoked.IsZero() {
		ms := s.Revoked.Add(time.Millisecond - 1).UnixMilli()
		revoked = b.Put(keyRevoked, strconv.AppendInt(nil, ms, 10))
	}
	return errors.Join(revoked,
		b.Put(keyTime, strconv.AppendInt(nil, s.Time.UnixMilli(), 10)),
		b.Put(keyRecords, strconv.AppendUint(nil, s.Records, 10)),
		b.Put(keySum, strconv.AppendUint(nil, s.Sum, 10)))
}

// advance sets the time unless that would set it back.
func (s *state) advance(now time.Time) {
	if now.After(s.Time) {
		s.Time = now
	}
}

// put stores a record in the bucket of sessions, or removes it if r is nil, and updates the number
// and the sum. It appends the value to buf and returns buf, which must not change before the
// commit.
func (s *state) put(sessions *bolt.Bucket, buf []byte, id driver.ID, r *driver.Record) ([]byte, error) {
	key := keyOf(id)
	if old := sessions.Get(key); old != nil {
		s.Records--
		s.Sum -= checksum(old)
	}
	if r == nil {
		return buf, sessions.Delete(key)
	}
	s.advance(r.Seen)
	from := len(buf)
	buf = appendRecord(buf, key, r)
	value := buf[from:len(buf):len(buf)]
	s.Records++
	s.Sum += checksum(value)
	return buf, sessions.Put(key, value)
}
