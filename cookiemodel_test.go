package session_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

// TestCookieModel: one browser with several tabs, two nodes, and a network that delivers responses
// in any order. Requests overlap at every step: they read, write, renew, rotate, sign in and sign
// out. These hold at every step:
//
//   - Nobody is called a thief.
//   - A response whose header leaves after a newer token of its session was issued, or after its
//     session has ended, sets no cookie.
//   - A request that neither signs in or out nor changes the token leaves the cookie of a sign-in
//     alone.
//   - A request that was under way when its session ended starts no anonymous session.
//
// After quiet, unless a response was lost or overtook one with a newer effect on the cookie, the
// cookie is what the last effect made it. If one was, the visitor signs in once, and all is well
// again.
//
// A quarter of the visitors only read, and their requests run alone. With them the model finds that
// a token is called stolen although another one of its generation was used (driver.Overtaken): that
// takes six requests, and a response that arrives after all of them.
//
// COATCHECK_MODEL_STEPS sets the number of steps.
func TestCookieModel(t *testing.T) {
	steps := 20_000
	if text := os.Getenv("COATCHECK_MODEL_STEPS"); text != "" {
		var err error
		if steps, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			for episode := range uint64(steps / 400) {
				if m := runCookieModel(t, seed, episode, 100); t.Failed() {
					t.Fatalf("episode %d:\n%s", episode, strings.Join(m.trace, "\n"))
				}
			}
		})
	}
}

// cookieModel is a browser, its requests in flight, and what the network holds.
type cookieModel struct {
	t      *testing.T
	rng    *rand.Rand
	reader bool // the visitor only reads, so that responses with rotated tokens can be very late
	quick  bool // a reader whose requests run alone: only the network reorders responses
	nodes  []*session.Manager
	jar    map[string]string
	trace  []string

	flights   []*flight   // requests that run
	held      []*response // responses whose header has left, and that have not arrived
	effects   int         // effects on the cookie of signed-in sessions, so far
	last      effect
	delivered int                  // the newest effect that has arrived
	overtaken bool                 // an older effect came after a newer one, or a response was lost
	handles   map[string]string    // the session of each token that has arrived
	ended     map[string]time.Time // when a session was signed out
}

// effect is a change of the cookie that a signed-in visitor should have.
type effect struct {
	number  int
	user    string // who is signed in after it
	session string // the handle that got a token; "": a sign-out
}

// flight is a request that runs.
type flight struct {
	m       *cookieModel
	name    string
	step    chan bool // lets the handler go on
	over    bool
	began   time.Time
	read    time.Time
	owns    string // the handle of the jar's token when it began
	carries string // the handle that its token opens
	user    string // who was signed in when it was read
	effect  effect // on the cookie
	w       *response
}

// response is what a request's ResponseWriter has sent. The header leaves with the first flush, or
// at the end, as net/http's does for a short page.
type response struct {
	f       *flight
	header  http.Header
	sent    []*http.Cookie
	hasLeft bool
	left    time.Time
}

func (r *response) Header() http.Header         { return r.header }
func (r *response) WriteHeader(int)             {}
func (r *response) Write(b []byte) (int, error) { return len(b), nil }
func (r *response) Flush()                      { r.leave() }

func (r *response) leave() {
	if r.hasLeft {
		return
	}
	r.hasLeft, r.left = true, time.Now()
	r.sent = (&http.Response{Header: r.header}).Cookies()
	m := r.f.m
	for _, c := range r.sent {
		if c.Name != userCookie {
			end, ok := m.ended[r.f.owns]
			opened := r.f.carries == r.f.owns || r.f.read.After(end)
			if ok && opened && r.f.began.Before(end) && c.MaxAge >= 0 {
				m.t.Errorf("%s: its session ended while it ran, and it starts an anonymous one", r.f.name)
			}
			continue
		}
		if r.f.effect.number == 0 && c.MaxAge >= 0 && r.f.user != "" {
			r.f.happened(r.f.carries, r.f.user) // the token was rotated
		}
		newer := m.last.session == r.f.effect.session && m.last.number > r.f.effect.number
		switch {
		case r.f.effect.number == 0:
			m.t.Errorf("%s: it has no effect on a sign-in, and changes its cookie", r.f.name)
		case c.MaxAge >= 0 && newer:
			m.t.Errorf("%s: the header leaves with a token that is superseded", r.f.name)
		case c.MaxAge >= 0 && !m.isAlive(r.f.effect.session):
			m.t.Errorf("%s: the header leaves with a token of a session that has ended", r.f.name)
		}
	}
	m.held = append(m.held, r)
}

// isAlive reports whether the user has a session with this handle.
func (m *cookieModel) isAlive(handle string) bool {
	list, err := listAll(m.t.Context(), m.nodes[0], "ada")
	if err != nil {
		m.t.Error(err)
	}
	return slices.ContainsFunc(list, func(i session.Info) bool { return i.Handle == handle })
}

const userCookie = "__Host-session"

func runCookieModel(t *testing.T, seed, episode uint64, steps int) *cookieModel {
	quick := episode%4 == 2 // overtaken tokens take many requests, and fit in no other episode
	m := &cookieModel{t: t, rng: rand.New(rand.NewPCG(seed, episode)), reader: episode%4 == 3 || quick, quick: quick, jar: map[string]string{},
		handles: map[string]string{}, ended: map[string]time.Time{}}
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		defer store.Close()
		for range 2 {
			node, err := session.New(store, session.Config{
				RotateEvery: time.Minute, MaxPerUser: int(episode % 2), Lifetime: 1000 * time.Hour, IdleTimeout: 1000 * time.Hour,
				OnEvent: func(_ context.Context, e session.Event) { m.event(e) },
			})
			if err != nil {
				t.Fatal(err)
			}
			m.nodes = append(m.nodes, node)
		}
		for range steps {
			m.randomStep()
		}
		m.quiet()
	})
	return m
}

func (m *cookieModel) event(e session.Event) {
	switch e.Kind {
	case session.EventStolen:
		m.t.Errorf("a visitor is called a thief: %v", e.Handle)
	case session.EventSignedOut:
		m.ended[e.Handle] = time.Now()
	}
}

func (m *cookieModel) logf(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

// randomStep starts a request, lets one go on, delivers a response, or lets time pass.
func (m *cookieModel) randomStep() {
	if m.quick {
		m.quickStep()
		return
	}
	time.Sleep(60 * time.Millisecond)
	if m.reader && m.rng.IntN(3) == 0 {
		time.Sleep(61 * time.Second)
	}
	switch n := m.rng.IntN(10); {
	case n < 3 && len(m.flights) < 5:
		m.start()
	case n < 7 && len(m.flights) > 0:
		m.advance(m.rng.IntN(len(m.flights)))
	case n < 9 && len(m.held) > 0:
		m.deliver(m.rng.IntN(len(m.held)))
	default:
		time.Sleep([]time.Duration{time.Second, 20 * time.Second, 61 * time.Second, 200 * time.Second}[m.rng.IntN(4)])
	}
}

// quickStep runs a whole request, or delivers a response that has a cookie. A response that is late
// by three times RotateEvery is lost: with such responses a visitor can be taken for a thief, as
// docs/design.md says.
func (m *cookieModel) quickStep() {
	m.held = slices.DeleteFunc(m.held, func(r *response) bool {
		lost := time.Since(r.left) >= 3*time.Minute
		m.overtaken = m.overtaken || lost && len(r.sent) > 0
		return lost || len(r.sent) == 0
	})
	if len(m.held) > 0 && m.rng.IntN(3) == 0 {
		m.deliver(m.rng.IntN(len(m.held)))
		return
	}
	time.Sleep([]time.Duration{time.Second, 15 * time.Second, 31 * time.Second, 46 * time.Second}[m.rng.IntN(4)])
	m.start()
	for len(m.flights) > 0 {
		m.advance(0)
	}
}

// start sends a request with the jar's cookies.
func (m *cookieModel) start() {
	do := []string{"read", "write", "renew", "sign in", "sign out", "read", "sign in"}[m.rng.IntN(7)]
	if m.reader { // one sign-in, and then rotations
		if do = "read"; m.jar[userCookie] == "" {
			do = "sign in"
		}
	}
	f := &flight{m: m, name: fmt.Sprintf("%s %d", do, len(m.trace)), step: make(chan bool),
		began: time.Now(), owns: m.handles[m.jar[userCookie]]}
	f.w = &response{f: f, header: http.Header{}}
	r := httptest.NewRequest("GET", "https://shop.example/", nil)
	for _, name := range []string{userCookie, userCookie + "-anon"} {
		if v := m.jar[name]; v != "" {
			r.AddCookie(&http.Cookie{Name: name, Value: v})
		}
	}
	m.logf("start %s", f.name)
	h := m.nodes[m.rng.IntN(len(m.nodes))].Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.handle(w, r, do)
	}))
	m.flights = append(m.flights, f)
	go func() {
		h.ServeHTTP(f.w, r)
		f.w.leave()
		f.over = true
	}()
	synctest.Wait()
}

// handle is the handler of a request, with pauses where others may overtake it.
func (f *flight) handle(w http.ResponseWriter, r *http.Request, do string) {
	<-f.step
	s, err := session.From(r.Context())
	if err != nil {
		f.m.t.Errorf("%s: From: %v", f.name, err)
		return
	}
	f.carries, f.user, f.read = s.Info().Handle, s.User(), time.Now()
	<-f.step
	switch do {
	case "write":
		n.Add(s, 1)
	case "renew":
		if err = s.Renew(r.Context()); err == nil && s.User() != "" {
			f.happened(s.Info().Handle, s.User())
		}
	case "sign in":
		if err = s.SignIn(r.Context(), session.Login{User: "ada"}); err == nil {
			f.happened(s.Info().Handle, "ada")
		}
	case "sign out":
		_, noCookie := r.Cookie(userCookie)
		if err = s.SignOut(r.Context()); err == nil && noCookie == nil {
			f.happened("", "")
		}
	}
	<-f.step
	w.Write([]byte("page"))
	<-f.step
}

// happened notes the request's effect on the cookie.
func (f *flight) happened(handle, user string) {
	f.m.effects++
	f.effect = effect{f.m.effects, user, handle}
	f.m.last = f.effect
	f.m.logf("%s: effect %d, user %q", f.name, f.effect.number, user)
}

func (m *cookieModel) advance(i int) {
	f := m.flights[i]
	m.logf("advance %s", f.name)
	select {
	case f.step <- true:
	default:
	}
	synctest.Wait()
	if f.over {
		m.flights = slices.Delete(m.flights, i, i+1)
	}
}

// deliver gives a response's cookies to the browser.
func (m *cookieModel) deliver(i int) {
	r := m.held[i]
	m.held = slices.Delete(m.held, i, i+1)
	for _, c := range r.sent {
		m.logf("deliver %s: %s=%.12s", r.f.name, c.Name, c.Value)
		if c.Name == userCookie {
			m.overtaken = m.overtaken || r.f.effect.number < m.delivered
			m.delivered = max(m.delivered, r.f.effect.number)
			m.handles[c.Value] = r.f.effect.session
		}
		if m.jar[c.Name] = c.Value; c.MaxAge < 0 {
			delete(m.jar, c.Name)
		}
	}
}

// quiet lets all requests end and all responses arrive, and checks what the browser is left with.
func (m *cookieModel) quiet() {
	for len(m.flights) > 0 {
		time.Sleep(60 * time.Millisecond)
		m.advance(m.rng.IntN(len(m.flights)))
	}
	for len(m.held) > 0 {
		m.deliver(m.rng.IntN(len(m.held)))
	}
	time.Sleep(2 * time.Minute)
	if got := m.who(); !m.overtaken && got != m.last.user {
		m.t.Errorf("after quiet the visitor is %q, want %q", got, m.last.user)
	}
	m.request("sign in")
	if got := m.who(); got != "ada" {
		m.t.Errorf("after one more sign-in the visitor is %q", got)
	}
}

// request sends one more request, without others beside it.
func (m *cookieModel) request(do string) *flight {
	m.rng, m.reader, m.quick = rand.New(rand.NewPCG(1, 1)), false, false
	for {
		m.start()
		f := m.flights[0]
		for !f.over {
			m.advance(0)
		}
		m.deliver(0)
		if strings.HasPrefix(f.name, do) {
			return f
		}
	}
}

// who returns the user that a request with the jar's cookies reads.
func (m *cookieModel) who() (user string) {
	var cookies []string
	for name, v := range m.jar {
		cookies = append(cookies, name+"="+v)
	}
	s, err := session.From(mustLoad(m.t, m.nodes[0], strings.Join(cookies, "; ")))
	if err != nil {
		m.t.Error(err)
		return ""
	}
	return s.User()
}
