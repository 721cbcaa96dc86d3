package peers

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session/migrate"
)

// each runs a test with each old program.
func each(t *testing.T, test func(t *testing.T, p program)) {
	t.Helper()
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) { test(t, p) })
	}
}

// TestThousandVisitorsKeepTheirSessions: the old library writes 1,000 sessions. Each visitor comes
// to one of two nodes and finds all values, the user and the time of authentication. The old
// session has ended, and the old cookie is gone.
func TestThousandVisitorsKeepTheirSessions(t *testing.T) {
	each(t, func(t *testing.T, p program) {
		x := newSite(t, p, migrate.Options{})
		if s, ok := x.source.(migrate.SCS); ok { // the old program renews the token now
			s.Lifetime += time.Hour
			x.source = s
			x.deploy(migrate.Options{})
		}
		n := p.visitor
		if n == 0 {
			n = 1000
		}
		visitors, all := make([]*visitor, n), make([]values, n)
		began := time.Now()
		for i := range visitors {
			all[i] = values{visits: i + 1, theme: "theme-" + strconv.Itoa(i), user: userOf(i), ago: time.Hour}
			visitors[i] = x.known(all[i])
		}
		filled := time.Now()
		work := make(chan int)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for i := range work {
					v := visitors[i]
					old := v.tab()
					res := v.mustVisit(i%2, "/", all[i].text())
					if v.hasOld() {
						t.Errorf("visitor %d: the old cookie was not deleted", i)
					}
					at, err := time.Parse(time.RFC3339Nano, res.Header.Get("Authenticated"))
					at = at.Add(time.Hour) // the slack is the time that a sign-in takes
					if all[i].user != "" && (err != nil || at.Before(began.Add(-slack)) || at.After(filled.Add(slack))) {
						t.Errorf("visitor %d: authenticated at %v, %v", i, at, err)
					}
					v.mustVisit(1-i%2, "/", all[i].text())
					if _, inCookie := x.oldID(old); !inCookie {
						if text := old.visitOld("/read"); !strings.HasPrefix(text, "<nil>") {
							t.Errorf("visitor %d: the old program still has %q", i, text)
						}
					}
				}
			})
		}
		for i := range visitors {
			work <- i
		}
		close(work)
		wg.Wait()
		t.Logf("%d sessions: written in %v, moved in %v", n, filled.Sub(began), time.Since(filled))
	})
}

const slack = 10 * time.Second

// oldID returns the id of a visitor's old session, and whether the session is in the cookie.
func (x *site) oldID(v *visitor) (id string, inCookie bool) {
	id, _ = x.source.ID(v.request("/").Header)
	g, ok := x.source.(migrate.Gorilla)
	return id, ok && g.Redis == nil
}

// TestTwoRequestsAtOnce: two requests of a browser, on two nodes, move its session once. Both add
// to a counter, and both end in the same session, whichever response arrives last.
func TestTwoRequestsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, p program) {
		x := newSite(t, p, migrate.Options{})
		for i := range 100 {
			first := x.known(values{visits: 7, theme: "dark", user: userOf(i), ago: time.Duration(i) * time.Second})
			second := first.tab()
			var wg sync.WaitGroup
			for node, v := range []*visitor{first, second} {
				wg.Go(func() {
					if res, body := v.visit(node, "/add"); res.StatusCode != http.StatusOK {
						t.Errorf("status %d, %s", res.StatusCode, body)
					}
				})
			}
			wg.Wait()
			want := 9
			if p.shared && userOf(i) == "" { // each response has a session of its own
				want = 8
			}
			for node, v := range []*visitor{first, second} {
				v.mustVisit(node, "/", fmt.Sprintf("%d dark 7 1 %s", want, userOf(i)))
			}
			if i%2 == 0 {
				continue
			}
			n := 0
			for _, err := range x.nodes[0].manager.Sessions(t.Context(), userOf(i)) {
				if n++; err != nil {
					t.Fatal(err)
				}
			}
			if n != 1 {
				t.Fatalf("the user has %d sessions, want 1", n)
			}
		}
	})
}

// TestEqualCookiesStayApart: signed cookies of two visitors with the same values are equal. The
// visitors do not get one session.
func TestEqualCookiesStayApart(t *testing.T) {
	for _, p := range programs {
		if !p.shared {
			continue
		}
		x := newSite(t, p, migrate.Options{KeepUntil: time.Now().Add(time.Hour)})
		v := values{visits: 7, theme: "dark"}
		first := x.known(v)
		second := first.tab()
		first.mustVisit(0, "/add", "8 dark 7 1 ")
		second.mustVisit(1, "/", v.text())
		first.mustVisit(1, "/", "8 dark 7 1 ")
	}
}

// TestSignOutEndsBoth: after a sign-out in the new program the old cookie names no session, neither
// in the new program nor, with KeepUntil, in the old one.
func TestSignOutEndsBoth(t *testing.T) {
	each(t, func(t *testing.T, p program) {
		for _, keep := range []time.Time{{}, p.keepFor(time.Hour)} {
			x := newSite(t, p, migrate.Options{KeepUntil: keep})
			v := x.known(ada)
			old := v.tab()
			v.mustVisit(0, "/", ada.text())
			if keeps := !keep.IsZero(); v.hasOld() != keeps {
				t.Fatalf("the browser has the old cookie: %v, want %v", v.hasOld(), keeps)
			}
			v.mustVisit(1, "/out", nobody)
			if v.hasOld() {
				t.Error("the browser has the old cookie after the sign-out")
			}
			old.tab().mustVisit(0, "/", nobody)
			old.tab().mustVisit(1, "/", nobody)
			if _, inCookie := x.oldID(old); !inCookie {
				if text := old.visitOld("/read"); !strings.HasPrefix(text, "<nil>") {
					t.Errorf("the old program still has %q", text)
				}
			}
		}
	})
}
