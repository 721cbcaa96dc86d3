package filestore

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/table"
)

// restore puts the records into the table. It leaves out expired anonymous sessions and returns
// their ids.
func restore(db *bolt.DB, path string, t *table.Table, want state) (expired []driver.ID, err error) {
	r := restorer{path: path, table: t, now: t.Now(), pages: make(chan []stored, 4)}
	err = guard(r.path, func() error {
		return db.View(func(tx *bolt.Tx) error {
			// The workers read the memory map, which is valid until the transaction ends.
			defer r.workers.Wait()
			defer close(r.pages)
			for range runtime.GOMAXPROCS(0) { // decoding takes most of the time
				r.workers.Go(r.work)
			}
			return r.scan(tx.Bucket(bucketSessions))
		})
	})
	if err != nil {
		return nil, err
	}
	if r.err != nil {
		return nil, r.err
	}
	if r.found.Records != want.Records || r.found.Sum != want.Sum {
		return nil, damaged(r.path, fmt.Sprintf(
			"it has %d records with the sum %x, and should have %d with the sum %x: some are lost or outdated",
			r.found.Records, r.found.Sum, want.Records, want.Sum))
	}
	return r.expired, nil
}

// restorer restores a store: one goroutine reads the file and others decode the records.
type restorer struct {
	path    string
	table   *table.Table
	now     time.Time
	found   state // only the reader uses it
	pages   chan []stored
	workers sync.WaitGroup

	mu      sync.Mutex
	expired []driver.ID
	err     error // the first error
}

// stored is a record in its stored form.
type stored struct{ key, value []byte }

// scan passes the records of a bucket to the workers, some hundreds at a time, and counts them.
func (r *restorer) scan(sessions *bolt.Bucket) error {
	const most = 512
	var list []stored
	err := sessions.ForEach(func(key, value []byte) error {
		r.found.Records++
		r.found.Sum += checksum(value)
		if list = append(list, stored{key, value}); len(list) == most {
			r.pages <- list
			list = make([]stored, 0, most)
		}
		return nil
	})
	r.pages <- list
	return err
}

func (r *restorer) work() {
	var d decoder
	for list := range r.pages { // also after an error, so that the reader is not blocked
		err := guard(r.path, func() error { return r.decode(&d, list) })
		if err != nil {
			r.mu.Lock()
			if r.err == nil {
				r.err = err
			}
			r.mu.Unlock()
		}
	}
}

func (r *restorer) decode(d *decoder, list []stored) error {
	for _, s := range list {
		id, err := parseKey(s.key)
		if err != nil {
			return damaged(r.path, err.Error())
		}
		record, err := d.record(s.key, s.value)
		if err != nil {
			return damaged(r.path, fmt.Sprintf("the record with the key %x: %v", s.key, err))
		}
		// The table reports expired sessions of users in its first sweep.
		if record.Live(r.now) || record.Principal != nil {
			r.table.Restore(id, record)
			continue
		}
		r.mu.Lock()
		r.expired = append(r.expired, id)
		r.mu.Unlock()
	}
	return nil
}

// guard converts a panic of f into an error. The file was checked before the database reads it, so
// a panic means that the file has changed since, or that the disk returned other data.
func guard(path string, f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = damaged(path, fmt.Sprint(p))
		}
	}()
	return f()
}
