package demo

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/coatcheck-go/session"
)

// add adds 1 and answers the new count. Call it as often and as many at a time as you like: each call has its own answer.
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

// slow reads the session, takes its time, and writes a field. If the session ended meanwhile, the write is refused, and the client
// is told so with 409.
func (a *app) slow(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	pause, err := pauseOf(r, 500*time.Millisecond)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil
	}
	began := time.Now()
	a.log.InfoContext(r.Context(), "slow request begins", "pause", pause, "count", count.Get(s))
	wait(r.Context(), pause)
	// Also when the client hung up while this waited, what is written now is committed.
	waited := time.Since(began).Milliseconds()
	lastSlow.Set(s, slowWrite{began, waited})
	return writeText(w, fmt.Sprintf("waited %d ms, then wrote lab.slow", waited)) // commits, then writes
}

// show answers what the session holds. With ?ms= it waits before it looks: a request that is sent before a sign-out, and looks
// after it.
func (a *app) show(w http.ResponseWriter, r *http.Request) {
	pause, err := pauseOf(r, 0)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	wait(r.Context(), pause)
	s, err := session.From(r.Context()) // reads the session: what session.HandlerFunc does before it calls the handler
	var seen view
	if err == nil {
		seen, err = a.viewOf(r.Context(), s)
	}
	if err == nil {
		err = writeJSON(w, seen)
	}
	if err != nil {
		session.Error(w, r, err)
	}
}

const maxPause = 10 * time.Second

// pauseOf reads how long the client wants to wait. Its error is for the client.
func pauseOf(r *http.Request, otherwise time.Duration) (time.Duration, error) {
	query := r.URL.Query()
	if !query.Has("ms") {
		return otherwise, nil
	}
	ms, err := strconv.ParseUint(query.Get("ms"), 10, 32)
	pause := time.Duration(ms) * time.Millisecond
	if err != nil || pause > maxPause {
		return 0, fmt.Errorf("ms is how many milliseconds to wait: a whole number from 0 to %d, not %.20q", maxPause.Milliseconds(), query.Get("ms"))
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
