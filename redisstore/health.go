package redisstore

import (
	"context"
	"sync"
	"time"
)

// runHealthChecks checks the nodes until ctx is done: regularly, and whenever the lease asks.
func (s *Store) runHealthChecks(ctx context.Context) {
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
		s.checkHealth(ctx)
	}
}

// checkHealth asks all nodes, sets the clock, and reads the global revocation. It renews the lease
// if every primary answered and is confirmed. After a failover it distrusts the near cache and
// re-asserts all ends.
func (s *Store) checkHealth(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, min(s.opt.Timeout, s.opt.Lease))
	defer cancel()
	answers, globalRead := s.askAll(ctx)
	healthy, changed := s.nodes.update(answers)
	if changed {
		if s.near != nil { // the connection to a deposed primary may live on, without invalidations
			s.near.distrust()
		}
		s.ends.reassertAll()
	}
	healthy = healthy && globalRead
	since := time.Now() // the oldest answer that the lease relies on
	for i := range answers {
		n := &answers[i]
		if n.err != nil || !n.primary {
			continue
		}
		s.clock.set(n.time, n.asked, n.answered)
		if n.asked.Before(since) {
			since = n.asked
		}
		healthy = healthy && n.serving
		if s.sentinels != nil {
			asked, confirmed := s.sentinels.confirm(n.addr)
			healthy = healthy && confirmed
			if asked.Before(since) {
				since = asked
			}
		}
	}
	if healthy && s.near != nil {
		s.near.lease.renew(since)
	}
}

// askAll asks all nodes at the same time, and reads the global revocation meanwhile.
func (s *Store) askAll(ctx context.Context) (answers []nodeStatus, globalRead bool) {
	nodes := s.tracked.Nodes()
	answers = make([]nodeStatus, 0, len(nodes))
	var mu sync.Mutex
	var all sync.WaitGroup
	for addr, client := range nodes {
		all.Go(func() {
			n := s.askNode(ctx, addr, client)
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, n)
		})
	}
	all.Go(func() { globalRead = s.readGlobalRevocation(ctx) == nil })
	all.Wait()
	return answers, globalRead
}
