package redisstore

import (
	"slices"
	"sync"

	"github.com/coatcheck-go/session/driver"
)

// rosters remember which sessions some users had when this process last looked, so that to end them takes one round trip: what the index
// has more, a second one ends. A wrong guess does no harm, as the script asks the index. The zero rosters are ready.
type rosters struct {
	mu sync.Mutex
	of map[driver.Hash][]driver.ID
}

const (
	rostersKept = 4096
	rosterMost  = 100 // sessions of one user
	rosterAdded = 20  // of them if none was looked up since: of the older ones most may be gone
)

func (r *rosters) set(owner driver.Hash, ids []driver.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(owner, ids)
}

// add notes one more session of a user, the newest.
func (r *rosters) add(owner driver.Hash, id driver.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.of[owner]
	r.put(owner, append([]driver.ID{id}, known[:min(len(known), rosterAdded-1)]...))
}

func (r *rosters) put(owner driver.Hash, ids []driver.ID) {
	if r.of == nil {
		r.of = map[driver.Hash][]driver.ID{}
	}
	if _, again := r.of[owner]; !again && len(r.of) >= rostersKept {
		for other := range r.of {
			delete(r.of, other)
			break
		}
	}
	r.of[owner] = ids[:min(len(ids), rosterMost)]
}

// take returns a user's sessions as far as they are known, and forgets them.
func (r *rosters) take(owner driver.Hash, except []driver.ID) []driver.ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := slices.DeleteFunc(r.of[owner], func(id driver.ID) bool { return slices.Contains(except, id) })
	delete(r.of, owner)
	return ids
}
