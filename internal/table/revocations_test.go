package table

import (
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// TestRevocationsKept: the table keeps one revocation per owner, however often the owner revokes,
// and forgets it after MaxSignInTime.
func TestRevocationsKept(t *testing.T) {
	var r revocations
	ada, bob, now := driver.HashOf([]byte("ada")), driver.HashOf([]byte("bob")), time.Now()
	mustKeep := func(what string, want int) {
		t.Helper()
		if len(r.order) != want || len(r.byOwner) != want {
			t.Errorf("%s: %d in order, %d by owner, want %d", what, len(r.order), len(r.byOwner), want)
		}
	}
	r.add(ada, now)
	for range 1000 {
		now = now.Add(time.Minute)
		r.add(ada, now)
	}
	mustKeep("one owner", 1)
	r.add(bob, now.Add(driver.MaxSignInTime))
	mustKeep("the last revocation still applies", 2)
	if got := r.last(ada); !got.Equal(now) {
		t.Errorf("the last revocation was at %v, want %v", got, now)
	}
	r.add(bob, now.Add(driver.MaxSignInTime+time.Second))
	mustKeep("the last revocation no longer applies", 1)
	if got := r.last(ada); !got.IsZero() {
		t.Errorf("a forgotten revocation was at %v, want none", got)
	}
}

// TestGlobalRevocation: the last revocation of an owner is the owner's own or the one of all
// owners.
func TestGlobalRevocation(t *testing.T) {
	var r revocations
	ada, bob, now := driver.HashOf([]byte("ada")), driver.HashOf([]byte("bob")), time.Now()
	r.add(ada, now)
	r.addGlobal(now.Add(time.Second))
	r.add(bob, now.Add(time.Minute))
	if got := r.last(ada); !got.Equal(now.Add(time.Second)) {
		t.Errorf("Ada's last revocation was at %v, want that of all at %v", got, now.Add(time.Second))
	}
	if got := r.last(bob); !got.Equal(now.Add(time.Minute)) {
		t.Errorf("Bob's last revocation was at %v, want his own at %v", got, now.Add(time.Minute))
	}
}
