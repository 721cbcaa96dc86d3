package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/coatcheck-go/session/driver"
)

// AddWithin adds n, which may be negative, unless the count would leave the range from least to
// most. It returns the new count. The store decides, so the bounds hold for concurrent requests:
// use it for stock, seats or attempts. A count that is out of the range already may come closer:
// after a join, or after you have lowered the limit. AddWithin commits the request's other changes
// in the same step.
//
// Errors: [ErrLimit] if the count would leave the bounds, with the present count; those of
// [Session.Commit]. After ErrLimit nothing was stored. The other changes are still pending, and the
// session takes more of them.
func (c Counter) AddWithin(ctx context.Context, s *Session, n, least, most int64) (int64, error) {
	return addWithin(ctx, s, driver.Op{Kind: driver.Add, Key: fieldKey(c), Delta: n, Within: &driver.Range{Min: least, Max: most}})
}

// AddWithin is [Counter.AddWithin] for the count of key. It also returns [ErrLimit] if it would
// add a key, and there would be more than entries keys. A key with a count of 0 is an entry, too,
// until Delete removes it.
func (c Counters) AddWithin(ctx context.Context, s *Session, key string, n, least, most int64, entries int) (int64, error) {
	return addWithin(ctx, s,
		driver.Op{Kind: driver.Add, Key: entryKey(c, key), Delta: n, Within: &driver.Range{Min: least, Max: most}},
		driver.Op{Kind: driver.Limit, Key: fieldKey(c), Most: entries})
}

// SetWithin sets an entry, unless the map would get a new entry and have more than entries of them.
// The store decides, so the limit holds for concurrent requests. An entry that is there can always
// be set. SetWithin commits the request's other changes in the same step. New entries among them
// count, too.
//
// Errors: [ErrLimit] if the map has too many entries; those of [Session.Commit]. After ErrLimit
// nothing was stored. The other changes are still pending, and the session takes more of them.
func (m Map[T]) SetWithin(ctx context.Context, s *Session, key string, t T, entries int) error {
	b, ok := encode(s, m.key(key), t)
	if !ok {
		return s.Commit(ctx) // returns the error of encode
	}
	_, err := s.bounded(ctx, driver.Op{Kind: driver.Set, Key: m.key(key), Value: b},
		driver.Op{Kind: driver.Limit, Key: fieldKey(m), Most: entries})
	return err
}

func addWithin(ctx context.Context, s *Session, ops ...driver.Op) (int64, error) {
	b, err := s.bounded(ctx, ops...)
	if errors.Is(err, ErrLimit) {
		return count(s, ops[0].Key), err
	}
	n, _ := driver.ParseInt(b)
	return n, err
}

// bounded commits ops together with the pending changes, and returns the value of the first one. If
// the store refuses one of ops because of a limit, the view is read anew, without ops.
func (s *Session) bounded(ctx context.Context, ops ...driver.Op) ([]byte, error) {
	s.lock()
	defer s.unlock(ctx)
	first := &ops[0]
	err := s.canSend(first.Key)
	if err != nil {
		return nil, err
	}
	if first.Kind == driver.Set {
		if first.Value, err = s.identity.seal(first.Key, first.Value); err != nil {
			s.outcome.fail(err)
			return nil, s.outcome.returned(err)
		}
	}
	at := len(s.view.ops)
	res, err := s.send(ctx, nil, ops...)
	if refused := refusedOp(err, at); refused != nil {
		if s.state == live {
			s.reread(ctx)
		}
		return nil, overLimit(&ops[refused.Index-at])
	}
	if err != nil {
		return nil, s.outcome.returned(err)
	}
	if at < len(res.Values) {
		return res.Values[at], nil
	}
	return nil, nil
}

// overLimit says which limit op would exceed.
func overLimit(op *driver.Op) error {
	name, entry, isEntry := op.Key.Split()
	what := fmt.Sprintf("field %q", name)
	if isEntry {
		what += fmt.Sprintf(", entry %q", entry)
	}
	if op.Kind == driver.Limit {
		return fmt.Errorf("%w: %s: at most %d entries are allowed: delete one first", ErrLimit, what, op.Most)
	}
	return fmt.Errorf("%w: %s: with %+d the count would not be from %d to %d",
		ErrLimit, what, op.Delta, op.Within.Min, op.Within.Max)
}
