package table

import (
	"time"

	"github.com/coatcheck-go/session/driver"
)

// moved holds the markers of sessions that a sign-in replaced.
type moved struct {
	until map[driver.ID]time.Time // driver.SignInPlan.MovedUntil
	order []driver.ID             // oldest first
}

func (m *moved) add(id driver.ID, until, now time.Time) {
	m.expire(now)
	if m.until == nil {
		m.until = map[driver.ID]time.Time{}
	}
	m.until[id] = until
	m.order = append(m.order, id)
}

// expire removes markers that are no longer needed.
func (m *moved) expire(now time.Time) {
	for len(m.order) > 0 {
		until, ok := m.until[m.order[0]]
		if ok && now.Before(until) {
			return
		}
		delete(m.until, m.order[0])
		m.order = m.order[1:]
	}
}
