package driver

import (
	"errors"
	"fmt"
)

// Change is what one commit does: all of it or nothing.
type Change struct {
	// Verifier is the hash of the verifier that the request presented. A record that does not accept it refuses the change
	// with ErrMoved.
	Verifier Hash
	Ops      []Op     // in order, each on what the ones before it left
	Renew    *Renewal // nil: the token stays
	MaxSize  int      // bytes of all keys and values after the change; 0: DefaultMaxSize
}

// Limits of one session and of one change.
const (
	DefaultMaxSize = 64 << 10 // bytes of all keys and values
	MaxFields      = 1024     // values of one record, entries of maps counted one by one
	MaxOps         = 4096     // operations of one change
)

// Op is one operation on one value.
type Op struct {
	Kind   Kind
	Key    Key    // of UnsetEntries the field; of Clear empty
	Value  []byte // Set; Swap: nil unsets
	Old    []byte // Swap: the bytes that must be there, nil for none
	Delta  int64  // Add
	Within *Range // Add: the result must lie within; nil: any int64
}

// Check reports what is wrong with op whatever it is applied to. The error wraps [ErrName] or [ErrOp].
func (op *Op) Check() error {
	if op.Kind != Clear {
		if err := op.Key.Check(); err != nil {
			return err
		}
	}
	switch op.Kind {
	case Set:
		if op.Value == nil {
			return fmt.Errorf("%w: set without a value", ErrOp)
		}
	case UnsetEntries:
		if _, _, isEntry := op.Key.Split(); isEntry {
			return fmt.Errorf("%w: unset-entries takes the name of a field", ErrOp)
		}
	case Unset, Clear, Add, Take, Swap:
	default:
		return fmt.Errorf("%w: %v", ErrOp, op.Kind)
	}
	return nil
}

// Check reports what is wrong with c whatever it is applied to: an *[OpError]. A store refuses such a change before it looks at the
// record.
func (c *Change) Check() error {
	if len(c.Ops) > MaxOps {
		return &OpError{Index: MaxOps, Err: errTooManyOps}
	}
	for i := range c.Ops {
		if err := c.Ops[i].Check(); err != nil {
			return &OpError{Index: i, Key: c.Ops[i].Key, Err: err}
		}
	}
	return nil
}

var errTooManyOps = fmt.Errorf("%w: a change has at most %d operations: commit more often", ErrTooLarge, MaxOps)

// Range is a closed interval.
type Range struct{ Min, Max int64 }

// Kind says what an Op does.
type Kind uint8

// The zero Kind is none, so that a forgotten one is refused.
const (
	Set          Kind = iota + 1 // the value becomes Value
	Unset                        // there is no value
	UnsetEntries                 // the map has no entries
	Clear                        // the record has no values
	Add                          // the integer there, or 0, grows by Delta
	Take                         // the value is removed and returned
	Swap                         // the value becomes Value if it is Old
)

var kindNames = [...]string{Set: "set", Unset: "unset", UnsetEntries: "unset-entries", Clear: "clear", Add: "add", Take: "take", Swap: "swap"}

// String returns the name that formats and messages use.
func (k Kind) String() string {
	if k >= Set && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// OpError says which operation of a change was refused, and why. Nothing of the change was applied.
type OpError struct {
	Index   int
	Key     Key
	Err     error  // ErrConflict, ErrNotInteger, ErrOverflow, ErrTooLarge, ErrName or ErrOp, with more text
	Present []byte // ErrConflict: the value that is there, nil if none
}

func (e *OpError) Error() string {
	field, entry, isEntry := e.Key.Split()
	if isEntry {
		return fmt.Sprintf("field %q, entry %q: %v", field, entry, e.Err)
	}
	if field == "" {
		return fmt.Sprintf("operation %d: %v", e.Index, e.Err)
	}
	return fmt.Sprintf("field %q: %v", field, e.Err)
}

func (e *OpError) Unwrap() error { return e.Err }

// Why a store refuses an operation.
var (
	ErrConflict   = errors.New("another value is there")                   // Swap, Add out of its range
	ErrNotInteger = errors.New("the value there is not an integer")        // Add
	ErrOverflow   = errors.New("the sum does not fit 64 bits")             // Add
	ErrTooLarge   = errors.New("the session would be over its size limit") // anything that grows
	ErrOp         = errors.New("bad operation")                            // a kind that is none, or lacks what it needs
)
