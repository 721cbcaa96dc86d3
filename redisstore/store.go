package redisstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// Store is a driver.Store on Redis or Valkey. It is safe for concurrent use. Close it after the last request.
type Store struct {
	opt      Options
	topology topology
	keys     keyspace
	plain    rueidis.Client
	tracked  rueidis.Client // the same as plain where there is no near cache
	own      bool           // the clients are ours to close
	near     *near          // nil: none
	ends     *ends
	made     repetitions
	rosters  rosters
	all      everybody
	expiry   *expiry
	outbox   *outbox // nil: nothing is published
	clock    serverClock
	patience patience
	peers    *sentinels // nil unless Sentinel watches the primary

	closed atomic.Bool
	stop   context.CancelFunc
	work   sync.WaitGroup
}

var _ driver.Store = (*Store)(nil)

// Open connects to the servers that the URL names, and checks that they answer, are new enough, and may do what the store needs. The
// URL is one of
//
//	redis://[user:password@]host[:6379][/db]                             rediss:// with TLS
//	redis+unix://[user:password@]/path/to/socket[?db=0]
//	redis+sentinel://[user:password@]host[:26379],host…/name[?db=0]      rediss+sentinel://
//	redis+cluster://[user:password@]host[:6379],host…                    rediss+cluster://
//
// The error says what is wrong and how to mend it.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	o, err := o.checked()
	if err != nil {
		return nil, err
	}
	opt, kind, err := parseURL(url, &o)
	if err != nil {
		return nil, err
	}
	s := newStore(o, kind)
	s.own = true
	if o.NearCache > 0 {
		s.near = newNear(&o)
	}
	if err := s.dialUntil(ctx, opt); err != nil {
		return nil, connecting(err)
	}
	if kind == sentinel {
		s.peers = newSentinels(opt)
	}
	return s.start(ctx)
}

// New is Open with a client of the application's own, which Close leaves open. The store cannot know how that client tracks, so it has
// no near cache.
func New(ctx context.Context, client rueidis.Client, o Options) (*Store, error) {
	o, err := o.checked()
	if err != nil {
		return nil, err
	}
	s := newStore(o, standalone)
	if client.Mode() == rueidis.ClientModeCluster {
		s.topology = cluster
	}
	s.plain, s.tracked = client, client
	return s.start(ctx)
}

func newStore(o Options, kind topology) *Store {
	s := &Store{opt: o, topology: kind, keys: newKeyspace(o.Namespace)}
	s.ends, s.expiry = newEnds(), newExpiry()
	if o.Events > 0 {
		s.outbox = newOutbox()
	}
	return s
}

func (s *Store) start(ctx context.Context) (*Store, error) {
	if err := s.probe(ctx); err != nil {
		s.closeClients()
		return nil, err
	}
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.checkup(ctx)
	s.work.Go(func() { s.watch(background) })
	s.work.Go(func() { s.repeatEnds(background) })
	s.work.Go(func() { s.tellExpired(background) })
	if s.outbox != nil {
		s.work.Go(func() { s.publishAll(background) })
	}
	if s.peers != nil {
		s.peers.start(background, &s.work)
	}
	return s, nil
}

// Close stops the store's background work and closes its connections. Operations under way fail; events that wait are published, if that
// takes less than a second.
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

func (s *Store) closeClients() {
	if !s.own {
		return
	}
	s.plain.Close()
	if s.tracked != s.plain {
		s.tracked.Close()
	}
}

// Near returns the figures of the near cache; ok is false if the store has none.
func (s *Store) Near() (stats NearStats, ok bool) {
	if s.near == nil {
		return stats, false
	}
	return s.near.snapshot(), true
}

// Load implements driver.Store.
func (s *Store) Load(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	now := s.clock.now()
	if err := ctx.Err(); err != nil {
		return nil, now, err
	}
	if s.near == nil {
		return s.load(ctx, id, ticket{}, false)
	}
	if err := s.ends.refusal(id); err != nil {
		return nil, now, err
	}
	r, ticket, known := s.near.lookup(id)
	if r != nil && r.Live(now) && s.all.current() {
		if s.all.covers(r) {
			return nil, now, driver.ErrNotFound
		}
		return r, now, nil
	}
	return s.load(ctx, id, ticket, known)
}

// LoadFresh implements driver.FreshLoader: it asks the server.
func (s *Store) LoadFresh(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	if s.near == nil {
		return s.load(ctx, id, ticket{}, false)
	}
	_, ticket, known := s.near.lookup(id)
	return s.load(ctx, id, ticket, known)
}

// LoadStale implements driver.StaleLoader: it returns this process's copy, of Options.MaxAge at most, however out of date.
func (s *Store) LoadStale(id driver.ID) (*driver.Record, time.Time, bool) {
	now := s.clock.now()
	if s.near == nil || s.ends.has(id) {
		return nil, now, false
	}
	r := s.near.stale(id)
	if r == nil || !r.Live(now) || s.all.covers(r) {
		return nil, now, false
	}
	return r, now, true
}

// load asks the server. A session that this process does not know is read without tracking: tokens that somebody made up would
// otherwise fill the server's tracking table.
func (s *Store) load(ctx context.Context, id driver.ID, t ticket, known bool) (*driver.Record, time.Time, error) {
	if err := s.ends.refusal(id); err != nil {
		return nil, s.clock.now(), err
	}
	if err := s.upToDate(ctx); err != nil {
		return nil, s.clock.now(), err
	}
	client := s.plain
	if known {
		client = s.tracked
	}
	r, asked, err := s.read(ctx, client, id)
	now := s.clock.now()
	if err != nil {
		return nil, now, err
	}
	if err := s.ends.refusal(id); err != nil {
		return nil, now, err
	}
	if r.Principal != nil {
		s.expiry.watch(id, r)
	}
	switch {
	case s.near == nil:
	case known:
		s.near.fill(id, r, asked, t)
	default:
		s.near.learn(id)
	}
	return r, now, nil
}

// errRevoked is why a session that stands there is none.
var errRevoked = fmt.Errorf("%w: it was revoked", driver.ErrNotFound)

// read asks for a session and the revocations of its bucket, in this order: what is revoked by then is refused. It returns when it asked.
func (s *Store) read(ctx context.Context, client rueidis.Client, id driver.ID) (r *driver.Record, asked time.Time, err error) {
	key := s.keys.session(id)
	revocations := s.keys.revocationsOf(key)
	var values, revoked map[string]string
	var sent time.Time
	err = s.attempt(ctx, reading, func(ctx context.Context) (err error) {
		sent = time.Now()
		res := client.DoMulti(ctx, client.B().Hgetall().Key(key).Build(), client.B().Hgetall().Key(revocations).Build())
		if values, err = res[0].AsStrMap(); err == nil {
			revoked, err = res[1].AsStrMap()
		}
		return err
	})
	if err != nil {
		return nil, asked, err
	}
	asked = sent
	r, err = decodeHash(values)
	if errors.Is(err, driver.ErrNotFound) || errors.Is(err, driver.ErrMoved) {
		return nil, asked, err
	}
	if err == nil {
		var is bool
		if is, err = s.revoked(id, r, revoked); is {
			return nil, asked, errRevoked
		}
	}
	if err != nil {
		return nil, asked, fmt.Errorf("redisstore: session %s: %w", id, err)
	}
	return r, asked, nil
}

// decodeHash returns the record of a session's hash: driver.ErrNotFound if there is none, driver.ErrMoved if there is only word that it
// went elsewhere.
func decodeHash(values map[string]string) (*driver.Record, error) {
	moving := values["@moving"]
	delete(values, "@moving") // the mark of a sign-in under way, which is the scripts' own affair
	if len(values) == 0 {
		if moving != "" {
			return nil, driver.ErrMoved
		}
		return nil, driver.ErrNotFound
	}
	fields := make([]driver.Field, 0, len(values))
	for k, v := range values {
		fields = append(fields, driver.Field{Key: driver.Key(k), Value: []byte(v)})
	}
	return driver.Decode(fields)
}

// Create implements driver.Store.
func (s *Store) Create(ctx context.Context, id driver.ID, o *driver.RecordSpec, c *driver.Change) (*driver.Result, error) {
	res, err := driver.NewRecord(s.clock.now(), o, c)
	if err != nil {
		return nil, err
	}
	args := createArgs(o, res.Record)
	var generation uint64
	if s.near != nil {
		generation = s.near.generation(id)
	}
	var r reply
	err = s.attempt(ctx, repeatable, func(ctx context.Context) (err error) {
		if r, err = s.execKeys(ctx, createScript, []string{s.keys.session(id)}, args); err == nil && r.status == "ok" {
			r, err = r.withRevision()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	switch r.status {
	case "ok":
	case "again":
		return &driver.Result{Now: s.clock.now()}, nil
	case "exists":
		return nil, driver.ErrExists
	default:
		return nil, errReply
	}
	if res, err = driver.NewRecord(r.now, o, c); err != nil {
		return nil, err
	}
	if s.near != nil {
		s.near.add(id, res.Record, r.asked, generation)
	}
	return res, nil
}

// Apply implements driver.Store.
func (s *Store) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	if err := s.ends.refusal(id); err != nil {
		return nil, err
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	if err := s.upToDate(ctx); err != nil {
		return nil, err
	}
	args := applyArgs(c, s.all.argument())
	var r reply
	err := s.attempt(ctx, once, func(ctx context.Context) (err error) {
		r, err = s.exec(ctx, applyScript, id, args)
		return err
	})
	if err != nil {
		s.forget(id)
		return nil, err
	}
	switch r.status {
	case "ok":
	case "gone":
		s.forget(id)
		return nil, driver.ErrNotFound
	case "moved":
		s.forget(id)
		return nil, driver.ErrMoved
	case "refused":
		return nil, r.refused(c)
	default:
		s.forget(id)
		return nil, errReply
	}
	values, err := r.values(len(c.Ops))
	if err != nil {
		s.forget(id)
		return nil, err
	}
	return &driver.Result{Values: values, Record: s.advance(id, c, &r), Now: r.now, Renewed: c.Renew != nil && !r.kept}, nil
}

// advance brings this process's copy up to date with a change that it made itself.
func (s *Store) advance(id driver.ID, c *driver.Change, r *reply) *driver.Record {
	if s.near == nil {
		return nil
	}
	return s.near.replace(id, r.revision-1, r.asked, func(old *driver.Record) *driver.Record {
		res, err := old.Apply(r.now, c)
		if err != nil || res.Record.Revision != r.revision {
			return nil
		}
		return res.Record
	})
}

// forget drops this process's copy: what happened to the session is not known, or it is over.
func (s *Store) forget(id driver.ID) {
	if s.near != nil {
		s.near.drop(id)
	}
}

// Touch implements driver.Store.
func (s *Store) Touch(ctx context.Context, id driver.ID, verifier driver.Hash) error {
	if err := s.ends.refusal(id); err != nil {
		return err
	}
	if err := s.upToDate(ctx); err != nil {
		return err
	}
	tries := 0
	var r reply
	err := s.attempt(ctx, repeatable, func(ctx context.Context) (err error) {
		tries++
		r, err = s.exec(ctx, touchScript, id, []string{verifier.String(), s.all.argument()})
		return err
	})
	switch {
	case err != nil:
		s.forget(id)
		return err
	case r.status == "gone":
		s.forget(id)
		return driver.ErrNotFound
	case r.status == "moved":
		s.forget(id)
		return driver.ErrMoved
	case r.status != "ok":
		s.forget(id)
		return errReply
	}
	if tries > 1 { // an earlier one may have done it, at another time
		s.forget(id)
	} else if s.near != nil {
		s.near.replace(id, r.revision-1, r.asked, func(old *driver.Record) *driver.Record {
			next, err := old.Touch(r.now, verifier)
			if err != nil || next.Revision != r.revision {
				return nil
			}
			return next
		})
	}
	return nil
}

// Now implements driver.Clock: the servers' time as far as this process can tell.
func (s *Store) Now() time.Time { return s.clock.now() }
