package session_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// TestPanicDiscardsTheSession: a recovery outside the middleware that writes through the writer it
// got inside stores nothing.
func TestPanicDiscardsTheSession(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	var inner http.ResponseWriter
	h := s.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, ses *session.Session) error {
		inner = w
		n.Add(ses, 5)
		panic("handler")
	}))
	w := v.request("GET", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			recover()
			inner.WriteHeader(http.StatusInternalServerError)
			io.WriteString(inner, "recovered")
		}()
		h.ServeHTTP(w, r)
	}))
	if w.Code != 500 || w.Body.String() != "recovered" || v.count() != 1 {
		t.Errorf("%d %q, n = %d, want 1", w.Code, w.Body, v.count())
	}
}

// TestWriteReportsAFailedCommit: a logger or a framework inside the middleware must not take the
// response for a success.
func TestWriteReportsAFailedCommit(t *testing.T) {
	s := newSite(t, session.Config{})
	for name, write := range map[string]func(w http.ResponseWriter) (int64, error){
		"Write":       func(w http.ResponseWriter) (int64, error) { n, err := w.Write(text); return int64(n), err },
		"WriteString": func(w http.ResponseWriter) (int64, error) { n, err := io.WriteString(w, "x"); return int64(n), err },
		"ReadFrom":    func(w http.ResponseWriter) (int64, error) { return w.(io.ReaderFrom).ReadFrom(strings.NewReader("x")) },
	} {
		v := s.known()
		s.store.fail("apply", errDown)
		w := v.serve(func(w http.ResponseWriter, _ *http.Request, ses *session.Session) error {
			n.Add(ses, 1)
			if written, err := write(w); written != 0 || !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("%s: %d, %v, want ErrUnavailable", name, written, err)
			}
			return nil
		})
		mustAnswer(t, w, 503)
		s.store.up()
	}
}

// TestFlushThatIsNotSupportedCommitsNothing: the handler can still sign in and answer.
func TestFlushThatIsNotSupportedCommitsNothing(t *testing.T) {
	s := newSite(t, session.Config{})
	url := newPlainServer(t, http.TimeoutHandler(s.m.Handler(session.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			if err := http.NewResponseController(w).Flush(); !errors.Is(err, http.ErrNotSupported) {
				t.Errorf("Flush: %v, want ErrNotSupported", err)
			}
			return ses.SignIn(r.Context(), session.Login{User: "ada"})
		})), time.Minute, "timeout"))
	if res, body := mustFetch(t, http.DefaultClient, url); res.StatusCode != 200 || len(res.Header["Set-Cookie"]) != 1 {
		t.Errorf("%d %q, Set-Cookie %q", res.StatusCode, body, res.Header["Set-Cookie"])
	}
}

// TestGoroutineThatOutlivesTheRequestGetsNoCookie: its new session could never be found again.
func TestGoroutineThatOutlivesTheRequestGetsNoCookie(t *testing.T) {
	s := newSite(t, session.Config{})
	var late *session.Session
	w := s.visitor().do(func(ses *session.Session) error { late = ses; return nil })
	n.Add(late, 1)
	if err := late.Commit(t.Context()); !errors.Is(err, session.ErrHeaderSent) || w.Code != 200 || s.store.Len() != 0 {
		t.Errorf("Commit: %v, %d sessions, want ErrHeaderSent", err, s.store.Len())
	}
	v := s.known()
	v.do(func(ses *session.Session) error { late = ses; return nil })
	n.Add(late, 1)
	if err := late.Commit(t.Context()); err != nil || v.count() != 2 {
		t.Errorf("a known visitor: %v, n = %d, want 2", err, v.count())
	}
}

// TestFieldsDoNotWaitForTheStore: Get and Set return while another goroutine's commit waits. What
// is set meanwhile goes into the next commit.
func TestFieldsDoNotWaitForTheStore(t *testing.T) {
	for _, records := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, session.Config{})
			v := s.known()
			m := s.m
			if !records {
				var err error
				if m, err = session.New(&recordlessStore{UserStore: s.store}, session.Config{}); err != nil {
					t.Fatal(err)
				}
			}
			slow := make(chan bool)
			s.store.after = func(call string) error {
				if call == "apply" {
					<-slow
				}
				return nil
			}
			w := v.request("GET", m.Handler(session.HandlerFunc(
				func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
					n.Add(ses, 10)
					done := make(chan error)
					go func() { done <- ses.Commit(r.Context()) }()
					synctest.Wait() // the commit waits for the store
					n.Add(ses, 100)
					theme.Set(ses, "dark")
					mustEqual(t, "n while the commit runs", n.Get(ses), 111)
					s.store.after = nil
					close(slow)
					if err := <-done; err != nil {
						return err
					}
					mustEqual(t, "n after the commit", n.Get(ses), 111)
					mustEqual(t, "theme after the commit", theme.Get(ses), "dark")
					return nil
				})))
			mustEqual(t, "status", w.Code, 200)
			mustEqual(t, "n", v.count(), 111)
		})
	}
}

// TestUpdateWaitsForNoOtherSession: Updates of many visitors at the same time take as long as one.
func TestUpdateWaitsForNoOtherSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		begin := time.Now()
		done := make(chan int)
		for range 300 {
			v := s.known()
			go func() {
				w := v.do(func(ses *session.Session) error {
					_, err := theme.Update(t.Context(), ses, func(string) (string, error) {
						time.Sleep(time.Second)
						return "dark", nil
					})
					return err
				})
				done <- w.Code
			}()
		}
		for range 300 {
			mustEqual(t, "status", <-done, 200)
		}
		mustEqual(t, "time", time.Since(begin), time.Second)
	})
}

// TestUnknownOutcomeInvitesNoRetry: the client would do twice what may have been done.
func TestUnknownOutcomeInvitesNoRetry(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	s.store.after = func(string) error { return driver.ErrUnknown }
	w := v.do(increment)
	if w.Code != 503 || w.Header().Get("Retry-After") != "" || !strings.Contains(w.Body.String(), "not known") {
		t.Errorf("%d, Retry-After %q, %q", w.Code, w.Header().Get("Retry-After"), w.Body)
	}
}

// TestOnErrorKeepsTheChallenge: an API with errors of its own still sends what belongs to the
// status.
func TestOnErrorKeepsTheChallenge(t *testing.T) {
	s := newSite(t, session.Config{OnError: func(w http.ResponseWriter, _ *http.Request, err error) {
		w.WriteHeader(session.Status(err))
		io.WriteString(w, `{"error":true}`)
	}})
	w := s.mustSignIn("ada").serveRoute(session.Route{AuthMethods: []string{"otp"}, MaxAuthAge: time.Minute}, nil)
	if got := w.Header().Get("WWW-Authenticate"); w.Code != 401 || !strings.Contains(got, "insufficient_user_authentication") {
		t.Errorf("%d, WWW-Authenticate %q", w.Code, got)
	}
	v := s.known()
	s.store.down()
	if w := v.do(increment); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
}

// TestFailuresAreLoggedWithTheRequest: method, path, and the handle also of a session that could
// not be read. That a page needs a sign-in is no news.
func TestFailuresAreLoggedWithTheRequest(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.known()
	handle := v.info().Handle
	s.store.down()
	v.do(increment)
	if log := s.log.String(); !strings.Contains(log, "method=GET path=/") || !strings.Contains(log, "session="+handle) {
		t.Errorf("the log: %s", log)
	}
	s = newSite(t, session.Config{})
	s.visitor().serveRoute(session.Route{SignedIn: true}, nil)
	if log := s.log.String(); !strings.Contains(log, "level=DEBUG") {
		t.Errorf("the log: %s", log)
	}
}

// TestReadAfterTheHeaderIsLogged: the response cannot say any more that it must not be cached.
func TestReadAfterTheHeaderIsLogged(t *testing.T) {
	s := newSite(t, session.Config{})
	s.known().handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(text)
		for range 2 {
			if _, err := session.From(r.Context()); err != nil {
				t.Error(err)
			}
		}
	}))
	if log := s.log.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "call From earlier") {
		t.Errorf("the log: %s", log)
	}
}

// TestNewCookieIsKeptOutOfCDNs: their own headers outrank Cache-Control.
func TestNewCookieIsKeptOutOfCDNs(t *testing.T) {
	s := newSite(t, session.Config{})
	w := s.visitor().serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
		for _, name := range []string{"Cache-Control", "CDN-Cache-Control", "Surrogate-Control"} {
			w.Header().Set(name, "public, max-age=600")
		}
		return ses.SignIn(r.Context(), session.Login{User: "ada"})
	})
	if h := w.Result().Header; h.Get("CDN-Cache-Control") != "" || h.Get("Surrogate-Control") != "" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", h)
	}
}

// TestCrossOriginWebSocketIsRefused: browsers let every site open a WebSocket, with the cookie.
func TestCrossOriginWebSocketIsRefused(t *testing.T) {
	s := newSite(t, session.Config{})
	v := s.mustSignIn("ada")
	for origin, want := range map[string]int{"https://evil.example": 403, "https://shop.example": 200, "": 200} {
		v.header = map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Origin": origin}
		if origin == "" {
			delete(v.header, "Origin")
		}
		mustEqual(t, "origin "+origin, v.do(readCount).Code, want)
	}
}

// TestFilesOfAFormAreRemoved: net/http removes those of its own request. A handler may panic.
func TestFilesOfAFormAreRemoved(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	s := newSite(t, session.Config{})
	files := func() int {
		names, err := filepath.Glob(filepath.Join(dir, "multipart-*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	for _, panics := range []bool{false, true} {
		srv := httptest.NewServer(recoverPanics(s.m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if err := r.ParseMultipartForm(10); err != nil || files() != 1 {
				t.Errorf("%v, %d files on disk, want 1", err, files())
			}
			if panics {
				panic("after the upload")
			}
		}))))
		var b bytes.Buffer
		form := multipart.NewWriter(&b)
		file, _ := form.CreateFormFile("file", "big")
		file.Write(make([]byte, 11<<20))
		form.Close()
		res, err := http.Post(srv.URL, form.FormDataContentType(), &b)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		srv.Close() // waits for the request
		mustEqual(t, fmt.Sprintf("files that are left, the handler panics: %v", panics), files(), 0)
	}
}

// TestPatternIsSeenOutside: middleware outside may name metrics by it.
func TestPatternIsSeenOutside(t *testing.T) {
	s := newSite(t, session.Config{})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /users/{id}", func(http.ResponseWriter, *http.Request) {})
	r := httptest.NewRequest("GET", "/users/7", nil)
	s.m.Handler(mux).ServeHTTP(httptest.NewRecorder(), r)
	mustEqual(t, "pattern", r.Pattern, "GET /users/{id}")
}

// TestWebSocketOfANewVisitorSaysWhatToDo: the hijacked response could not carry the cookie.
func TestWebSocketOfANewVisitorSaysWhatToDo(t *testing.T) {
	s := newSite(t, session.Config{})
	url := newPlainServer(t, s.m.Handler(session.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request, ses *session.Session) error {
			n.Add(ses, 1)
			_, _, err := http.NewResponseController(w).Hijack()
			if !errors.Is(err, session.ErrHeaderSent) || !strings.Contains(fmt.Sprint(err), "earlier request") {
				t.Errorf("Hijack: %v", err)
			}
			return err
		})))
	res, _ := mustFetch(t, http.DefaultClient, url)
	mustEqual(t, "status", res.StatusCode, 500)
}

// TestCloseNotifyIsThere: gin's Context.Stream panics without it.
func TestCloseNotifyIsThere(t *testing.T) {
	s := newSite(t, session.Config{})
	ctx, hangUp := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	s.m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		closed := w.(interface{ CloseNotify() <-chan bool }).CloseNotify()
		hangUp()
		<-closed
	})).ServeHTTP(httptest.NewRecorder(), r)
}

// bg is a context that never ends.
var bg = context.Background()

// TestLateReadAfterAnEndIsRefused begins a request, ends its session in another tab, and then reads
// the session. The request is not that of a new visitor: its write fails, and its response has no
// cookie that would replace a newer one.
func TestLateReadAfterAnEndIsRefused(t *testing.T) {
	for name, end := range map[string]func(s *site, other *visitor){
		"signed out": func(_ *site, other *visitor) { other.do(signOut) },
		"user revoked": func(s *site, _ *visitor) {
			if _, err := s.m.RevokeUser(bg, "ada"); err != nil {
				t.Error(err)
			}
		},
		"all revoked": func(s *site, _ *visitor) {
			if err := s.m.RevokeAll(bg); err != nil {
				t.Error(err)
			}
		},
		"over the limit": func(s *site, _ *visitor) { s.mustSignIn("ada") },
	} {
		bubble(t, func(t *testing.T) {
			s := newSite(t, session.Config{MaxPerUser: 1})
			v := s.mustSignIn("ada")
			slow := v.tab()
			res := slow.handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(time.Second)
				end(s, v.tab())
				time.Sleep(time.Second)
				next := s.mustSignIn("ada")
				v.cookie = next.cookie
				time.Sleep(time.Second)
				ses, err := session.From(r.Context())
				if err != nil {
					t.Errorf("%s: From: %v", name, err)
					return
				}
				if ses.Info().User != "" {
					t.Errorf("%s: the session has the user %q", name, ses.Info().User)
				}
				n.Add(ses, 1)
				if err := ses.Commit(bg); !errors.Is(err, session.ErrEnded) {
					t.Errorf("%s: Commit: %v, want ErrEnded", name, err)
				}
			}))
			mustEqual(t, name+": cookies of the late response", len(cookies(res)), 0)
			mustEqual(t, name+": the user of the newer session", v.info().User, "ada")

			// A request that begins after the end is that of an unknown visitor.
			again := v.tab()
			s.m.RevokeUser(bg, "ada")
			time.Sleep(time.Millisecond)
			res = again.do(increment)
			mustEqual(t, name+": status of a write after the end", res.Code, 200)
			if again.cookie == v.cookie || len(cookies(res)) == 0 {
				t.Errorf("%s: a write after the end starts no session: %q", name, cookies(res))
			}
		})
	}
}

// TestRequestRightAfterAnEndIsNew: a request that begins at the very time of the end follows it.
func TestRequestRightAfterAnEndIsNew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		v := s.mustSignIn("ada")
		old := v.tab()
		v.do(signOut)
		mustEqual(t, "status", old.do(increment).Code, 200)
		mustEqual(t, "n", old.count(), 1)
	})
}

// lostReplyStore ends a session, loses the reply, and repeats the end, as redisstore does.
type lostReplyStore struct{ *faultyStore }

func (l lostReplyStore) EndAndReport(
	ctx context.Context, id driver.ID, owner driver.Hash, attempt driver.Attempt,
) (bool, error) {
	if _, err := l.faultyStore.EndAndReport(ctx, id, owner, attempt); err != nil {
		return false, err
	}
	return l.faultyStore.EndAndReport(ctx, id, owner, attempt)
}

// TestTheftIsReportedWhenAReplyIsLost: the repeated end reports that it ended the session.
func TestTheftIsReportedWhenAReplyIsLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{})
		var events []string
		lost := *s
		var err error
		lost.m, err = session.New(lostReplyStore{s.store}, session.Config{
			Logger:  s.logger(),
			OnEvent: func(_ context.Context, e session.Event) { events = append(events, string(e.Kind)) },
		})
		if err != nil {
			t.Fatal(err)
		}
		v := lost.mustSignIn("ada")
		old := v.tab()
		v.do(renew)
		v.do(readCount) // the new token was used: the old one is stolen once it is forgotten
		time.Sleep(61 * time.Second)
		old.do(readCount)
		if got := strings.Join(events, ", "); !strings.HasSuffix(got, "stolen") {
			t.Errorf("the events are %q, want the theft at the end", got)
		}
	})
}

// TestSignOutOfAReplacedSessionSparesTheNewOne signs in again in another tab, and then signs out
// with the old token. SignOut does not claim that the visitor is signed out. The cookie of the new
// session stays.
func TestSignOutOfAReplacedSessionSparesTheNewOne(t *testing.T) {
	for _, view := range []string{"live", "refused by a commit", "not read yet"} {
		bubble(t, func(t *testing.T) {
			s := newSite(t, session.Config{ClearSiteData: []string{"storage"}})
			v := s.mustSignIn("ada")
			res := v.tab().handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if view == "not read yet" {
					v.do(signIn("ada"))
				}
				ses, err := session.From(r.Context())
				if err != nil {
					t.Errorf("%s: From: %v", view, err)
					return
				}
				if view != "not read yet" {
					v.do(signIn("ada"))
				}
				if view == "refused by a commit" {
					n.Add(ses, 1)
					if err := ses.Commit(bg); !errors.Is(err, session.ErrEnded) {
						t.Errorf("%s: Commit: %v, want ErrEnded", view, err)
					}
				}
				if err := ses.SignOut(bg); !errors.Is(err, session.ErrEnded) {
					t.Errorf("%s: SignOut: %v, want ErrEnded", view, err)
				}
			}))
			mustEqual(t, view+": cookies", len(cookies(res)), 0)
			mustEqual(t, view+": Clear-Site-Data", res.Header().Get("Clear-Site-Data"), "")
			mustEqual(t, view+": the user of the new session", v.info().User, "ada")
		})
	}
}
