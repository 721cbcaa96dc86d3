package table

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// slowJournal makes each append durable when the test calls write.
type slowJournal struct {
	mu       sync.Mutex
	appended []appended
	noted    int   // the number of them that no caller waits for
	failed   error // why it refuses changes
}

type appended struct {
	id      driver.ID
	record  *driver.Record
	outcome chan error
}

func (j *slowJournal) Append(id driver.ID, r *driver.Record) Receipt {
	j.mu.Lock()
	defer j.mu.Unlock()
	a := appended{id, r, make(chan error, 1)}
	j.appended = append(j.appended, a)
	return a
}

func (j *slowJournal) AppendAll(versions []Version) (last Receipt) {
	for _, v := range versions {
		last = j.Append(v.ID, v.Record)
	}
	return last
}

func (j *slowJournal) Revoke(time.Time) {}

func (j *slowJournal) Note(id driver.ID, r *driver.Record) {
	j.Append(id, r)
	j.noted++
}

func (j *slowJournal) Err() error { return j.failed }

func (a appended) Wait(ctx context.Context) error {
	select {
	case err := <-a.outcome:
		return err
	case <-ctx.Done():
		return driver.ErrUnknown
	}
}

// write makes append i durable.
func (j *slowJournal) write(t *Table, i int) {
	a := j.appended[i]
	if a.record != nil {
		t.Publish(a.id, a.record)
	}
	a.outcome <- nil
}

func journalled(t *testing.T, f func(t *testing.T, j *slowJournal, table *Table)) {
	synctest.Test(t, func(t *testing.T) {
		j := &slowJournal{}
		table := New(j, time.Time{})
		defer table.Close()
		f(t, j, table)
	})
}

// begin runs f, which waits for the journal, and returns a channel for its error.
func begin(f func() error) chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	synctest.Wait()
	return done
}

func revision(t *testing.T, table *Table, id driver.ID) uint64 {
	t.Helper()
	r, _, err := table.Load(t.Context(), id)
	if err != nil {
		return 0
	}
	return r.Revision
}

// Readers see durable versions. Changes apply to versions that are not durable yet. An end is
// visible at once.
func TestPublishedWhenDurable(t *testing.T) {
	journalled(t, func(t *testing.T, j *slowJournal, table *Table) {
		id := numbered(1)
		o := &driver.RecordSpec{Idle: time.Hour, Lifetime: time.Hour}
		create := begin(func() error { _, err := table.Create(t.Context(), id, o, &driver.Change{}); return err })
		repeat := begin(func() error { _, err := table.Create(t.Context(), id, o, &driver.Change{}); return err })
		change := begin(func() error { _, err := table.Apply(t.Context(), id, &driver.Change{}); return err })
		if got := revision(t, table, id); got != 0 || len(create)+len(repeat)+len(change) != 0 {
			t.Errorf("before anything is durable: revision %d is read", got)
		}
		j.write(table, 0)
		synctest.Wait()
		if got := revision(t, table, id); got != 1 || len(create) != 1 || len(repeat) != 0 || len(change) != 0 {
			t.Errorf("the creation is durable: revision %d is read, acknowledged %d, the repeated one %d, the change %d",
				got, len(create), len(repeat), len(change))
		}
		j.write(table, 1)
		j.write(table, 2)
		synctest.Wait()
		if got := revision(t, table, id); got != 2 || len(repeat) != 1 || len(change) != 1 {
			t.Errorf("all is durable: revision %d is read", got)
		}
		table.Publish(id, j.appended[0].record)
		if got := revision(t, table, id); got != 2 {
			t.Errorf("an older version was published: revision %d is read, want 2", got)
		}
		late := begin(func() error { _, err := table.Apply(t.Context(), id, &driver.Change{}); return err })
		end := begin(func() error { return table.End(t.Context(), id) })
		if got := revision(t, table, id); got != 0 || len(end) != 0 {
			t.Errorf("ended, not yet durable: revision %d is read, acknowledged %d", got, len(end))
		}
		j.write(table, 3)
		j.write(table, 4)
		synctest.Wait()
		if got := revision(t, table, id); got != 0 || len(end) != 1 || len(late) != 1 {
			t.Errorf("a change that became durable after the end is read at revision %d", got)
		}
	})
}

// A second end, and a creation with the same id, wait until the first end is durable.
func TestEndTwice(t *testing.T) {
	journalled(t, func(t *testing.T, j *slowJournal, table *Table) {
		id := numbered(1)
		first := begin(func() error { return table.End(t.Context(), id) })
		second := begin(func() error { return table.End(t.Context(), id) })
		j.write(table, 0)
		synctest.Wait()
		if len(first) != 1 || len(second) != 0 {
			t.Errorf("acknowledged: the first end %d, the second %d; want 1 and 0", len(first), len(second))
		}
		j.write(table, 1)
		if err := <-second; err != nil {
			t.Error(err)
		}
	})
}

// If the journal cannot write, the change returns its error. If the caller stops waiting, the
// outcome is unknown.
func TestJournalFails(t *testing.T) {
	journalled(t, func(t *testing.T, j *slowJournal, table *Table) {
		full := errors.New("no space left on device")
		id := numbered(1)
		o := &driver.RecordSpec{Idle: time.Hour, Lifetime: time.Hour}
		create := begin(func() error { _, err := table.Create(t.Context(), id, o, &driver.Change{}); return err })
		j.appended[0].outcome <- full
		if err := <-create; err != full {
			t.Errorf("Create: %v, want the journal's error", err)
		}
		if got := revision(t, table, id); got != 0 {
			t.Errorf("what was not written is read at revision %d", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := table.Apply(ctx, id, &driver.Change{}); !errors.Is(err, driver.ErrUnknown) {
			t.Errorf("Apply: %v, want ErrUnknown", err)
		}
	})
}

// After the journal has failed, changes are refused without any effect, ends take effect in memory,
// and reading continues.
func TestJournalHasFailed(t *testing.T) {
	journalled(t, func(t *testing.T, j *slowJournal, table *Table) {
		now := time.Now()
		id, other := numbered(1), numbered(2)
		table.Restore(id, &driver.Record{Idle: time.Hour, Created: now, Seen: now, Deadline: now.Add(time.Hour), Revision: 7})
		j.failed = errors.New("no space left on device")
		_, create := table.Create(t.Context(), other,
			&driver.RecordSpec{Idle: time.Hour, Lifetime: time.Hour}, &driver.Change{})
		_, apply := table.Apply(t.Context(), id, &driver.Change{})
		touch := table.Touch(t.Context(), id, driver.Hash{})
		if create != j.failed || apply != j.failed || touch != j.failed {
			t.Errorf("Create: %v, Apply: %v, Touch: %v, want the journal's error", create, apply, touch)
		}
		if n := table.Len(); n != 1 || len(j.appended) != 0 {
			t.Errorf("refused changes left %d sessions and %d appends, want 1 and 0", n, len(j.appended))
		}
		if got := revision(t, table, id); got != 7 {
			t.Errorf("revision %d is read, want 7", got)
		}
		begin(func() error { return table.End(t.Context(), id) })
		if got := revision(t, table, id); got != 0 {
			t.Errorf("ended: revision %d is read", got)
		}
	})
}

// A touch is visible at once, unless its version has a change that is not durable yet.
func TestTouchIsPublished(t *testing.T) {
	journalled(t, func(t *testing.T, j *slowJournal, table *Table) {
		now := time.Now()
		id := numbered(1)
		table.Restore(id, &driver.Record{Idle: time.Hour, Created: now, Seen: now, Deadline: now.Add(24 * time.Hour), Revision: 7})
		touch := func(want uint64) {
			t.Helper()
			time.Sleep(10 * time.Minute)
			if err := table.Touch(t.Context(), id, driver.Hash{}); err != nil {
				t.Fatal(err)
			}
			if got := revision(t, table, id); got != want {
				t.Errorf("revision %d is read, want %d", got, want)
			}
		}
		touch(8)
		begin(func() error { _, err := table.Apply(t.Context(), id, &driver.Change{}); return err })
		touch(8)
		if j.noted != 2 {
			t.Errorf("the journal got %d touches, want 2", j.noted)
		}
	})
}

// The journal gets the removal of expired sessions, so that the next process does not have them.
func TestExpiredLeaveTheJournal(t *testing.T) {
	journalled(t, func(t *testing.T, j *slowJournal, table *Table) {
		id := numbered(1)
		now := time.Now()
		table.Restore(id, &driver.Record{Idle: time.Hour, Created: now, Seen: now, Deadline: now.Add(time.Hour), Revision: 7})
		if got := revision(t, table, id); got != 7 {
			t.Errorf("revision %d is read, want the restored one", got)
		}
		time.Sleep(time.Hour + 2*time.Minute)
		j.mu.Lock()
		defer j.mu.Unlock()
		if len(j.appended) != 1 || j.appended[0].id != id || j.appended[0].record != nil {
			t.Errorf("the journal got %v, want the end of the session", j.appended)
		}
	})
}
