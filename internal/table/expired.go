package table

import (
	"sync"

	"github.com/coatcheck-go/session/driver"
)

// expired holds sessions of users that have expired and were removed, until they are reported to
// the listeners.
type expired struct {
	mu        sync.Mutex
	listeners []func(driver.ExpiredSession)
	queue     []driver.ExpiredSession
	reporting bool // a goroutine runs report
}

// OnExpiry implements driver.ExpiryReporter.
func (t *Table) OnExpiry(f func(driver.ExpiredSession)) {
	t.expired.mu.Lock()
	defer t.expired.mu.Unlock()
	t.expired.listeners = append(t.expired.listeners, f)
}

// add queues the report of an expired session, if a user was signed in. Listeners are called from
// another goroutine, so the caller may hold a shard's lock.
func (x *expired) add(e *entry) {
	if e.latest.Principal == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.listeners) == 0 {
		return
	}
	x.queue = append(x.queue, driver.ExpiredSession{
		ID: e.id, Owner: e.latest.Owner(), Record: e.latest, At: e.latest.Expires(),
	})
	if !x.reporting {
		x.reporting = true
		go x.report()
	}
}

// report calls the listeners until the queue is empty.
func (x *expired) report() {
	for {
		x.mu.Lock()
		batch, listeners := x.queue, x.listeners
		x.queue = nil
		x.reporting = len(batch) > 0
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
