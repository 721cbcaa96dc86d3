package table

import (
	"time"

	"github.com/coatcheck-go/session/driver"
)

// moved remembers, for driver.SupersededFor, the ids of sessions that went to another one at sign-in.
type moved struct {
	until map[driver.ID]time.Time
	order []driver.ID // the oldest first
}

func (m *moved) add(id driver.ID, now time.Time) {
	m.expire(now)
	if m.until == nil {
		m.until = map[driver.ID]time.Time{}
	}
	m.until[id] = now.Add(driver.SupersededFor)
	m.order = append(m.order, id)
}

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

// missing says what is known of an id that has no live record.
func (s *shard) missing(id driver.ID, now time.Time) error {
	if until, ok := s.moved.until[id]; ok && now.Before(until) {
		return driver.ErrMoved
	}
	return driver.ErrNotFound
}
