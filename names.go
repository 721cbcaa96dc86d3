package session

import (
	"sync"

	"github.com/coatcheck-go/session/driver"
)

// names remembers users by what stores know them by: a store that tells of a session has its record no longer.
type names struct {
	mu    sync.RWMutex
	known map[driver.Hash]string
}

// maxNames is how many users a Manager remembers, some 100 bytes each.
const maxNames = 100_000

// note remembers a user. A nil n does nothing.
func (n *names) note(owner driver.Hash, user string) {
	if n == nil || len(user) > driver.MaxUser || n.of(owner) == user {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil {
		n.known = map[driver.Hash]string{}
	}
	if len(n.known) >= maxNames {
		for old := range n.known { // any: who comes again is remembered again
			delete(n.known, old)
			break
		}
	}
	n.known[owner] = user
}

func (n *names) of(owner driver.Hash) string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.known[owner]
}
