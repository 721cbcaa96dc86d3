package table

import (
	"sync"

	"github.com/coatcheck-go/session/driver"
)

// owners is the index of sessions by owner.
type owners struct {
	mu  sync.Mutex
	ids map[driver.Hash]map[driver.ID]struct{}
}

func (o *owners) add(owner driver.Hash, id driver.ID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ids == nil {
		o.ids = map[driver.Hash]map[driver.ID]struct{}{}
	}
	ids := o.ids[owner]
	if ids == nil {
		ids = map[driver.ID]struct{}{}
		o.ids[owner] = ids
	}
	ids[id] = struct{}{}
}

func (o *owners) remove(owner driver.Hash, id driver.ID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	ids := o.ids[owner]
	if delete(ids, id); len(ids) == 0 {
		delete(o.ids, owner)
	}
}

// sessions returns the ids of the owner's sessions, in no order.
func (o *owners) sessions(owner driver.Hash) []driver.ID {
	o.mu.Lock()
	defer o.mu.Unlock()
	ids := make([]driver.ID, 0, len(o.ids[owner]))
	for id := range o.ids[owner] {
		ids = append(ids, id)
	}
	return ids
}
