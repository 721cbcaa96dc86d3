package redisstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestMalformedSessionIsRefusedByHandle: what another program stored under a session's key is a
// clear error that names the session, and stays as it is.
func TestMalformedSessionIsRefusedByHandle(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), patient(redisstore.Options{}))
	for name, store := range map[string][]string{
		"text":            {"SET", "", "x"},
		"list":            {"LPUSH", "", "x"},
		"state":           {"HSET", "", "@s", "10AAAAAAAAAAAAAAAAAAAAAA0000000000010000000000000000000"},
		"state with sign": {"HSET", "", "@s", "10AAAAAAAAAAAAAAAAAAAAAA-00000000001000000000000000000ff"},
		"upper case":      {"HSET", "", "@s", "10AAAAAAAAAAAAAAAAAAAAAA00000000000A0000000001f000000000"},
		"another version": {"HSET", "", "@s", "20AAAAAAAAAAAAAAAAAAAAAA00000000000100000000000000000000"},
		"no life":         {"HDEL", "", "@l"},
	} {
		t.Run(name, func(t *testing.T) {
			id, o := newSession()
			first := &driver.Change{Verifier: o.Verifier}
			if _, err := s.Create(t.Context(), id, o, first); err != nil {
				t.Fatal(err)
			}
			do := func(args ...string) any {
				t.Helper()
				v, err := node.Do(args...)
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			store[1] = sessionKey(id)
			if !strings.HasPrefix(store[0], "H") {
				do("DEL", sessionKey(id))
			}
			do(store...)
			before := do("DUMP", sessionKey(id))
			change := &driver.Change{Verifier: o.Verifier, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}
			for call, run := range map[string]func(context.Context) error{
				"load":  func(ctx context.Context) error { _, _, err := s.LoadFresh(ctx, id); return err },
				"apply": func(ctx context.Context) error { _, err := s.Apply(ctx, id, change); return err },
				"touch": func(ctx context.Context) error { return s.Touch(ctx, id, o.Verifier) },
			} {
				err := run(t.Context())
				if !errors.Is(err, driver.ErrFormat) || errors.Is(err, driver.ErrUnknown) || !strings.Contains(err.Error(), id.String()) {
					t.Errorf("%s returns %v, want ErrFormat with the handle %v", call, err, id)
				}
			}
			if after := do("DUMP", sessionKey(id)); after != before {
				t.Errorf("the key was changed from %q to %q", before, after)
			}
		})
	}
}

// TestSessionPastItsLimitsIsNotFound removes the expiry of a session's key, as a restored dump may.
// The limits in the record hold nevertheless.
func TestSessionPastItsLimitsIsNotFound(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), patient(redisstore.Options{}))
	var id driver.ID
	life := 50 * time.Millisecond
	for persisted := any(nil); persisted != int64(1); life *= 2 { // in time, before it expires
		var o *driver.RecordSpec
		id, o = newSession()
		o.Idle, o.Lifetime = life, life
		_, err := s.Create(t.Context(), id, o, &driver.Change{Verifier: o.Verifier})
		must(t, err)
		persisted, err = node.Do("PERSIST", sessionKey(id))
		must(t, err)
	}
	time.Sleep(life) // the server's clock has no other form
	if r, _, err := s.LoadFresh(t.Context(), id); r != nil || !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("LoadFresh returns %+v, %v, want ErrNotFound", r, err)
	}
}
