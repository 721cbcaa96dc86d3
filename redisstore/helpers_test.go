package redisstore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log/slog"
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

// TestMain runs more tests in parallel than there are processors. Most tests wait for a server. It
// hides what Open logs about the settings of test servers.
func TestMain(m *testing.M) {
	slog.SetLogLoggerLevel(slog.LevelWarn)
	go keepRunClock()
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

const (
	recovery = 5 * time.Second // promised time from the end of a fault to the next success
	lease    = 2 * time.Second // the default of Options.Lease
	checkup  = lease / 4       // how often a node asks the primaries for a sign of life
	slack    = 2 * time.Second // what a loaded machine may add to a bound
)

// limitParallel runs a test in parallel with at most two others, because each starts its own
// servers. A test with parallel subtests must call it in the subtests only. Otherwise the test
// would hold the slot that its subtests wait for.
func limitParallel(t *testing.T) {
	t.Helper()
	t.Parallel()
	slots <- struct{}{}
	t.Cleanup(func() { <-slots })
}

var slots = make(chan struct{}, 3)

// must fails the test if err is not nil.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually calls check until it returns nil. The test fails if a check that begins after the
// limit and the slack still fails. Stalls of the machine do not count.
func eventually(t testing.TB, limit time.Duration, check func() error) {
	t.Helper()
	for watch := startStopwatch(); ; time.Sleep(10 * time.Millisecond) {
		began := watch.elapsed()
		err := check()
		if err == nil {
			return
		}
		if began > limit+slack {
			t.Fatalf("after %v: %v", limit, err)
		}
	}
}

// within returns the error of an operation. The test fails if the operation takes longer than the
// limit and the slack. Stalls of the machine do not count.
func within(t testing.TB, limit time.Duration, do func() error) error {
	t.Helper()
	watch := startStopwatch()
	err := do()
	if took := watch.elapsed(); took > limit+slack {
		t.Errorf("the operation took %v, want at most %v (error %v)", took, limit, err)
	}
	return err
}

// mustOpen opens a store that is closed when the test ends.
func mustOpen(t testing.TB, url string, o redisstore.Options) *redisstore.Store {
	t.Helper()
	var s *redisstore.Store
	eventually(t, anytime, func() (err error) { // Open waits a second for a connection
		s, err = redisstore.Open(t.Context(), url, o)
		return err
	})
	t.Cleanup(func() { s.Close() })
	return s
}

// sentinelURL returns the URL of a store on these servers.
func sentinelURL(s *redistest.Sentinel) string {
	return "redis+sentinel://" + strings.Join(s.Addrs(), ",") + "/" + s.Name
}

// clusterURL returns the URL of a store on these servers.
func clusterURL(c *redistest.Cluster) string {
	return "redis+cluster://" + strings.Join(c.Addrs(), ",")
}

// eachTopology runs a test on one server, on Sentinel and on Cluster. The function do sends a
// command to the primary that serves a key.
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
		s := redistest.StartSentinel(t, steady)
		run(t, sentinelURL(s), command(t, func(string) (*redistest.Node, error) { return s.Primary() }))
	})
	t.Run("cluster", func(t *testing.T) {
		c := redistest.StartCluster(t, steady)
		run(t, clusterURL(c), command(t, func(key string) (*redistest.Node, error) {
			return c.NodeOfSlot(redistest.Slot(key))
		}))
	})
}

// newSession returns a new session's id and its origin.
func newSession() (driver.ID, *driver.RecordSpec) {
	var b [34]byte
	rand.Read(b[:])
	return driver.ID{Bucket: uint16(b[32])<<8 | uint16(b[33]), Selector: driver.Hash(b[16:32])},
		&driver.RecordSpec{
			Secret: driver.Secret(b[:16]), Verifier: driver.HashOf(b[:8]),
			Idle: time.Hour, Lifetime: 2 * time.Hour,
		}
}

// mustCreate stores a session without fields.
func mustCreate(t testing.TB, s driver.Store, id driver.ID, o *driver.RecordSpec) {
	t.Helper()
	_, err := s.Create(t.Context(), id, o, &driver.Change{Verifier: o.Verifier})
	must(t, err)
}

// mustCreateAnonymous stores an anonymous session whose counter is n.
func mustCreateAnonymous(t *testing.T, s *redisstore.Store, n int64) *driver.Credential {
	t.Helper()
	id, o := newSession()
	add := []driver.Op{{Kind: driver.Add, Key: "n", Delta: n}}
	_, err := s.Create(t.Context(), id, o, &driver.Change{Verifier: o.Verifier, Ops: add})
	must(t, err)
	return &driver.Credential{ID: id, Verifier: o.Verifier}
}

// newSignIn returns a new session's id and the arguments of a sign-in to it. The user may have at
// most limit sessions; 0 means no limit.
func newSignIn(user string, limit int) (driver.ID, *driver.SignIn) {
	id, o := newSession()
	owner := ownerOf(user)
	id.Bucket = driver.BucketOf(owner)
	o.Principal = &driver.Principal{User: user, Owner: owner}
	return id, &driver.SignIn{Spec: *o, Change: driver.Change{Verifier: o.Verifier}, MaxSessions: limit, Carry: carryAll}
}

// carryAll carries all fields of the old session over to the new session.
func carryAll(r *driver.Record) (driver.Fields, error) { return r.Fields, nil }

// mustSignIn signs a user in and uses the new session once.
func mustSignIn(t testing.TB, s *redisstore.Store, user string) (driver.ID, driver.Hash) {
	t.Helper()
	id, in := newSignIn(user, 0)
	_, err := s.SignIn(t.Context(), id, in)
	must(t, err)
	must(t, s.Touch(t.Context(), id, in.Spec.Verifier))
	return id, in.Spec.Verifier
}

func ownerOf(user string) driver.Hash { return driver.HashOf([]byte(user)) }

// sessionKey returns the key of a session in Redis.
func sessionKey(id driver.ID) string {
	bucket, selector, _ := strings.Cut(id.String(), "-")
	return "coatcheck:{" + bucket + "}:s:" + selector
}

// indexKey returns the key of a user's index in Redis.
func indexKey(owner driver.Hash) string {
	return fmt.Sprintf("coatcheck:{%02x%02x}:u:%s", owner[0], owner[1], owner)
}

// bucketKey returns a key of a user's bucket. The rest is "n" for the bucket's revocations.
func bucketKey(user, rest string) string {
	return fmt.Sprintf("coatcheck:{%04x}:%s", driver.BucketOf(ownerOf(user)), rest)
}

// increment returns a change that adds 1 to the counter.
func increment(o *driver.RecordSpec) *driver.Change { return incrementWith(o.Verifier) }

func incrementWith(verifier driver.Hash) *driver.Change {
	return &driver.Change{Verifier: verifier, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}
}

// counterOf returns the value of the counter in a record.
func counterOf(t testing.TB, r *driver.Record) int64 {
	t.Helper()
	for _, f := range r.Fields {
		if f.Key == "n" {
			n, err := strconv.ParseInt(string(f.Value), 10, 64)
			must(t, err)
			return n
		}
	}
	return 0
}

// mustWarm loads a session until the near cache serves it.
func mustWarm(t *testing.T, s *redisstore.Store, id driver.ID) {
	t.Helper()
	before, _ := s.Near()
	eventually(t, anytime, func() error {
		_, _, err := s.Load(t.Context(), id)
		if now, _ := s.Near(); err == nil && now.Hits == before.Hits {
			err = errors.New("the near cache does not serve the session")
		}
		return err
	})
}

// mustBeRevoked checks that a session has ended for a store. Writers are refused at once. Readers
// are refused within the bound for copies.
func mustBeRevoked(t testing.TB, s *redisstore.Store, id driver.ID, verifier driver.Hash) {
	t.Helper()
	// A refused Apply also drops the copy. Use mustStopServing first to test the copy alone.
	if _, err := s.Apply(t.Context(), id, incrementWith(verifier)); !errors.Is(err, driver.ErrNotFound) {
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
		t.Error("LoadStale returns a copy of a revoked session")
	}
}

// mustStopServing checks that a store stops serving its copy of a revoked session. The store
// learns of the revocation from the server alone.
func mustStopServing(t testing.TB, s *redisstore.Store, id driver.ID) {
	t.Helper()
	eventually(t, 200*time.Millisecond, func() error {
		if _, _, err := s.Load(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			return fmt.Errorf("Load of a revoked session: %v, want ErrNotFound", err)
		}
		return nil
	})
}

// mustBeAlive checks that a session can be read and changed.
func mustBeAlive(t testing.TB, s *redisstore.Store, id driver.ID, verifier driver.Hash) {
	t.Helper()
	if _, _, err := s.Load(t.Context(), id); err != nil {
		t.Errorf("Load: %v", err)
	}
	if _, err := s.Apply(t.Context(), id, incrementWith(verifier)); err != nil {
		t.Errorf("Apply: %v", err)
	}
}

// commandCalls returns how often a server has run a command.
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

// hexTime is a time as it is stored: milliseconds as 12 hexadecimal digits.
func hexTime(ms int64) string { return fmt.Sprintf("%012x", ms) }

// markForSignIn is a script that closes the session KEYS[1] for the sign-in ARGV[1], until the time
// ARGV[2].
const markForSignIn = `
local state = redis.call('HGET', KEYS[1], '@s')
return redis.call('HSET', KEYS[1], '@s', '12' .. string.sub(state, 3), '@moving', ARGV[1] .. ARGV[2])`

// infoNumber returns the number that the pattern's group matches in a section of INFO.
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

// serverTime returns the processor time of a server.
func serverTime(t testing.TB, node *redistest.Node) time.Duration {
	t.Helper()
	return infoSum(t, node, "cpu", `used_cpu_(?:user|sys):([0-9.]+)`, time.Second)
}

// infoSum returns the sum of the times in a section of INFO that the group in the pattern matches.
func infoSum(t testing.TB, node *redistest.Node, section, pattern string, unit time.Duration) (sum time.Duration) {
	t.Helper()
	text, err := node.Do("INFO", section)
	must(t, err)
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text.(string), -1) {
		n, err := strconv.ParseFloat(m[1], 64)
		must(t, err)
		sum += time.Duration(n * float64(unit))
	}
	return sum
}

// keysWithoutMarkers is a script that returns all keys but the markers of sessions that ended or
// were replaced.
const keysWithoutMarkers = `
local keys = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local session = string.find(key, '}:s:', 1, true)
  if not session or redis.call('HEXISTS', key, '@s') == 1 then keys[#keys + 1] = key end
end
return keys`
