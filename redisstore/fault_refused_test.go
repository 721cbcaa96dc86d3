package redisstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// certain checks that a change failed, that it was certainly not done, and that the error says this.
func certain(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || errors.Is(err, driver.ErrUnknown) || !strings.Contains(err.Error(), text) {
		t.Errorf("%v, want an error with %q that is not ErrUnknown", err, text)
	}
}

// TestOutOfMemory fills a server that evicts nothing: what is there can be read and ended, by a store that is opened meanwhile too.
func TestOutOfMemory(t *testing.T) {
	few(t)
	node := redistest.Start(t, redistest.Options{Config: []string{"maxmemory-policy noeviction"}})
	s := open(t, "redis://"+node.Addr(), redisstore.Options{})
	id, o := fresh()
	create(t, s, id, o)
	_, err := node.Do("CONFIG", "SET", "maxmemory", "1mb") // less than it takes by itself
	ok(t, err)
	mend := "raise maxmemory"
	_, err = s.Apply(t.Context(), id, add1(o))
	certain(t, err, mend)
	other, p := fresh()
	_, err = s.Create(t.Context(), other, p, &driver.Change{Verifier: p.Verifier})
	certain(t, err, mend)
	late := open(t, "redis://"+node.Addr(), redisstore.Options{})
	for _, s := range []*redisstore.Store{s, late} {
		r, _, err := s.LoadFresh(t.Context(), id)
		ok(t, err)
		if n := count(t, r); n != 0 {
			t.Errorf("a refused change left a trace: the counter is %d", n)
		}
	}
	ok(t, late.End(t.Context(), id))
	if _, _, err := s.LoadFresh(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("after the end: %v, want ErrNotFound", err)
	}
	_, err = node.Do("CONFIG", "SET", "maxmemory", "0")
	ok(t, err)
	create(t, s, other, p)
}

// TestRevokedOutOfMemory fills a server, and ends sessions in all ways that there are, with replicas that must have heard of it, too.
func TestRevokedOutOfMemory(t *testing.T) {
	few(t)
	servers := redistest.StartSentinel(t, redistest.Options{Config: []string{"maxmemory-policy noeviction"}})
	ok(t, servers.Settle())
	url := sentinelURL(servers)
	node, err := servers.Primary()
	ok(t, err)
	for _, replicas := range []int{0, 1} {
		t.Run(fmt.Sprint(replicas, " replicas"), func(t *testing.T) {
			o := waitingFor(replicas)
			o.Namespace = fmt.Sprint("ns", replicas)
			s := open(t, url, o)
			var ids []driver.ID
			var owners []driver.Hash
			for _, user := range []string{"ada", "bob", "eve", "ida"} {
				id, in := signInOf(user, 0)
				_, err := s.SignIn(t.Context(), id, in)
				ok(t, err)
				ids, owners = append(ids, id), append(owners, in.Spec.Principal.Owner)
			}
			time.Sleep(2 * time.Millisecond)
			_, err := node.Do("CONFIG", "SET", "maxmemory", "1mb") // less than it takes by itself
			ok(t, err)
			defer func() {
				_, err := node.Do("CONFIG", "SET", "maxmemory", "0")
				ok(t, err)
			}()
			for i, end := range []func() error{
				func() error { _, err := s.EndUser(t.Context(), owners[0], driver.Selection{}); return err },
				func() error {
					_, err := s.EndUser(t.Context(), owners[1], driver.Selection{Only: ids[1:2]})
					return err
				},
				func() error { _, err := s.EndAndReport(t.Context(), ids[2], owners[2]); return err },
				func() error { return s.EndAll(t.Context()) },
			} {
				if err := end(); err != nil {
					t.Errorf("end %d: %v", i, err)
				}
				if _, _, err := s.LoadFresh(t.Context(), ids[i]); !errors.Is(err, driver.ErrNotFound) {
					t.Errorf("end %d: %v, want ErrNotFound", i, err)
				}
			}
		})
	}
}

// TestReadOnly makes a primary a replica, and back, as an operator or a failover does.
func TestReadOnly(t *testing.T) {
	few(t)
	node := redistest.Start(t, redistest.Options{})
	s := open(t, "redis://"+node.Addr(), redisstore.Options{})
	id, o := fresh()
	create(t, s, id, o)
	_, err := node.Do("REPLICAOF", "127.0.0.1", "1") // nobody there: it keeps what it has
	ok(t, err)
	err = within(t, time.Second, func() error { _, err := s.Apply(t.Context(), id, add1(o)); return err })
	certain(t, err, "READONLY")
	_, _, err = s.Load(t.Context(), id)
	ok(t, err)
	l := make(chan error)
	go func() { _, err := s.Apply(t.Context(), id, add1(o)); l <- err }()
	time.Sleep(300 * time.Millisecond) // the change is under way: it is repeated until the server takes it
	_, err = node.Do("REPLICAOF", "NO", "ONE")
	ok(t, err)
	ok(t, <-l)
	r, _, err := s.LoadFresh(t.Context(), id)
	ok(t, err)
	if n := count(t, r); n != 1 {
		t.Errorf("the counter is %d, want 1", n)
	}
}

// TestScriptFlush empties the script cache again and again under load: nothing is seen of it.
func TestScriptFlush(t *testing.T) {
	few(t)
	node := redistest.Start(t, redistest.Options{})
	l := startLoad(t, open(t, "redis://"+node.Addr(), redisstore.Options{}), 8)
	for range 100 {
		_, err := node.Do("SCRIPT", "FLUSH")
		ok(t, err)
		time.Sleep(3 * time.Millisecond)
	}
	l.exact(false)
	for _, c := range l.visitors {
		if c.unknown.Load() > 0 || l.refused.Load() > 0 {
			t.Fatalf("a change failed: %v", l.example.Load())
		}
	}
}

// TestFlushAll removes all sessions behind the store's back: its copies go at once.
func TestFlushAll(t *testing.T) {
	few(t)
	node := redistest.Start(t, redistest.Options{})
	s := open(t, "redis://"+node.Addr(), redisstore.Options{})
	id, o := fresh()
	create(t, s, id, o)
	_, _, err := s.Load(t.Context(), id)
	ok(t, err)
	_, err = node.Do("FLUSHALL")
	ok(t, err)
	eventually(t, 100*time.Millisecond, func() error {
		if _, _, err := s.Load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			return fmt.Errorf("Load: %v, want ErrNotFound", err)
		}
		return nil
	})
}

// TestConnectionsKilled closes the store's connections at random under load.
func TestConnectionsKilled(t *testing.T) {
	few(t)
	node := redistest.Start(t, redistest.Options{})
	l := startLoad(t, open(t, "redis://"+node.Addr(), redisstore.Options{}), 16)
	for range 100 {
		_, err := node.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		ok(t, err)
		time.Sleep(10 * time.Millisecond)
	}
	l.recovers(time.Now())
	l.exact(false)
}
