package session

import (
	"strings"
	"sync"

	"github.com/coatcheck-go/session/driver"
)

// userCache remembers users by the hashes that the store knows them by. It spares a request the
// computation of a hash, and names the user in events of sessions whose record is gone.
type userCache struct {
	mu    sync.RWMutex
	limit int
	ids   map[driver.Hash]string
}

// Bounds of a userCache, in users of some 100 bytes each. Without listeners it only saves time.
const (
	cachedUsers        = 1000
	cachedUsersOfFeeds = 100_000
)

func newUserCache(limit int) *userCache {
	return &userCache{limit: limit, ids: map[driver.Hash]string{}}
}

// user returns the id of the owner's user, or "".
func (c *userCache) user(owner driver.Hash) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.ids[owner]
}

// add remembers a user. When the cache is full it forgets another one.
func (c *userCache) add(owner driver.Hash, user string) {
	if len(user) > driver.MaxUser || c.user(owner) == user {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ids) >= c.limit {
		for other := range c.ids {
			delete(c.ids, other)
			break
		}
	}
	c.ids[owner] = strings.Clone(user)
}

// owner returns the hash that the store knows a user by.
func (m *Manager) owner(user string) driver.Hash {
	owner := m.keys.Owner(user)
	m.userIDs.add(owner, user)
	return owner
}

// knowsOwner reports whether owner is this Manager's hash of the user.
func (m *Manager) knowsOwner(owner driver.Hash, user string) bool {
	return m.userIDs.user(owner) == user && user != "" || m.owner(user) == owner
}
