package driver

import (
	"errors"
	"fmt"
	"slices"
)

// Change is what one commit does: all of it or nothing.
type Change struct {
	// Verifier is the hash of the verifier in the request's token. A record that does not accept it
	// refuses the change with ErrMoved.
	Verifier Hash

	// Issued says that the request with this change issued the token with Verifier itself, when it
	// created or renewed the record. So its uses of Verifier do not show that the client has
	// received the token.
	Issued bool

	Ops     []Op     // applied in order, each to the outcome of the one before
	Renew   *Renewal // nil: the token stays
	MaxSize int      // limit on the size after the change; 0: DefaultMaxSize
}

// Limits of one session and of one change.
const (
	DefaultMaxSize = 64 << 10 // bytes of all keys and values
	MaxFields      = 1024     // values of one record; each entry of a map counts
	MaxOps         = 4096     // operations of one change

	maxLimit = 1<<31 - 1 // of Op.Most
)

// Op is one operation on one value.
type Op struct {
	Kind   Kind
	Key    Key    // UnsetEntries, Limit: the field; Clear: empty
	Value  []byte // Set: the new value; Swap: the new value, nil to unset it
	Old    []byte // Swap: the value that must be present; nil: there must be none
	Delta  int64  // Add
	Within *Range // Add: bounds of the sum, see Range; nil: those of int64
	Most   int    // Limit: the entries that the map may have
}

// Check returns an error if op is invalid for every record. The error wraps [ErrName] or [ErrOp].
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
	case UnsetEntries, Limit:
		if _, _, isEntry := op.Key.Split(); isEntry {
			return fmt.Errorf("%w: %v takes the name of a field", ErrOp, op.Kind)
		}
		if op.Kind == Limit && (op.Most < 0 || op.Most > maxLimit) {
			return fmt.Errorf("%w: a limit of %d entries", ErrOp, op.Most)
		}
	case Unset, Clear, Add, Take, Swap:
	default:
		return fmt.Errorf("%w: %v", ErrOp, op.Kind)
	}
	return nil
}

// shown returns the verifier that the client has shown; zero if c.Issued is set.
func (c *Change) shown() Hash {
	if c.Issued {
		return Hash{}
	}
	return c.Verifier
}

// plain reports that c stores no sealed value.
func (c *Change) plain() bool {
	return !slices.ContainsFunc(c.Ops, func(op Op) bool { return isSealed(op.Value) })
}

// Check returns an *[OpError] if c is invalid for every record. A store refuses such a change
// before it reads the record.
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

// Range is a closed interval for the sum of an Add: both bounds belong to it. A count that is out
// of the range already may come closer, but not pass the other bound.
type Range struct{ Min, Max int64 }

// Kind says what an Op does.
type Kind uint8

// The zero Kind is invalid, so that an Op without a Kind is refused.
const (
	Set          Kind = iota + 1 // set the value to Value
	Unset                        // remove the value
	UnsetEntries                 // remove all entries of the map
	Clear                        // remove all values of the record
	Add                          // add Delta to the integer, which is 0 if unset
	Take                         // remove the value and return it
	Swap                         // set the value to Value if it is Old

	// Limit refuses the change if the map has more than Most entries, and has one that it did not
	// have before the change. Later operations do not matter. So a map that is over its limit can
	// shrink, and its entries can change.
	Limit
)

var kindNames = [...]string{
	Set: "set", Unset: "unset", UnsetEntries: "unset-entries", Clear: "clear", Add: "add", Take: "take", Swap: "swap",
	Limit: "limit",
}

// String returns the name that formats and messages use.
func (k Kind) String() string {
	if k >= Set && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// OpError says which operation of a change was refused, and why. No operation of the change was
// applied.
type OpError struct {
	Index int
	Key   Key
	// Err wraps ErrConflict, ErrNotInteger, ErrOverflow, ErrFull, ErrTooLarge, ErrName or ErrOp.
	Err     error
	Present []byte // ErrConflict: the present value; nil: there is none
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

// Errors of a refused operation.
var (
	// ErrConflict: Swap found another value than Old, or the sum of Add is not in Within.
	ErrConflict = errors.New("another value is present")
	// ErrNotInteger: Add.
	ErrNotInteger = errors.New("the present value is not an integer")
	// ErrOverflow: Add.
	ErrOverflow = errors.New("the sum does not fit in 64 bits")
	// ErrFull: Limit.
	ErrFull = errors.New("the map would have too many entries")
	// ErrTooLarge: an operation that adds bytes or values.
	ErrTooLarge = errors.New("the session would be over its size limit")
	// ErrOp: the kind is unknown, or an operand is missing.
	ErrOp = errors.New("invalid operation")
)
