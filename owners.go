package session

import (
	"errors"
	"sync/atomic"

	"github.com/coatcheck-go/session/driver"
)

// errUserKey stops a session that this Manager would not find by its user: it could neither be listed nor revoked.
var errUserKey = errors.New("session: Config.UserKey is another one than when this session's user signed in: " +
	"put that one back, or end the sessions from before with Manager.RevokeAll")

// owners are users that were seen of late, so that their names in the store are not worked out with each request.
type owners [1024]atomic.Pointer[owned]

type owned struct {
	owner driver.Hash
	user  string
}

// owns reports whether owner is what this Manager calls the user.
func (m *Manager) owns(owner driver.Hash, user string) bool {
	slot := &m.owners[driver.BucketOf(owner)%uint16(len(m.owners))]
	if o := slot.Load(); o != nil && o.owner == owner && o.user == user {
		return true
	}
	if m.owner(user) != owner {
		return false
	}
	slot.Store(&owned{owner, user})
	return true
}
