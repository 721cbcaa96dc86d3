package sessiontest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Op is a kind of call to a store, named after its method in package driver.
type Op string

// The kinds of calls, and what makes them.
const (
	OpLoad     Op = "Load"     // session.From, and Reload
	OpCreate   Op = "Create"   // the first change of a visitor without a session
	OpApply    Op = "Apply"    // every other change, and Renew
	OpTouch    Op = "Touch"    // from time to time, a request that reads the session
	OpEnd      Op = "End"      // SignOut
	OpSignIn   Op = "SignIn"   // SignIn
	OpSessions Op = "Sessions" // Manager.Sessions
	OpEndUser  Op = "EndUser"  // Manager.Revoke and Manager.RevokeUser
	OpEndAll   Op = "EndAll"   // Manager.RevokeAll
	OpJoin     Op = "Join"     // SignIn and UserData, with fields of Config.UserFields
)

// Fault decides the outcome of a call of a store: it returns the error of the call. call makes the
// real call. If the Fault returns nil, it must have made the call, exactly once.
//
// A Fault of your own can do anything before or after the call: sign the visitor out in another
// tab, for example, or wait for another request. It runs in the goroutine of the request, and may
// run concurrently.
type Fault func(ctx context.Context, op Op, call func() error) error

// Unavailable is a Fault: the store is down. It does nothing. The request gets
// [session.ErrUnavailable].
func Unavailable(context.Context, Op, func() error) error {
	return errors.New("sessiontest: the test made the store fail")
}

// Hang is a Fault: the store does not answer and does nothing. The call returns when its context
// ends, or after 2 s, which is the default timeout of redisstore. A read then gets
// [session.ErrUnavailable], a change [session.ErrUnknownOutcome].
func Hang(ctx context.Context, _ Op, _ func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	<-ctx.Done()
	return fmt.Errorf("%w: sessiontest: the test made the store hang", driver.ErrUnknown)
}

// RequestLost is a Fault: the store does nothing, and the request does not learn that. A change
// gets [session.ErrUnknownOutcome].
func RequestLost(context.Context, Op, func() error) error {
	return fmt.Errorf("%w: sessiontest: the test lost the request", driver.ErrUnknown)
}

// ReplyLost is a Fault: the store makes the change, and its reply is lost. The change gets
// [session.ErrUnknownOutcome].
func ReplyLost(_ context.Context, _ Op, call func() error) error {
	if err := call(); err != nil {
		return err
	}
	return fmt.Errorf("%w: sessiontest: the test lost the reply", driver.ErrUnknown)
}

// Ended is a Fault of Load, Apply and Touch: the call finds that the session ended while the
// request was running. The request gets [session.ErrEnded]. The store still has the session.
func Ended(_ context.Context, op Op, call func() error) error {
	switch op {
	case OpLoad, OpApply, OpTouch:
		return &driver.EndedError{Ago: -1} // after the request began, even if no time has passed
	}
	return call()
}

// Moved is a Fault of Load, Apply, Touch and End: the call finds that the session got a new token
// while the request was running. The request gets [session.ErrEnded]. The store still has the
// session as it was.
func Moved(_ context.Context, op Op, call func() error) error {
	switch op {
	case OpLoad, OpApply, OpTouch, OpEnd:
		return driver.ErrMoved
	}
	return call()
}

// Conflict is a Fault of an Apply that comes from an Update: the call finds that another request
// has changed the value. Update then calls its function again, with the value that is stored.
func Conflict(_ context.Context, op Op, call func() error) error {
	if op == OpApply {
		return errConflict
	}
	return call()
}

// errConflict makes Apply report a conflict of its Swap.
var errConflict = errors.New("sessiontest: conflict")

// Faults says what goes wrong in a store. New Faults change nothing. Faults are safe for concurrent
// use.
type Faults struct {
	mu    sync.Mutex
	rules map[Op]*rule
	calls map[Op]int
}

// rule is a Fault and how often it still happens.
type rule struct {
	fault Fault
	left  int // less than 0: always
}

// ops are all kinds of calls.
var ops = []Op{OpLoad, OpCreate, OpApply, OpTouch, OpEnd, OpSignIn, OpSessions, OpEndUser, OpEndAll, OpJoin}

// Set makes each call of these kinds fail by fault, until [Faults.Clear]. Without kinds it concerns
// every call. It replaces an earlier Fault of the same kinds.
func (f *Faults) Set(fault Fault, kinds ...Op) { f.Next(-1, fault, kinds...) }

// Next makes the next n calls of these kinds fail by fault. n counts the calls of all these kinds
// together. Without kinds it concerns every call. It replaces an earlier Fault of the same kinds.
func (f *Faults) Next(n int, fault Fault, kinds ...Op) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(kinds) == 0 {
		kinds = ops
	}
	if f.rules == nil {
		f.rules = map[Op]*rule{}
	}
	r := &rule{fault, n}
	for _, op := range kinds {
		f.rules[op] = r
	}
}

// Clear makes the store work again.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.rules)
}

// Calls returns the number of calls of these kinds so far. Without kinds it counts every call.
// Calls that a Fault kept from the store count, and so do calls that a [Visitor] makes itself.
func (f *Faults) Calls(kinds ...Op) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(kinds) == 0 {
		kinds = ops
	}
	for _, op := range kinds {
		n += f.calls[op]
	}
	return n
}

// run makes a call, or lets a Fault do so.
func (f *Faults) run(ctx context.Context, op Op, call func() error) error {
	fault := f.next(op)
	if fault == nil {
		return call()
	}
	called := false
	err := fault(ctx, op, func() error {
		called = true
		return call()
	})
	if err == nil && !called {
		return fmt.Errorf("sessiontest: a Fault of %s returned nil and did not make the call", op)
	}
	return err
}

// next counts a call and returns its Fault, or nil.
func (f *Faults) next(op Op) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls == nil {
		f.calls = map[Op]int{}
	}
	f.calls[op]++
	r := f.rules[op]
	if r == nil || r.left == 0 {
		return nil
	}
	if r.left > 0 {
		r.left--
	}
	return r.fault
}
