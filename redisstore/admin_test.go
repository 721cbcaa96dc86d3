package redisstore_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestCopiesEndWhenAnOperatorRemovesData removes a session by hand, in each way that
// docs/operations.md names. A node that has a copy stops serving it. Redis does not report SWAPDB,
// so there the operator closes the connections, too.
func TestCopiesEndWhenAnOperatorRemovesData(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), calm)
	for _, commands := range [][][]string{
		{{"DEL", ""}},
		{{"UNLINK", ""}},
		{{"RENAME", "", "elsewhere"}},
		{{"MOVE", "", "1"}},
		{{"FLUSHDB"}},
		{{"FLUSHDB", "ASYNC"}},
		{{"FLUSHALL"}},
		{{"SWAPDB", "0", "1"}, {"CLIENT", "KILL", "TYPE", "normal"}},
	} {
		id, o := newSession()
		eventually(t, time.Second, func() error {
			_, err := s.Create(t.Context(), id, o, &driver.Change{Verifier: o.Verifier})
			return err
		})
		mustWarm(t, s, id)
		for _, command := range commands {
			if len(command) > 1 && command[1] == "" {
				command[1] = sessionKey(id)
			}
			_, err := node.Do(command...)
			must(t, err)
		}
		eventually(t, 200*time.Millisecond, func() error {
			if _, _, err := s.Load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
				return fmt.Errorf("Load after %q: %v, want ErrNotFound", commands, err)
			}
			return nil
		})
	}
}
