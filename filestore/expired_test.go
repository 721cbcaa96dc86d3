package filestore_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/filestore"
)

// Sessions of users that expired while the store was closed are reported once after it is opened.
// They are neither listed nor found.
func TestExpiredWhileClosed(t *testing.T) {
	for _, o := range durabilities {
		t.Run(o.Durability.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				s := open(t, dir, o)
				owner := driver.HashOf([]byte("ada"))
				id := driver.ID{Bucket: uint16(owner[0])<<8 | uint16(owner[1]), Selector: driver.HashOf([]byte("1"))}
				in := &driver.SignIn{Spec: driver.RecordSpec{Idle: time.Hour, Lifetime: time.Hour,
					Principal: &driver.Principal{User: "ada", Owner: owner}}}
				if _, err := s.SignIn(t.Context(), id, in); err != nil {
					t.Fatal(err)
				}
				anonymous := &driver.RecordSpec{Idle: time.Hour, Lifetime: time.Hour}
				if _, err := s.Create(t.Context(), driver.ID{Selector: driver.HashOf([]byte("2"))}, anonymous,
					&driver.Change{}); err != nil {
					t.Fatal(err)
				}
				closeStore(t, s)
				time.Sleep(2 * time.Hour)
				for i := range 2 {
					var reports []driver.ExpiredSession
					s := open(t, dir, o)
					s.OnExpiry(func(x driver.ExpiredSession) { reports = append(reports, x) })
					if list, err := s.Sessions(t.Context(), owner, driver.SessionCursor{}, 100); len(list) > 0 || err != nil {
						t.Errorf("the user has %d sessions, %v", len(list), err)
					}
					time.Sleep(2 * time.Minute)
					synctest.Wait()
					wrong := func(e driver.ExpiredSession) bool {
						return e.ID != id || e.Record.Principal.User != "ada" || time.Since(e.At) < time.Hour
					}
					if len(reports) != 1-i || i == 0 && wrong(reports[0]) {
						t.Errorf("opening %d: the reports are %+v", i+1, reports)
					}
					if n := s.Len(); n != 0 {
						t.Errorf("%d sessions are left", n)
					}
					closeStore(t, s)
				}
			})
		})
	}
}

var _ driver.ExpiryReporter = (*filestore.Store)(nil)
