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

// Without a limit, and if nothing listens for expired sessions, one sign-in in cleanEvery checks
// a sample of the user's index for ended sessions. If half of the index has ended, that removes
// more entries than the other sign-ins add.
const (
	cleanEvery  = 8
	cleanSample = 20
)

// unconfirmedFor is how long a session lives until its sign-in confirms it.
const unconfirmedFor = time.Minute

// signIn is a sign-in under way.
type signIn struct {
	*Store
	id    driver.ID
	in    *driver.SignIn
	owner driver.Hash
	began int64          // when the authentication began, in milliseconds of the server's clock
	from  *driver.Record // the browser's old session, closed to writers; nil: none

	// The part of the user's index that the script gets.
	entries   []indexEntry
	version   string      // of the index, if it must not change before the sign-in
	uncounted int         // the user's live sessions that are not in entries
	evicted   []driver.ID // sessions that ended before the script, because it does not take so many

	checked bool // the global revocation was read after the script
}

// SignIn implements driver.UserStore. The browser's old session lies in another slot, so this goes
// in steps: close the old session to writers for a while, store the new one, replace the old one
// with a "moved" marker, and confirm the new one. Each step may be repeated. After a crash between
// the steps, the new session lives for a minute. Without an old session and without a limit, one
// script stores the session for good.
//
// On one server this takes at most three round trips: one before the script that stores the
// session, one for it, and one after it.
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
	x := &signIn{Store: s, id: id, in: in, owner: owner, began: began}
	err := x.begin(ctx)
	var res *driver.Result
	if err == nil {
		res, err = x.store(ctx)
	}
	if err != nil {
		if !errors.Is(err, driver.ErrUnknown) {
			s.reopenOld(ctx, id, in)
		}
		return nil, err
	}
	// All users may have been revoked meanwhile. The script cannot see that: the key lies in
	// another slot.
	if !x.checked {
		err = s.checkGlobalRevocation(ctx, began)
	} else {
		err = s.global.check(began)
	}
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
	return x.finish(ctx, res)
}

// needsConfirmation reports whether a sign-in takes several steps, so that its last one confirms
// the session. An idle limit of about a minute needs no confirmation.
func needsConfirmation(in *driver.SignIn) bool {
	severalSteps := in.From != nil || in.MaxSessions > 0
	return severalSteps && in.Spec.Idle-unconfirmedFor > driver.TouchInterval(in.Spec.Idle)
}

// begin does what comes before the script that stores the session: it checks the global revocation,
// closes the old session, and reads the user's index.
func (x *signIn) begin(ctx context.Context) (err error) {
	if x.topology != cluster {
		err = x.beginInPipeline(ctx)
	} else if err = x.checkFirst(ctx); err == nil {
		if x.from, err = x.closeOld(ctx, x.id, x.in); err == nil {
			err = x.readEntries(ctx)
		}
	}
	if err != nil {
		return err
	}
	return x.limitKeys(ctx)
}

// readsGlobalFirst reports whether the sign-in reads the global revocation before its first step. A
// node with a near cache asks no server if the check after the last step is enough: there is no old
// session to close, and no session to end for the limit.
func (x *signIn) readsGlobalFirst() bool {
	return x.near == nil || x.in.From != nil || x.in.MaxSessions > 0
}

// checkFirst refuses a sign-in before its first step.
func (x *signIn) checkFirst(ctx context.Context) error {
	if x.readsGlobalFirst() {
		return x.checkGlobalRevocation(ctx, x.began)
	}
	if err := x.syncGlobalRevocation(ctx); err != nil {
		return err
	}
	return x.global.check(x.began)
}

// beginInPipeline is begin for a store whose keys are on one server. If the sign-in is refused, the
// old session was closed for nothing, and is opened again.
func (x *signIn) beginInPipeline(ctx context.Context) error {
	var calls []call
	var results []func(rueidis.RedisResult, time.Time) error
	e := readOnly
	if x.readsGlobalFirst() {
		calls = append(calls, call{command: x.getGlobalRevocation})
		results = append(results, func(res rueidis.RedisResult, _ time.Time) error { return x.learnGlobalRevocation(res) })
	} else if err := x.checkFirst(ctx); err != nil {
		return err
	}
	if x.in.From != nil && !x.ends.has(x.in.From.ID) {
		e = idempotent
		keys, args := x.leaveArgs(x.id, x.in)
		calls = append(calls, call{script: pipelinedMove, keys: keys, args: args})
		results = append(results, func(res rueidis.RedisResult, asked time.Time) error {
			x.dropCopy(x.in.From.ID)
			r, err := x.parseReply(res, asked)
			if err == nil {
				x.from, err = closedRecord(&r, x.in)
			}
			return err
		})
	}
	if read := x.indexCommand(); read != nil {
		calls = append(calls, call{command: read})
		results = append(results, func(res rueidis.RedisResult, _ time.Time) error { return x.parseEntries(res) })
	}
	if len(calls) == 0 {
		x.addOld()
		return nil
	}
	var replies []rueidis.RedisResult
	var asked time.Time
	err := x.withRetry(ctx, place(x.id.Bucket), e, func(ctx context.Context) error {
		got, at := x.pipeline(ctx, calls...)
		for i := range got {
			if err := got[i].Error(); err != nil && !rueidis.IsRedisNil(err) {
				return err
			}
		}
		replies, asked = got, at
		return nil
	})
	for i := 0; err == nil && i < len(results); i++ {
		err = results[i](replies[i], asked)
	}
	if err != nil {
		return err
	}
	x.addOld()
	return x.global.check(x.began)
}

// getGlobalRevocation builds the command that reads the global revocation.
func (s *Store) getGlobalRevocation(b rueidis.Builder) rueidis.Completed {
	return b.Get().Key(s.keys.globalRevocation()).Build()
}

// indexCommand builds the command that reads the part of the user's index that the sign-in needs.
// It is nil if the sign-in needs none.
func (x *signIn) indexCommand() func(rueidis.Builder) rueidis.Completed {
	switch {
	case x.in.MaxSessions > 0:
		return func(b rueidis.Builder) rueidis.Completed {
			return b.Zrange().Key(x.keys.index(x.owner)).Min("0").Max("-1").Withscores().Build()
		}
	case x.expiry.listening.Load() || x.id.Selector[0]%cleanEvery == 0: // the selector is random
		return x.sampleCommand(x.owner)
	}
	return nil
}

// sampleCommand builds the command that reads some random entries of a user's index.
func (s *Store) sampleCommand(owner driver.Hash) func(rueidis.Builder) rueidis.Completed {
	return func(b rueidis.Builder) rueidis.Completed {
		return b.Zrandmember().Key(s.keys.index(owner)).Count(cleanSample).Withscores().Build()
	}
}

// readEntries reads that part of the index.
func (x *signIn) readEntries(ctx context.Context) error {
	x.entries, x.version = nil, ""
	if read := x.indexCommand(); read != nil {
		var res rueidis.RedisResult
		err := x.withRetry(ctx, place(x.id.Bucket), readOnly, func(ctx context.Context) error {
			res = x.plain.Do(ctx, read(x.plain.B()))
			return res.Error()
		})
		if err == nil {
			err = x.parseEntries(res)
		}
		if err != nil {
			return err
		}
	}
	x.addOld()
	return nil
}

func (x *signIn) parseEntries(res rueidis.RedisResult) (err error) {
	x.entries, x.version, err = parseIndex(x.owner, res)
	if x.in.MaxSessions == 0 {
		x.version = "" // the index may change
	}
	return err
}

// old returns the name of the old session if it is the same user's, or "". The script that stores
// the new session replaces it.
func (x *signIn) old() string {
	if ownerOf(x.from) != x.owner {
		return ""
	}
	return x.in.From.ID.Selector.String()
}

// addOld adds the old session of the same user to the entries.
func (x *signIn) addOld() {
	old := x.old()
	if old != "" && !slices.ContainsFunc(x.entries, func(e indexEntry) bool { return e.name == old }) {
		x.entries = append(x.entries, indexEntry{name: old, id: x.in.From.ID})
	}
}

// store stores the new session. To keep a limit, the script makes the change only on the version of
// the index that was read.
func (x *signIn) store(ctx context.Context) (*driver.Result, error) {
	draft, err := driver.NewSignedIn(x.clock.now(), x.in, x.from)
	if err != nil {
		return nil, err
	}
	for {
		r, err := x.execSignIn(ctx, draft.Record)
		if err != nil {
			return nil, err
		}
		switch r.status {
		case "ok":
			return x.result(&r, draft)
		case "again":
			return &driver.Result{Now: x.clock.now(), Evicted: x.evicted}, nil
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
			if err := x.readEntries(ctx); err != nil {
				return nil, err
			}
			if err := x.limitKeys(ctx); err != nil {
				return nil, err
			}
		default:
			return nil, r.failure("session " + x.id.String())
		}
	}
}

// execSignIn runs signin.lua, and on one server it then reads the global revocation.
func (x *signIn) execSignIn(ctx context.Context, draft *driver.Record) (reply, error) {
	keys, args := x.scriptArgs(draft)
	var r reply // no result: a try that was left behind may still write it
	if x.topology == cluster {
		err := x.withRetry(ctx, place(x.id.Bucket), idempotent, func(ctx context.Context) (err error) {
			r, err = x.exec(ctx, x.plain, signInScript, keys, args)
			return err
		})
		if err != nil {
			return reply{}, err
		}
		return r, nil
	}
	calls := []call{{script: pipelinedSignIn, keys: keys, args: args}, {command: x.getGlobalRevocation}}
	var global rueidis.RedisResult
	err := x.withRetry(ctx, place(x.id.Bucket), idempotent, func(ctx context.Context) error {
		replies, asked := x.pipeline(ctx, calls...)
		got, err := x.parseReply(replies[0], asked)
		r, global = got, replies[1]
		return err
	})
	if err != nil {
		return reply{}, err
	}
	x.checked = x.learnGlobalRevocation(global) == nil
	return r, nil
}

// scriptArgs returns the keys and arguments of signin.lua.
func (x *signIn) scriptArgs(r *driver.Record) (keys, args []string) {
	first := x.in.Spec.Idle
	if needsConfirmation(x.in) {
		first = unconfirmedFor
	}
	limit := x.in.MaxSessions
	if limit > 0 {
		limit = max(1, limit-x.uncounted)
	}
	keys = make([]string, 0, signInKeys+len(x.entries))
	keys = append(keys, x.keys.record(x.id), x.keys.index(x.owner), x.keys.revocations(x.id.Bucket))
	for i := range x.entries {
		keys = append(keys, x.keys.record(x.entries[i].id))
	}
	values := driver.Encode(r)
	args = make([]string, 0, 14+2*len(values))
	args = append(args,
		driver.Hash(x.in.Spec.Secret).String(), x.in.Spec.Verifier.String(), strconv.Itoa(r.Size),
		milliseconds(x.in.Spec.Idle), milliseconds(x.in.Spec.Lifetime), milliseconds(first),
		x.version, strconv.FormatInt(x.began, 10), milliseconds(x.in.AuthenticatedAgo),
		strconv.Itoa(limit), digit(x.in.RefuseExtra), x.global.argument(), x.old(), "")
	for _, v := range values {
		switch v.Key {
		case "@s", "@l":
		case "@u": // the script knows the owner and sets the time
			args[13] = string(v.Value[nameWidth+timeWidth:])
		default:
			args = append(args, string(v.Key), string(v.Value))
		}
	}
	return keys, args
}

// result makes the result of a sign-in that was stored. The draft has all but the server's time.
func (x *signIn) result(r *reply, draft *driver.Result) (*driver.Result, error) {
	evicted, err1 := r.sessions(0, x.id.Bucket)
	expired, err2 := r.sessions(1, x.id.Bucket)
	if err1 != nil || err2 != nil {
		return nil, errReply
	}
	record, principal := *draft.Record, *draft.Record.Principal
	delay := r.now.Sub(record.Created)
	record.Created, record.Seen, record.Deadline = r.now, r.now, record.Deadline.Add(delay)
	principal.Authenticated = time.UnixMilli(max(0, r.now.UnixMilli()-x.in.AuthenticatedAgo.Milliseconds()))
	record.Principal = &principal
	if needsConfirmation(x.in) {
		record.Seen = record.Seen.Add(unconfirmedFor - record.Idle)
	}
	x.expiry.note(x.owner, expired, x.entries, r.now, x.ends.has)
	for _, old := range evicted {
		x.ends.add(old, x.owner)
		x.dropCopy(old)
	}
	x.expiry.watch(x.id, &record)
	if x.near != nil {
		x.near.learn(x.id)
	}
	return &driver.Result{
		Values: draft.Values, Record: &record, Now: r.now, Evicted: append(x.evicted, evicted...),
	}, nil
}

// finish replaces the old session by a "moved" marker, and confirms the new one. The script that
// stored the new session has already replaced an old session of the same user.
func (x *signIn) finish(ctx context.Context, res *driver.Result) (*driver.Result, error) {
	leaves := false
	if x.from != nil { // the old session is over now; its end is repeated if the last step fails
		x.ends.addMoved(x.in.From.ID, ownerOf(x.from))
		x.dropCopy(x.in.From.ID)
		leaves = x.old() == ""
	}
	confirms := needsConfirmation(x.in)
	if x.topology != cluster {
		return x.finishInPipeline(ctx, res, leaves, confirms)
	}
	if leaves {
		keys, args := x.leftArgs(x.id, x.in, ownerOf(x.from))
		_ = x.withRetry(ctx, place(x.in.From.ID.Bucket), idempotent, func(ctx context.Context) error {
			_, err := x.exec(ctx, x.plain, moveScript, keys, args)
			return err
		})
	}
	if !confirms {
		return res, nil
	}
	r, repeated, err := x.execTouch(ctx, x.id, x.in.Spec.Verifier)
	return x.confirmed(res, &r, repeated, err)
}

// finishInPipeline is finish for a store whose keys are on one server.
func (x *signIn) finishInPipeline(
	ctx context.Context, res *driver.Result, leaves, confirms bool,
) (*driver.Result, error) {
	var calls []call
	if leaves {
		keys, args := x.leftArgs(x.id, x.in, ownerOf(x.from))
		calls = append(calls, call{script: pipelinedMove, keys: keys, args: args})
	}
	if confirms {
		key := x.keys.record(x.id)
		calls = append(calls, call{
			script: pipelinedTouch, keys: []string{key, x.keys.revocationsOf(key)},
			args: []string{x.in.Spec.Verifier.String(), x.global.argument(), "0"},
		})
	}
	if len(calls) == 0 {
		return res, nil
	}
	var r reply
	tries := 0
	err := x.withRetry(ctx, place(x.id.Bucket), idempotent, func(ctx context.Context) error {
		tries++
		replies, asked := x.pipeline(ctx, calls...)
		got, err := x.parseReply(replies[len(replies)-1], asked)
		if err == nil && confirms && got.status == "ok" {
			got, err = got.withRevision()
		}
		r = got
		return err
	})
	if !confirms {
		return res, nil
	}
	if err != nil { // a try that was left behind may still write r and tries
		return x.confirmed(res, &reply{}, true, err)
	}
	return x.confirmed(res, &r, tries > 1, r.sessionError(x.id))
}

// confirmed returns the result of a sign-in after its confirmation, which replied r. res is the
// result of the step that stored the session.
func (x *signIn) confirmed(res *driver.Result, r *reply, repeated bool, err error) (*driver.Result, error) {
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
	if res.Record, err = res.Record.Touch(r.now, x.in.Spec.Verifier); err != nil {
		return nil, err
	}
	if repeated || res.Record.Revision != r.revision { // its last use is not known
		res.Record = nil
		return res, nil
	}
	x.expiry.watch(x.id, res.Record)
	return res, nil
}
