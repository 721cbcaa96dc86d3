package session_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

// TestClearSiteData goes with a sign-out that the response reports, and with nothing else.
func TestClearSiteData(t *testing.T) {
	const all = `"cache", "cookies", "storage"`
	three := []string{"cache", "cookies", "storage"}
	begin := func(ses *session.Session) error {
		err := signOut(ses)
		n.Add(ses, 5)
		return err
	}
	for _, tt := range []struct {
		name       string
		directives []string
		f          func(ses *session.Session) error
		want       string
	}{
		{"by default", nil, signOut, ""},
		{"asked for", three, signOut, all},
		{"everything", []string{"*"}, signOut, `"*"`},
		{"reading", three, func(ses *session.Session) error { n.Get(ses); return nil }, ""},
		{"writing", three, func(ses *session.Session) error { n.Add(ses, 1); return nil }, ""},
		{"renewal", three, renew, ""},
		{"a new session in the same response", three, begin, `"cache", "storage"`},
		{"a new session, everything", []string{"*"}, begin,
			`"cache", "clientHints", "executionContexts", "prefetchCache", "prerenderCache", "storage"`},
		{"a new session, cookies alone", []string{"cookies"}, begin, ""},
		{"an error after it", three, func(ses *session.Session) error {
			signOut(ses)
			return errors.New("no template")
		}, all},
	} {
		s := newSite(t, session.Config{ClearSiteData: tt.directives})
		v := s.known()
		if got := v.do(tt.f).Result().Header.Get("Clear-Site-Data"); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestClearSiteDataWhereSignOutIsOdd(t *testing.T) {
	cfg := session.Config{ClearSiteData: []string{"storage"}}
	t.Run("nobody", func(t *testing.T) {
		w := newSite(t, cfg).visitor().do(signOut)
		want(t, "of a visitor without a cookie", w.Result().Header.Get("Clear-Site-Data"), "")
	})
	t.Run("too late", func(t *testing.T) {
		w := newSite(t, cfg).known().handle(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			w.Write([]byte("page"))
			return signOut(s)
		}))
		want(t, "after the header", w.Result().Header.Get("Clear-Site-Data"), "")
	})
	t.Run("the store is down", func(t *testing.T) {
		s := newSite(t, cfg)
		v := s.known()
		s.store.fail("end", errDown)
		w := v.do(signOut)
		wantAnswer(t, w, 503)
		want(t, "with the cookie's deletion", w.Result().Header.Get("Clear-Site-Data"), `"storage"`)
	})
	t.Run("the session has moved", func(t *testing.T) { // the browser has a newer one, and its data
		s := newSite(t, cfg)
		v := s.known()
		late := v.also()
		v.do(func(ses *session.Session) error { return ses.SignIn(t.Context(), session.Login{User: "ada"}) })
		want(t, "of the one before", late.do(signOut).Result().Header.Get("Clear-Site-Data"), "")
	})
	t.Run("the application's own", func(t *testing.T) {
		w := newSite(t, cfg).known().handle(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			w.Header().Set("Clear-Site-Data", `"cache"`)
			return signOut(s)
		}))
		want(t, "stays", strings.Join(w.Result().Header["Clear-Site-Data"], "|"), `"cache"`)
	})
	t.Run("without net/http", func(t *testing.T) {
		s := newSite(t, cfg)
		ctx := s.m.Load(t.Context(), http.Header{"Cookie": {s.known().cookie}})
		ses, err := session.From(ctx)
		if err != nil || signOut(ses) != nil {
			t.Fatal(err)
		}
		h, err := s.m.Commit(ctx)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "of Commit", h.Get("Clear-Site-Data"), `"storage"`)
	})
}

func TestClearSiteDataRefused(t *testing.T) {
	for _, directives := range [][]string{{""}, {`"cache"`}, {"Cache"}, {"cache", "cache"}, {"storage", "cookie"}, {"cache, storage"}, {"x\r\nSet-Cookie: a"}} {
		_, err := session.New(memstore.New(), session.Config{ClearSiteData: directives})
		if err == nil || !strings.HasPrefix(err.Error(), "session: Config.ClearSiteData: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", directives, err)
		}
	}
}
