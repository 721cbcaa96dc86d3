// Package lab is the race lab of the tour: its handlers race with each other.
package lab

import (
	"context"
	"embed"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/coatcheck/internal/demo/page"
)

var (
	//go:embed *.html *.js
	files embed.FS
	html  = page.Parse(files, "lab.html")

	//go:embed lab.go
	source string
)

// Stop is the race lab in the tour.
var Stop = page.Stop{
	Path: "/lab", Name: "Race lab",
	Shows: "50 requests change one session at the same time, and no change is lost. " +
		"A slow request writes after you have signed out, and the session stays ended.",
	Files: files, Script: "lab.js", Code: page.Code("lab/lab.go", source, "add", "slow"),
}

type lab struct{ *page.Site }

// Mount adds the routes of the stop to mux.
func Mount(mux *http.ServeMux, site *page.Site) {
	l := &lab{site}
	mux.Handle("GET /lab", session.HandlerFunc(l.page))
	mux.Handle("POST /lab/add", session.HandlerFunc(l.add))
	mux.Handle("POST /lab/slow", session.HandlerFunc(l.slow))
	mux.Handle("GET /session", http.HandlerFunc(l.show))
}

func (l *lab) page(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	return l.Render(w, r, s, html, [50]struct{}{})
}

// add adds 1 to the count and responds with the new count. Concurrent calls get different counts.
func (l *lab) add(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	page.Count.Add(s, 1)
	if err := s.Commit(r.Context()); err != nil {
		return err
	}
	n := page.Count.Get(s)
	l.Log.InfoContext(r.Context(), "added", "count", n)
	if page.Accepts(r, "application/json") {
		return page.WriteJSON(w, map[string]int64{"count": n})
	}
	return page.WriteText(w, strconv.FormatInt(n, 10))
}

// slow reads the session, waits, and writes a field. If the session has ended in the meantime, the
// store refuses the write and the client gets 409.
func (l *lab) slow(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	pause, err := pauseOf(r, 500*time.Millisecond)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil
	}
	began := time.Now()
	l.Log.InfoContext(r.Context(), "slow request started", "pause", pause, "count", page.Count.Get(s))
	wait(r.Context(), pause)
	// This write is committed even if the client has hung up in the meantime.
	waited := time.Since(began).Milliseconds()
	page.LastSlow.Set(s, page.SlowWrite{Began: began, Waited: waited})
	// The first byte of the response commits the write.
	return page.WriteText(w, fmt.Sprintf("waited %d ms, then wrote lab.slow", waited))
}

// show responds with the content of the session. With ?ms= it waits before it reads the session, so
// that a request can start before a sign-out and read after it.
func (l *lab) show(w http.ResponseWriter, r *http.Request) {
	pause, err := pauseOf(r, 0)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	wait(r.Context(), pause)
	s, err := session.From(r.Context()) // session.HandlerFunc does this before it calls a handler
	var v page.View
	if err == nil {
		v, err = l.View(r.Context(), s)
	}
	if err == nil {
		err = page.WriteJSON(w, v)
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
