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

// maxNamed is how many of a user's sessions one script names. Of a user who has more, the oldest are ended first, in batches.
const maxNamed = 500

// member is one session in a user's index.
type member struct {
	name    string // hash of its selector
	id      driver.ID
	created float64 // in milliseconds
}

// index reads the sessions that a user's index names, the oldest first, and its version.
func (s *Store) index(ctx context.Context, owner driver.Hash) (members []member, version string, err error) {
	var scores []rueidis.ZScore
	err = s.attempt(ctx, reading, func(ctx context.Context) (err error) {
		scores, err = s.plain.Do(ctx, s.plain.B().Zrange().Key(s.keys.index(owner)).Min("0").Max("-1").Withscores().Build()).AsZScores()
		return err
	})
	if err != nil {
		return nil, "", err
	}
	version = "0"
	for _, z := range scores {
		switch z.Member {
		case "@since":
		case "@rev":
			version = strconv.FormatFloat(z.Score, 'f', -1, 64)
		default:
			selector, err := driver.ParseHash(z.Member)
			if err != nil {
				return nil, "", fmt.Errorf("redisstore: index of user %s: %w", owner, err)
			}
			members = append(members, member{z.Member, driver.ID{Bucket: bucketOf(owner), Selector: selector}, z.Score})
		}
	}
	return members, version, nil
}

func bucketOf(owner driver.Hash) uint16 { return uint16(owner[0])<<8 | uint16(owner[1]) }

// Sessions implements driver.UserStore. Of sessions that are gone it cleans the index.
func (s *Store) Sessions(ctx context.Context, owner driver.Hash) ([]driver.Owned, error) {
	members, _, err := s.index(ctx, owner)
	if err != nil || len(members) == 0 {
		return nil, err
	}
	gets := func() []rueidis.Completed {
		gets := make([]rueidis.Completed, len(members))
		for i, m := range members {
			gets[i] = s.plain.B().Hgetall().Key(s.keys.session(m.id)).Build()
		}
		return gets
	}
	var live []driver.Owned
	var gone []member
	err = s.attempt(ctx, reading, func(ctx context.Context) error {
		live, gone = live[:0], gone[:0]
		for i, res := range s.plain.DoMulti(ctx, gets()...) {
			values, err := res.AsStrMap()
			if err != nil {
				return err
			}
			r, err := decodeHash(values)
			if errors.Is(err, driver.ErrNotFound) {
				gone = append(gone, members[i])
				continue
			}
			if errors.Is(err, driver.ErrMoved) || s.ends.has(members[i].id) {
				continue
			}
			if err != nil {
				return fmt.Errorf("redisstore: session %s: %w", members[i].id, err)
			}
			live = append(live, driver.Owned{ID: members[i].id, Record: r})
		}
		return nil
	})
	slices.SortFunc(live, func(a, b driver.Owned) int { return b.Record.Created.Compare(a.Record.Created) })
	if err == nil && len(gone) > 0 {
		_ = s.clean(ctx, owner, gone[:min(len(gone), maxNamed)]) // or the next visit does
	}
	return live, err
}

// SignIn implements driver.UserStore. The session that the browser had lies in another slot, so this goes in steps, each of which may be
// repeated: the old one is closed to writers, for a while; the new one is stored; the old one is replaced by word that it moved.
func (s *Store) SignIn(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
	if err := in.Change.Check(); err != nil {
		return nil, err
	}
	if id.Bucket != bucketOf(in.Origin.Principal.Owner) {
		return nil, fmt.Errorf("redisstore: session %s is not in its user's bucket, %04x", id, bucketOf(in.Origin.Principal.Owner))
	}
	if err := s.refusedByAll(ctx, in.Ago); err != nil {
		return nil, err
	}
	from, err := s.leave(ctx, id, in)
	if err != nil {
		return nil, err
	}
	res, err := s.enter(ctx, id, in, from)
	if err != nil && !errors.Is(err, driver.ErrUnknown) { // after an unknown outcome the mark lapses by itself, or the caller repeats
		_, _ = s.move(ctx, "stay", id, in, nil) // if this does not get through, the mark lapses by itself
	}
	if err != nil {
		return nil, err
	}
	if from != nil {
		// The new session stands, so the old one is over, also if this does not get through: it is repeated, as ends are.
		_, _ = s.move(ctx, "left", id, in, from)
		s.ends.move(in.From.ID, ownerIn(from))
		s.forget(in.From.ID)
	}
	return res, s.onReplicas(ctx, s.keys.mark(id.Bucket))
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
func (s *Store) move(ctx context.Context, action string, id driver.ID, in *driver.SignIn, from *driver.Record) (r reply, err error) {
	if in.From == nil {
		return r, nil
	}
	keys, more := s.oldKeys(in.From.ID, ownerIn(from))
	args := append([]string{action, id.Selector.String(), in.From.Verifier.String()}, more...)
	err = s.attempt(ctx, repeatable, func(ctx context.Context) (err error) {
		r, err = s.execKeys(ctx, moveScript, keys, args)
		return err
	})
	return r, err
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

// enter stores the new session: it reads the user's index, and makes the change on the version that it read.
func (s *Store) enter(ctx context.Context, id driver.ID, in *driver.SignIn, from *driver.Record) (*driver.Result, error) {
	began := s.clock.now().Add(-in.Ago).UnixMilli() // by the server's clock, so that no time under way makes it later
	var exclude string
	if ownerIn(from) == in.Origin.Principal.Owner {
		exclude = in.From.ID.Selector.String()
	}
	for {
		draft, err := driver.NewSignedIn(s.clock.now(), in, from)
		if err != nil {
			return nil, err
		}
		members, version, err := s.index(ctx, in.Origin.Principal.Owner)
		if err != nil {
			return nil, err
		}
		if in.Max == 0 { // those whose sessions are gone are still removed, some at a time
			few := members[:min(len(members), 20)]
			for _, m := range members[len(few):] {
				if m.name == exclude {
					few = append(few[:len(few):len(few)], m)
				}
			}
			members = few
		}
		keys, args := s.signInArgs(id, in, draft.Record, members, version, exclude)
		args[5] = strconv.FormatInt(began, 10)
		var r reply
		err = s.attempt(ctx, repeatable, func(ctx context.Context) (err error) {
			r, err = s.execKeys(ctx, signInScript, keys, args)
			return err
		})
		if err != nil {
			return nil, err
		}
		switch r.status {
		case "ok":
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

func (s *Store) signInArgs(id driver.ID, in *driver.SignIn, r *driver.Record, members []member, version, exclude string) (keys, args []string) {
	refuse := ""
	if in.Refuse {
		refuse = "refuse"
	}
	head, tail := driver.SplitPrincipal(r.Principal)
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	args = []string{
		id.Selector.String(), ms(in.Origin.Idle), ms(in.Origin.Lifetime), driver.Hash(in.Origin.Secret).String(), version,
		"", strconv.Itoa(in.Max), refuse, exclude, head, tail, strconv.Itoa(len(members)),
	}
	keys = []string{s.keys.session(id), s.keys.index(in.Origin.Principal.Owner)}
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
	owner := in.Origin.Principal.Owner
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

// EndUser implements driver.UserStore.
func (s *Store) EndUser(ctx context.Context, owner driver.Hash, which driver.Which) ([]driver.ID, error) {
	var ended []driver.ID
	for {
		members, version, err := s.index(ctx, owner)
		if err != nil {
			return ended, err
		}
		members = slices.DeleteFunc(members, func(m member) bool {
			return which.Only != nil && !slices.Contains(which.Only, m.id) || slices.Contains(which.Except, m.id)
		})
		if which.Only != nil {
			version = ""
		}
		more := len(members) > maxNamed
		members = members[:min(len(members), maxNamed)]
		known := s.ends.among(members) // before those of this end are added
		r, err := s.endMembers(ctx, owner, members, version, which.Only == nil)
		if err != nil {
			return ended, err
		}
		if r.status == "changed" {
			if err := ctx.Err(); err != nil {
				return ended, fmt.Errorf("redisstore: sign-ins of the user keep changing the index: %w", err)
			}
			continue
		}
		alive, expired, err := r.names(bucketOf(owner))
		if err != nil {
			return ended, err
		}
		ended = append(ended, alive...)
		s.expiry.gone(owner, expired, members, r.now, known)
		if !more {
			return ended, s.onReplicas(ctx, s.keys.mark(bucketOf(owner)))
		}
	}
}

// endMembers ends sessions of one user by one script. They are refused by this process from now on.
func (s *Store) endMembers(ctx context.Context, owner driver.Hash, members []member, version string, since bool) (r reply, err error) {
	keys, args := []string{s.keys.index(owner)}, []string{version, ""}
	if since {
		args[1] = "since"
	}
	for _, m := range members {
		keys = append(keys, s.keys.session(m.id))
		args = append(args, m.name)
	}
	err = s.attempt(ctx, repeatable, func(ctx context.Context) (err error) {
		r, err = s.execKeys(ctx, endUserScript, keys, args)
		return err
	})
	if err != nil || r.status == "ok" {
		for _, m := range members { // also after an unknown outcome: the end is repeated until it is certain
			if err == nil || errors.Is(err, driver.ErrUnknown) {
				s.ends.add(m.id, owner)
			}
			s.forget(m.id)
		}
	}
	return r, err
}
