package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

var _ driver.UserStore = (*Store)(nil)

// maxNamed is how many of a user's sessions are read, or ended, in one round trip.
const maxNamed = 500

// precedingEntries is how many members of an index a page reads beyond its size: the session of the
// cursor, others of the same millisecond, and "@rev".
const precedingEntries = 16

// errIndexTime refuses an index that has another order than the sessions: a list of pages might not
// end.
var errIndexTime = errors.New("the user's index has another time of creation")

// indexEntry is one session in a user's index.
type indexEntry struct {
	name    string // hash of the session's selector
	id      driver.ID
	created float64 // in milliseconds
}

// readEntries runs a pinned command that replies with entries of a user's index.
func (s *Store) readEntries(
	ctx context.Context, owner driver.Hash, command rueidis.Completed,
) (entries []indexEntry, version string, err error) {
	var res rueidis.RedisResult
	err = s.withRetry(ctx, place(driver.BucketOf(owner)), readOnly, func(ctx context.Context) error {
		got := s.plain.Do(ctx, command)
		res = got
		return got.Error()
	})
	if err != nil {
		return nil, "", err
	}
	return parseIndex(owner, res)
}

// parseIndex returns the entries of a user's index in a reply, and the version of the index.
func parseIndex(owner driver.Hash, res rueidis.RedisResult) (entries []indexEntry, version string, err error) {
	scores, err := res.AsZScores()
	if err != nil {
		return nil, "", errReply
	}
	version = "0"
	for _, z := range scores {
		switch z.Member {
		case "@rev":
			version = strconv.FormatFloat(z.Score, 'f', -1, 64)
		default:
			selector, err := driver.ParseHash(z.Member)
			if err != nil {
				return nil, "", fmt.Errorf("redisstore: index of user %s: %w", owner, err)
			}
			entries = append(entries, indexEntry{z.Member, driver.ID{Bucket: driver.BucketOf(owner), Selector: selector}, z.Score})
		}
	}
	return entries, version, nil
}

// Sessions implements driver.UserStore. It removes ended sessions from the part of the index that
// it reads.
func (s *Store) Sessions(
	ctx context.Context, owner driver.Hash, after driver.SessionCursor, limit int,
) ([]driver.UserSession, error) {
	if err := s.syncGlobalRevocation(ctx); err != nil {
		return nil, err
	}
	limit = max(limit, 0)
	var live []driver.UserSession
	for more := true; more && len(live) < limit; {
		var entries, missing []indexEntry
		var err error
		if entries, more, err = s.readIndexPage(ctx, owner, after, min(limit, maxNamed)); err != nil {
			return nil, err
		}
		if len(entries) == 0 {
			break
		}
		if live, missing, err = s.appendLive(ctx, live, owner, entries); err != nil {
			return nil, err
		}
		if len(missing) > 0 {
			_ = s.cleanIndex(ctx, owner, missing) // on an error the next visit does it
		}
		after = entries[len(entries)-1].cursor()
	}
	return live[:min(limit, len(live))], nil
}

// cursor returns the entry's position in the list of the user's sessions.
func (e indexEntry) cursor() driver.SessionCursor {
	return driver.SessionCursor{Created: time.UnixMilli(int64(e.created)), ID: e.id}
}

// follows reports whether the entry comes after the cursor. Entries of the same millisecond are in
// the order of the server: by name, the last one first.
func (e indexEntry) follows(after driver.SessionCursor) bool {
	if after.Created.IsZero() {
		return true
	}
	created := float64(after.Created.UnixMilli())
	return e.created < created || e.created == created && e.name < after.ID.Selector.String()
}

// readIndexPage returns the next entries of a user's index after the cursor, the newest first, at
// most count. It reports whether more may follow.
func (s *Store) readIndexPage(
	ctx context.Context, owner driver.Hash, after driver.SessionCursor, count int,
) ([]indexEntry, bool, error) {
	from := "+inf"
	if !after.Created.IsZero() {
		from = strconv.FormatInt(after.Created.UnixMilli(), 10)
	}
	// The server also returns the entries of the cursor's millisecond that precede the cursor.
	for members := count + precedingEntries; ; members *= 2 {
		command := s.plain.B().Zrange().Key(s.keys.index(owner)).Min(from).Max("-inf").Byscore().Rev().
			Limit(0, int64(members)).Withscores().Build().Pin()
		all, version, err := s.readEntries(ctx, owner, command)
		if err != nil {
			return nil, false, err
		}
		// "@rev" is a member, too.
		more := len(all) == members || len(all) == members-1 && version != "0"
		entries := slices.DeleteFunc(all, func(e indexEntry) bool { return !e.follows(after) })
		if len(entries) > count {
			return entries[:count], true, nil
		}
		if len(entries) > 0 || !more {
			return entries, more, nil
		}
	}
}

// appendLive appends a user's live sessions to list. It returns the entries without a session, too.
func (s *Store) appendLive(
	ctx context.Context, list []driver.UserSession, owner driver.Hash, entries []indexEntry,
) (_ []driver.UserSession, missing []indexEntry, _ error) {
	found, revocations, err := s.readSessions(ctx, owner, entries)
	if err != nil {
		return nil, nil, err
	}
	for i, e := range entries {
		r, err := decodeValues(found[i], driver.DecodeMetadata)
		if errors.Is(err, driver.ErrNotFound) {
			missing = append(missing, e)
			continue
		}
		if errors.Is(err, driver.ErrMoved) || errors.Is(err, driver.ErrEnded) || s.ends.has(e.id) {
			continue
		}
		if err == nil && float64(r.Created.UnixMilli()) != e.created {
			err = errIndexTime
		}
		var revokedAt time.Time
		if err == nil {
			revokedAt, err = s.revokedAt(e.id, r, revocations)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("redisstore: session %s: %w", e.id, err)
		}
		if revokedAt.IsZero() {
			list = append(list, driver.UserSession{ID: e.id, Record: r})
		}
	}
	return list, missing, nil
}

// listedNames are the values of a session's hash that a list needs: no fields.
var listedNames = func() []string {
	var names []string
	for _, name := range driver.MetadataNames() {
		names = append(names, string(name))
	}
	return append(names, "@moved", "@ended")
}()

// readSessions reads the metadata of a user's sessions, and then the revocations of their bucket.
// Sessions with a long info are read again, with all its parts.
func (s *Store) readSessions(
	ctx context.Context, owner driver.Hash, entries []indexEntry,
) (found []map[string]string, revocations map[string]string, err error) {
	names := make([][]string, len(entries))
	found = make([]map[string]string, len(entries))
	for i := range entries {
		names[i], found[i] = listedNames, map[string]string{}
	}
	if revocations, err = s.readNames(ctx, owner, entries, names, found); err != nil {
		return nil, nil, err
	}
	long := false
	for i := range entries {
		names[i] = nil
		for _, name := range driver.MissingNames(hashFields(found[i])) {
			names[i], long = append(names[i], string(name)), true
		}
		if names[i] != nil { // read it whole: it may have ended since
			names[i], found[i] = append(names[i], listedNames...), map[string]string{}
		}
	}
	if long {
		revocations, err = s.readNames(ctx, owner, entries, names, found)
	}
	return found, revocations, err
}

// readNames adds the named values of each session to found, and then reads the revocations.
func (s *Store) readNames(
	ctx context.Context, owner driver.Hash, entries []indexEntry, names [][]string, found []map[string]string,
) (map[string]string, error) {
	var replies []rueidis.RedisResult
	var read []int // the index of the session of each reply
	err := s.withRetry(ctx, place(driver.BucketOf(owner)), readOnly, func(ctx context.Context) error {
		b := s.plain.B()
		var gets []rueidis.Completed
		var sent []int
		for i, e := range entries {
			if len(names[i]) > 0 {
				gets, sent = append(gets, b.Hmget().Key(s.keys.record(e.id)).Field(names[i]...).Build()), append(sent, i)
			}
		}
		got := s.plain.DoMulti(ctx, append(gets, b.Hgetall().Key(s.keys.revocations(driver.BucketOf(owner))).Build())...)
		for i, res := range got {
			if err := res.Error(); isWrongType(err) && i < len(sent) {
				return fmt.Errorf("session %s: %w: %w", entries[sent[i]].id, driver.ErrFormat, err)
			} else if err != nil {
				return err
			}
		}
		replies, read = got, sent
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, at := range read {
		values, err := replies[i].ToArray()
		if err != nil || len(values) != len(names[at]) {
			return nil, errReply
		}
		for j := range values {
			if text, err := values[j].ToString(); err == nil {
				found[at][names[at][j]] = text
			} else if !rueidis.IsRedisNil(err) {
				return nil, err
			}
		}
	}
	return replies[len(read)].AsStrMap()
}

// hashFields returns the values of a hash in no particular order.
func hashFields(values map[string]string) []driver.Field {
	fields := make([]driver.Field, 0, len(values))
	for name, value := range values {
		fields = append(fields, driver.Field{Key: driver.Key(name), Value: []byte(value)})
	}
	return fields
}

// cleanIndex removes sessions that have ended from a user's index, and notes those that expired.
func (s *Store) cleanIndex(ctx context.Context, owner driver.Hash, entries []indexEntry) error {
	keys := []string{s.keys.index(owner), s.keys.revocations(driver.BucketOf(owner))}
	for _, e := range entries {
		keys = append(keys, s.keys.record(e.id))
	}
	var r reply
	err := s.withRetry(ctx, place(driver.BucketOf(owner)), idempotent, func(ctx context.Context) (err error) {
		r, err = s.exec(ctx, s.plain, cleanScript, keys, nil)
		return err
	})
	if err != nil {
		return err
	}
	if r.status != "ok" {
		return r.failure("user " + owner.String())
	}
	expired, err := r.sessions(0, driver.BucketOf(owner))
	if err == nil {
		s.expiry.note(owner, expired, entries, s.clock.now(), s.ends.has)
	}
	return err
}
