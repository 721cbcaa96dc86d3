package session_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/coatcheck-go/session"
)

// TestCachingHeaders: Vary and Cache-Control, where a session was used or a cookie set, and only there.
func TestCachingHeaders(t *testing.T) {
	use := func(set http.Header, f func(*session.Session)) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for name, v := range set {
				w.Header()[name] = slices.Clone(v)
			}
			if f != nil {
				s, err := session.From(r.Context())
				if err != nil {
					t.Error(err)
					return
				}
				f(s)
			}
			w.Write([]byte("page"))
		})
	}
	read := func(s *session.Session) { n.Get(s) }
	write := func(s *session.Session) { n.Add(s, 1) }
	public := http.Header{"Cache-Control": {"public, max-age=60"}}
	for _, tt := range []struct {
		name        string
		known       bool
		h           http.Handler
		vary, cache []string
	}{
		{"not used", true, use(nil, nil), nil, nil},
		{"not used, public", true, use(public, nil), nil, []string{"public, max-age=60"}},
		{"read", true, use(nil, read), []string{"Cookie"}, []string{"private, no-cache"}},
		{"read by an unknown visitor", false, use(nil, read), []string{"Cookie"}, []string{"private, no-cache"}},
		{"read, the handler knows better", true, use(public, read), []string{"Cookie"}, []string{"public, max-age=60"}},
		{"written, no new cookie", true, use(nil, write), []string{"Cookie"}, []string{"private, no-cache"}},
		{"a new cookie", false, use(public, write), []string{"Cookie"}, []string{"no-store"}},
		{"the cookie deleted", true, use(public, func(s *session.Session) { signOut(s) }), []string{"Cookie"}, []string{"no-store"}},
		{"renewed", true, use(public, func(s *session.Session) { renew(s) }), []string{"Cookie"}, []string{"no-store"}},
		{"Vary of others", true, use(http.Header{"Vary": {"Accept-Encoding"}}, read), []string{"Accept-Encoding", "Cookie"}, []string{"private, no-cache"}},
		{"Vary is there", true, use(http.Header{"Vary": {"Accept, cookie"}}, read), []string{"Accept, cookie"}, []string{"private, no-cache"}},
		{"Vary on all", true, use(http.Header{"Vary": {"*"}}, read), []string{"*"}, []string{"private, no-cache"}},
	} {
		s := newSite(t, session.Config{})
		v := s.visitor()
		if tt.known {
			v = s.known()
		}
		w := v.handle(tt.h)
		h := w.Result().Header
		if !slices.Equal(h["Vary"], tt.vary) || !slices.Equal(h["Cache-Control"], tt.cache) {
			t.Errorf("%s: Vary %q, Cache-Control %q; want %q, %q", tt.name, h["Vary"], h["Cache-Control"], tt.vary, tt.cache)
		}
	}
}
