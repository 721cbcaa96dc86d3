package storetest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// kit is what a case works with: a new store, and helpers that call it.
type kit struct {
	*testing.T
	h     *Harness
	store driver.Store
	clock *visitor // the session that now loads

	attempt *attempt // nil: a failure counts in any case
}

// visitor is a session as its browser knows it, by hashes.
type visitor struct {
	id       driver.ID
	secret   driver.Secret
	verifier driver.Hash
}

// with returns v with another token.
func (v visitor) with(verifier driver.Hash) visitor {
	v.verifier = verifier
	return v
}

func newVisitor() visitor {
	v := visitor{secret: driver.Secret(newHash()), verifier: newHash()}
	v.id.Selector = newHash()
	v.id.Bucket = uint16(v.id.Selector[0]) << 8
	return v
}

func newHash() driver.Hash {
	var b [16]byte
	rand.Read(b[:])
	return driver.HashOf(b[:])
}

// Limits for cases that are not about time.
const (
	longIdle     = 2 * time.Hour
	longLifetime = 24 * time.Hour
)

func (v visitor) spec(idle, lifetime time.Duration) *driver.RecordSpec {
	return &driver.RecordSpec{Secret: v.secret, Verifier: v.verifier, Idle: idle, Lifetime: lifetime}
}

func (v visitor) change(ops ...driver.Op) *driver.Change {
	return &driver.Change{Verifier: v.verifier, Ops: ops}
}

// create stores a session with long limits.
func (k *kit) create(ops ...driver.Op) visitor {
	k.Helper()
	return k.createFor(longIdle, longLifetime, ops...)
}

// tryCreate stores a session with long limits, or returns why the store refuses it.
func (k *kit) tryCreate(v visitor, ops ...driver.Op) (*driver.Result, error) {
	return k.store.Create(k.Context(), v.id, v.spec(longIdle, longLifetime), v.change(ops...))
}

// createFor stores a session with these limits.
func (k *kit) createFor(idle, lifetime time.Duration, ops ...driver.Op) visitor {
	k.Helper()
	v := newVisitor()
	res, err := k.store.Create(k.Context(), v.id, v.spec(idle, lifetime), v.change(ops...))
	if err != nil {
		k.Fatalf("Create: %v", err)
	}
	k.mustMatchStored(v, res)
	return v
}

// load returns the record of a session that must exist.
func (k *kit) load(v visitor) *driver.Record {
	k.Helper()
	r, _ := k.loadAt(v)
	return r
}

// loadAt is load, and also returns the store's time.
func (k *kit) loadAt(v visitor) (*driver.Record, time.Time) {
	k.Helper()
	r, now, err := k.store.Load(k.Context(), v.id)
	if err != nil {
		k.Fatalf("Load: %v", err)
	}
	if r == nil {
		k.Fatal("Load: neither a record nor an error")
	}
	if now.IsZero() {
		k.Error("Load: the store's time is missing")
	}
	return r, now
}

// apply makes a change that must succeed. Nothing else changes the session in the meantime.
func (k *kit) apply(v visitor, ops ...driver.Op) *driver.Result {
	k.Helper()
	return k.applyChange(v, v.change(ops...))
}

func (k *kit) applyChange(v visitor, c *driver.Change) *driver.Result {
	k.Helper()
	res, err := k.store.Apply(k.Context(), v.id, c)
	if err != nil {
		k.Fatalf("Apply: %v", err)
	}
	k.mustMatchStored(v, res)
	return res
}

// mustMatchStored compares the result of a change with the record that the store then has.
func (k *kit) mustMatchStored(v visitor, res *driver.Result) {
	k.Helper()
	if res == nil {
		k.Fatal("neither a result nor an error")
	}
	if res.Now.IsZero() {
		k.Error("Result.Now is missing")
	}
	if r := k.load(v); res.Record != nil && !same(res.Record, r) {
		k.Errorf("Result.Record is    %s\nthe stored record is %s", text(res.Record), text(r))
	}
}

// mustRefuse makes a change that must be refused with this error and have no effect.
func (k *kit) mustRefuse(v visitor, want error, c *driver.Change) error {
	k.Helper()
	before := k.load(v)
	res, err := k.store.Apply(k.Context(), v.id, c)
	if !errors.Is(err, want) {
		k.Errorf("Apply: %v, want %v", err, want)
	}
	if res != nil {
		k.Error("Apply returned a result and an error")
	}
	if after := k.load(v); !same(before, after) {
		k.Errorf("a refused change had an effect:\nbefore %s\nafter  %s", text(before), text(after))
	}
	return err
}

// mustRefuseOp is mustRefuse with an *driver.OpError for the operation at index.
func (k *kit) mustRefuseOp(v visitor, want error, index int, ops ...driver.Op) *driver.OpError {
	k.Helper()
	err := k.mustRefuse(v, want, v.change(ops...))
	var op *driver.OpError
	if !errors.As(err, &op) {
		k.Fatalf("the error is a %T, want a *driver.OpError", err)
	}
	if op.Index != index || op.Key != ops[index].Key {
		k.Errorf("the error is for operation %d on %q, want operation %d on %q", op.Index, op.Key, index, ops[index].Key)
	}
	return op
}

// mustBeEnded checks that no method finds the session and that none brings it back.
func (k *kit) mustBeEnded(v visitor) {
	k.Helper()
	k.mustBeEndedIn(k.store, v)
}

func (k *kit) mustBeEndedIn(s driver.Store, v visitor) {
	k.Helper()
	mustNotLoad := func(after string) {
		k.Helper()
		if r, _, err := s.Load(k.Context(), v.id); !errors.Is(err, driver.ErrNotFound) || r != nil {
			k.Errorf("Load %s: record %v, error %v, want no record and ErrNotFound", after, r != nil, err)
		}
	}
	mustNotLoad("at first")
	if _, err := s.Apply(k.Context(), v.id, v.change(set("late", `1`))); !errors.Is(err, driver.ErrNotFound) {
		k.Errorf("Apply: %v, want ErrNotFound", err)
	}
	mustNotLoad("after Apply")
	if err := s.Touch(k.Context(), v.id, v.verifier); !errors.Is(err, driver.ErrNotFound) {
		k.Errorf("Touch: %v, want ErrNotFound", err)
	}
	mustNotLoad("after Touch")
	renew := &driver.Change{Verifier: v.verifier, Renew: &driver.Renewal{Verifier: newHash()}}
	if _, err := s.Apply(k.Context(), v.id, renew); !errors.Is(err, driver.ErrNotFound) {
		k.Errorf("Apply with a renewal: %v, want ErrNotFound", err)
	}
	mustNotLoad("after a renewal")
}

func (k *kit) end(v visitor) {
	k.Helper()
	if err := k.store.End(k.Context(), v.id); err != nil {
		k.Fatalf("End: %v", err)
	}
}

func (k *kit) touch(v visitor) {
	k.Helper()
	if err := k.store.Touch(k.Context(), v.id, v.verifier); err != nil {
		k.Fatalf("Touch: %v", err)
	}
}

// wait waits for d by the store's clock.
func (k *kit) wait(d time.Duration) {
	k.Helper()
	if d <= 0 {
		return
	}
	k.planned(d)
	k.sleep(d)
}

// sleep is wait for goroutines beside the case's own.
func (k *kit) sleep(d time.Duration) {
	k.Helper()
	if k.h.Wait != nil {
		k.h.Wait(k.T, d)
		return
	}
	time.Sleep(d)
}

// mustHave checks that the session has exactly these values: keys and values alternate, in any
// order.
func (k *kit) mustHave(v visitor, keysAndValues ...string) {
	k.Helper()
	k.mustHaveValues(k.load(v), keysAndValues...)
}

func (k *kit) mustHaveValues(r *driver.Record, keysAndValues ...string) {
	k.Helper()
	want := driver.Fields{}
	for i := 0; i < len(keysAndValues); i += 2 {
		want = append(want, driver.Field{Key: driver.Key(keysAndValues[i]), Value: []byte(keysAndValues[i+1])})
	}
	slices.SortFunc(want, func(a, b driver.Field) int { return bytes.Compare([]byte(a.Key), []byte(b.Key)) })
	if !slices.EqualFunc(r.Fields, want, sameField) {
		k.Errorf("the values are %s\nwant           %s", fieldsText(r.Fields), fieldsText(want))
	}
	if r.Size != want.Size() {
		k.Errorf("Size is %d, want %d", r.Size, want.Size())
	}
}

// same reports whether two records are equal when they are encoded.
func same(a, b *driver.Record) bool {
	return slices.EqualFunc(driver.Encode(a), driver.Encode(b), sameField)
}

func sameField(a, b driver.Field) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) }

func text(r *driver.Record) string { return fieldsText(driver.Encode(r)) }

func fieldsText(f []driver.Field) string {
	var b bytes.Buffer
	for _, f := range f {
		fmt.Fprintf(&b, "%.60q=%.60q ", f.Key, f.Value)
	}
	return b.String()
}

// The operations, in short form.

func set(k driver.Key, v string) driver.Op {
	return driver.Op{Kind: driver.Set, Key: k, Value: []byte(v)}
}
func unset(k driver.Key) driver.Op        { return driver.Op{Kind: driver.Unset, Key: k} }
func unsetEntries(f driver.Key) driver.Op { return driver.Op{Kind: driver.UnsetEntries, Key: f} }
func clearAll() driver.Op                 { return driver.Op{Kind: driver.Clear} }
func add(k driver.Key, n int64) driver.Op { return driver.Op{Kind: driver.Add, Key: k, Delta: n} }
func take(k driver.Key) driver.Op         { return driver.Op{Kind: driver.Take, Key: k} }
func swap(k driver.Key, o, v any) driver.Op {
	return driver.Op{Kind: driver.Swap, Key: k, Old: maybe(o), Value: maybe(v)}
}

func addWithin(k driver.Key, n, from, to int64) driver.Op {
	return driver.Op{Kind: driver.Add, Key: k, Delta: n, Within: &driver.Range{Min: from, Max: to}}
}

func limit(f driver.Key, most int) driver.Op {
	return driver.Op{Kind: driver.Limit, Key: f, Most: most}
}

// maybe returns the bytes of a string, and nil for nil.
func maybe(v any) []byte {
	if v == nil {
		return nil
	}
	return []byte(v.(string))
}
