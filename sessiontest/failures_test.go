package sessiontest_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/sessiontest"
)

// recordedTB is a testing.TB that keeps what is reported to it.
type recordedTB struct {
	testing.TB
	log    strings.Builder
	failed bool
}

func (r *recordedTB) Helper() {}

func (r *recordedTB) Logf(format string, args ...any) { fmt.Fprintf(&r.log, format+"\n", args...) }

func (r *recordedTB) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

// errFatal ends a recorded test, as runtime.Goexit ends a real one.
type errFatal struct{}

func (r *recordedTB) Fatalf(format string, args ...any) {
	r.Logf(format, args...)
	r.failed = true
	panic(errFatal{})
}

// record runs a test and returns what it reported, and whether it failed.
func record(test func(t testing.TB)) (log string, failed bool) {
	r := &recordedTB{}
	defer func() {
		if why := recover(); why != nil && why != (errFatal{}) {
			panic(why)
		}
		log, failed = r.log.String(), r.failed
	}()
	test(r)
	return
}

// TestFailuresAreReported: a failure names what the kit did, and the cause.
func TestFailuresAreReported(t *testing.T) {
	limited := mustNewManager(memstore.New(), session.Config{MaxPerUser: 1, RefuseExtra: true})
	sessiontest.SignedIn(t, limited, "ada")
	store, faults := sessiontest.Faulty(memstore.New())
	flaky := mustNewManager(store, session.Config{})
	known := func(t testing.TB) *sessiontest.Visitor {
		faults.Clear()
		v := sessiontest.SignedIn(t, flaky, "ada")
		faults.Set(sessiontest.Unavailable)
		return v
	}
	for name, tt := range map[string]struct {
		test func(t testing.TB)
		want string
	}{
		"no Manager":        {func(t testing.TB) { sessiontest.NewVisitor(t, nil) }, "the Manager is nil"},
		"no user":           {func(t testing.TB) { sessiontest.SignedIn(t, sessions, "") }, `signing in "": session: invalid change: Login`},
		"too many sessions": {func(t testing.TB) { sessiontest.SignedIn(t, limited, "ada") }, "as many sessions as allowed"},
		"no Config.Bearer":  {func(t testing.TB) { sessiontest.Bearer(t, sessions, "ada") }, "BearerToken needs Config.Bearer"},
		"a store without users": {func(t testing.TB) {
			sessiontest.SignedIn(t, mustNewManager(struct{ driver.Store }{memstore.New()}, session.Config{}), "ada")
		}, "the store does not support users"},
		"reading while the store is down": {func(t testing.TB) { known(t).Session() },
			"reading the visitor's session: session: the store did not answer: sessiontest: the test made the store fail"},
		"changing while the store is down": {func(t testing.TB) {
			known(t).Change(func(s *session.Session) { visits.Add(s, 1) })
		}, "changing the session: session: the store did not answer"},
		"a change that is not valid": {func(t testing.TB) {
			sessiontest.NewVisitor(t, sessions).Change(func(s *session.Session) { session.Counter("@n").Add(s, 1) })
		}, `changing the session: session: invalid change: field "@n"`},
		"a server that is not started": {func(t testing.TB) {
			sessiontest.NewVisitor(t, sessions).Client(httptest.NewUnstartedServer(shop))
		}, "Client needs a server that is started"},
	} {
		log, failed := record(tt.test)
		if !failed || !strings.Contains(log, "sessiontest: ") || !strings.Contains(log, tt.want) {
			t.Errorf("%s: failed %v, %q, want %q", name, failed, log, tt.want)
		}
	}
}

// TestPathsWithoutCookieAreLogged: outside Cookie.Path a visitor looks like a stranger, as in a
// browser.
func TestPathsWithoutCookieAreLogged(t *testing.T) {
	m := mustNewManager(memstore.New(), configs["domain and path"])
	h := m.Handler(session.HandlerFunc(visit))
	for path, want := range map[string]string{
		"/app/x": "",
		"/x":     "the session's cookie is not sent to /x: Config.Cookie.Path is /app/",
	} {
		log, failed := record(func(tb testing.TB) {
			user := "ada"
			if want != "" {
				user = ""
			}
			body := sessiontest.SignedIn(tb, m, "ada").Do(h, httptest.NewRequest("GET", path, nil)).Body.String()
			mustEqual(t, path, body, "1 "+user)
		})
		if failed || strings.TrimSpace(log) != want && !strings.Contains(log, want) {
			t.Errorf("%s: %q, want %q", path, log, want)
		}
	}
}
