package table

import (
	"time"

	"github.com/coatcheck-go/session/driver"
)

// markers tell why sessions are no longer there, for driver.SupersededFor.
type markers struct {
	byID  map[driver.ID]marker
	order []marked // oldest first
}

// marker says that a sign-in replaced a session, or that the session ended.
type marker struct {
	movedUntil time.Time      // driver.SignInPlan.MovedUntil; zero: the session ended
	endedAt    time.Time      // zero: a sign-in replaced the session
	attempt    driver.Attempt // which call ended it
}

type marked struct {
	id    driver.ID
	until time.Time // when the marker is no longer needed
}

// add adds a marker, or replaces an older one.
func (m *markers) add(id driver.ID, mark marker, now time.Time) {
	m.expire(now)
	if m.byID == nil {
		m.byID = map[driver.ID]marker{}
	}
	m.byID[id] = mark
	m.order = append(m.order, marked{id, mark.until()})
}

// until returns when a marker is no longer needed.
func (mark *marker) until() time.Time {
	if mark.endedAt.IsZero() {
		return mark.movedUntil
	}
	return mark.endedAt.Add(driver.SupersededFor)
}

// expire removes markers that are no longer needed.
func (m *markers) expire(now time.Time) {
	for len(m.order) > 0 && !now.Before(m.order[0].until) {
		id := m.order[0].id
		m.order = m.order[1:]
		if mark, ok := m.byID[id]; ok && !now.Before(mark.until()) {
			delete(m.byID, id)
		}
	}
	if len(m.order) == 0 {
		m.byID, m.order = nil, nil // neither shrinks by itself
	}
}
