package table

import (
	"sync"

	"github.com/coatcheck-go/session/driver"
)

// expired are the sessions of users that have expired and were removed, until those who listen have been told.
type expired struct {
	mu        sync.Mutex
	listeners []func(driver.ExpiredSession)
	queue     []driver.ExpiredSession
	telling   bool
}

// OnExpiry implements driver.ExpiryReporter.
func (t *Table) OnExpiry(f func(driver.ExpiredSession)) {
	t.expired.mu.Lock()
	defer t.expired.mu.Unlock()
	t.expired.listeners = append(t.expired.listeners, f)
}

// note has it told that an entry expired, if anybody was signed in, by a goroutine that holds no lock. The caller may hold a shard's.
func (x *expired) note(e *entry) {
	if e.latest.Principal == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.listeners) == 0 {
		return
	}
	x.queue = append(x.queue, driver.ExpiredSession{ID: e.id, Owner: e.latest.Principal.Owner, Record: e.latest, At: e.latest.Expires()})
	if !x.telling {
		x.telling = true
		go x.tell()
	}
}

func (x *expired) tell() {
	for {
		x.mu.Lock()
		batch, listeners := x.queue, x.listeners
		x.queue = nil
		x.telling = len(batch) > 0
		x.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for _, e := range batch {
			for _, f := range listeners {
				f(e)
			}
		}
	}
}
