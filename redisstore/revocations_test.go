package redisstore

import (
	"strconv"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// TestSignInAfterOwnRevocation: the servers' time, as this process knows it, is that of a server that is behind. A sign-in that began here after the
// answer to a revocation is later than it all the same; one that began before is not.
func TestSignInAfterOwnRevocation(t *testing.T) {
	s := newStore(Options{}, standalone)
	owner := driver.HashOf([]byte("ada"))
	asked := time.Now()
	s.clock.set(asked.Add(-3*time.Second), asked, asked)
	since := time.Now().UnixMilli()
	s.made.add(owner, strconv.FormatInt(since, 10)+".1")
	time.Sleep(time.Millisecond)
	if began := s.after(owner, 0); began <= since {
		t.Errorf("a sign-in after it began %d ms before it", since-began)
	}
	if began := s.after(owner, time.Second); began > since {
		t.Errorf("a sign-in before it began %d ms after it", began-since)
	}
}
