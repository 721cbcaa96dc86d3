package redisstore

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// watch asks each node for a sign of life, its role and its time, until ctx is done.
func (s *Store) watch(ctx context.Context) {
	tick := time.NewTicker(min(s.opt.Lease/4, 500*time.Millisecond))
	defer tick.Stop()
	var wake chan struct{}
	if s.near != nil {
		wake = s.near.lease.wake
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-wake:
		}
		s.checkup(ctx)
		s.putBack(ctx)
	}
}

// vitals are what a node answered.
type vitals struct {
	addr            string
	asked, answered time.Time
	primary         bool
	serving         bool // a Cluster's node: the cluster is well as far as it knows
	replicationID   string
	time            time.Time
	err             error
}

// checkup renews the lease if every primary is alive and still the primary, and the time is known at which everybody was revoked; it sets
// the clock, and repeats the ends where a primary is new.
func (s *Store) checkup(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, min(s.opt.Timeout, s.opt.Lease))
	defer cancel()
	nodes := s.tracked.Nodes()
	answers := make([]vitals, 0, len(nodes))
	var mu sync.Mutex
	var all sync.WaitGroup
	for addr, client := range nodes {
		all.Go(func() {
			v := s.examine(ctx, addr, client)
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, v)
		})
	}
	known := false
	all.Go(func() { known = s.readEverybody(ctx) == nil })
	all.Wait()
	healthy, changed := s.ends.observe(answers)
	if changed {
		if s.near != nil {
			s.near.distrust() // the connection to a deposed primary may live on for seconds, and tell nothing
		}
		s.ends.reassert()
	}
	healthy = healthy && known
	since := time.Now()
	for i := range answers {
		v := &answers[i]
		if v.err != nil || !v.primary {
			continue
		}
		s.clock.set(v.time, v.asked, v.answered)
		if v.asked.Before(since) {
			since = v.asked
		}
		healthy = healthy && v.serving
		if s.peers != nil {
			confirmed, ok := s.peers.confirm(v.addr)
			healthy = healthy && ok
			if confirmed.Before(since) {
				since = confirmed
			}
		}
	}
	if healthy && s.near != nil {
		s.near.lease.renew(since)
	}
}

func (s *Store) examine(ctx context.Context, addr string, c rueidis.Client) vitals {
	v := vitals{addr: addr, asked: time.Now(), serving: true}
	questions := []rueidis.Completed{c.B().Info().Section("replication").Build(), c.B().Time().Build()}
	if s.topology == cluster {
		questions = append(questions, c.B().ClusterInfo().Build())
	}
	res := c.DoMulti(ctx, questions...)
	v.answered = time.Now()
	info, err := res[0].ToString()
	if err != nil {
		v.err = err
		return v
	}
	v.primary = infoValue(info, "role") == "master"
	v.replicationID = infoValue(info, "master_replid")
	if t, err := res[1].AsIntSlice(); err == nil && len(t) == 2 {
		v.time = time.Unix(t[0], t[1]*1000)
	} else {
		v.err = err
	}
	if len(res) > 2 {
		state, err := res[2].ToString()
		v.serving = err == nil && infoValue(state, "cluster_state") == "ok"
	}
	return v
}

// infoValue returns one value of the text of INFO or CLUSTER INFO.
func infoValue(info, name string) string {
	info = strings.TrimPrefix(info, "txt:") // the client leaves RESP3's mark of a verbatim string
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
