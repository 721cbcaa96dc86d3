package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Without a limit, and if nothing listens for expired sessions, one sign-in in cleanEvery checks
// a sample of the user's index for ended sessions. If half of the index has ended, that removes
// more entries than the other sign-ins add.
const (
	cleanEvery  = 8
	cleanSample = 20
)

// unconfirmedFor is how long a session lives until its sign-in confirms it.
const unconfirmedFor = time.Minute

// SignIn implements driver.UserStore. The browser's old session lies in another slot, so this goes
// in steps: close the old session to writers for a while, store the new one, replace the old one
// with a "moved" marker, and confirm the new one. Each step may be repeated. After a crash between
// the steps, the new session lives for a minute. Without an old session and without a limit, one
// script stores the session for good.
func (s *Store) SignIn(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
	owner := in.Spec.Principal.Owner
	if err := in.Change.Check(); err != nil {
		return nil, err
	}
	if id.Bucket != driver.BucketOf(owner) {
		return nil, fmt.Errorf("redisstore: session %s is not in its user's bucket, %04x", id, driver.BucketOf(owner))
	}
	began := s.authBegan(owner, in.Elapsed) // before the first command: its delay must not count
	if in.Elapsed > driver.MaxSignInTime {
		return nil, driver.ErrRevoked
	}
	if err := s.checkBeforeSignIn(ctx, in, began); err != nil {
		return nil, err
	}
	from, err := s.closeOld(ctx, id, in)
	if err != nil {
		return nil, err
	}
	res, err := s.storeSignedIn(ctx, id, in, from, began)
	if err != nil && !errors.Is(err, driver.ErrUnknown) {
		_, _ = s.execMove(ctx, "stay", id, in, nil) // on an error the old session opens by itself
	}
	if err != nil {
		return nil, err
	}
	// All users may have been revoked meanwhile. The script cannot see that: the key lies in
	// another slot.
	err = s.checkGlobalRevocation(ctx, began)
	switch {
	case errors.Is(err, driver.ErrRevoked):
		s.ends.add(id, owner) // repeats the end if the next call fails
		_, _ = s.endNamed(ctx, owner, []driver.ID{id})
		return nil, err
	case err != nil:
		// The caller repeats the sign-in, or the visitor keeps the old session, unless it was the
		// same user's: the script replaced that one.
		return nil, fmt.Errorf("%w: %v", driver.ErrUnknown, err)
	}
	if from != nil { // the old session is over now; its end is repeated if the last step fails
		s.ends.addMoved(in.From.ID, ownerOf(from))
		s.dropCopy(in.From.ID)
		_, _ = s.execMove(ctx, "left", id, in, from)
	}
	if !needsConfirmation(in) {
		return res, nil
	}
	return s.confirm(ctx, id, in, res)
}

// needsConfirmation reports whether a sign-in takes several steps, so that its last one confirms
// the session. An idle limit of about a minute needs no confirmation.
func needsConfirmation(in *driver.SignIn) bool {
	severalSteps := in.From != nil || in.MaxSessions > 0
	return severalSteps && in.Spec.Idle-unconfirmedFor > driver.TouchInterval(in.Spec.Idle)
}

// confirm gives a session its full idle limit. res is the result of the sign-in that stored it.
func (s *Store) confirm(
	ctx context.Context, id driver.ID, in *driver.SignIn, res *driver.Result,
) (*driver.Result, error) {
	r, repeated, err := s.execTouch(ctx, id, in.Spec.Verifier)
	switch {
	case errors.Is(err, driver.ErrNotFound), errors.Is(err, driver.ErrMoved):
		return res, nil // it has ended since
	case err != nil:
		return nil, fmt.Errorf("%w: the session was not confirmed: %v", driver.ErrUnknown, err)
	}
	res.Now = r.now
	if res.Record == nil {
		return res, nil
	}
	if res.Record, err = res.Record.Touch(r.now, in.Spec.Verifier); err != nil {
		return nil, err
	}
	if repeated || res.Record.Revision != r.revision { // its last use is not known
		res.Record = nil
		return res, nil
	}
	s.expiry.watch(id, res.Record)
	return res, nil
}

// checkBeforeSignIn refuses a sign-in before its first step. A node with a near cache asks no
// server if the check after the last step is enough: there is no old session to close, and no
// session to end for the limit.
func (s *Store) checkBeforeSignIn(ctx context.Context, in *driver.SignIn, began int64) error {
	if s.near == nil || in.From != nil || in.MaxSessions > 0 {
		return s.checkGlobalRevocation(ctx, began)
	}
	if err := s.syncGlobalRevocation(ctx); err != nil {
		return err
	}
	return s.global.check(began)
}

// storeSignedIn stores the new session. To keep a limit it reads the user's index, and the script
// makes the change only on that version of the index.
func (s *Store) storeSignedIn(
	ctx context.Context, id driver.ID, in *driver.SignIn, from *driver.Record, began int64,
) (*driver.Result, error) {
	var old string // name of an old session of the same user
	if ownerOf(from) == in.Spec.Principal.Owner {
		old = in.From.ID.Selector.String()
	}
	for {
		draft, err := driver.NewSignedIn(s.clock.now(), in, from)
		if err != nil {
			return nil, err
		}
		entries, version, err := s.entriesForSignIn(ctx, id, in, old)
		if err != nil {
			return nil, err
		}
		keys, args := s.signInArgs(id, in, draft.Record, entries, version, began, old)
		var r reply
		err = s.withRetry(ctx, place(id.Bucket), idempotent, func(ctx context.Context) (err error) {
			r, err = s.exec(ctx, s.plain, signInScript, keys, args)
			return err
		})
		if err != nil {
			return nil, err
		}
		switch r.status {
		case "ok":
			return s.signInResult(id, in, from, &r, entries)
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

// entriesForSignIn returns the entries of the user's index that a sign-in needs. It returns the
// index's version if the index must not change before the sign-in.
func (s *Store) entriesForSignIn(
	ctx context.Context, id driver.ID, in *driver.SignIn, old string,
) (entries []indexEntry, version string, err error) {
	if in.MaxSessions > 0 {
		return s.readIndex(ctx, in.Spec.Principal.Owner)
	}
	if s.expiry.listening.Load() || id.Selector[0]%cleanEvery == 0 { // the selector is random
		if entries, err = s.sampleIndex(ctx, in.Spec.Principal.Owner); err != nil {
			return nil, "", err
		}
	}
	if old != "" && !slices.ContainsFunc(entries, func(e indexEntry) bool { return e.name == old }) {
		entries = append(entries, indexEntry{name: old, id: in.From.ID})
	}
	return entries, "", nil
}

// signInArgs returns the keys and arguments of signin.lua.
func (s *Store) signInArgs(
	id driver.ID, in *driver.SignIn, r *driver.Record, entries []indexEntry, version string, began int64, old string,
) (keys, args []string) {
	refuse, confirm := "", ""
	if in.RefuseExtra {
		refuse = "refuse"
	}
	if needsConfirmation(in) {
		confirm = "confirm"
	}
	head, tail := driver.SplitPrincipal(r.Principal)
	args = []string{
		id.Selector.String(), milliseconds(in.Spec.Idle), milliseconds(in.Spec.Lifetime),
		driver.Hash(in.Spec.Secret).String(), version, strconv.FormatInt(began, 10),
		strconv.Itoa(in.MaxSessions), refuse, old, head, tail, strconv.Itoa(len(entries)), s.global.argument(), confirm,
	}
	keys = []string{s.keys.session(id), s.keys.index(in.Spec.Principal.Owner), s.keys.revocations(id.Bucket)}
	for _, e := range entries {
		keys = append(keys, s.keys.session(e.id))
		args = append(args, e.name)
	}
	for _, v := range driver.Encode(r) {
		switch v.Key {
		case "@id", "@idle", "@created", "@seen", "@deadline", "@principal":
		default:
			args = append(args, string(v.Key), string(v.Value))
		}
	}
	return keys, append(args, milliseconds(in.AuthenticatedAgo))
}

// signInResult makes the result of a sign-in that was stored.
func (s *Store) signInResult(
	id driver.ID, in *driver.SignIn, from *driver.Record, r *reply, entries []indexEntry,
) (*driver.Result, error) {
	res, err := driver.NewSignedIn(r.now, in, from)
	if err != nil {
		return nil, err
	}
	if needsConfirmation(in) {
		res.Record.Seen = res.Record.Seen.Add(unconfirmedFor - res.Record.Idle)
	}
	owner := in.Spec.Principal.Owner
	evicted, expired, err := r.names(id.Bucket)
	if err != nil {
		return nil, err
	}
	s.expiry.note(owner, expired, entries, r.now, s.ends.has)
	for _, old := range evicted {
		s.ends.add(old, owner)
		s.dropCopy(old)
	}
	res.Evicted = evicted
	s.expiry.watch(id, res.Record)
	if s.near != nil {
		s.near.learn(id)
	}
	return res, nil
}
