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

// probe checks that the server can serve, by asking it and by keeping a session there for a moment.
func (s *Store) probe(ctx context.Context) error {
	answered := false
	var silent error
	for addr, node := range s.plain.Nodes() {
		limit, cancel := context.WithTimeout(ctx, s.opt.Timeout)
		info, err := node.Do(limit, node.B().Info().Build()).ToString()
		cancel()
		if err != nil { // of a Cluster, a replica may be away
			silent = fmt.Errorf("redisstore: %s does not answer: %w", addr, hint(err))
			continue
		}
		answered = true
		if err := s.checkInfo(addr, info); err != nil {
			return err
		}
	}
	if !answered {
		return silent
	}
	if err := s.attempt(ctx, reading, s.readEverybody); err != nil { // before the first request
		return err
	}
	err := s.rehearse(ctx)
	if err == nil {
		return nil
	}
	if reply := new(rueidis.RedisError); errors.As(err, &reply) {
		for _, state := range states {
			if strings.HasPrefix(reply.Error(), state) {
				s.opt.Logger.Warn("redisstore: the server takes no writes at the moment", "error", err)
				return nil
			}
		}
	}
	return &trialError{err}
}

// trialError is why the store does not open on a server that answers.
type trialError struct{ err error }

func (e *trialError) Error() string {
	return "redisstore: the server does not do what the store needs: " + strings.TrimPrefix(e.err.Error(), "redisstore: ")
}

func (e *trialError) Unwrap() error { return e.err }

// states are the errors of servers that would do what the store needs, and cannot at the moment. Signed-in visitors must still be served
// by a process that is started meanwhile.
var states = []string{"OOM", "MISCONF", "NOREPLICAS"}

// checkInfo refuses servers that are too old, are replicas, are arranged in another way than the URL says, or may evict what must stay.
func (s *Store) checkInfo(addr, info string) error {
	product, version, least := "Redis", infoValue(info, "redis_version"), []int{7, 0}
	if v := infoValue(info, "valkey_version"); v != "" {
		product, version, least = "Valkey", v, []int{7, 2}
	}
	if older(version, least) {
		return fmt.Errorf("redisstore: %s is %s %s: the least are Redis 7.0 and Valkey 7.2", addr, product, version)
	}
	if clustered := infoValue(info, "cluster_enabled") == "1"; clustered != (s.topology == cluster) {
		if clustered {
			return fmt.Errorf("redisstore: %s is a node of a Cluster: use redis+cluster://", addr)
		}
		return fmt.Errorf("redisstore: %s is not a node of a Cluster: use redis:// or redis+sentinel://", addr)
	}
	if s.topology == standalone && infoValue(info, "role") == "slave" {
		return fmt.Errorf("redisstore: %s is a replica of %s:%s, and sessions are written to the primary: name that one, or use redis+sentinel://",
			addr, infoValue(info, "master_host"), infoValue(info, "master_port"))
	}
	if s.opt.Fsync && older(version, []int{7, 2}) {
		return fmt.Errorf("redisstore: Options.Fsync needs WAITAOF, which %s has since 7.2, and %s is %s", product, addr, version)
	}
	if s.opt.Fsync && infoValue(info, "aof_enabled") != "1" {
		return fmt.Errorf("redisstore: Options.Fsync needs an append-only file, and %s has none: set appendonly yes", addr)
	}
	switch policy := infoValue(info, "maxmemory_policy"); policy {
	case "noeviction", "volatile-ttl", "":
	default:
		return fmt.Errorf("redisstore: %s has maxmemory-policy %s, which drops sessions that are in use and what ends of them must outlive them: set noeviction, or volatile-ttl",
			addr, policy)
	}
	return nil
}

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

// rehearse keeps a session for a moment: it fails where the user may not do what the store needs, or the server cannot. The change
// makes the script use all commands that it has for writing: one that is refused in the middle of it would leave half a change.
func (s *Store) rehearse(ctx context.Context) error {
	var secret driver.Secret
	rand.Read(secret[:])
	id := driver.ID{Selector: driver.HashOf(secret[:])}
	verifier := driver.HashOf(secret[:8])
	o := &driver.RecordSpec{Secret: secret, Verifier: verifier, Idle: 10 * time.Second, Lifetime: 10 * time.Second}
	first := &driver.Change{Verifier: verifier, Ops: []driver.Op{{Kind: driver.Set, Key: "map:entry", Value: []byte("0")}}}
	second := &driver.Change{Verifier: verifier, Ops: []driver.Op{
		{Kind: driver.Add, Key: "count", Delta: 1}, {Kind: driver.UnsetEntries, Key: "map"},
	}}
	var few *ReplicaError
	var err error
	for _, step := range []func() error{
		func() error { _, err := s.Create(ctx, id, o, first); return err },
		func() error { _, err := s.Apply(ctx, id, second); return err },
		func() error { return s.Touch(ctx, id, verifier) },
		func() error { _, _, err := s.LoadFresh(ctx, id); return err },
		func() error { return s.rehearseSignIn(ctx, o, &driver.Credential{ID: id, Verifier: verifier}) },
		func() error { _, _, err := s.remove(ctx, id, driver.Hash{}); return err },
	} {
		if err = step(); errors.As(err, &few) {
			if err = few.Err; err != nil {
				err = fmt.Errorf("an end cannot wait for replicas: %w", hint(err))
			}
		}
		if err != nil {
			break
		}
	}
	if err == nil && few != nil {
		s.opt.Logger.Warn("redisstore: ends will fail until more replicas are there", "error", few)
	}
	s.forget(id)
	if errors.Is(err, driver.ErrNotFound) {
		err = fmt.Errorf("a session that was stored a moment ago is not there: is this a server that drops writes? (%w)", err)
	}
	return err
}

// rehearseSignIn signs somebody in, who is nobody, and out.
func (s *Store) rehearseSignIn(ctx context.Context, o *driver.RecordSpec, from *driver.Credential) error {
	owner := driver.HashOf(o.Secret[:])
	id := driver.ID{Bucket: driver.BucketOf(owner), Selector: driver.HashOf(o.Secret[4:])}
	in := &driver.SignIn{Spec: *o, Change: driver.Change{Verifier: o.Verifier}, From: from, MaxSessions: 1}
	in.Spec.Principal = &driver.Principal{User: "probe", Owner: owner}
	in.Spec.Secret[0]++
	_, err := s.SignIn(ctx, id, in)
	if err == nil {
		_, err = s.Sessions(ctx, owner)
	}
	if err == nil {
		_, err = s.someOf(ctx, owner)
	}
	var few error
	if err == nil {
		if _, err = s.EndUser(ctx, owner, driver.Selection{}); errors.As(err, new(*ReplicaError)) {
			few, err = err, nil
		}
	}
	s.made.forget(owner)
	if err == nil {
		err = s.attempt(ctx, repeatable, func(ctx context.Context) error {
			b := s.tracked.B()
			for _, res := range s.tracked.DoMulti(ctx, b.Del().Key(s.keys.index(owner)).Build(), b.Del().Key(s.keys.session(from.ID)).Build(),
				b.Hdel().Key(s.keys.revocations(id.Bucket)).Field(owner.String()).Build()) {
				if err := res.Error(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return cmp.Or(err, few)
}
