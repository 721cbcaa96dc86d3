package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestCountOfSessions: the count is exact if the sample is 0 or covers all keys. Otherwise it is
// within five standard errors. It leaves out markers of ended sessions, keys of other applications,
// and sessions that are revoked and not removed yet.
func TestCountOfSessions(t *testing.T) {
	limitParallel(t)
	eachTopology(t, func(t *testing.T, url string, do func(key string, args ...string) any) {
		s := mustOpen(t, url, patient(redisstore.Options{}))
		const anonymous, signedIn, others, sample = 300, 200, 500, 400
		for i := range anonymous {
			mustCreateAnonymous(t, s, int64(i))
		}
		for i := range signedIn {
			mustSignIn(t, s, fmt.Sprint("user", i%50))
		}
		for i := range 20 {
			must(t, s.End(t.Context(), mustCreateAnonymous(t, s, int64(i)).ID))
		}
		for i := range others {
			key := fmt.Sprint("other", i)
			do(key, "SET", key, "x")
		}
		for _, of := range []int{0, 100_000} {
			got, err := s.Count(t.Context(), of)
			if want := (driver.Count{SignedIn: signedIn, Anonymous: anonymous, Exact: true}); err != nil || got != want {
				t.Errorf("Count(%d): %+v, %v, want %+v", of, got, err, want)
			}
		}
		got, err := s.Count(t.Context(), sample)
		total := float64(anonymous + signedIn + others + 70) // indexes and markers
		within := func(got, want int) bool {
			p := float64(want) / total
			return math.Abs(float64(got-want)) < 5*total*math.Sqrt(p*(1-p)/sample)+20
		}
		if err != nil || got.Exact || !within(got.SignedIn, signedIn) || !within(got.Anonymous, anonymous) {
			t.Errorf("Count(%d): %+v, %v, want about %d and %d, not exact", sample, got, err, signedIn, anonymous)
		}
		// A revocation whose sessions are not removed, as when EndAll was interrupted.
		do("coatcheck:revoked", "SET", "coatcheck:revoked", fmt.Sprintf("%012x", time.Now().Add(time.Second).UnixMilli()))
		eventually(t, anytime, func() error {
			if got, err := s.Count(t.Context(), 0); err != nil || got != (driver.Count{Exact: true}) {
				return fmt.Errorf("after a revocation of all: %+v, %v", got, err)
			}
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Count(ctx, 0); err == nil {
			t.Error("Count goes on after its context is done")
		}
	})
}

// opLog is an Observer that notes operations.
type opLog struct {
	mu  sync.Mutex
	all []string
}

func (r *opLog) Start(ctx context.Context, _ session.Operation) context.Context { return ctx }

func (r *opLog) End(_ context.Context, o session.Operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.Cached {
		o.Name += " cached"
	}
	r.all = append(r.all, o.Name+" "+o.Outcome)
}

func (r *opLog) Event(context.Context, session.Event) {}

func (r *opLog) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := strings.Join(r.all, ", ")
	r.all = nil
	return all
}

// TestObserverSeesTheNearCache: an Observer and the figures of the cache say whether a copy
// answered, and an outage is "unavailable".
func TestObserverSeesTheNearCache(t *testing.T) {
	limitParallel(t)
	server := redistest.Start(t, redistest.Options{})
	watch := &opLog{}
	store := mustOpen(t, "redis://"+server.Addr(), patient(redisstore.Options{}))
	m, err := session.New(store, session.Config{Observers: []session.Observer{watch}})
	must(t, err)
	const n session.Counter = "n"
	cookie := ""
	request := func(f func(s *session.Session)) int {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "https://shop.example/", nil)
		r.Header.Set("Cookie", cookie)
		m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
			f(s)
			return nil
		})).ServeHTTP(w, r)
		for _, c := range w.Result().Cookies() {
			cookie = c.Name + "=" + c.Value
		}
		return w.Code
	}
	write := func(s *session.Session) { n.Add(s, 1) }
	read := func(s *session.Session) { n.Get(s) }
	request(write)
	request(write)
	if got := watch.take(); !strings.HasSuffix(got, "commit ok") {
		t.Fatalf("saw %q", got)
	}
	eventually(t, anytime, func() error { // the first read may race with an invalidation
		before, ok := store.Near()
		request(read)
		got := watch.take()
		after, _ := store.Near()
		cached := got == "load cached ok"
		if !ok || cached != (after.Hits == before.Hits+1) || cached != (after.Misses == before.Misses) ||
			cached && (after.Copies != 1 || after.Bytes == 0) {
			t.Errorf("saw %q, the near cache: %+v, and then %+v", got, before, after)
		}
		if !cached {
			return fmt.Errorf("saw %q", got)
		}
		return nil
	})
	must(t, server.Kill())
	eventually(t, lease+recovery, func() error { // copies are served for the lease
		switch code, got := request(read), watch.take(); {
		case code == http.StatusOK && got == "load cached ok":
			return errors.New("the node still serves its copy")
		case code != http.StatusServiceUnavailable || got != "load unavailable":
			t.Errorf("an outage: status %d, saw %q", code, got)
		}
		return nil
	})
}
