package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// outage makes operations fail at once while the servers are known to be down. A failed operation
// or health check starts a watcher for the primary concerned. The watcher probes the primary until
// a probe succeeds, one probe at a time. If the probes have failed for downAfter, the primary is
// down: operations on its keys fail at once, and nothing is sent.
//
// Reads and writes count apart: a server can refuse writes alone. Each primary of a Cluster counts
// by itself. A probe takes the way that operations take, through both clients.
type outage struct {
	down       atomic.Pointer[downPlaces] // nil: nothing is known to be down
	suspicions chan suspicion

	mu      sync.Mutex
	watched map[string]*watched // by the primary's address, "" unless on a Cluster

	slots  sync.Once // fills slotOf
	slotOf [places]uint16
}

const (
	downAfter  = time.Second            // an outage that is shorter than this fails no operation
	probeEvery = 100 * time.Millisecond // while probes fail
)

// downPlaces are the places where operations fail at once.
type downPlaces struct {
	reads, writes       placeSet
	allReads, allWrites bool
	err                 error
}

// suspicion says that a primary may be down.
type suspicion struct {
	at    place
	owner string    // of a Cluster, if a health check failed; then at is not used
	since time.Time // the health check that failed was sent then; zero if an operation failed
}

// watched is a primary that may be down.
type watched struct {
	owner         string
	places        *placeSet
	reads, writes failing
	down          bool // reads or writes are known to be down
	redialed      bool // the store has closed connections to a replica
}

// failing says since when probes fail. It is zero if the last one succeeded.
type failing struct {
	since time.Time
	err   error
}

// note notes the result of a probe that was sent at a time.
func (f *failing) note(asked time.Time, err error) {
	switch {
	case err == nil:
		*f = failing{}
	case f.since.IsZero():
		*f = failing{asked, err}
	default:
		f.err = err
	}
}

func (f *failing) down(now time.Time) bool { return !f.since.IsZero() && now.Sub(f.since) >= downAfter }

// check returns an error if operations at a place fail at once.
func (o *outage) check(at place, e effect) error {
	d := o.down.Load()
	switch {
	case d == nil:
		return nil
	case at == anywhere && (d.allReads || d.allWrites && e != readOnly):
		return d.err
	case at != anywhere && (d.reads.has(at) || e != readOnly && d.writes.has(at)):
		return d.err
	}
	return nil
}

// suspect starts a watcher, unless there is one. It does not block.
func (o *outage) suspect(which suspicion) {
	select {
	case o.suspicions <- which:
	default: // the next failure reports it
	}
}

// publish updates what check sees. The caller holds o.mu.
func (o *outage) publish(now time.Time) {
	var d *downPlaces
	for _, w := range o.watched {
		reads, writes := w.reads.down(now), w.writes.down(now)
		w.down = w.down || reads || writes
		if !reads && !writes {
			continue
		}
		if d == nil {
			err := cmp.Or(w.reads.err, w.writes.err)
			d = &downPlaces{err: fmt.Errorf("redisstore: nothing was sent, because the server is down: %v", withAdvice(err))}
		}
		if reads {
			d.reads.addAll(w.places)
			d.allReads = d.allReads || w.owner == ""
		}
		d.writes.addAll(w.places) // a server that answers no read takes no write
		d.allWrites = d.allWrites || w.owner == ""
	}
	o.down.Store(d)
}

// runOutages starts watchers until ctx is done.
func (s *Store) runOutages(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case which := <-s.outage.suspicions:
			if w := s.startWatching(ctx, which); w != nil {
				s.work.Go(func() { s.watch(ctx, w) })
			}
		}
	}
}

// startWatching returns what a new watcher watches, or nil if there is a watcher.
func (s *Store) startWatching(ctx context.Context, which suspicion) *watched {
	if s.isWatched(which) {
		return nil
	}
	w := &watched{owner: which.owner, places: everyPlace()}
	if s.topology == cluster {
		// If no node answers, the whole Cluster is watched as one server.
		if ranges := s.slotOwners(ctx); len(ranges) > 0 {
			if w.owner == "" && which.at != anywhere {
				w.owner = s.ownerOfPlace(ranges, which.at)
			}
			if w.places = s.placesOf(ranges, w.owner); w.places == nil {
				return nil // not a primary, or a slot that nobody owns
			}
		} else {
			w.owner = ""
		}
	}
	s.outage.mu.Lock()
	defer s.outage.mu.Unlock()
	if s.outage.watched[w.owner] != nil || ctx.Err() != nil {
		return nil
	}
	s.outage.watched[w.owner] = w
	if since := which.since; !since.IsZero() {
		w.reads.note(since, errNoReply)
		w.writes.note(since, errNoReply)
		s.outage.publish(time.Now())
	}
	return w
}

// isWatched reports whether a watcher covers a suspicion.
func (s *Store) isWatched(which suspicion) bool {
	s.outage.mu.Lock()
	defer s.outage.mu.Unlock()
	for _, w := range s.outage.watched {
		if w.owner == "" || which.owner == w.owner || which.owner == "" && which.at != anywhere && w.places.has(which.at) {
			return true
		}
	}
	return false
}

// watch probes a primary until a probe succeeds.
func (s *Store) watch(ctx context.Context, w *watched) {
	defer s.stopWatching(w)
	reported := false
	for ctx.Err() == nil {
		if s.topology == cluster && !s.updatePlaces(ctx, w) {
			return
		}
		asked := time.Now()
		replica, reads, writes := s.probe(ctx, w.places)
		if ctx.Err() != nil {
			return
		}
		if replica && s.ownsClients && s.topology == standalone {
			s.connections.closeOlder(asked)
			w.redialed = true
		}
		s.outage.mu.Lock()
		w.reads.note(asked, reads)
		w.writes.note(asked, writes)
		s.outage.publish(time.Now())
		down := w.down
		s.outage.mu.Unlock()
		if down && !reported {
			reported = true
			s.opt.Logger.Warn("redisstore: the server is down, so operations fail at once until it is back",
				"server", w.name(), "error", cmp.Or(reads, writes))
		}
		if reads == nil && writes == nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(probeEvery):
		}
	}
}

// name is the primary's address, or "all" unless on a Cluster.
func (w *watched) name() string { return cmp.Or(w.owner, "all") }

// stopWatching forgets a primary, and repeats the ends if it was away.
func (s *Store) stopWatching(w *watched) {
	s.outage.mu.Lock()
	delete(s.outage.watched, w.owner)
	s.outage.publish(time.Now())
	s.outage.mu.Unlock()
	if w.down {
		s.opt.Logger.Info("redisstore: the server is back", "server", w.name())
	}
	if w.down || w.redialed {
		s.ends.reassertAll()
		s.checkHealthNow()
	}
}

// updatePlaces follows the slots of a Cluster. It reports whether the primary still owns any.
func (s *Store) updatePlaces(ctx context.Context, w *watched) bool {
	ranges := s.slotOwners(ctx)
	if len(ranges) == 0 {
		return true
	}
	var owned *placeSet
	if w.owner != "" {
		owned = s.placesOf(ranges, w.owner)
	}
	if owned == nil {
		return false
	}
	s.outage.mu.Lock()
	defer s.outage.mu.Unlock()
	w.places = owned
	return true
}

// probe sends a read and a write through both clients. The write deletes a key that does not
// exist. An error that an operation would get at once is no outage. replica says that a server
// refused the write because it is a replica.
func (s *Store) probe(ctx context.Context, at *placeSet) (replica bool, reads, writes error) {
	ctx, cancel := context.WithTimeout(ctx, min(s.opt.Timeout, s.opt.Lease))
	defer cancel()
	clients := []rueidis.Client{s.tracked}
	if s.plain != s.tracked {
		clients = append(clients, s.plain)
	}
	type result struct{ reads, writes error }
	results := make(chan result, len(clients))
	for _, client := range clients {
		go func() {
			r, w := s.probeClient(ctx, client, at)
			results <- result{r, w}
		}()
	}
	for range clients {
		select {
		case r := <-results:
			reads, writes = cmp.Or(reads, outageError(r.reads)), cmp.Or(writes, outageError(r.writes))
			replica = replica || isReadOnly(r.writes)
		case <-ctx.Done(): // the client may block: see inFlight
			reads, writes = cmp.Or(reads, errNoReply), cmp.Or(writes, errNoReply)
		}
	}
	return replica, reads, writes
}

func (s *Store) probeClient(ctx context.Context, c rueidis.Client, at *placeSet) (reads, writes error) {
	for bucket := range 1 << 16 {
		if !at.has(place(bucket)) {
			continue
		}
		key := s.keys.replicaMarker(uint16(bucket))
		replies := c.DoMulti(ctx, c.B().Get().Key(key).Build(), c.B().Del().Key(key).Build())
		if reads = replies[0].Error(); rueidis.IsRedisNil(reads) {
			reads = nil
		}
		return reads, replies[1].Error()
	}
	key := s.keys.globalRevocation()
	if reads = c.Do(ctx, c.B().Get().Key(key).Build()).Error(); rueidis.IsRedisNil(reads) {
		reads = nil
	}
	return reads, reads
}

// outageError returns nil for an error that operations get at once.
func outageError(err error) error {
	if err == nil || classify(err) == rejected {
		return nil
	}
	return err
}
