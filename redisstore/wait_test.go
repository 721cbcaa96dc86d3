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

// waitingServers are those of the machine that have WAITAOF, and those that have not.
func waitingServers(t *testing.T) (with, without []redistest.Server) {
	t.Helper()
	for _, s := range redistest.Servers() {
		if s.Name == "redis-7.0" {
			without = append(without, s)
		} else {
			with = append(with, s)
		}
	}
	if len(with) == 0 || len(without) == 0 {
		t.Fatalf("the servers %v are not enough: redisstore/redistest/servers/install.sh installs others", redistest.Servers())
	}
	return with, without
}

// replicaTimeout is what the tests wait for replicas: twice what the slowest disk that is in order takes, since the machine is busy.
const replicaTimeout = 5 * time.Second

// waitingFor are the options of a store that waits for so many replicas.
func waitingFor(replicas int) redisstore.Options {
	return redisstore.Options{Replicas: replicas, Timeout: replicaTimeout + time.Second, ReplicaTimeout: replicaTimeout}
}

// endFails creates a session and ends it, and checks what the error says.
func endFails(t *testing.T, s *redisstore.Store, want *redisstore.ReplicaError) (id driver.ID) {
	t.Helper()
	id, o := fresh()
	create(t, s, id, o)
	err := within(t, replicaTimeout, func() error { return s.End(t.Context(), id) })
	if want == nil {
		ok(t, err)
	} else {
		var is *redisstore.ReplicaError
		if !errors.As(err, &is) || is.Want != want.Want || is.Got != want.Got || is.Unsaved != want.Unsaved || !errors.Is(err, driver.ErrUnknown) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if _, _, err := s.LoadFresh(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("after the end: %v, want ErrNotFound", err)
	}
	return id
}

// TestReplicas has ends wait for replicas, of which one after the other stops.
func TestReplicas(t *testing.T) {
	with, _ := waitingServers(t)
	for _, fsync := range []bool{false, true} {
		name := "WAIT"
		if fsync {
			name = "WAITAOF"
		}
		o := redistest.Options{Server: with[0], Config: []string{"appendonly yes"}}
		t.Run(name+", Sentinel", func(t *testing.T) {
			few(t)
			servers := redistest.StartSentinel(t, o)
			url := sentinelURL(servers)
			options := waitingFor(2)
			options.Fsync = fsync
			s, other := open(t, url, options), open(t, url, options)
			// A replica that has just synchronised takes its time until it is on a disk.
			eventually(t, 15*time.Second, func() error { id, _ := fresh(); return s.End(t.Context(), id) })
			endFails(t, s, nil)
			ok(t, servers.Nodes[1].Pause())
			id := endFails(t, s, &redisstore.ReplicaError{Want: 2, Got: 1})
			if err := other.End(t.Context(), id); !errors.Is(err, driver.ErrUnknown) {
				t.Errorf("an end that another node repeated, of which a replica has heard nothing yet: %v, want ErrUnknown", err)
			}
			ok(t, servers.Nodes[1].Resume())
			eventually(t, recovery, func() error { id, _ := fresh(); return s.End(t.Context(), id) })
		})
		t.Run(name+", Cluster", func(t *testing.T) {
			few(t)
			nodes := redistest.StartCluster(t, o)
			options := waitingFor(1)
			options.Fsync = fsync
			s := open(t, "redis+cluster://"+nodes.Addrs()[0], options)
			ends := func() {
				for third := range 3 { // a new replica takes its time until it is on a disk
					eventually(t, 15*time.Second, func() error { return s.End(t.Context(), inThird(third)) })
				}
			}
			ends()
			_, err := nodes.Failover(nodes.Nodes[0])
			ok(t, err)
			ends()
			options.Replicas = 2
			endFails(t, open(t, "redis+cluster://"+nodes.Addrs()[0], options), &redisstore.ReplicaError{Want: 2, Got: 1})
		})
	}
}

// TestReplicasWhileSlotMoves: an end that waits for replicas is done where the key is, also while its slot is on the way.
func TestReplicasWhileSlotMoves(t *testing.T) {
	few(t)
	c := redistest.StartCluster(t, redistest.Options{})
	s := open(t, "redis+cluster://"+c.Addrs()[0], waitingFor(1))
	stays, o := fresh()
	moves, p := fresh()
	moves.Bucket = stays.Bucket // which is what the slot comes from
	create(t, s, stays, o)
	create(t, s, moves, p)
	m, _ := migrate(t, c, redistest.Slot(keyOf(stays)))
	ok(t, m.Move(keyOf(moves)))
	for name, id := range map[string]driver.ID{"not moved yet": stays, "moved": moves} {
		for _, again := range []string{"", ", again"} {
			if err := s.End(t.Context(), id); err != nil {
				t.Errorf("%s%s: %v", name, again, err)
			}
		}
		if _, _, err := s.LoadFresh(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", name, err)
		}
	}
}

// TestSignInWithoutReplicas: to sign in ends nothing that waits for replicas, or nobody could sign in while one is away.
func TestSignInWithoutReplicas(t *testing.T) {
	s := open(t, "redis://"+redistest.Start(t, redistest.Options{}).Addr(), redisstore.Options{Replicas: 1, ReplicaTimeout: 50 * time.Millisecond})
	id, in := signInOf("ada", 1)
	in.From = anonymous(t, s, 3)
	_, err := s.SignIn(t.Context(), id, in)
	ok(t, err)
	ended, err := s.EndUser(t.Context(), in.Spec.Principal.Owner, driver.Selection{})
	if !errors.As(err, new(*redisstore.ReplicaError)) || len(ended) != 1 {
		t.Errorf("EndUser: %v, %v; want the one session and a ReplicaError", ended, err)
	}
	id, in = signInOf("ada", 1)
	_, err = s.SignIn(t.Context(), id, in)
	ok(t, err)
	if ended, err := s.EndAndReport(t.Context(), id, in.Spec.Principal.Owner); !errors.As(err, new(*redisstore.ReplicaError)) || !ended {
		t.Errorf("EndAndReport: %v, %v; want true and a ReplicaError", ended, err)
	}
}

// TestFsyncByDefault: the default times leave room for what a disk takes, which a replica tells once a second.
func TestFsyncByDefault(t *testing.T) {
	few(t)
	with, _ := waitingServers(t)
	servers := redistest.StartSentinel(t, redistest.Options{Server: with[0], Config: []string{"appendonly yes", "appendfsync always"}})
	s := open(t, sentinelURL(servers), redisstore.Options{Replicas: 2, Fsync: true})
	end := func() error { id, _ := fresh(); return s.End(t.Context(), id) }
	eventually(t, recovery, end)
	for range 5 { // each from one such moment to the next
		ok(t, end())
	}
}

// inThird returns an id whose key is in that third of the slots, which are one primary's each in a new Cluster.
func inThird(third int) driver.ID {
	for {
		if id, _ := fresh(); redistest.Slot(keyOf(id))/5461 == third {
			return id
		}
	}
}

// TestReplicasRefused: what cannot work is said at opening, not at the first end.
func TestReplicasRefused(t *testing.T) {
	with, without := waitingServers(t)
	aof := []string{"appendonly yes"}
	for _, c := range []struct {
		name    string
		server  redistest.Options
		options redisstore.Options
		want    string
	}{
		{"no WAITAOF", redistest.Options{Server: without[0], Config: aof}, redisstore.Options{Replicas: 1, Fsync: true}, "needs WAITAOF"},
		{"no file", redistest.Options{Server: with[0]}, redisstore.Options{Replicas: 1, Fsync: true}, "set appendonly yes"},
		{"renamed", redistest.Options{Config: []string{`rename-command WAIT ""`}}, redisstore.Options{Replicas: 1}, "renamed away"},
		{"no replicas to sync", redistest.Options{}, redisstore.Options{Fsync: true}, "needs Options.Replicas"},
		{"too long", redistest.Options{}, redisstore.Options{Replicas: 1, ReplicaTimeout: 2 * time.Second}, "less than Options.Timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := redisstore.Open(t.Context(), "redis://"+redistest.Start(t, c.server).Addr(), c.options)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	// Replicas that are away for a while are none of this: the store opens, and its ends fail until they are back.
	s := open(t, "redis://"+redistest.Start(t, redistest.Options{}).Addr(), redisstore.Options{Replicas: 1, ReplicaTimeout: 50 * time.Millisecond})
	endFails(t, s, &redisstore.ReplicaError{Want: 1, Got: 0})
}
