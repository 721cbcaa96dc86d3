package migrate

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// ledger remembers which old sessions were moved, and which users were revoked. An old session that
// was moved must not be moved again after the new one has ended, also if it cannot be deleted, as
// one in a cookie. The entries are records of the sessions' own store, so they are shared by all
// nodes and outlive a restart. No token opens them: nobody has their verifiers.
type ledger struct {
	store   driver.Store
	userKey []byte
}

// entryField is the field of an entry.
const entryField driver.Key = "migrated"

// Bounds of how long an entry lives.
const (
	leastEntry = time.Hour
	mostEntry  = 400 * 24 * time.Hour
)

// idOf returns the id of the entry of a subject.
func idOf(key []byte, kind, subject string) driver.ID {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("coatcheck/1 migrate " + kind + "\x00" + subject))
	sum := mac.Sum(nil)
	return driver.ID{Bucket: binary.BigEndian.Uint16(sum), Selector: driver.Hash(sum[2:18])}
}

// What is in the ledger in place of a handle.
const (
	pendingHandle = "?" // the move has begun, and may be done
	refusedHandle = ""  // the session could not be moved, and counts as not moved
	overHandle    = "-" // no session continues the old one, because the user was revoked
)

// moved returns the handle of the session that continues an old one, "" if it was not moved, and
// pendingHandle if its move was not completed.
func (l ledger) moved(ctx context.Context, secret string) (string, error) {
	handle, _, err := read[string](ctx, l.store, idOf(nil, "session", secret))
	return handle, err
}

// begin notes that an old session is about to be moved. If the rest fails, the visitor's next
// request knows that it has to be completed. What was noted first stays, but for a move that was
// refused.
func (l ledger) begin(ctx context.Context, secret string, until time.Time) error {
	id := idOf(nil, "session", secret)
	err := l.create(ctx, id, pendingHandle, until)
	if errors.Is(err, driver.ErrExists) {
		return l.replace(ctx, id, refusedHandle, pendingHandle)
	}
	return err
}

// setMoved notes that a session continues an old one, after begin. What was noted first stays.
func (l ledger) setMoved(ctx context.Context, secret, handle string) error {
	return l.replace(ctx, idOf(nil, "session", secret), pendingHandle, handle)
}

// replace changes an entry. It does nothing if the entry is not old: another request was faster, or
// the entry has expired, and the old session with it.
func (l ledger) replace(ctx context.Context, id driver.ID, old, handle string) error {
	noted, r, err := read[string](ctx, l.store, id)
	if err != nil || r == nil || noted != old {
		return err
	}
	swap := driver.Op{Kind: driver.Swap, Key: entryField, Old: entryText(old), Value: entryText(handle)}
	_, err = l.store.Apply(ctx, id, &driver.Change{Verifier: r.Tokens.Current, Ops: []driver.Op{swap}})
	if op := (*driver.OpError)(nil); errors.As(err, &op) {
		return nil
	}
	return err
}

// revoked returns when the user's sessions were revoked, zero if they were not.
func (l ledger) revoked(ctx context.Context, user string) (time.Time, error) {
	at, _, err := read[time.Time](ctx, l.store, idOf(l.userKey, "user", user))
	return at, err
}

// setRevoked notes that the user's sessions are revoked now.
func (l ledger) setRevoked(ctx context.Context, user string, until time.Time) error {
	id := idOf(l.userKey, "user", user)
	for range 3 {
		at := time.Now()
		err := l.create(ctx, id, at, until)
		if !errors.Is(err, driver.ErrExists) {
			return err
		}
		// The entry lives as long as it was going to: an older old session has expired by then.
		_, r, err := read[time.Time](ctx, l.store, id)
		if err != nil || r == nil {
			continue
		}
		_, err = l.store.Apply(ctx, id, &driver.Change{Verifier: r.Tokens.Current, Ops: []driver.Op{setEntry(at)}})
		if !errors.Is(err, driver.ErrNotFound) {
			return err
		}
	}
	return errors.New("migrate: the revocation of a user could not be noted")
}

// create stores an entry.
func (l ledger) create(ctx context.Context, id driver.ID, value any, until time.Time) error {
	life := min(max(time.Until(until), leastEntry), mostEntry)
	spec := driver.RecordSpec{Idle: life, Lifetime: life}
	rand.Read(spec.Secret[:])
	rand.Read(spec.Verifier[:]) // the hash of nothing that anybody knows
	_, err := l.store.Create(ctx, id, &spec, &driver.Change{Ops: []driver.Op{setEntry(value)}})
	return err
}

func setEntry(value any) driver.Op {
	return driver.Op{Kind: driver.Set, Key: entryField, Value: entryText(value)}
}

// entryText returns a string or a time as entries hold it.
func entryText(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // not reached: these types always encode
	}
	return text
}

// read returns the value of an entry and its record, or the zero value and nil.
func read[T any](ctx context.Context, store driver.Store, id driver.ID) (value T, r *driver.Record, err error) {
	if fresh, ok := store.(driver.FreshLoader); ok {
		r, _, err = fresh.LoadFresh(ctx, id)
	} else {
		r, _, err = store.Load(ctx, id)
	}
	switch {
	case errors.Is(err, driver.ErrNotFound):
		return value, nil, nil
	case err != nil:
		return value, nil, err
	}
	text, _ := r.Fields.Get(entryField)
	if err := json.Unmarshal(text, &value); err != nil {
		return value, nil, fmt.Errorf("migrate: an entry of the ledger does not decode: %w", err)
	}
	return value, r, nil
}
