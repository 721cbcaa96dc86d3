package session_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
)

// TestAllocations holds the budgets of the hot paths, over the bare handler.
func TestAllocations(t *testing.T) {
	s := newSite(t, session.Config{RotateEvery: time.Hour})
	cookie := s.known().cookie
	allocs := func(h http.Handler) float64 {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Cookie", cookie)
		w := discard{http.Header{}}
		return testing.AllocsPerRun(200, func() { clear(w.h); h.ServeHTTP(w, r) })
	}
	page := func(w http.ResponseWriter) { w.Write(text) }
	bare := allocs(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { page(w) }))
	for _, tt := range []struct {
		name string
		max  float64
		h    http.Handler
	}{
		{"not used", 3, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { page(w) })},
		{"reading a counter", 8, session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			if n.Get(s) == 0 {
				t.Error("no session")
			}
			page(w)
			return nil
		})},
		{"adding to a counter", 22, session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			n.Add(s, 1)
			page(w)
			return nil
		})},
	} {
		if got := allocs(s.m.Handler(tt.h)) - bare; got > tt.max {
			t.Errorf("%s: %v allocations, at most %v", tt.name, got, tt.max)
		} else {
			t.Logf("%s: %v allocations", tt.name, got)
		}
	}
}
