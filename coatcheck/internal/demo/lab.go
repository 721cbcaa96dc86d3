package demo

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/coatcheck-go/session"
)

// add adds 1 to the count and responds with the new count. Concurrent calls get different counts.
func (a *app) add(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	count.Add(s, 1)
	if err := s.Commit(r.Context()); err != nil {
		return err
	}
	n := count.Get(s)
	a.log.InfoContext(r.Context(), "added", "count", n)
	if accepts(r, "application/json") {
		return writeJSON(w, map[string]int64{"count": n})
	}
	return writeText(w, strconv.FormatInt(n, 10))
}

// slow reads the session, waits, and writes a field. If the session has ended in the meantime, the
// store refuses the write and the client gets 409.
func (a *app) slow(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	pause, err := pauseOf(r, 500*time.Millisecond)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil
	}
	began := time.Now()
	a.log.InfoContext(r.Context(), "slow request started", "pause", pause, "count", count.Get(s))
	wait(r.Context(), pause)
	// This write is committed even if the client has hung up in the meantime.
	waited := time.Since(began).Milliseconds()
	lastSlow.Set(s, slowWrite{began, waited})
	// The first byte of the response commits the write.
	return writeText(w, fmt.Sprintf("waited %d ms, then wrote lab.slow", waited))
}

// show responds with the content of the session. With ?ms= it waits before it reads the session, so
// that a request can start before a sign-out and read after it.
func (a *app) show(w http.ResponseWriter, r *http.Request) {
	pause, err := pauseOf(r, 0)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	wait(r.Context(), pause)
	s, err := session.From(r.Context()) // session.HandlerFunc does this before it calls a handler
	var v view
	if err == nil {
		v, err = a.viewOf(r.Context(), s)
	}
	if err == nil {
		err = writeJSON(w, v)
	}
	if err != nil {
		session.Error(w, r, err)
	}
}

const maxPause = 10 * time.Second

// pauseOf reads the pause that the client asks for, or returns fallback. Its error is for the
// client.
func pauseOf(r *http.Request, fallback time.Duration) (time.Duration, error) {
	query := r.URL.Query()
	if !query.Has("ms") {
		return fallback, nil
	}
	ms, err := strconv.ParseUint(query.Get("ms"), 10, 32)
	pause := time.Duration(ms) * time.Millisecond
	if err != nil || pause > maxPause {
		return 0, fmt.Errorf("ms must be a whole number of milliseconds from 0 to %d, not %.20q",
			maxPause.Milliseconds(), query.Get("ms"))
	}
	return pause, nil
}

// wait returns after d, or when the client hangs up.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
