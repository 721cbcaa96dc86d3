package sessiontest

import (
	"errors"
	"sync"

	"github.com/coatcheck-go/session/driver"
)

// Faulty wraps a store, and returns the Faults that make it fail. Without Faults it works as the
// store does. It has the optional abilities of package driver that the store has. It also keeps
// copies, if the store does not, so that [session.DownReadOnly] has something to serve.
//
// Faults concern the calls that [Op] lists. The feed of events, the clock, and reports of changes
// and of expired sessions work always. The caller closes the store.
func Faulty(store driver.Store) (driver.Store, *Faults) {
	f := &faulty{faults: &Faults{}, store: store, copies: map[driver.ID]*driver.Record{}}
	u, users := store.(driver.UserStore)
	e, ends := store.(driver.EndReporter)
	feed, feeds := store.(driver.Feed)
	fu, fe := faultyUsers{f, u}, faultyEnds{f, e}
	if j, ok := store.(driver.Joiner); ok {
		return faultyJoiner(f, faultyJoins{fu, j}, fe, feed), f.faults
	}
	// A faulty has all other abilities, in a form that is as good as none if the store has none.
	// There is no such form of these three.
	switch {
	case users && ends && feeds:
		return struct {
			*faulty
			faultyUsers
			faultyEnds
			driver.Feed
		}{f, fu, fe, feed}, f.faults
	case users && ends:
		return struct {
			*faulty
			faultyUsers
			faultyEnds
		}{f, fu, fe}, f.faults
	case users && feeds:
		return struct {
			*faulty
			faultyUsers
			driver.Feed
		}{f, fu, feed}, f.faults
	case users:
		return struct {
			*faulty
			faultyUsers
		}{f, fu}, f.faults
	case ends && feeds:
		return struct {
			*faulty
			faultyEnds
			driver.Feed
		}{f, fe, feed}, f.faults
	case ends:
		return struct {
			*faulty
			faultyEnds
		}{f, fe}, f.faults
	case feeds:
		return struct {
			*faulty
			driver.Feed
		}{f, feed}, f.faults
	}
	return f, f.faults
}

// faultyJoiner is Faulty for a driver.Joiner. feed may be nil, and so may be the store of fe.
func faultyJoiner(f *faulty, fj faultyJoins, fe faultyEnds, feed driver.Feed) driver.Store {
	switch ends, feeds := fe.store != nil, feed != nil; {
	case ends && feeds:
		return struct {
			*faulty
			faultyJoins
			faultyEnds
			driver.Feed
		}{f, fj, fe, feed}
	case ends:
		return struct {
			*faulty
			faultyJoins
			faultyEnds
		}{f, fj, fe}
	case feeds:
		return struct {
			*faulty
			faultyJoins
			driver.Feed
		}{f, fj, feed}
	}
	return struct {
		*faulty
		faultyJoins
	}{f, fj}
}

// faulty has the methods of driver.Store, and the abilities that every store may have.
type faulty struct {
	faults *Faults
	store  driver.Store

	mu     sync.Mutex
	copies map[driver.ID]*driver.Record
}

// keep keeps a copy of a record that a call returned, and drops one that has ended.
func (f *faulty) keep(id driver.ID, r *driver.Record, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case errors.Is(err, driver.ErrNotFound), errors.Is(err, driver.ErrMoved):
		delete(f.copies, id)
	case err == nil && r != nil:
		f.copies[id] = r
	}
}
