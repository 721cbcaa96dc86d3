package redisstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// mustFailForCertain checks that a change failed with this text, and that the error rules out that
// the change was applied.
func mustFailForCertain(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || errors.Is(err, driver.ErrUnknown) || !strings.Contains(err.Error(), text) {
		t.Errorf("%v, want an error that contains %q and is not ErrUnknown", err, text)
	}
}

// TestFullServerStillReadsAndEnds fills a server that evicts nothing. Sessions can still be read
// and ended, also by a store that is opened then.
func TestFullServerStillReadsAndEnds(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{Config: []string{"maxmemory-policy noeviction"}})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, o := newSession()
	mustCreate(t, s, id, o)
	_, err := node.Do("CONFIG", "SET", "maxmemory", "1mb") // less than an empty server needs
	must(t, err)
	const fix = "raise maxmemory"
	_, err = s.Apply(t.Context(), id, increment(o))
	mustFailForCertain(t, err, fix)
	other, p := newSession()
	_, err = s.Create(t.Context(), other, p, &driver.Change{Verifier: p.Verifier})
	mustFailForCertain(t, err, fix)
	late := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	for _, s := range []*redisstore.Store{s, late} {
		r, _, err := s.LoadFresh(t.Context(), id)
		must(t, err)
		if n := counterOf(t, r); n != 0 {
			t.Errorf("the counter is %d after a refused change, want 0", n)
		}
	}
	must(t, late.End(t.Context(), id))
	if _, _, err := s.LoadFresh(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("LoadFresh after End: %v, want ErrNotFound", err)
	}
	_, err = node.Do("CONFIG", "SET", "maxmemory", "0")
	must(t, err)
	mustCreate(t, s, other, p)
}

// TestFullServerStillRevokes fills a server and ends sessions in every way, without replicas and
// waiting for one.
func TestFullServerStillRevokes(t *testing.T) {
	limitParallel(t)
	servers := redistest.StartSentinel(t, redistest.Options{
		Config: []string{"maxmemory-policy noeviction"}, DownAfter: never,
	})
	must(t, servers.Settle())
	url := sentinelURL(servers)
	node, err := servers.Primary()
	must(t, err)
	for _, replicas := range []int{0, 1} {
		t.Run(fmt.Sprint(replicas, " replicas"), func(t *testing.T) {
			o := withReplicas(replicas)
			o.Namespace = fmt.Sprint("ns", replicas)
			s := mustOpen(t, url, o)
			var ids []driver.ID
			var owners []driver.Hash
			for _, user := range []string{"ada", "bob", "eve", "ida"} {
				id, in := newSignIn(user, 0)
				_, err := s.SignIn(t.Context(), id, in)
				must(t, err)
				ids, owners = append(ids, id), append(owners, in.Spec.Principal.Owner)
			}
			time.Sleep(2 * time.Millisecond)
			// Less than an empty server needs.
			_, err := node.Do("CONFIG", "SET", "maxmemory", "1mb")
			must(t, err)
			defer func() {
				_, err := node.Do("CONFIG", "SET", "maxmemory", "0")
				must(t, err)
			}()
			for i, end := range []func() error{
				func() error { _, err := s.EndUser(t.Context(), owners[0], driver.Selection{}); return err },
				func() error {
					_, err := s.EndUser(t.Context(), owners[1], driver.Selection{Only: ids[1:2]})
					return err
				},
				func() error { _, err := s.EndAndReport(t.Context(), ids[2], owners[2], driver.Attempt{1}); return err },
				func() error { return s.EndAll(t.Context()) },
			} {
				if err := end(); err != nil {
					t.Errorf("end %d fails: %v", i, err)
				}
				if _, _, err := s.LoadFresh(t.Context(), ids[i]); !errors.Is(err, driver.ErrNotFound) {
					t.Errorf("LoadFresh after end %d: %v, want ErrNotFound", i, err)
				}
			}
		})
	}
}

// TestReadOnlyServerRefusesForCertain makes a primary a replica and back, as an operator or a
// failover does. A change fails for certain, or succeeds once when the server is a primary again.
// The client is the application's own: the store closes its own clients' connections to a replica,
// and what was under way on them has an unknown outcome.
func TestReadOnlyServerRefusesForCertain(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{node.Addr()}, ForceSingleClient: true, DisableCache: true, DisableRetry: true,
	})
	must(t, err)
	t.Cleanup(client.Close)
	s, err := redisstore.New(t.Context(), client, redisstore.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	id, o := newSession()
	mustCreate(t, s, id, o)
	_, err = node.Do("REPLICAOF", "127.0.0.1", "1") // no server listens there, so the data stays
	must(t, err)
	err = within(t, time.Second, func() error { _, err := s.Apply(t.Context(), id, increment(o)); return err })
	mustFailForCertain(t, err, "READONLY")
	_, _, err = s.Load(t.Context(), id)
	must(t, err)
	applied := make(chan error)
	go func() { _, err := s.Apply(t.Context(), id, increment(o)); applied <- err }()
	time.Sleep(300 * time.Millisecond) // the store repeats the change until the server accepts it
	_, err = node.Do("REPLICAOF", "NO", "ONE")
	must(t, err)
	if err := <-applied; err != nil { // the server was known to take no writes
		mustFailForCertain(t, err, "READONLY")
		eventually(t, 3*time.Second, func() error { _, err := s.Apply(t.Context(), id, increment(o)); return err })
	}
	r, _, err := s.LoadFresh(t.Context(), id)
	must(t, err)
	if n := counterOf(t, r); n != 1 {
		t.Errorf("the counter is %d, want 1", n)
	}
}

// TestScriptFlushFailsNoChange empties the server's script cache again and again under load. No
// change fails.
func TestScriptFlushFailsNoChange(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	l := startLoad(t, mustOpen(t, "redis://"+node.Addr(), calm), 8)
	for range 100 {
		_, err := node.Do("SCRIPT", "FLUSH")
		must(t, err)
		time.Sleep(3 * time.Millisecond)
	}
	l.mustCountExactly(false)
	for _, c := range l.visitors {
		if c.unknown.Load() > 0 || l.refused.Load() > 0 {
			t.Fatalf("a change failed: %v", l.lastError.Load())
		}
	}
}

// TestFlushAllDropsCopies deletes all sessions on the server. The store's copies go at once.
func TestFlushAllDropsCopies(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{})
	id, o := newSession()
	mustCreate(t, s, id, o)
	_, _, err := s.Load(t.Context(), id)
	must(t, err)
	_, err = node.Do("FLUSHALL")
	must(t, err)
	eventually(t, 100*time.Millisecond, func() error {
		if _, _, err := s.Load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			return fmt.Errorf("Load: %v, want ErrNotFound", err)
		}
		return nil
	})
}

// TestKilledConnectionsLoseNoWrite closes the store's connections again and again under load.
func TestKilledConnectionsLoseNoWrite(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	l := startLoad(t, mustOpen(t, "redis://"+node.Addr(), redisstore.Options{}), 16)
	for range 100 {
		_, err := node.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		must(t, err)
		time.Sleep(10 * time.Millisecond)
	}
	l.mustRecover()
	l.mustCountExactly(false)
}
