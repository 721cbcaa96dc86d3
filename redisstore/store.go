package redisstore

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// Store is a driver.Store on Redis or Valkey. It is safe for concurrent use. Close it after the
// last request.
type Store struct {
	opt         Options
	topology    topology
	keys        keyspace
	plain       rueidis.Client
	tracked     rueidis.Client // the same as plain if there is no near cache
	ownsClients bool           // Close closes them
	clock       serverClock
	inFlight    inFlight
	outage      outage
	connections connections   // of a standalone server, dialed by Open
	wake        chan struct{} // a health check is due now
	nodes       nodeView
	sentinels   *sentinels // nil unless Sentinel watches the primary

	near           *nearCache // nil: none
	ends           *tombstones
	ownRevocations ownRevocations
	global         globalRevocation
	expiry         *expiry
	outbox         *outbox // nil: publishes no events

	closed atomic.Bool
	stop   context.CancelFunc
	work   sync.WaitGroup
}

var _ driver.Store = (*Store)(nil)

// Open connects to the servers that the URL names. It checks that they answer, that they are new
// enough, and that they allow what the store needs. The URL is one of
//
//	redis://[user:password@]host[:6379][/db]                             rediss:// with TLS
//	redis+unix://[user:password@]/path/to/socket[?db=0]
//	redis+sentinel://[user:password@]host[:26379],host…/name[?db=0]      rediss+sentinel://
//	redis+cluster://[user:password@]host[:6379],host…                    rediss+cluster://
//
// Each new connection reads its password from a file if the URL names one, so that a password can
// change while the process runs: redis://user@host?password_file=/run/secrets/redis. The parameters
// sentinel_user, sentinel_password and sentinel_password_file are for the sentinels.
//
// The error says what is wrong and how to fix it.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	o, err := o.checked()
	if err != nil {
		return nil, err
	}
	opt, topology, err := parseURL(url, &o)
	if err != nil {
		return nil, err
	}
	s := newStore(o, topology)
	s.ownsClients = true
	if o.NearCache > 0 {
		s.near = newNearCache(&o)
		s.near.lease.wake = s.wake
		s.global.raised = s.near.watchers.WakeAll
	}
	if topology == standalone {
		s.connections.follow(&opt)
	}
	if err := s.dialUntil(ctx, opt); err != nil {
		return nil, connectionError(err)
	}
	if topology == sentinel {
		s.sentinels = newSentinels(opt)
	}
	return s.start(ctx)
}

// New is Open with a rueidis client of the application. Close leaves that client open. The store
// has no near cache, because it cannot know how the client tracks keys: Open with [Options.Client]
// keeps it. The store cannot close the client's connections either. So if the address of a single
// server leads to another primary, the application must make the client dial again.
func New(ctx context.Context, client rueidis.Client, o Options) (*Store, error) {
	o, err := o.checked()
	if err != nil {
		return nil, err
	}
	if o.Client != nil {
		return nil, errors.New("redisstore: Options.Client is for Open: New has a client")
	}
	s := newStore(o, standalone)
	if client.Mode() == rueidis.ClientModeCluster {
		s.topology = cluster
	}
	s.plain, s.tracked = client, client
	return s.start(ctx)
}

func newStore(o Options, t topology) *Store {
	s := &Store{opt: o, topology: t, keys: newKeyspace(o.Namespace)}
	s.ends, s.expiry, s.wake = newTombstones(), newExpiry(), make(chan struct{}, 1)
	s.global.turn = make(chan struct{}, 1)
	s.outage.suspicions, s.outage.watched = make(chan suspicion, 64), map[string]*watched{}
	if o.Events > 0 {
		s.outbox = newOutbox()
	}
	return s
}

// start checks the servers and starts the work in the background.
func (s *Store) start(ctx context.Context) (*Store, error) {
	if err := s.checkServers(ctx); err != nil {
		s.closeClients()
		return nil, err
	}
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.checkHealth(ctx)
	s.work.Go(func() { s.runHealthChecks(background) })
	s.work.Go(func() { s.runOutages(background) })
	s.work.Go(func() { s.runReasserting(background) })
	s.work.Go(func() { s.runExpiry(background) })
	if s.outbox != nil {
		s.work.Go(func() { s.runPublisher(background) })
	}
	if s.sentinels != nil {
		s.sentinels.start(background, &s.work)
	}
	return s, nil
}

// Close stops the work in the background and closes the connections. Operations under way fail.
// Close first publishes the events that wait, for at most a second.
func (s *Store) Close() error {
	if s.outbox != nil && !s.closed.Load() {
		s.outbox.flush(min(s.opt.Timeout, time.Second))
	}
	if s.closed.Swap(true) {
		return nil
	}
	s.stop()
	s.work.Wait()
	s.closeClients()
	return nil
}

// Near implements driver.NearReporter.
func (s *Store) Near() (stats driver.NearStats, ok bool) {
	if s.near == nil {
		return stats, false
	}
	return s.near.stats(), true
}

// Watch implements driver.Watcher. It needs the near cache, on whose connections the server reports
// changes of other processes. Without a near cache it returns nil.
func (s *Store) Watch(id driver.ID, wake func(missed bool)) (stop func()) {
	if s.near == nil {
		return nil
	}
	return s.near.watchers.Watch(id, wake)
}

// Now implements driver.Clock: it estimates the servers' time.
func (s *Store) Now() time.Time { return s.clock.now() }
