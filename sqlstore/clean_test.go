package sqlstore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// TestEndedSessionStaysEndedAfterEndAll: EndAll makes the store clean at once. It leaves the marker
// of a session that ended a moment before, so that a late Create does not bring the session back.
func TestEndedSessionStaysEndedAfterEndAll(t *testing.T) {
	for _, d := range databases[:2] {
		t.Run(d.name, func(t *testing.T) {
			p := d.new(t)
			s := p.open(t)
			id := mustCreate(t, s)
			must(t, s.End(t.Context(), id))
			mustCreate(t, s)
			must(t, s.EndAll(t.Context()))
			db, left := p.db(t), 1
			for begun := time.Now(); left > 0; time.Sleep(time.Millisecond) {
				must(t, db.QueryRow("SELECT count(*) FROM "+p.table("sessions")+" WHERE metadata IS NOT NULL").Scan(&left))
				if time.Since(begun) > 30*time.Second {
					t.Fatal("EndAll's sessions were not removed")
				}
			}
			late := spec(id)
			late.Secret = driver.Secret(newHash())
			if _, err := s.Create(t.Context(), id, late, increment()); !errors.Is(err, driver.ErrExists) {
				t.Errorf("a late Create: %v, want ErrExists", err)
			}
		})
	}
}
