package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// maxSkew bounds what a server whose clock is ahead does to the time of a global revocation.
const maxSkew = time.Minute

// EndAll implements driver.UserStore, for an incident. It stores the time of the revocation. From
// then on all nodes refuse the sessions that were created before. Then it removes these sessions
// from every primary, a batch at a time. If it is interrupted, call it again. Concurrent calls are
// safe.
//
// Each session has the creation time of its own server. So EndAll stores the time twice: first the
// time of the key's server, then the latest time of all servers, at most a minute later. It reads
// the servers' times after the first write, which no later sign-in can miss.
func (s *Store) EndAll(ctx context.Context) error {
	var at int64
	raise := func(to string) error {
		return s.withRetry(ctx, globalPlace, idempotent, func(ctx context.Context) (err error) {
			n, err := s.raiseGlobalRevocation(ctx, to, false)
			if err != nil {
				s.global.invalidations.Add(1) // the server reports no own writes
			}
			at = max(at, n)
			return err
		})
	}
	if err := raise(""); err != nil {
		return err
	}
	primaries, latest, away := s.primaries(ctx)
	if latest = min(latest, at+maxSkew.Milliseconds()); latest > at {
		if err := raise(strconv.FormatInt(latest, 10)); err != nil {
			return err
		}
	}
	tooFew := s.waitForReplicas(ctx, globalPlace, func(b rueidis.Builder) rueidis.Completed {
		key := s.keys.globalRevocation()
		return b.Eval().Script(revokeAllSource).Numkeys(1).Key(key).Arg(strconv.FormatInt(at, 10), "1").Build()
	})
	for addr, node := range primaries {
		if err := s.removeRevoked(ctx, node); err != nil {
			away = errors.Join(away, fmt.Errorf("%s: %w", addr, err))
		}
	}
	if away != nil {
		return fmt.Errorf("redisstore: all users are signed out, but not all sessions are removed: call again: %w",
			errors.Join(away, tooFew))
	}
	return tooFew
}

// removeRevoked removes the sessions of one primary that the global revocation covers.
func (s *Store) removeRevoked(ctx context.Context, node rueidis.Client) error {
	for cursor := uint64(0); ; {
		var page rueidis.ScanEntry
		err := s.withRetry(ctx, anywhere, readOnly, func(ctx context.Context) (err error) {
			page, err = node.Do(ctx, node.B().Scan().Cursor(cursor).Match(s.keys.sessionPattern()).Count(1000).Build()).AsScanEntry()
			return err
		})
		if err != nil {
			return err
		}
		err = s.withRetry(ctx, anywhere, idempotent, func(ctx context.Context) error { return s.removeRevokedKeys(ctx, page.Elements) })
		if err != nil {
			return err
		}
		if cursor = page.Cursor; cursor == 0 {
			return nil
		}
	}
}

// removeRevokedKeys is removeRevoked for some keys. It also removes sessions whose time of creation
// is malformed: nobody can use them.
func (s *Store) removeRevokedKeys(ctx context.Context, keys []string) error {
	var gets, dels []rueidis.Completed
	var ids []driver.ID
	for _, key := range keys {
		if id, ok := s.keys.parseSession(key); ok {
			ids = append(ids, id)
			gets = append(gets, s.plain.B().Hget().Key(key).Field("@l").Build())
		}
	}
	for i, res := range s.plain.DoMulti(ctx, gets...) {
		life, err := res.ToString()
		if rueidis.IsRedisNil(err) {
			continue // a marker, or it has ended
		}
		if err != nil && !isWrongType(err) {
			return err
		}
		if created, ok := createdAt(life); !ok || created <= s.global.at.Load() {
			s.dropCopy(ids[i])
			dels = append(dels, s.tracked.B().Del().Key(s.keys.record(ids[i])).Build())
		}
	}
	for _, res := range s.tracked.DoMulti(ctx, dels...) {
		if err := res.Error(); err != nil {
			return err
		}
	}
	return nil
}

// createdAt returns when the session with this "@l" was created, in milliseconds.
func createdAt(life string) (ms int64, ok bool) {
	if len(life) != nameWidth+3*timeWidth {
		return 0, false
	}
	return parseTime(life[nameWidth : nameWidth+timeWidth])
}

// isWrongType reports that a key does not have the type that the command needs.
func isWrongType(err error) bool {
	redisErr, ok := rueidis.IsRedisErr(err)
	return ok && strings.HasPrefix(redisErr.Error(), "WRONGTYPE")
}
