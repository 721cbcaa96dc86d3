package redisstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// checkServers asks every server for its version and settings, and uses a session for a trial. It
// logs what settings cost.
func (s *Store) checkServers(ctx context.Context) error {
	answered, costly := 0, costlySettings{}
	var silent error
	for addr, node := range s.plain.Nodes() {
		limit, cancel := context.WithTimeout(ctx, s.opt.Timeout)
		info, err := node.Do(limit, node.B().Info().Build()).ToString()
		var settings map[string]string
		if err == nil {
			settings = readSettings(limit, node)
		}
		cancel()
		if err != nil { // a replica of a Cluster may be away
			silent = fmt.Errorf("redisstore: %s does not answer: %w", addr, withAdvice(err))
			continue
		}
		if err := s.checkInfo(addr, info); err != nil {
			return err
		}
		costly.add(addr, info, settings)
		answered++
	}
	if answered == 0 {
		return silent
	}
	// Requests must not be served before this.
	if err := s.withRetry(ctx, globalPlace, readOnly, s.readGlobalRevocation); err != nil {
		return err
	}
	err := s.tryOut(ctx)
	if err == nil {
		costly.log(s, answered)
		return nil
	}
	if reply := new(rueidis.RedisError); errors.As(err, &reply) {
		for _, prefix := range passingRefusals {
			if strings.HasPrefix(reply.Error(), prefix) {
				s.opt.Logger.Warn("redisstore: the server takes no writes at the moment", "error", err)
				costly.log(s, answered)
				return nil
			}
		}
	}
	if gotNoReply(err) {
		return fmt.Errorf("redisstore: no reply while Open tried out the server: "+
			"the connection was lost, or the server is busy: try again (%w)", err)
	}
	return &trialError{err}
}

// trialError is why the store does not open on a server that answers.
type trialError struct{ err error }

func (e *trialError) Error() string {
	return "redisstore: the server does not do what the store needs: " + strings.TrimPrefix(e.err.Error(), "redisstore: ")
}

func (e *trialError) Unwrap() error { return e.err }

// passingRefusals begin the errors of servers that take no writes at the moment. A process that is
// started meanwhile must still serve signed-in visitors.
var passingRefusals = []string{"OOM", "MISCONF", "NOREPLICAS"}

// checkInfo refuses a server that is too old, that is a replica, that is arranged in another way
// than the URL says, or that may evict keys which must stay.
func (s *Store) checkInfo(addr, info string) error {
	product, version, least := "Redis", infoValue(info, "redis_version"), []int{7, 0}
	if v := infoValue(info, "valkey_version"); v != "" {
		product, version, least = "Valkey", v, []int{7, 2}
	}
	if older(version, least) {
		return fmt.Errorf("redisstore: %s is %s %s: the store needs Redis 7.0 or Valkey 7.2", addr, product, version)
	}
	if clustered := infoValue(info, "cluster_enabled") == "1"; clustered != (s.topology == cluster) {
		if clustered {
			return fmt.Errorf("redisstore: %s is a node of a Cluster: use redis+cluster://", addr)
		}
		return fmt.Errorf("redisstore: %s is not a node of a Cluster: use redis:// or redis+sentinel://", addr)
	}
	if s.topology == standalone && infoValue(info, "role") == "slave" {
		return fmt.Errorf("redisstore: %s is a replica of %s:%s: name that primary, or use redis+sentinel://",
			addr, infoValue(info, "master_host"), infoValue(info, "master_port"))
	}
	if s.opt.Fsync && older(version, []int{7, 2}) {
		return fmt.Errorf("redisstore: Options.Fsync needs WAITAOF: %s has it since 7.2, and %s is %s", product, addr, version)
	}
	if s.opt.Fsync && infoValue(info, "aof_enabled") != "1" {
		return fmt.Errorf("redisstore: Options.Fsync needs an append-only file, and %s has none: set appendonly yes", addr)
	}
	switch policy := infoValue(info, "maxmemory_policy"); policy {
	case "noeviction", "volatile-ttl", "":
	default:
		return fmt.Errorf("redisstore: %s has maxmemory-policy %s, which may evict sessions in use, and records of ended ones: "+
			"set noeviction, or volatile-ttl", addr, policy)
	}
	return nil
}

// older reports whether a version is older than least, or cannot be read.
func older(version string, least []int) bool {
	parts := strings.Split(version, ".")
	for i, want := range least {
		if i >= len(parts) {
			return true
		}
		n, err := strconv.Atoi(parts[i])
		if err != nil || n < want {
			return true
		}
		if n > want {
			return false
		}
	}
	return false
}

// tryOut creates, changes and ends a session. It fails if the user lacks a permission, or the
// server a command. The change makes its script use all commands that write: a script that is
// refused halfway would leave half of a change.
func (s *Store) tryOut(ctx context.Context) error {
	var secret driver.Secret
	rand.Read(secret[:])
	id := driver.ID{Selector: driver.HashOf(secret[:])}
	verifier := driver.HashOf(secret[:8])
	o := &driver.RecordSpec{Secret: secret, Verifier: verifier, Idle: time.Minute, Lifetime: time.Minute}
	first := &driver.Change{Verifier: verifier, Ops: []driver.Op{{Kind: driver.Set, Key: "map:entry", Value: []byte("0")}}}
	second := &driver.Change{Verifier: verifier, Ops: []driver.Op{
		{Kind: driver.Add, Key: "count", Delta: 1}, {Kind: driver.UnsetEntries, Key: "map"},
	}}
	var tooFew *ReplicaError
	var err error
	for _, step := range []func() error{
		func() error { _, err := s.Create(ctx, id, o, first); return err },
		func() error { _, err := s.Apply(ctx, id, second); return err },
		func() error { return s.Touch(ctx, id, verifier) },
		func() error { _, _, err := s.LoadFresh(ctx, id); return err },
		func() error { return s.tryOutSignIn(ctx, o, &driver.Credential{ID: id, Verifier: verifier}) },
		func() error { // the sign-in replaced the session
			_, _, err := s.removeSession(ctx, id, driver.Hash{}, driver.Attempt(secret))
			if errors.Is(err, driver.ErrMoved) && !errors.As(err, new(*ReplicaError)) {
				err = nil
			}
			return err
		},
	} {
		if err = step(); errors.As(err, &tooFew) {
			if err = tooFew.Err; err != nil {
				err = fmt.Errorf("an end cannot wait for replicas: %w", withAdvice(err))
			}
		}
		if err != nil {
			break
		}
	}
	if err == nil && tooFew != nil {
		s.opt.Logger.Warn("redisstore: ends will fail until enough replicas answer", "error", tooFew)
	}
	s.dropCopy(id)
	if errors.Is(err, driver.ErrNotFound) {
		err = fmt.Errorf("a session that was just stored is missing: check whether the server drops writes (%w)", err)
	}
	return err
}

// tryOutSignIn signs a made-up user in and out.
func (s *Store) tryOutSignIn(ctx context.Context, o *driver.RecordSpec, from *driver.Credential) error {
	owner := driver.HashOf(o.Secret[:])
	id := driver.ID{Bucket: driver.BucketOf(owner), Selector: driver.HashOf(o.Secret[4:])}
	in := &driver.SignIn{Spec: *o, Change: driver.Change{Verifier: o.Verifier}, From: from, MaxSessions: 1}
	in.Spec.Principal = &driver.Principal{User: "probe", Owner: owner}
	in.Spec.Secret[0]++
	_, err := s.SignIn(ctx, id, in)
	if err == nil {
		_, err = s.Sessions(ctx, owner, driver.SessionCursor{}, 1)
	}
	if err == nil {
		err = s.plain.Do(ctx, s.sampleCommand(owner)(s.plain.B())).Error()
	}
	var tooFew error
	if err == nil {
		if _, err = s.EndUser(ctx, owner, driver.Selection{}); errors.As(err, new(*ReplicaError)) {
			tooFew, err = err, nil
		}
	}
	s.ownRevocations.remove(owner)
	if err == nil {
		err = s.withRetry(ctx, anywhere, idempotent, func(ctx context.Context) error {
			b := s.tracked.B()
			for _, res := range s.tracked.DoMulti(ctx,
				b.Del().Key(s.keys.index(owner)).Build(),
				b.Del().Key(s.keys.record(from.ID)).Build(),
				b.Del().Key(s.keys.record(id)).Build(), // its marker
				b.Hdel().Key(s.keys.revocations(id.Bucket)).Field(owner.String()).Build(),
			) {
				if err := res.Error(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return cmp.Or(err, tooFew)
}
