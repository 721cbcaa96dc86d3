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
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.wake:
		}
		s.checkHealth(ctx)
	}
}

// checkHealthNow asks for a health check at once. It does not block.
func (s *Store) checkHealthNow() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// checkHealth asks all nodes, sets the clock, and reads the global revocation. It renews the lease
// if every primary answered and is confirmed. After a failover it distrusts the near cache and
// re-asserts all ends. It suspects nodes that do not answer, or that take no writes, to be down.
func (s *Store) checkHealth(ctx context.Context) {
	asked := time.Now()
	limited, cancel := context.WithTimeout(ctx, min(s.opt.Timeout, s.opt.Lease))
	defer cancel()
	answers, globalRead := s.askAll(limited)
	if s.topology == standalone && s.ownsClients && ctx.Err() == nil {
		answers = s.followAddress(answers, asked)
	}
	healthy, changed := s.nodes.update(answers)
	if changed {
		if s.near != nil { // the connection to a deposed primary may live on, without invalidations
			s.near.distrust()
		}
		s.ends.reassertAll()
	}
	healthy = healthy && globalRead
	if ctx.Err() == nil {
		s.suspectNodes(answers, healthy, globalRead)
	}
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
	if s.near == nil {
		return
	}
	if healthy {
		s.near.lease.renew(since)
	}
	if valid := s.near.lease.valid(time.Now()); valid != s.near.lease.wasValid {
		s.near.lease.wasValid = valid
		s.near.watchers.WakeAll() // changes may have gone unnoticed
	}
}

// suspectNodes has those nodes probed that did not pass a health check. On a standalone server and
// with Sentinel, the way that operations take is probed.
func (s *Store) suspectNodes(answers []nodeStatus, healthy, globalRead bool) {
	silentSince := time.Time{}
	for i := range answers {
		n := &answers[i]
		since := time.Time{}
		if n.err != nil && n.answered.Sub(n.asked) >= downAfter { // it has had its time
			since, silentSince = n.asked, n.asked
		}
		failed := n.err != nil && !s.nodes.wasReplica(n.addr) || n.err == nil && n.primary && !n.serving
		if s.topology == cluster && failed {
			s.outage.suspect(suspicion{anywhere, n.addr, since})
		}
	}
	if s.topology != cluster && !healthy {
		if globalRead {
			silentSince = time.Time{} // the primary answers
		}
		s.outage.suspect(suspicion{anywhere, "", silentSince})
	}
}

// followAddress closes the connections of a standalone server that lead to a replica, or to two
// different servers: then the address leads elsewhere now. It returns the answers without that on
// the plain client's connection.
func (s *Store) followAddress(answers []nodeStatus, asked time.Time) []nodeStatus {
	moved := false
	for i := range answers {
		n, first := &answers[i], &answers[0]
		if n.err == nil && first.err == nil {
			moved = moved || !n.primary || n.replicationID != first.replicationID
		}
	}
	if moved {
		s.connections.closeOlder(asked)
		s.outage.suspect(suspicion{at: anywhere})
	}
	return answers[:min(1, len(answers))]
}

// askAll asks all nodes at the same time, and reads the global revocation meanwhile. It asks a
// standalone server on the connections of both clients, which may lead to two servers.
func (s *Store) askAll(ctx context.Context) (answers []nodeStatus, globalRead bool) {
	nodes := s.tracked.Nodes()
	answers = make([]nodeStatus, 0, len(nodes)+1)
	var plain []nodeStatus // of a standalone server, on the plain client's connection
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
	if s.topology == standalone && s.plain != s.tracked {
		for addr, client := range s.plain.Nodes() {
			all.Go(func() { plain = append(plain, s.askNode(ctx, addr, client)) })
		}
	}
	all.Go(func() { globalRead = s.readGlobalRevocation(ctx) == nil })
	all.Wait()
	return append(answers, plain...), globalRead
}
