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

// restore puts the records into the table, but for anonymous ones that have expired, which it returns.
func restore(db *bolt.DB, path string, t *table.Table, want state) (expired []driver.ID, err error) {
	r := restorer{path: path, table: t, now: t.Now(), pages: make(chan []stored, 4)}
	err = guard(r.path, func() error {
		return db.View(func(tx *bolt.Tx) error {
			// The workers read the memory map, which is there until the transaction ends.
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
			"it has %d records with the sum %x, and says that they are %d with the sum %x: some are lost or old",
			r.found.Records, r.found.Sum, want.Records, want.Sum))
	}
	return r.expired, nil
}

// restorer is one restoring: a goroutine that reads the file, and others that decode what it finds.
type restorer struct {
	path    string
	table   *table.Table
	now     time.Time
	found   state // the reader's
	pages   chan []stored
	workers sync.WaitGroup

	mu      sync.Mutex
	expired []driver.ID
	err     error // the first
}

// stored is a record as it is in the file.
type stored struct{ key, value []byte }

// scan hands the records of a bucket to the workers, some hundreds at a time, and counts them.
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
	for list := range r.pages { // to the end, also after an error: the reader must not wait for ever
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
			return damaged(r.path, fmt.Sprintf("the record under the key %x: %v", s.key, err))
		}
		if record.Live(r.now) || record.Principal != nil { // whose end is to be told of, by the table's first sweep
			r.table.Restore(id, record)
			continue
		}
		r.mu.Lock()
		r.expired = append(r.expired, id)
		r.mu.Unlock()
	}
	return nil
}

// guard turns a panic of f into an error: the file is checked before the database reads it, so one means that the file changed
// since, or that a disk reads worse than it did.
func guard(path string, f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = damaged(path, fmt.Sprint(p))
		}
	}()
	return f()
}
