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

const (
	maxNamed = 500 // of a user's sessions are read, or ended, in one go

	// Without a limit, and if nobody is to be told of what has expired, one sign-in in sweepEvery looks at some sessions of the user's index, to
	// remove those that are gone: of an index of which a half is gone, more than the others have added.
	sweepEvery = 8
	sweepMost  = 20
)

// member is one session in a user's index.
type member struct {
	name    string // hash of its selector
	id      driver.ID
	created float64 // in milliseconds
}

// index reads the sessions that a user's index names, the oldest first, and its version.
func (s *Store) index(ctx context.Context, owner driver.Hash) (members []member, version string, err error) {
	return s.members(ctx, owner, s.plain.B().Zrange().Key(s.keys.index(owner)).Min("0").Max("-1").Withscores().Build().Pin())
}

// someOf reads a few of the sessions that a user's index names, by chance: the oldest might be those that live longest.
func (s *Store) someOf(ctx context.Context, owner driver.Hash) ([]member, error) {
	members, _, err := s.members(ctx, owner, s.plain.B().Zrandmember().Key(s.keys.index(owner)).Count(sweepMost).Withscores().Build().Pin())
	return members, err
}

// members runs a command, which may be repeated, that replies with members of a user's index.
func (s *Store) members(ctx context.Context, owner driver.Hash, command rueidis.Completed) (members []member, version string, err error) {
	var scores []rueidis.ZScore
	err = s.attempt(ctx, reading, func(ctx context.Context) (err error) {
		scores, err = s.plain.Do(ctx, command).AsZScores()
		return err
	})
	if err != nil {
		return nil, "", err
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
			members = append(members, member{z.Member, driver.ID{Bucket: driver.BucketOf(owner), Selector: selector}, z.Score})
		}
	}
	return members, version, nil
}

// Sessions implements driver.UserStore. Of sessions that are gone it cleans the index.
func (s *Store) Sessions(ctx context.Context, owner driver.Hash) ([]driver.UserSession, error) {
	if err := s.upToDate(ctx); err != nil {
		return nil, err
	}
	members, _, err := s.index(ctx, owner)
	if err != nil {
		return nil, err
	}
	var live []driver.UserSession
	for batch := range slices.Chunk(members, maxNamed) {
		var gone []member
		if live, gone, err = s.appendLive(ctx, live, owner, batch); err != nil {
			return nil, err
		}
		if len(gone) > 0 {
			_ = s.clean(ctx, owner, gone) // or the next visit does
		}
	}
	slices.SortFunc(live, func(a, b driver.UserSession) int { return b.Record.Created.Compare(a.Record.Created) })
	ids := make([]driver.ID, 0, rosterMost)
	for _, one := range live[:min(len(live), rosterMost)] {
		ids = append(ids, one.ID)
	}
	s.rosters.set(owner, ids)
	return live, nil
}

// appendLive appends those of a user's sessions that are alive to list, and returns those that are not there.
func (s *Store) appendLive(ctx context.Context, list []driver.UserSession, owner driver.Hash, members []member) (_ []driver.UserSession, gone []member, _ error) {
	var answers []rueidis.RedisResult
	var revoked map[string]string
	err := s.attempt(ctx, reading, func(ctx context.Context) (err error) {
		b := s.plain.B()
		gets := make([]rueidis.Completed, 0, len(members)+1)
		for _, m := range members {
			gets = append(gets, b.Hgetall().Key(s.keys.session(m.id)).Build())
		}
		answers = s.plain.DoMulti(ctx, append(gets, b.Hgetall().Key(s.keys.revocations(driver.BucketOf(owner))).Build())...)
		for _, res := range answers {
			if err := res.Error(); err != nil {
				return err
			}
		}
		revoked, err = answers[len(members)].AsStrMap()
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	for i, m := range members {
		values, err := answers[i].AsStrMap()
		if err != nil {
			return nil, nil, err
		}
		r, err := decodeHash(values)
		if errors.Is(err, driver.ErrNotFound) {
			gone = append(gone, m)
			continue
		}
		if errors.Is(err, driver.ErrMoved) || s.ends.has(m.id) {
			continue
		}
		over := false
		if err == nil {
			over, err = s.revoked(m.id, r, revoked)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("redisstore: session %s: %w", m.id, err)
		}
		if !over {
			list = append(list, driver.UserSession{ID: m.id, Record: r})
		}
	}
	return list, gone, nil
}

// SignIn implements driver.UserStore. The session that the browser had lies in another slot, so this goes in steps, each of which may be
// repeated: the old one is closed to writers, for a while; the new one is stored; the old one is replaced by word that it moved.
func (s *Store) SignIn(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
	if err := in.Change.Check(); err != nil {
		return nil, err
	}
	if id.Bucket != driver.BucketOf(in.Spec.Principal.Owner) {
		return nil, fmt.Errorf("redisstore: session %s is not in its user's bucket, %04x", id, driver.BucketOf(in.Spec.Principal.Owner))
	}
	began := s.after(in.Spec.Principal.Owner, in.Elapsed) // by the server's clock, so that no time under way makes it later
	if in.Elapsed > driver.MaxSignInTime {
		return nil, driver.ErrRevoked
	}
	if err := s.refusedAhead(ctx, in, began); err != nil {
		return nil, err
	}
	from, err := s.leave(ctx, id, in)
	if err != nil {
		return nil, err
	}
	res, err := s.enter(ctx, id, in, from, began)
	if err != nil && !errors.Is(err, driver.ErrUnknown) { // after an unknown outcome the mark lapses by itself, or the caller repeats
		_, _ = s.move(ctx, "stay", id, in, nil) // if this does not get through, the mark lapses by itself
	}
	if err != nil {
		return nil, err
	}
	// Everybody may have been revoked meanwhile, the session before included. The script cannot see that: the key lies in another slot.
	err = s.refusedByAll(ctx, began)
	switch {
	case errors.Is(err, driver.ErrRevoked):
		s.ends.add(id, in.Spec.Principal.Owner) // if what follows does not get through, it is repeated
		_, _ = s.endNamed(ctx, in.Spec.Principal.Owner, []driver.ID{id})
		return nil, err
	case err != nil: // the caller repeats, or the visitor keeps what he had; a session of the same user the script has replaced
		return nil, fmt.Errorf("%w: %v", driver.ErrUnknown, err)
	}
	if from != nil {
		// The new session stands, so the old one is over, also if this does not get through: it is repeated, as ends are.
		s.ends.move(in.From.ID, ownerIn(from))
		s.forget(in.From.ID)
		_, _ = s.move(ctx, "left", id, in, from)
	}
	return res, nil
}

// refusedAhead refuses a sign-in before its first step. A node that hears of a change at once asks nobody if there is nothing that a refusal
// could not put right after the last step: no session that was left, and none that was ended for this one.
func (s *Store) refusedAhead(ctx context.Context, in *driver.SignIn, began int64) error {
	if s.near == nil || in.From != nil || in.MaxSessions > 0 {
		return s.refusedByAll(ctx, began)
	}
	if err := s.upToDate(ctx); err != nil {
		return err
	}
	if began <= s.all.at.Load() {
		return driver.ErrRevoked
	}
	return nil
}

// leave closes the session that the browser had to writers, and returns it; nil if there is none.
func (s *Store) leave(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Record, error) {
	if in.From == nil || s.ends.has(in.From.ID) {
		return nil, nil
	}
	r, err := s.move(ctx, "leave", id, in, nil)
	s.forget(in.From.ID)
	switch {
	case err != nil:
		return nil, err
	case r.status != "ok":
		return nil, nil
	case len(r.rest)%2 != 0:
		return nil, errReply
	}
	values := make(map[string]string, len(r.rest)/2)
	for i := 0; i < len(r.rest); i += 2 {
		k, err1 := r.rest[i].ToString()
		v, err2 := r.rest[i+1].ToString()
		if err1 != nil || err2 != nil {
			return nil, errReply
		}
		values[k] = v
	}
	record, err := decodeHash(values)
	if err != nil {
		return nil, fmt.Errorf("redisstore: session %s: %w", in.From.ID, err)
	}
	return record, nil
}

// move is a step of move.lua; from is the old session, whose user's index is told that it left.
func (s *Store) move(ctx context.Context, action string, id driver.ID, in *driver.SignIn, from *driver.Record) (reply, error) {
	if in.From == nil {
		return reply{}, nil
	}
	keys, more := s.oldKeys(in.From.ID, ownerIn(from))
	if action == "leave" {
		keys, more = append(keys, s.keys.revocationsOf(keys[0])), []string{s.all.argument()}
	}
	args := append([]string{action, id.Selector.String(), in.From.Verifier.String()}, more...)
	var r reply
	err := s.attempt(ctx, repeatable, func(ctx context.Context) (err error) {
		if r, err = s.execKeys(ctx, moveScript, keys, args); action == "leave" && moving(err) {
			r, err = s.execMoving(ctx, moveScript, in.From.ID, keys[:1], args)
		}
		return err
	})
	if err != nil {
		return reply{}, err
	}
	return r, nil
}

// oldKeys are the keys of move.lua, and the argument that goes with the second.
func (s *Store) oldKeys(id driver.ID, owner driver.Hash) (keys, more []string) {
	keys = []string{s.keys.session(id)}
	if owner == (driver.Hash{}) {
		return keys, nil
	}
	return append(keys, s.keys.index(owner)), []string{id.Selector.String()}
}

// ownerIn is whose session it is, the zero Hash if nobody's.
func ownerIn(r *driver.Record) (owner driver.Hash) {
	if r != nil && r.Principal != nil {
		owner = r.Principal.Owner
	}
	return owner
}

// enter stores the new session. To keep a limit it reads the user's index, and makes the change on the version that it read.
func (s *Store) enter(ctx context.Context, id driver.ID, in *driver.SignIn, from *driver.Record, began int64) (*driver.Result, error) {
	var exclude string
	if ownerIn(from) == in.Spec.Principal.Owner {
		exclude = in.From.ID.Selector.String()
	}
	for {
		draft, err := driver.NewSignedIn(s.clock.now(), in, from)
		if err != nil {
			return nil, err
		}
		members, version, err := s.others(ctx, id, in, exclude)
		if err != nil {
			return nil, err
		}
		keys, args := s.signInArgs(id, in, draft.Record, members, version, exclude)
		args[5] = strconv.FormatInt(began, 10)
		var r reply
		err = s.attempt(ctx, repeatable, func(ctx context.Context) (err error) {
			r, err = s.execPlain(ctx, signInScript, keys, args)
			return err
		})
		if err != nil {
			return nil, err
		}
		switch r.status {
		case "ok":
			s.noteRoster(id, in, members)
			return s.entered(id, in, from, &r, members)
		case "again":
			return &driver.Result{Now: s.clock.now()}, nil
		case "exists":
			return nil, driver.ErrExists
		case "revoked":
			return nil, driver.ErrRevoked
		case "full":
			return nil, driver.ErrTooMany
		case "changed":
			if err := ctx.Err(); err != nil {
				return nil, fmt.Errorf("redisstore: other sign-ins of the user keep changing the index: %w", err)
			}
		default:
			return nil, errReply
		}
	}
}

// others returns the user's sessions that a sign-in has to know of, and the version of the index if it must not change meanwhile.
func (s *Store) others(ctx context.Context, id driver.ID, in *driver.SignIn, exclude string) (members []member, version string, err error) {
	if in.MaxSessions > 0 {
		return s.index(ctx, in.Spec.Principal.Owner)
	}
	if s.expiry.listening.Load() || id.Selector[0]%sweepEvery == 0 { // which is random
		if members, err = s.someOf(ctx, in.Spec.Principal.Owner); err != nil {
			return nil, "", err
		}
	}
	if exclude != "" && !slices.ContainsFunc(members, func(m member) bool { return m.name == exclude }) {
		members = append(members, member{name: exclude, id: in.From.ID})
	}
	return members, "", nil
}

// noteRoster remembers the user's sessions after a sign-in; members are all of them if there is a limit.
func (s *Store) noteRoster(id driver.ID, in *driver.SignIn, members []member) {
	if in.MaxSessions == 0 {
		s.rosters.add(in.Spec.Principal.Owner, id)
		return
	}
	ids := []driver.ID{id}
	for _, m := range members[max(0, len(members)-rosterMost):] {
		ids = append(ids, m.id)
	}
	s.rosters.set(in.Spec.Principal.Owner, ids)
}

func (s *Store) signInArgs(id driver.ID, in *driver.SignIn, r *driver.Record, members []member, version, exclude string) (keys, args []string) {
	refuse := ""
	if in.RefuseExtra {
		refuse = "refuse"
	}
	head, tail := driver.SplitPrincipal(r.Principal)
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	args = []string{
		id.Selector.String(), ms(in.Spec.Idle), ms(in.Spec.Lifetime), driver.Hash(in.Spec.Secret).String(), version,
		"", strconv.Itoa(in.MaxSessions), refuse, exclude, head, tail, strconv.Itoa(len(members)), s.all.argument(),
	}
	keys = []string{s.keys.session(id), s.keys.index(in.Spec.Principal.Owner), s.keys.revocations(id.Bucket)}
	for _, m := range members {
		keys = append(keys, s.keys.session(m.id))
		args = append(args, m.name)
	}
	for _, v := range driver.Encode(r) {
		switch v.Key {
		case "@id", "@idle", "@created", "@seen", "@deadline", "@principal":
		default:
			args = append(args, string(v.Key), string(v.Value))
		}
	}
	return keys, args
}

// unused is how long a session lives until its first use.
const unused = time.Minute

// entered makes the result of a sign-in that was stored.
func (s *Store) entered(id driver.ID, in *driver.SignIn, from *driver.Record, r *reply, members []member) (*driver.Result, error) {
	res, err := driver.NewSignedIn(r.now, in, from)
	if err != nil {
		return nil, err
	}
	res.Record.Seen = res.Record.Seen.Add(-max(0, res.Record.Idle-unused))
	owner := in.Spec.Principal.Owner
	evicted, expired, err := r.names(id.Bucket)
	if err != nil {
		return nil, err
	}
	s.expiry.gone(owner, expired, members, r.now, s.ends.has)
	for _, old := range evicted {
		s.ends.add(old, owner)
		s.forget(old)
	}
	res.Evicted = evicted
	s.expiry.watch(id, res.Record)
	if s.near != nil {
		s.near.learn(id)
	}
	return res, nil
}
