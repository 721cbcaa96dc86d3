package table

import (
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// TestRevocationsKept: however often an owner revokes, one is kept, for as long as it counts.
func TestRevocationsKept(t *testing.T) {
	var u users
	ada, bob, now := driver.HashOf([]byte("ada")), driver.HashOf([]byte("bob")), time.Now()
	kept := func(what string, want int) {
		t.Helper()
		if len(u.order) != want || len(u.revoked) != want {
			t.Errorf("%s: %d in order, %d known, want %d", what, len(u.order), len(u.revoked), want)
		}
	}
	u.revoke(ada, now)
	for range 1000 {
		now = now.Add(time.Minute)
		u.revoke(ada, now)
	}
	kept("one owner", 1)
	u.revoke(bob, now.Add(driver.MaxSignInTime))
	kept("the last one counts still", 2)
	if !u.revokedSince(ada, now) || u.revokedSince(ada, now.Add(1)) {
		t.Error("the last one is to count, to the moment")
	}
	u.revoke(bob, now.Add(driver.MaxSignInTime+time.Second))
	kept("it counts no more", 1)
}
