package redisstore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// sessionKey is the key of a session, as the format has it.
func sessionKey(id driver.ID) string {
	bucket, selector, _ := strings.Cut(id.String(), "-")
	return "coatcheck:{" + bucket + "}:s:" + selector
}

func mustOpen(t testing.TB, url string, o redisstore.Options) *redisstore.Store {
	t.Helper()
	s, err := redisstore.Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// fresh returns the id and the origin of a new session.
func newSession() (driver.ID, *driver.Origin) {
	var b [34]byte
	rand.Read(b[:])
	return driver.ID{Bucket: uint16(b[32])<<8 | uint16(b[33]), Selector: driver.Hash(b[16:32])},
		&driver.Origin{Secret: driver.Secret(b[:16]), Verifier: driver.HashOf(b[:8]), Idle: time.Hour, Lifetime: 2 * time.Hour}
}

func indexKey(owner driver.Hash) string {
	return fmt.Sprintf("coatcheck:{%02x%02x}:u:%s", owner[0], owner[1], owner)
}

// Bounds that the product promises, and what a loaded machine may add.
const (
	recovery = 5 * time.Second
	slack    = 2 * time.Second
)

// few runs a test at the same time as others, but not many: each has servers of its own. A test that has subtests which run at the same time
// must leave it to them: it would hold its place, and they wait for one.
func limitParallel(t *testing.T) {
	t.Helper()
	t.Parallel()
	slots <- struct{}{}
	t.Cleanup(func() { <-slots })
}

var slots = make(chan struct{}, 3)

func increment(o *driver.Origin) *driver.Change {
	return &driver.Change{Verifier: o.Verifier, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}
}

func mustCreate(t testing.TB, s driver.Store, id driver.ID, o *driver.Origin) {
	t.Helper()
	if _, err := s.Create(t.Context(), id, o, &driver.Change{Verifier: o.Verifier}); err != nil {
		t.Fatal(err)
	}
}

func counterOf(t testing.TB, r *driver.Record) int64 {
	t.Helper()
	for _, f := range r.Fields {
		if f.Key == "n" {
			n, err := strconv.ParseInt(string(f.Value), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// eventually calls check until it returns nil.
func eventually(t testing.TB, limit time.Duration, check func() error) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Since(begin) > limit+slack {
			t.Fatalf("after %v: %v", limit, err)
		}
	}
}

// within checks that an operation ends in time.
func within(t testing.TB, limit time.Duration, do func() error) error {
	t.Helper()
	begin := time.Now()
	err := do()
	if took := time.Since(begin); took > limit+slack {
		t.Errorf("it took %v, the limit is %v (%v)", took, limit, err)
	}
	return err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const lease = 2 * time.Second // the default of Options.Lease

// warm loads a session until it is served from the copy.
func mustWarm(t *testing.T, s *redisstore.Store, id driver.ID) {
	t.Helper()
	before, _ := s.Near()
	eventually(t, time.Second, func() error {
		_, _, err := s.Load(t.Context(), id)
		if now, _ := s.Near(); err == nil && now.Hits == before.Hits {
			err = errors.New("the near cache does not serve the session")
		}
		return err
	})
}

// commandCalls is how often a server has run a command.
func commandCalls(t *testing.T, node *redistest.Node, command string) (calls int) {
	t.Helper()
	stats, err := node.Do("INFO", "commandstats")
	must(t, err)
	if _, rest, found := strings.Cut(stats.(string), "cmdstat_"+command+":calls="); found {
		_, err = fmt.Sscanf(rest, "%d", &calls)
		must(t, err)
	}
	return calls
}

func infoNumber(t *testing.T, node *redistest.Node, section, pattern string) int {
	t.Helper()
	text, err := node.Do("INFO", section)
	must(t, err)
	m := regexp.MustCompile(pattern).FindStringSubmatch(text.(string))
	if m == nil {
		t.Fatalf("INFO %s has no %s", section, pattern)
	}
	n, err := strconv.Atoi(m[1])
	must(t, err)
	return n
}

// TestMain lets more tests run at the same time than there are processors: most of them wait for a server's clock.
func TestMain(m *testing.M) {
	flag.Parse()
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "test.parallel" })
	if !set {
		if err := flag.Set("test.parallel", "16"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// mustSignIn signs somebody in, and has used the session once.
func mustSignIn(t testing.TB, s *redisstore.Store, user string) (driver.ID, driver.Hash) {
	t.Helper()
	id, in := newSignIn(user, 0)
	if _, err := s.SignIn(t.Context(), id, in); err != nil {
		t.Fatal(err)
	}
	if err := s.Touch(t.Context(), id, in.Origin.Verifier); err != nil {
		t.Fatal(err)
	}
	return id, in.Origin.Verifier
}

func ownerOf(user string) driver.Hash { return driver.HashOf([]byte(user)) }

// bucketKey is a key of a user's bucket: "u" and the user's hash, or "n".
func bucketKey(user, rest string) string {
	owner := ownerOf(user)
	return fmt.Sprintf("coatcheck:{%04x}:%s", driver.BucketOf(owner), rest)
}

// eachTopology runs a test on each; do sends a command to the node that has a key.
func eachTopology(t *testing.T, run func(t *testing.T, url string, do func(key string, args ...string) any)) {
	command := func(t *testing.T, node func(key string) (*redistest.Node, error)) func(string, ...string) any {
		return func(key string, args ...string) any {
			t.Helper()
			n, err := node(key)
			must(t, err)
			v, err := n.Do(args...)
			must(t, err)
			return v
		}
	}
	t.Run("standalone", func(t *testing.T) {
		n := redistest.Start(t, redistest.Options{})
		run(t, "redis://"+n.Addr(), command(t, func(string) (*redistest.Node, error) { return n, nil }))
	})
	t.Run("sentinel", func(t *testing.T) {
		s := redistest.StartSentinel(t, redistest.Options{})
		run(t, sentinelURL(s), command(t, func(string) (*redistest.Node, error) { return s.Primary() }))
	})
	t.Run("cluster", func(t *testing.T) {
		c := redistest.StartCluster(t, redistest.Options{})
		run(t, "redis+cluster://"+strings.Join(c.Addrs(), ","), command(t, func(key string) (*redistest.Node, error) { return c.NodeOfSlot(redistest.Slot(key)) }))
	})
}

// mustBeRevoked checks that a session is none for a store: not to readers, within the bound for copies, and not to writers, at once.
func mustBeRevoked(t testing.TB, s *redisstore.Store, id driver.ID, verifier driver.Hash) {
	t.Helper()
	change := &driver.Change{Verifier: verifier, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}
	if _, err := s.Apply(t.Context(), id, change); !errors.Is(err, driver.ErrNotFound) { // which drops a copy: see mustStopServing
		t.Errorf("Apply to a revoked session: %v, want ErrNotFound", err)
	}
	if err := s.Touch(t.Context(), id, verifier); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("Touch of a revoked session: %v, want ErrNotFound", err)
	}
	eventually(t, 200*time.Millisecond, func() error {
		for _, load := range []func(context.Context, driver.ID) (*driver.Record, time.Time, error){s.Load, s.LoadFresh} {
			if _, _, err := load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
				return fmt.Errorf("Load of a revoked session: %v, want ErrNotFound", err)
			}
		}
		return nil
	})
	if _, _, found := s.LoadStale(id); found {
		t.Error("a revoked session has a stale copy")
	}
}

// mustStopServing checks that a revoked session of which a store has a copy is not found any more, though nothing but the revocation is told.
func mustStopServing(t testing.TB, s *redisstore.Store, id driver.ID) {
	t.Helper()
	eventually(t, 200*time.Millisecond, func() error {
		if _, _, err := s.Load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			return fmt.Errorf("Load of a revoked session: %v, want ErrNotFound", err)
		}
		return nil
	})
}

// lives checks that a session is there, and takes a change.
func mustBeAlive(t testing.TB, s *redisstore.Store, id driver.ID, verifier driver.Hash) {
	t.Helper()
	if _, _, err := s.Load(t.Context(), id); err != nil {
		t.Errorf("Load: %v", err)
	}
	change := &driver.Change{Verifier: verifier, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}
	if _, err := s.Apply(t.Context(), id, change); err != nil {
		t.Errorf("Apply: %v", err)
	}
}

// sentinelURL is the address of a store on these servers.
func sentinelURL(s *redistest.Sentinel) string {
	return "redis+sentinel://" + strings.Join(s.Addrs(), ",") + "/" + s.Name
}

// newSignIn is what a user's sign-in asks of the store.
func newSignIn(user string, limit int) (driver.ID, *driver.SignIn) {
	id, o := newSession()
	owner := driver.HashOf([]byte(user))
	id.Bucket = uint16(owner[0])<<8 | uint16(owner[1])
	o.Principal = &driver.Principal{User: user, Owner: owner}
	return id, &driver.SignIn{Origin: *o, Change: driver.Change{Verifier: o.Verifier}, Max: limit, Carry: carryAll}
}

func carryAll(r *driver.Record) (driver.Fields, error) { return r.Fields, nil }

// anonymous stores an anonymous session with a counter at n.
func mustCreateAnonymous(t *testing.T, s *redisstore.Store, n int64) *driver.Credential {
	t.Helper()
	id, o := newSession()
	add := []driver.Op{{Kind: driver.Add, Key: "n", Delta: n}}
	if _, err := s.Create(t.Context(), id, o, &driver.Change{Verifier: o.Verifier, Ops: add}); err != nil {
		t.Fatal(err)
	}
	return &driver.Credential{ID: id, Verifier: o.Verifier}
}
