package session

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// sharedReads are the sessions that are watched in this process.
type sharedReads struct {
	mu   sync.Mutex
	byID map[driver.ID]*sharedRead
}

// sharedRead is the last read of one session. A change wakes all watchers of the session. The first
// one reads the record for the others.
type sharedRead struct {
	users int           // guarded by sharedReads.mu
	begun atomic.Uint64 // how many reads were begun

	turn  chan struct{}  // holds a value while somebody uses the fields below
	r     *driver.Record // what the last read returned, with now and err
	now   time.Time
	err   error
	at    time.Time // this process's time when the read returned
	fresh bool      // the read bypassed copies
}

func (x *sharedReads) join(id driver.ID) *sharedRead {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.byID == nil {
		x.byID = map[driver.ID]*sharedRead{}
	}
	if x.byID[id] == nil {
		x.byID[id] = &sharedRead{turn: make(chan struct{}, 1)}
	}
	x.byID[id].users++
	return x.byID[id]
}

func (x *sharedReads) leave(id driver.ID, read *sharedRead) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if read.users--; read.users == 0 {
		delete(x.byID, id)
	}
}

// load returns the result of a read that began after the call, and when the read returned. A copy
// in this process may be older than the watcher's token, so a copy that the token does not open is
// not an answer.
func (x *sharedRead) load(ctx context.Context, w *watcher) (*driver.Record, time.Time, time.Time, error) {
	before := x.begun.Load()
	select {
	case x.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, time.Time{}, time.Time{}, ctx.Err()
	}
	defer func() { <-x.turn }()
	if x.begun.Load() == before {
		x.read(ctx, w, false)
	}
	if x.err == nil && !x.fresh && x.r.Tokens.Status(w.verifier, x.now) == driver.Unknown {
		x.read(ctx, w, true)
	}
	return x.r, x.now, x.at, x.err
}

// read reads the record. It goes on when ctx is done, for at most Config.CommitTimeout: others wait
// for it, too.
func (x *sharedRead) read(ctx context.Context, w *watcher, fresh bool) {
	x.begun.Add(1)
	m := w.s.m
	ctx, cancel := m.detached(ctx)
	defer cancel()
	x.r, x.err = nil, errors.New("the store panicked") // unless it returns
	defer m.recoverStore(ctx, w.id)
	load := m.store.Load
	if store, copies := m.store.(driver.FreshLoader); !copies {
		fresh = true
	} else if fresh {
		load = store.LoadFresh
	}
	x.fresh = fresh
	x.r, x.now, x.err = load(ctx, w.id)
	x.at = time.Now()
}
