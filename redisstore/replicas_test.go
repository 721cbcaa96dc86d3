package redisstore_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// mustFindServersByWAITAOF returns the servers of this machine with and without the command
// WAITAOF.
func mustFindServersByWAITAOF(t *testing.T) (with, without []redistest.Server) {
	t.Helper()
	for _, s := range redistest.Servers() {
		if s.Name == "redis-7.0" {
			without = append(without, s)
		} else {
			with = append(with, s)
		}
	}
	if len(with) == 0 || len(without) == 0 {
		t.Fatalf("found only the servers %v: run redisstore/redistest/servers/install.sh to install others",
			redistest.Servers())
	}
	return with, without
}

// replicaTimeout is how long the tests wait for replicas. It is twice what the slowest healthy disk
// takes, because the machine may be busy.
const replicaTimeout = 5 * time.Second

// withReplicas returns the options of a store that waits for the given number of replicas.
func withReplicas(replicas int) redisstore.Options {
	return redisstore.Options{Replicas: replicas, Timeout: calm.Timeout, ReplicaTimeout: replicaTimeout}
}

// mustEndOnReplicas ends a new session and checks the error. A nil want is success. In each case
// the session has ended.
func mustEndOnReplicas(t *testing.T, s *redisstore.Store, want *redisstore.ReplicaError) (id driver.ID) {
	t.Helper()
	id, o := newSession()
	mustCreate(t, s, id, o)
	err := within(t, replicaTimeout, func() error { return s.End(t.Context(), id) })
	if want == nil {
		must(t, err)
	} else {
		var is *redisstore.ReplicaError
		if !errors.As(err, &is) || is.Want != want.Want || is.Got != want.Got || is.Unsaved != want.Unsaved ||
			!errors.Is(err, driver.ErrUnknown) {
			t.Errorf("End: %v, want %v", err, want)
		}
	}
	if _, _, err := s.LoadFresh(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("LoadFresh after End: %v, want ErrNotFound", err)
	}
	return id
}

// TestEndWaitsForReplicas ends sessions with Options.Replicas and pauses a replica. End then
// returns a ReplicaError, for every node.
func TestEndWaitsForReplicas(t *testing.T) {
	with, _ := mustFindServersByWAITAOF(t)
	for _, fsync := range []bool{false, true} {
		name := "WAIT"
		if fsync {
			name = "WAITAOF"
		}
		o := redistest.Options{Server: with[0], Config: []string{"appendonly yes"}, DownAfter: never}
		t.Run(name+", Sentinel", func(t *testing.T) {
			limitParallel(t)
			servers := redistest.StartSentinel(t, o)
			url := sentinelURL(servers)
			options := withReplicas(2)
			options.Fsync = fsync
			s, other := mustOpen(t, url, options), mustOpen(t, url, options)
			// A replica needs some time after its synchronization until its data is on a disk.
			eventually(t, anytime, func() error { id, _ := newSession(); return s.End(t.Context(), id) })
			mustEndOnReplicas(t, s, nil)
			must(t, servers.Nodes[1].Pause())
			id := mustEndOnReplicas(t, s, &redisstore.ReplicaError{Want: 2, Got: 1})
			if err := other.End(t.Context(), id); !errors.Is(err, driver.ErrUnknown) {
				t.Errorf("End on another node while a replica hangs: %v, want ErrUnknown", err)
			}
			must(t, servers.Nodes[1].Resume())
			eventually(t, recovery, func() error { id, _ := newSession(); return s.End(t.Context(), id) })
		})
		t.Run(name+", Cluster", func(t *testing.T) {
			limitParallel(t)
			nodes := redistest.StartCluster(t, o)
			options := withReplicas(1)
			options.Fsync = fsync
			s := mustOpen(t, "redis+cluster://"+nodes.Addrs()[0], options)
			mustEndOnAllPrimaries := func() {
				for third := range 3 { // a new replica needs some time until its data is on a disk
					eventually(t, anytime, func() error { return s.End(t.Context(), newIDInThird(third)) })
				}
			}
			mustEndOnAllPrimaries()
			_, err := nodes.Failover(nodes.Nodes[0])
			must(t, err)
			mustEndOnAllPrimaries()
			options.Replicas = 2
			s = mustOpen(t, "redis+cluster://"+nodes.Addrs()[0], options)
			mustEndOnReplicas(t, s, &redisstore.ReplicaError{Want: 2, Got: 1})
		})
	}
}

// TestSignInDoesNotWaitForReplicas signs in while a replica is missing. Otherwise nobody could sign
// in then. EndUser and EndAndReport end the session and return a ReplicaError.
func TestSignInDoesNotWaitForReplicas(t *testing.T) {
	url := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	s := mustOpen(t, url, redisstore.Options{Replicas: 1, ReplicaTimeout: 50 * time.Millisecond})
	id, in := newSignIn("ada", 1)
	in.From = mustCreateAnonymous(t, s, 3)
	_, err := s.SignIn(t.Context(), id, in)
	must(t, err)
	ended, err := s.EndUser(t.Context(), in.Spec.Principal.Owner, driver.Selection{})
	if !errors.As(err, new(*redisstore.ReplicaError)) || len(ended) != 1 {
		t.Errorf("EndUser: %v, %v; want the one session and a ReplicaError", ended, err)
	}
	id, in = newSignIn("ada", 1)
	_, err = s.SignIn(t.Context(), id, in)
	must(t, err)
	found, err := s.EndAndReport(t.Context(), id, in.Spec.Principal.Owner, driver.Attempt{1})
	if !errors.As(err, new(*redisstore.ReplicaError)) || !found {
		t.Errorf("EndAndReport: %v, %v; want true and a ReplicaError", found, err)
	}
}

// TestDefaultTimeoutsSufficeForFsync ends sessions with Options.Fsync and the default timeouts. A
// replica reports once a second what is on its disk.
func TestDefaultTimeoutsSufficeForFsync(t *testing.T) {
	limitParallel(t)
	with, _ := mustFindServersByWAITAOF(t)
	servers := redistest.StartSentinel(t, redistest.Options{
		Server: with[0], Config: []string{"appendonly yes", "appendfsync always"}, DownAfter: never,
	})
	s := mustOpen(t, sentinelURL(servers), redisstore.Options{Replicas: 2, Fsync: true})
	end := func() error { id, _ := newSession(); return s.End(t.Context(), id) }
	eventually(t, anytime, end)
	for ends := 0; ends < 5; { // each end takes until the next report
		watch := startStopwatch()
		err := end()
		if watch.stalls() > 500*time.Millisecond {
			continue // the machine took the time, so the end shows nothing
		}
		must(t, err)
		ends++
	}
}

// newIDInThird returns an id whose key is in one third of the slots, 0 to 2. In a new Cluster each
// third belongs to one primary.
func newIDInThird(third int) driver.ID {
	for {
		if id, _ := newSession(); redistest.Slot(sessionKey(id))/5461 == third {
			return id
		}
	}
}

// TestOpenRefusesImpossibleReplicaOptions opens stores with options that cannot work. Open fails,
// not the first end.
func TestOpenRefusesImpossibleReplicaOptions(t *testing.T) {
	with, without := mustFindServersByWAITAOF(t)
	aof, synced := []string{"appendonly yes"}, redisstore.Options{Replicas: 1, Fsync: true}
	for _, c := range []struct {
		name    string
		server  redistest.Options
		options redisstore.Options
		want    string
	}{
		{"no WAITAOF", redistest.Options{Server: without[0], Config: aof}, synced, "needs WAITAOF"},
		{"no file", redistest.Options{Server: with[0]}, synced, "set appendonly yes"},
		{"renamed", redistest.Options{Config: []string{`rename-command WAIT ""`}},
			redisstore.Options{Replicas: 1}, "renamed away"},
		{"no replicas to sync", redistest.Options{}, redisstore.Options{Fsync: true}, "needs Options.Replicas"},
		{"too long", redistest.Options{},
			redisstore.Options{Replicas: 1, ReplicaTimeout: 2 * time.Second}, "less than Options.Timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := redisstore.Open(t.Context(), "redis://"+redistest.Start(t, c.server).Addr(), c.options)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open: %v, want an error with %q", err, c.want)
			}
		})
	}
	// Missing replicas may come back. The store opens, and its ends fail until then.
	url := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	s := mustOpen(t, url, redisstore.Options{Replicas: 1, ReplicaTimeout: 50 * time.Millisecond})
	mustEndOnReplicas(t, s, &redisstore.ReplicaError{Want: 1, Got: 0})
}
