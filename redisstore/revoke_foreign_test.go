package redisstore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestRevokeOfAnothersWithoutAnAnswer: a user names another one's session, of the same bucket, and the server does not answer. The session goes
// on, at this process, too: nothing is repeated whose right nobody has checked.
func TestRevokeOfAnothersWithoutAnAnswer(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s := open(t, "redis://"+node.Addr(), redisstore.Options{})
	id, verifier := signedIn(t, s, "ada")
	neighbour := ownerOf("ada")
	neighbour[15]++
	ok(t, node.Pause())
	if _, err := s.EndUser(t.Context(), neighbour, driver.Selection{Only: []driver.ID{id}}); !errors.Is(err, driver.ErrUnknown) {
		t.Errorf("EndUser: %v, want ErrUnknown", err)
	}
	ok(t, node.Resume())
	eventually(t, recovery, func() error { return s.Touch(t.Context(), id, verifier) })
	time.Sleep(2 * time.Second) // an end is repeated after one
	ok(t, s.Touch(t.Context(), id, verifier))
}
