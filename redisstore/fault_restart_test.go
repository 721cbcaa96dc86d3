package redisstore_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestKilledWithAOF kills a server under load and starts it again. Under "always" every acknowledged write is on the disk. Under
// "everysec" it is in the file, though perhaps not on the disk: the death of the process loses nothing, only that of the machine does.
func TestKilledWithAOF(t *testing.T) {
	for _, fsync := range []string{"always", "everysec"} {
		t.Run(fsync, func(t *testing.T) {
			few(t)
			node := redistest.Start(t, redistest.Options{Config: []string{"appendonly yes", "appendfsync " + fsync}})
			l := startLoad(t, open(t, "redis://"+node.Addr(), redisstore.Options{}), 16)
			for range 3 {
				time.Sleep(300 * time.Millisecond)
				ok(t, node.Kill())
				ok(t, node.Restart())
				l.recovers(time.Now())
			}
			l.exact(false)
		})
	}
}

// TestRestartedEmpty restarts a server that keeps nothing: visitors are anonymous, and nothing else breaks.
func TestRestartedEmpty(t *testing.T) {
	few(t)
	node := redistest.Start(t, redistest.Options{})
	s := open(t, "redis://"+node.Addr(), redisstore.Options{})
	id, o := fresh()
	create(t, s, id, o)
	for range 2 { // the second is served from the copy
		_, _, err := s.Load(t.Context(), id)
		ok(t, err)
	}
	ok(t, node.Restart())
	eventually(t, recovery, func() error {
		if _, _, err := s.Load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			return fmt.Errorf("Load: %v, want ErrNotFound", err)
		}
		return nil
	})
	if _, err := s.Apply(t.Context(), id, add1(o)); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("Apply: %v, want ErrNotFound", err)
	}
	// The server has neither the scripts nor a tracking table any more. Both come back.
	id, o = fresh()
	create(t, s, id, o)
	_, err := s.Apply(t.Context(), id, add1(o))
	ok(t, err)
	_, _, err = s.Load(t.Context(), id)
	ok(t, err)
	other := open(t, "redis://"+node.Addr(), redisstore.Options{})
	_, err = other.Apply(t.Context(), id, add1(o))
	ok(t, err)
	eventually(t, time.Second, func() error {
		r, _, err := s.Load(t.Context(), id)
		if err == nil && count(t, r) != 2 {
			err = fmt.Errorf("the counter is %d, another store made it 2", count(t, r))
		}
		return err
	})
}
