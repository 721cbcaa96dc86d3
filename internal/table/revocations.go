package table

import (
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// revocations remembers when the sessions of each owner were last revoked, for MaxSignInTime, and
// when the sessions of all were.
type revocations struct {
	mu      sync.Mutex
	byOwner map[driver.Hash]time.Time
	order   []revocation // one for each owner in byOwner, oldest first
	global  time.Time
}

type revocation struct {
	owner driver.Hash
	at    time.Time
}

// add records that an owner's sessions are revoked at now.
func (r *revocations) add(owner driver.Hash, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(now)
	if r.byOwner == nil {
		r.byOwner = map[driver.Hash]time.Time{}
	}
	if _, again := r.byOwner[owner]; !again {
		r.order = append(r.order, revocation{owner, now})
	}
	r.byOwner[owner] = now
}

// forget removes revocations that are older than MaxSignInTime. The caller holds the lock.
func (r *revocations) forget(now time.Time) {
	for len(r.order) > 0 && now.Sub(r.order[0].at) > driver.MaxSignInTime {
		oldest := r.order[0]
		r.order = r.order[1:]
		if at := r.byOwner[oldest.owner]; at.Equal(oldest.at) {
			delete(r.byOwner, oldest.owner)
		} else { // the owner has revoked again since
			r.order = append(r.order, revocation{oldest.owner, at})
		}
	}
}

// addGlobal records that the sessions of all owners are revoked at a time.
func (r *revocations) addGlobal(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.global = at
}

// last returns when the owner's sessions were last revoked, the zero time if that is not known.
func (r *revocations) last(owner driver.Hash) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at := r.byOwner[owner]; at.After(r.global) {
		return at
	}
	return r.global
}

// lastGlobal returns when the sessions of all owners were last revoked, the zero time if never.
func (r *revocations) lastGlobal() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.global
}
