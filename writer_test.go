package session_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck-go/session"
)

// TestCommitBeforeFirstByte sends a response in each possible way on real servers. When the header
// arrives, the change is stored once and the cookie is in the header.
func TestCommitBeforeFirstByte(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.txt")
	if err := os.WriteFile(file, []byte("page"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		status int
		body   string
		write  func(w http.ResponseWriter, r *http.Request) error
	}{
		{"Write", 200, "ab", func(w http.ResponseWriter, r *http.Request) error {
			w.Write([]byte("a"))
			_, err := w.Write([]byte("b"))
			return err
		}},
		{"WriteHeader", 201, "", func(w http.ResponseWriter, r *http.Request) error { w.WriteHeader(201); return nil }},
		{"WriteString", 200, "page", func(w http.ResponseWriter, r *http.Request) error {
			_, err := io.WriteString(w, "page")
			return err
		}},
		{"Fprintf", 200, "page 1", func(w http.ResponseWriter, r *http.Request) error {
			_, err := fmt.Fprintf(w, "page %d", 1)
			return err
		}},
		{"ReadFrom", 200, "page", func(w http.ResponseWriter, r *http.Request) error {
			if _, ok := w.(io.ReaderFrom); !ok {
				return errors.New("no io.ReaderFrom")
			}
			_, err := io.Copy(w, strings.NewReader("page"))
			return err
		}},
		{"ServeFile", 200, "page",
			func(w http.ResponseWriter, r *http.Request) error { http.ServeFile(w, r, file); return nil }},
		{"Flush", 200, "page", func(w http.ResponseWriter, r *http.Request) error {
			w.(http.Flusher).Flush()
			_, err := io.WriteString(w, "page")
			return err
		}},
		{"FlushError", 200, "page", func(w http.ResponseWriter, r *http.Request) error {
			if err := http.NewResponseController(w).Flush(); err != nil {
				return err
			}
			_, err := io.WriteString(w, "page")
			return err
		}},
		{"Redirect", 303, "*", func(w http.ResponseWriter, r *http.Request) error {
			http.Redirect(w, r, "/other", http.StatusSeeOther)
			return nil
		}},
		{"NoContent", 204, "", func(w http.ResponseWriter, r *http.Request) error { w.WriteHeader(204); return nil }},
		{"NotModified", 304, "", func(w http.ResponseWriter, r *http.Request) error { w.WriteHeader(304); return nil }},
		{"Error status", 404, "*",
			func(w http.ResponseWriter, r *http.Request) error { http.NotFound(w, r); return nil }},
		{"Nothing", 200, "", func(w http.ResponseWriter, r *http.Request) error { return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onBothProtocols(t, func(t *testing.T, http2 bool) {
				s := newSite(t, session.Config{})
				srv, c := s.newServer(t, http2,
					session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
						n.Add(ses, 1)
						if err := tt.write(w, r); err != nil {
							t.Errorf("writing: %v", err)
						}
						return nil
					}))
				for i := range int64(2) {
					res, body := mustFetch(t, c, srv.URL)
					if res.StatusCode != tt.status || body != tt.body && tt.body != "*" {
						t.Errorf("%d %q, want %d %q", res.StatusCode, body, tt.status, tt.body)
					}
					if want := 1 - int(i); len(res.Header["Set-Cookie"]) != want {
						t.Errorf("request %d: Set-Cookie %q, want %d", i, res.Header["Set-Cookie"], want)
					}
					if s.store.creates.Load() != 1 || s.store.applies.Load() != i {
						t.Errorf("request %d: %d created, %d applied", i, s.store.creates.Load(),
							s.store.applies.Load())
					}
				}
			})
		})
	}
}

// TestChangeIsStoredWhenTheHeaderArrives: the handler waits after its first byte. Meanwhile another
// request reads the change.
func TestChangeIsStoredWhenTheHeaderArrives(t *testing.T) {
	onBothProtocols(t, func(t *testing.T, http2 bool) {
		s := newSite(t, session.Config{})
		goOn := make(chan struct{})
		srv, c := s.newServer(t, http2,
			session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
				if r.URL.Path == "/read" {
					fmt.Fprint(w, n.Get(ses))
					return nil
				}
				n.Add(ses, 1)
				http.NewResponseController(w).Flush()
				<-goOn
				n.Add(ses, 10)
				return nil
			}))
		res, err := c.Get(srv.URL + "/slow")
		if err != nil {
			t.Fatal(err)
		}
		if _, got := mustFetch(t, c, srv.URL+"/read"); got != "1" {
			t.Errorf("before the end of the body: n = %s, want 1", got)
		}
		close(goOn)
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if _, got := mustFetch(t, c, srv.URL+"/read"); got != "11" {
			t.Errorf("a change after the header: n = %s, want 11", got)
		}
	})
}

// TestServerSentEventsMayCommitEachTime: a stream sets one cookie and commits before each event.
func TestServerSentEventsMayCommitEachTime(t *testing.T) {
	onBothProtocols(t, func(t *testing.T, http2 bool) {
		s := newSite(t, session.Config{})
		srv, c := s.newServer(t, http2,
			session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
				w.Header().Set("Content-Type", "text/event-stream")
				rc := http.NewResponseController(w)
				for range 3 {
					n.Add(ses, 1)
					if err := ses.Commit(r.Context()); err != nil {
						return err
					}
					fmt.Fprintf(w, "data: %d\n\n", n.Get(ses))
					if err := rc.Flush(); err != nil {
						return err
					}
				}
				return nil
			}))
		res, body := mustFetch(t, c, srv.URL)
		if body != "data: 1\n\ndata: 2\n\ndata: 3\n\n" || len(res.Header["Set-Cookie"]) != 1 {
			t.Errorf("%q, Set-Cookie %q", body, res.Header["Set-Cookie"])
		}
	})
}

// TestInformationalResponsesDoNotCommit: 103 is sent before the commit. The cookie is in the final
// header.
func TestInformationalResponsesDoNotCommit(t *testing.T) {
	onBothProtocols(t, func(t *testing.T, http2 bool) {
		s := newSite(t, session.Config{})
		srv, c := s.newServer(t, http2,
			session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
				n.Add(ses, 1)
				w.Header().Set("Link", "</style.css>; rel=preload")
				w.WriteHeader(http.StatusEarlyHints)
				if got := s.store.creates.Load(); got != 0 {
					t.Errorf("the commit came before 103")
				}
				n.Add(ses, 1)
				w.WriteHeader(200)
				return nil
			}))
		hints := 0
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if hints++; h.Get("Set-Cookie") != "" || code != 103 {
				t.Errorf("%d with Set-Cookie %q", code, h.Get("Set-Cookie"))
			}
			return nil
		}}
		r, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", srv.URL, nil)
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if hints != 1 || len(res.Header["Set-Cookie"]) != 1 {
			t.Errorf("%d hints, Set-Cookie %q", hints, res.Header["Set-Cookie"])
		}
	})
}

// mustUpgrade sends an upgrade request over a raw connection. It returns the status line and the
// cookies of the response.
func mustUpgrade(t *testing.T, url, cookie string) (status string, cookies []string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if cookie != "" {
		cookie = "Cookie: " + cookie + "\r\n"
	}
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n%s\r\n", cookie)
	r := textproto.NewReader(bufio.NewReader(conn))
	status, err = r.ReadLine()
	if err != nil {
		t.Fatal(err)
	}
	h, err := r.ReadMIMEHeader()
	if err != nil {
		t.Fatal(err)
	}
	return status, h["Set-Cookie"]
}

// TestHijackCommitsFirst: Hijack fails if the commit fails, or if the session needs a new cookie.
func TestHijackCommitsFirst(t *testing.T) {
	s := newSite(t, session.Config{})
	var hijackErr error
	plain := newPlainServer(t,
		s.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			n.Add(ses, 1)
			conn, _, err := http.NewResponseController(w).Hijack()
			if hijackErr = err; err != nil {
				return err
			}
			defer conn.Close()
			if ses.Degraded() || n.Get(ses) < 2 {
				t.Error("the commit did not come before the hijack")
			}
			n.Add(ses, 100)
			fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			return nil
		})))
	t.Run("needs a new cookie", func(t *testing.T) {
		status, _ := mustUpgrade(t, plain, "")
		if !errors.Is(hijackErr, session.ErrHeaderSent) || !strings.Contains(status, "500") {
			t.Errorf("Hijack: %v; %s", hijackErr, status)
		}
		if got := s.store.Len(); got != 0 {
			t.Errorf("%d sessions stored without a cookie", got)
		}
	})
	t.Run("known visitor", func(t *testing.T) {
		v := s.known()
		status, cookies := mustUpgrade(t, plain, v.cookie)
		if hijackErr != nil || !strings.Contains(status, "101") || len(cookies) != 0 {
			t.Errorf("Hijack: %v; %s, Set-Cookie %q", hijackErr, status, cookies)
		}
		for range 1000 { // the handler may return after the response
			if v.count() == 102 {
				return
			}
		}
		t.Errorf("n = %d, want 102: before and after the hijack", v.count())
	})
	t.Run("store down", func(t *testing.T) {
		v := s.known()
		s.store.fail("apply", errDown)
		defer s.store.up()
		status, _ := mustUpgrade(t, plain, v.cookie)
		if !errors.Is(hijackErr, session.ErrUnavailable) || !strings.Contains(status, "503") {
			t.Errorf("Hijack: %v; %s", hijackErr, status)
		}
	})
}

// TestSwitchingProtocolsCommits: 101 is a final response.
func TestSwitchingProtocolsCommits(t *testing.T) {
	s := newSite(t, session.Config{})
	plain := newPlainServer(t,
		s.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			n.Add(ses, 1)
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "echo")
			w.WriteHeader(http.StatusSwitchingProtocols)
			if s.store.creates.Load() != 1 {
				t.Error("101 did not commit")
			}
			return nil
		})))
	status, cookies := mustUpgrade(t, plain, "")
	if !strings.Contains(status, "101") || len(cookies) != 1 {
		t.Errorf("%s, Set-Cookie %q", status, cookies)
	}
}

// TestHijackOnHTTP2IsNotSupported: the failed Hijack does not prevent a later cookie.
func TestHijackOnHTTP2IsNotSupported(t *testing.T) {
	s := newSite(t, session.Config{})
	srv, c := s.newServer(t, true,
		session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			if r.URL.Path == "/late" {
				io.WriteString(w, "late")
			}
			if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, http.ErrNotSupported) {
				t.Errorf("Hijack: %v, want ErrNotSupported", err)
			}
			n.Add(ses, 1) // a cookie can still be set, unless the header was sent
			return nil
		}))
	if res, _ := mustFetch(t, c, srv.URL+"/late"); len(res.Header["Set-Cookie"]) != 0 || s.store.Len() != 0 {
		t.Errorf("after the header: Set-Cookie %q, %d stored", res.Header["Set-Cookie"], s.store.Len())
	}
	if res, _ := mustFetch(t, c, srv.URL); len(res.Header["Set-Cookie"]) != 1 || s.store.Len() != 1 {
		t.Errorf("before the header: Set-Cookie %q, %d stored", res.Header["Set-Cookie"], s.store.Len())
	}
}

// TestResponseControllerReachesTheConnection: a method that the writer does not have is found
// through Unwrap.
func TestResponseControllerReachesTheConnection(t *testing.T) {
	s := newSite(t, session.Config{})
	srv, c := s.newServer(t, false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
	}))
	mustFetch(t, c, srv.URL)
}

// TestMiddlewareWritesNoHeaderOfItsOwn: if the handler writes nothing, an outer handler can still
// answer, through the inner or the outer writer.
func TestMiddlewareWritesNoHeaderOfItsOwn(t *testing.T) {
	for _, inner := range []bool{false, true} {
		s := newSite(t, session.Config{})
		v := s.visitor()
		var lastWriter http.ResponseWriter
		var lastRequest *http.Request
		h := s.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			n.Add(ses, 1)
			lastWriter, lastRequest = w, r
			return nil
		}))
		w := v.request("GET", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r)
			if inner {
				session.Error(lastWriter, lastRequest, errors.New("the framework's"))
				return
			}
			http.Error(w, "the framework's", http.StatusInternalServerError)
		}))
		if w.Code != http.StatusInternalServerError || len(cookies(w)) != 1 {
			t.Errorf("inner writer %v: %d, Set-Cookie %q", inner, w.Code, cookies(w))
		}
		if v.count() != 1 {
			t.Errorf("inner writer %v: n = %d, want 1", inner, v.count())
		}
	}
}

// TestChangesAfterTheHeaderNeedNoCookie: a change after the header is stored if the visitor has the
// cookie. Otherwise it is an error.
func TestChangesAfterTheHeaderNeedNoCookie(t *testing.T) {
	late := session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
		io.WriteString(w, "page")
		n.Add(ses, 1)
		return nil
	})
	t.Run("known visitor", func(t *testing.T) {
		v := newSite(t, session.Config{}).known()
		if w := v.handle(late); w.Body.String() != "page" || v.count() != 2 {
			t.Errorf("%q, n = %d, want 2", w.Body, v.count())
		}
	})
	t.Run("needs a cookie", func(t *testing.T) {
		s := newSite(t, session.Config{})
		w := s.visitor().handle(late)
		if w.Body.String() != "page" || len(cookies(w)) != 0 || s.store.Len() != 0 {
			t.Errorf("%q, Set-Cookie %q, %d stored", w.Body, cookies(w), s.store.Len())
		}
		if got := s.log.String(); strings.Count(got, "level=ERROR") != 1 ||
			!strings.Contains(got, "cannot carry a new cookie") {
			t.Errorf("log: %s", got)
		}
	})
	t.Run("needs a cookie, committed by hand", func(t *testing.T) {
		s := newSite(t, session.Config{})
		s.visitor().serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			io.WriteString(w, "page")
			n.Add(ses, 1)
			if err := ses.Commit(r.Context()); !errors.Is(err, session.ErrHeaderSent) {
				t.Errorf("Commit: %v, want ErrHeaderSent", err)
			}
			return nil
		})
		if got := s.log.String(); got != "" {
			t.Errorf("an error that the handler got is logged: %s", got)
		}
	})
	t.Run("renewal", func(t *testing.T) {
		v := newSite(t, session.Config{}).known()
		v.serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			io.WriteString(w, "page")
			if err := ses.Renew(r.Context()); !errors.Is(err, session.ErrHeaderSent) {
				t.Errorf("Renew: %v, want ErrHeaderSent", err)
			}
			return nil
		})
		if v.count() != 1 {
			t.Error("the visitor's token is no longer valid")
		}
	})
	t.Run("store down", func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.known()
		s.store.fail("apply", errDown)
		w := v.handle(late)
		if w.Body.String() != "page" || !strings.Contains(s.log.String(), "were lost") {
			t.Errorf("%q; log %s", w.Body, s.log)
		}
	})
}

// recoverPanics is the usual middleware.
func recoverPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if recover() != nil {
				http.Error(w, "sorry", http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// TestPanicDiscardsChanges: a handler that panics before the header stores nothing.
func TestPanicDiscardsChanges(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	s.store.applies.Store(0)
	w := v.request("GET",
		recoverPanics(s.m.Handler(session.HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error {
			panic("before anything")
		}))))
	if w.Code != 500 || w.Body.String() != "sorry\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	w = v.request("GET",
		recoverPanics(s.m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, ses *session.Session) error {
			n.Add(ses, 1)
			panic("in the middle")
		}))))
	if w.Code != 500 || v.count() != 1 || s.store.applies.Load() != 0 {
		t.Errorf("%d, n = %d, want 1", w.Code, v.count())
	}
}

// TestPanicAfterRenewalKeepsTheVisitor: the error response has the new cookie.
func TestPanicAfterRenewalKeepsTheVisitor(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	w := v.request("GET",
		recoverPanics(s.m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
			if err := ses.Renew(r.Context()); err != nil {
				t.Error(err)
			}
			n.Add(ses, 1)
			panic("later")
		}))))
	if w.Code != 500 || len(cookies(w)) != 1 || v.count() != 1 {
		t.Errorf("%d, Set-Cookie %q, n = %d, want 1", w.Code, cookies(w), v.count())
	}
}

// TestHeadSetsTheCookie: HEAD commits like GET.
func TestHeadSetsTheCookie(t *testing.T) {
	onBothProtocols(t, func(t *testing.T, http2 bool) {
		s := newSite(t, session.Config{})
		srv, c := s.newServer(t, http2,
			session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
				n.Add(ses, 1)
				_, err := io.WriteString(w, "page")
				return err
			}))
		res, err := c.Head(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 || len(res.Header["Set-Cookie"]) != 1 {
			t.Errorf("%d, Set-Cookie %q", res.StatusCode, res.Header["Set-Cookie"])
		}
	})
}
