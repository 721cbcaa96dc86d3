package session_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

// discard is a ResponseWriter that costs nothing, so that what is measured is the middleware.
type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

var text = []byte("Hello World\n")

// benchmarkHandler measures requests with the cookie of a session that has a counter and a profile.
func benchmarkHandler(b *testing.B, f session.HandlerFunc) { benchmarkWith(b, session.Config{}, f) }

func benchmarkWith(b *testing.B, cfg session.Config, f session.HandlerFunc) {
	m, err := session.New(memstore.New(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	start := m.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		hits.Add(s, 1)
		user.Set(s, person{Name: "Ada", Roles: []string{"admin", "editor"}})
		return nil
	}))
	w := httptest.NewRecorder()
	start.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	c := w.Result().Cookies()[0]
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Cookie", c.Name+"="+c.Value)
	run(b, m.Handler(f), r)
}

func run(b *testing.B, h http.Handler, r *http.Request) {
	w := discard{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		h.ServeHTTP(w, r)
	}
}

type person struct {
	Name  string   `json:"name"`
	Roles []string `json:"roles"`
}

const (
	hits session.Counter       = "hits"
	user session.Value[person] = "user"
)

// BenchmarkBare is the handler with no session: what the others are compared with.
func BenchmarkBare(b *testing.B) {
	run(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(text) }), httptest.NewRequest("GET", "/", nil))
}

// BenchmarkUnused is a route inside the middleware that does not ask for its session.
func BenchmarkUnused(b *testing.B) {
	m, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		b.Fatal(err)
	}
	run(b, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(text) })), httptest.NewRequest("GET", "/", nil))
}

func BenchmarkReadCounter(b *testing.B) {
	benchmarkHandler(b, func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		if hits.Get(s) == 0 {
			b.Fatal("no session")
		}
		_, err := w.Write(text)
		return err
	})
}

func BenchmarkWriteCounter(b *testing.B) {
	benchmarkHandler(b, func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		hits.Add(s, 1)
		_, err := w.Write(text)
		return err
	})
}

// BenchmarkReadStruct adds the decoding of a small struct from JSON.
func BenchmarkReadStruct(b *testing.B) {
	benchmarkHandler(b, func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		if user.Get(s).Name == "" {
			b.Fatal("no session")
		}
		_, err := w.Write(text)
		return err
	})
}

func BenchmarkWriteStruct(b *testing.B) {
	p := person{Name: "Ada", Roles: []string{"admin", "editor"}}
	benchmarkHandler(b, func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		user.Set(s, p)
		_, err := w.Write(text)
		return err
	})
}

// BenchmarkSealed is what sealing costs: compare with keys alone, which sign the token.
func BenchmarkSealed(b *testing.B) {
	p := person{Name: "Ada", Roles: []string{"admin", "editor"}}
	for name, seal := range map[string]bool{"sealed": true, "clear": false} {
		cfg := sealing(key(1))
		cfg.Seal = seal
		b.Run("ReadCounter/"+name, func(b *testing.B) {
			benchmarkWith(b, cfg, func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
				if hits.Get(s) == 0 {
					b.Fatal("no session")
				}
				_, err := w.Write(text)
				return err
			})
		})
		b.Run("ReadStruct/"+name, func(b *testing.B) {
			benchmarkWith(b, cfg, func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
				if user.Get(s).Name == "" {
					b.Fatal("no session")
				}
				_, err := w.Write(text)
				return err
			})
		})
		b.Run("WriteStruct/"+name, func(b *testing.B) {
			benchmarkWith(b, cfg, func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
				user.Set(s, p)
				_, err := w.Write(text)
				return err
			})
		})
		b.Run("User/"+name, func(b *testing.B) {
			m, err := session.New(memstore.New(), cfg)
			if err != nil {
				b.Fatal(err)
			}
			w := httptest.NewRecorder()
			m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
				return s.SignIn(b.Context(), session.Login{User: "ada", Device: "Firefox on Linux"})
			})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			c := w.Result().Cookies()[0]
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Cookie", c.Name+"="+c.Value)
			run(b, m.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
				if s.User() != "ada" {
					b.Fatal("not signed in")
				}
				_, err := w.Write(text)
				return err
			})), r)
		})
	}
}

// BenchmarkObserver is what an Observer that does nothing costs. Compare with none.
func BenchmarkObserver(b *testing.B) {
	for _, bench := range []struct {
		name      string
		observers []session.Observer
	}{{"none", nil}, {"one", []session.Observer{idle{}}}} {
		cfg := session.Config{Observers: bench.observers}
		b.Run("ReadCounter/"+bench.name, func(b *testing.B) {
			benchmarkWith(b, cfg, func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
				if hits.Get(s) == 0 {
					b.Fatal("no session")
				}
				_, err := w.Write(text)
				return err
			})
		})
		b.Run("WriteCounter/"+bench.name, func(b *testing.B) {
			benchmarkWith(b, cfg, func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
				hits.Add(s, 1)
				_, err := w.Write(text)
				return err
			})
		})
	}
}

// idle is an Observer that does nothing.
type idle struct{}

func (idle) Start(ctx context.Context, _ session.Operation) context.Context { return ctx }
func (idle) End(context.Context, session.Operation)                         {}
func (idle) Event(context.Context, session.Event)                           {}

var _ io.Writer = discard{}

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
		{"reading a counter", 6, session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			if n.Get(s) == 0 {
				t.Error("no session")
			}
			page(w)
			return nil
		})},
		{"adding to a counter", 20, session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
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
