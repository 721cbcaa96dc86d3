package session

import (
	"fmt"
	"slices"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// view is what a request sees: the session as the store had it, and the request's own changes on
// top. It knows no store and has no lock; Session guards it. The zero view is that of a session
// that is not stored.
type view struct {
	record *driver.Record // as last read or committed; nil: not stored. Read-only
	now    time.Time      // the store's time when record was read
	readAt time.Time      // this process's time then; set only if somebody is signed in
	ahead  uint64         // commits since then whose answer did not have the record

	draft      *driver.Draft // the record with the request's changes; nil: no changes
	committing bool          // a commit of sending runs; ops are for the next one
	shrunk     int16         // index of the last of ops that made a value smaller; -1: none
	limit      int           // Config.MaxSize

	ops []driver.Op // the changes that are not committed yet

	sending []driver.Op   // the changes that are being committed
	base    *driver.Draft // draft without ops, once there are any while a commit runs
}

// rebase makes r the record under the changes that are not committed yet.
func (v *view) rebase(r *driver.Record, now time.Time) {
	v.record, v.now, v.ahead, v.draft = r, now, 0, nil
	if r != nil && r.Principal != nil { // only the age of an authentication needs it
		v.readAt = time.Now()
	}
	v.replay()
}

// replace is rebase while a commit runs: the changes of the commit stay on top of r, too.
func (v *view) replace(r *driver.Record, now time.Time) {
	later := v.ops
	v.ops, v.base = v.sending, nil
	v.rebase(r, now)
	v.ops = later
	if v.committing && len(later) > 0 {
		v.fork()
	}
	v.replay()
}

// hide forgets the record. The changes stay, and are what the request still sees.
func (v *view) hide() { v.edit(); v.record = nil }

// storeTime returns the store's time now, as far as it is known.
func (v *view) storeTime() time.Time { return v.now.Add(time.Since(v.readAt)) }

// revision returns the lowest revision that the stored record can have: that of the last commit or
// read.
func (v *view) revision() uint64 { return v.record.Revision + v.ahead }

// signedIn reports whether somebody is signed in.
func (v *view) signedIn() bool { return v.record != nil && v.record.Principal != nil }

// fields returns the values as the request sees them.
func (v *view) fields() driver.Fields {
	switch {
	case v.draft != nil:
		return v.draft.Fields()
	case v.record != nil:
		return v.record.Fields
	}
	return nil
}

// stored returns a value as the store has it, without the changes of the request.
func (v *view) stored(k driver.Key) ([]byte, bool) {
	if v.record == nil {
		return nil, false
	}
	return v.record.Fields.Get(k)
}

// snapshot returns the values, safe to read while the request goes on changing them.
func (v *view) snapshot() driver.Fields {
	if v.draft == nil {
		return v.fields()
	}
	return append(driver.Fields(nil), v.draft.Fields()...)
}

// change applies op to the view and keeps it for the commit.
func (v *view) change(op driver.Op) error {
	if len(v.ops) >= driver.MaxOps {
		return fmt.Errorf("%w: field %q: a commit has at most %d operations: commit more often",
			ErrTooLarge, op.Key, driver.MaxOps)
	}
	if v.committing && v.base == nil {
		v.fork()
	}
	v.edit()
	before := v.sizeOf(op.Key)
	value, err := v.draft.Do(&op)
	if err != nil {
		return fromOp(err)
	}
	v.buffer(op, v.sizeAfter(&op, value)-before)
	return nil
}

func (v *view) edit() {
	if v.draft == nil {
		v.newDraft()
	}
}

// newDraft makes the draft that of the record, without changes.
func (v *view) newDraft() {
	d := driver.NewDraft(v.record, v.limit)
	v.draft = &d
}

// fork keeps the draft as the running commit will leave it.
func (v *view) fork() {
	fields := v.snapshot()
	base := driver.NewDraft(&driver.Record{Fields: fields, Size: fields.Size()}, v.limit)
	v.base = &base
}

// sizeOf returns how many bytes the value under k takes.
func (v *view) sizeOf(k driver.Key) int {
	if value, ok := v.draft.Fields().Get(k); ok {
		return len(k) + len(value)
	}
	return 0
}

// sizeAfter is sizeOf for the value that op has changed. value is the draft's answer to op. It does
// not read the draft if op tells the answer: see driver.Draft.
func (v *view) sizeAfter(op *driver.Op, value []byte) int {
	switch op.Kind {
	case driver.Set:
		return len(op.Key) + len(op.Value)
	case driver.Add:
		return len(op.Key) + len(value)
	}
	return v.sizeOf(op.Key)
}

// buffer keeps op. It replaces an earlier operation on the same value if the result is the same:
// a loop of changes to one value is one operation. grown is by how many bytes op made the value
// grow. An operation that needs room never moves before one that made room, or the store would
// refuse the change.
func (v *view) buffer(op driver.Op, grown int) {
	switch op.Kind {
	case driver.Clear:
		v.ops, v.shrunk = append(v.ops[:0], op), 0
		return
	case driver.UnsetEntries:
		v.dropEntries(string(op.Key))
	}
	at := v.mergeable(&op, grown)
	if at == len(v.ops) {
		v.ops = append(v.ops, op)
	} else if before := &v.ops[at]; op.Kind == driver.Add {
		before.Delta += op.Delta
	} else {
		*before = op
	}
	if grown < 0 {
		v.shrunk = max(v.shrunk, int16(at))
	}
}

// dropEntries drops the operations on entries of a field that is about to be cleared.
func (v *view) dropEntries(field string) {
	v.ops = slices.DeleteFunc(v.ops, func(op driver.Op) bool {
		of, _, isEntry := op.Key.Split()
		return of == field && (isEntry || op.Kind == driver.UnsetEntries)
	})
	v.shrunk = int16(len(v.ops) - 1)
}

// mergeable returns the index of the operation that op can be merged into, or len(v.ops).
func (v *view) mergeable(op *driver.Op, grown int) int {
	if len(v.ops) == 0 {
		v.shrunk = -1
	}
	for i := len(v.ops) - 1; i >= 0; i-- {
		before := &v.ops[i]
		if before.Kind == driver.Clear || before.Kind == driver.UnsetEntries || op.Kind == driver.UnsetEntries {
			break
		}
		if before.Key != op.Key {
			continue
		}
		if grown > 0 && i <= int(v.shrunk) && i < len(v.ops)-1 {
			break
		}
		sum := before.Delta + op.Delta
		if op.Kind == driver.Set || op.Kind == driver.Unset ||
			op.Kind == driver.Add && before.Kind == driver.Add && (sum > before.Delta) == (op.Delta > 0) {
			return i
		}
		break
	}
	return len(v.ops)
}

// begin hands out the changes for a commit. Changes that are made while it runs belong to the
// next one. settle, restore or end ends the commit.
func (v *view) begin() []driver.Op {
	v.committing, v.sending, v.ops = true, v.ops, nil
	return v.sending
}

// settle makes the view what the store's answer says of ops, where the store does not have the
// whole record at hand.
func (v *view) settle(ops []driver.Op, res *driver.Result) {
	base := v.base
	v.end()
	v.ahead++
	if base == nil {
		v.edit()
		v.set(ops, res)
		return
	}
	v.draft = base
	v.set(ops, res)
	v.replay()
}

// settleUnder is settle on a record that was read after the commit.
func (v *view) settleUnder(ops []driver.Op, res *driver.Result) {
	v.newDraft()
	v.set(ops, res)
	v.replay()
}

// set makes the draft what ops and the store's answer to them say. The store has checked the
// operations, so the draft's errors do not matter.
func (v *view) set(ops []driver.Op, res *driver.Result) {
	for i := range ops {
		op := driver.Op{Kind: ops[i].Kind, Key: ops[i].Key, Value: ops[i].Value}
		switch {
		case op.Kind == driver.Add && i < len(res.Values) && res.Values[i] != nil:
			op.Kind, op.Value = driver.Set, res.Values[i]
		case op.Kind == driver.Add, op.Kind == driver.Limit:
			continue
		case op.Kind == driver.Swap && op.Value != nil:
			op.Kind = driver.Set
		case op.Kind == driver.Swap, op.Kind == driver.Take:
			op.Kind = driver.Unset
		}
		_, _ = v.draft.Do(&op)
	}
}

// restore takes back a commit that failed: its changes are again not committed.
func (v *view) restore() {
	if len(v.ops) == 0 {
		v.ops = v.sending
	} else {
		v.ops = append(v.sending, v.ops...)
		v.shrunk = int16(len(v.ops) - 1)
	}
	v.end()
}

// end ends a commit whose answer has the record. rebase follows.
func (v *view) end() { v.committing, v.sending, v.base = false, nil, nil }

// replay makes the changes that are not committed yet on the record. The commit will refuse what
// does not fit.
func (v *view) replay() {
	if len(v.ops) == 0 {
		return
	}
	v.edit()
	for i := range v.ops {
		_, _ = v.draft.Do(&v.ops[i])
	}
}

// discard drops the changes that are not committed.
func (v *view) discard() { v.ops, v.draft = nil, nil }
