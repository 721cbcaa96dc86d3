package session_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

// mustCSRFToken returns a token as a page gets it. A session that was not stored is stored.
func (v *visitor) mustCSRFToken(t *testing.T) (token string) {
	t.Helper()
	w := v.do(func(ses *session.Session) (err error) { token, err = ses.CSRFToken(t.Context()); return err })
	if w.Code != 200 || len(token) != 48 {
		t.Fatalf("CSRFToken: %d, %q", w.Code, token)
	}
	return token
}

// post sends a request with a body, and reports whether the handler ran.
func (v *visitor) post(method string, header http.Header, body string) (w *httptest.ResponseRecorder, ran bool) {
	r := httptest.NewRequest(method, "https://shop.example/buy", strings.NewReader(body))
	for name, values := range header {
		r.Header[name] = values
	}
	if v.cookie != "" {
		r.Header.Set("Cookie", v.cookie)
	}
	w = httptest.NewRecorder()
	v.site.m.Handler(session.HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error {
		ran = true
		return nil
	})).ServeHTTP(w, r)
	return w, ran
}

// TestLostSignInResponseBlocksFormsForAMinute: a browser that did not receive the response to its
// sign-in gets no CSRF token for a minute. It can post the sign-in again at once.
func TestLostSignInResponseBlocksFormsForAMinute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{CSRF: true})
		signedIn := s.known()
		token := signedIn.mustCSRFToken(t)
		lost := signedIn.tab()
		signedIn.do(signIn("ada"))

		csrfToken := func(ses *session.Session) error { _, err := ses.CSRFToken(t.Context()); return err }
		mustAnswer(t, lost.tab().do(csrfToken), 409)
		time.Sleep(driver.SupersededFor - time.Second)
		mustAnswer(t, lost.tab().do(csrfToken), 409)
		if w, ran := lost.tab().post("POST", http.Header{session.CSRFHeader: {token}}, ""); !ran {
			t.Errorf("a post from the old page: %d %s", w.Code, w.Body)
		}
		again := lost.tab()
		mustAnswer(t, again.do(signIn("ada")), 200)
		mustEqual(t, "the user after the second sign-in", again.who(), "ada")
		time.Sleep(2 * time.Second)
		mustAnswer(t, lost.tab().do(csrfToken), 200)
	})
}

// TestCrossOriginRequestsAreRefused: another site can neither use the cookie nor replace it.
func TestCrossOriginRequestsAreRefused(t *testing.T) {
	bypass := http.NewCrossOriginProtection()
	bypass.AddInsecureBypassPattern("/{$}")
	trusting := http.NewCrossOriginProtection()
	if err := trusting.AddTrustedOrigin("https://partner.example"); err != nil {
		t.Fatal(err)
	}
	cross := map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
	from := func(site string) map[string]string { return map[string]string{"Sec-Fetch-Site": site} }
	behindProxy := map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "https://public.example"}
	for _, tt := range []struct {
		name          string
		cfg           session.Config
		method        string
		header        map[string]string
		known, writes bool
		status        int
		ran           bool
		setCookie     int
	}{
		{"same origin", session.Config{}, "POST", from("same-origin"), true, true, 200, true, 0},
		{"behind a proxy that changes the host", session.Config{}, "POST", behindProxy, true, true, 200, true, 0},
		{"not a browser", session.Config{}, "POST", nil, true, true, 200, true, 0},
		{"with the cookie", session.Config{}, "POST", cross, true, true, 403, false, 0},
		{"with the cookie, only reads", session.Config{}, "POST", cross, true, false, 403, false, 0},
		{"DELETE with the cookie", session.Config{}, "DELETE", cross, true, true, 403, false, 0},
		{"origin of an older browser", session.Config{}, "POST", map[string]string{"Origin": "https://evil.example"},
			true, true, 403, false, 0},
		{"another host of the same site", session.Config{}, "POST", from("same-site"), true, true, 403, false, 0},
		{"GET", session.Config{}, "GET", cross, true, true, 200, true, 0},
		{"without the cookie, writes", session.Config{}, "POST", cross, false, true, 403, true, 0},
		{"without the cookie, only reads", session.Config{}, "POST", cross, false, false, 200, true, 0},
		{"listed route", session.Config{CrossOrigin: bypass}, "POST", cross, true, true, 200, true, 0},
		{"listed route, without the cookie", session.Config{CrossOrigin: bypass}, "POST", cross, false, true, 200, true, 1},
		{"trusted origin", session.Config{CrossOrigin: trusting}, "POST",
			map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://partner.example"}, true, true,
			200, true, 0},
		{"another issuer's bearer token beside the cookie", session.Config{Bearer: true}, "POST",
			map[string]string{"Sec-Fetch-Site": "cross-site", "Authorization": "Bearer x"}, true, true, 403, false, 0},
	} {
		s := newSite(t, tt.cfg)
		v, want := s.visitor(), int64(0)
		if tt.known {
			v, want = s.known(), 1
		}
		cookie := v.cookie
		v.header = tt.header
		ran := false
		w := v.request(tt.method,
			s.m.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
				ran = true
				if tt.writes {
					n.Add(ses, 10)
				}
				return nil
			})))
		if w.Code != tt.status || ran != tt.ran || len(cookies(w)) != tt.setCookie {
			t.Errorf("%s: %d, handler ran: %v, Set-Cookie %q; want %d, %v, %d", tt.name, w.Code, ran, cookies(w),
				tt.status, tt.ran, tt.setCookie)
		}
		if tt.status == 200 && tt.writes {
			want += 10
		}
		v.header = nil
		if got := v.count(); got != want {
			t.Errorf("%s: n = %d, want %d", tt.name, got, want)
		}
		if tt.setCookie == 0 && v.cookie != cookie {
			t.Errorf("%s: the cookie changed", tt.name)
		}
	}
}

// TestCSRFChecksUnsafeRequests: which requests need a token, and which tokens are valid.
func TestCSRFChecksUnsafeRequests(t *testing.T) {
	s := newSite(t, session.Config{CSRF: true})
	v, other, stranger := s.known(), s.known(), s.visitor()
	good, otherToken := v.mustCSRFToken(t), other.mustCSRFToken(t)
	dead := &visitor{site: s, cookie: "__Host-session=" + strings.Repeat("A", 52)}
	in := func(tokens ...string) http.Header { return http.Header{"X-Csrf-Token": tokens} }
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	flipped := []byte(good)
	flipped[47] ^= 1
	for _, tt := range []struct {
		name, method string
		v            *visitor
		header       http.Header
		body         string
		status       int
	}{
		{"GET", "GET", v, nil, "", 200},
		{"HEAD", "HEAD", v, nil, "", 200},
		{"OPTIONS", "OPTIONS", v, nil, "", 200},
		{"TRACE", "TRACE", v, nil, "", 200},
		{"get, which is no standard method", "get", v, nil, "", 403},
		{"no token", "POST", v, nil, "", 403},
		{"PUT", "PUT", v, nil, "", 403},
		{"PATCH", "PATCH", v, nil, "", 403},
		{"DELETE", "DELETE", v, nil, "", 403},
		{"header", "POST", v, in(good), "", 200},
		{"header of DELETE", "DELETE", v, in(good), "", 200},
		{"form", "POST", v, form, "a=1&csrf_token=" + good, 200},
		{"form of PUT", "PUT", v, form, "csrf_token=" + good, 200},
		{"form without a token", "POST", v, form, "a=1", 403},
		{"form sent as text", "POST", v, http.Header{"Content-Type": {"text/plain"}}, "csrf_token=" + good, 403},
		{"JSON without a token", "POST", v, http.Header{"Content-Type": {"application/json"}}, "{}", 403},
		{"another session's token", "POST", v, in(otherToken), "", 403},
		{"that token in its own session", "POST", other, in(otherToken), "", 200},
		{"two values: the first counts", "POST", v, in(good, otherToken), "", 200},
		{"two values, the first one wrong", "POST", v, in(otherToken, good), "", 403},
		{"the header beats the form", "POST", v,
			http.Header{"X-Csrf-Token": {otherToken}, "Content-Type": form["Content-Type"]}, "csrf_token=" + good, 403},
		{"one bit wrong", "POST", v, in(string(flipped)), "", 403},
		{"truncated", "POST", v, in(good[:47]), "", 403},
		{"one character more", "POST", v, in(good + "A"), "", 403},
		{"padded", "POST", v, in(good[:44] + "===="), "", 403},
		{"standard alphabet", "POST", v, in("+/" + good[2:]), "", 403},
		{"line ends", "POST", v, form, "csrf_token=" + good[:46] + "%0D%0A", 403},
		{"line ends after it", "POST", v, form, "csrf_token=" + good + "%0D%0A", 403},
		{"huge", "POST", v, in(strings.Repeat("A", 1<<20)), "", 403},
		{"pad alone", "POST", v, in(base64.RawURLEncoding.EncodeToString(make([]byte, 36))), "", 403},
		{"the session's own token", "POST", v, in(strings.TrimPrefix(v.cookie, "__Host-session=")), "", 403},
		{"no cookie", "POST", stranger, nil, "", 200},
		{"a cookie of no session", "POST", dead, nil, "", 200},
	} {
		w, ran := tt.v.post(tt.method, tt.header, tt.body)
		if w.Code != tt.status || ran != (tt.status == 200) {
			t.Errorf("%s: %d, handler ran: %v, want %d", tt.name, w.Code, ran, tt.status)
		}
		if tt.status == 403 && (!strings.Contains(w.Body.String(), "reload it and try again") || len(cookies(w)) != 0) {
			t.Errorf("%s: %q, Set-Cookie %q", tt.name, w.Body, cookies(w))
		}
	}
	if log := s.log.String(); strings.Contains(log, good) || strings.Contains(log, otherToken) ||
		!strings.Contains(log, "no valid CSRF token") {
		t.Error("the log has a token, or does not name the cause")
	}
}

// TestCSRFIsOffByDefault: without Config.CSRF a request needs no token.
func TestCSRFIsOffByDefault(t *testing.T) {
	s := newSite(t, session.Config{})
	if w, ran := s.known().post("POST", nil, ""); w.Code != 200 || !ran {
		t.Errorf("%d", w.Code)
	}
}

// TestCSRFExemptsOnlyListedRoutes: no path that looks like a listed one is exempt.
func TestCSRFExemptsOnlyListedRoutes(t *testing.T) {
	s := newSite(t, session.Config{CSRF: true, CSRFExempt: []string{"POST /hook/{id}", "/sub/", "other.example/"}})
	v := s.known()
	for target, status := range map[string]int{
		"https://shop.example/hook/7": 200, "https://shop.example/hook/7/8": 403, "https://shop.example/hook": 403,
		"https://shop.example/sub/x": 200, "https://shop.example/sub": 403, "https://shop.example/sub/../buy": 403,
		"https://shop.example/buy/../sub/": 403, "https://shop.example/sub/..%2fbuy": 403,
		"https://shop.example/sub/%2e%2e%2fbuy":      403,
		"https://shop.example/sub/x%2F..%2f..%2Fbuy": 403, "https://shop.example/hook/7%2Fpay": 403,
		"https://shop.example/sub/a%2fb": 200, "https://shop.example/sub/a..b": 200,
		"https://shop.example//sub/": 403, "https://other.example/buy": 200, "https://shop.example/": 403,
	} {
		r := httptest.NewRequest("POST", target, nil)
		r.Header.Set("Cookie", v.cookie)
		w := httptest.NewRecorder()
		s.m.Handler(http.NotFoundHandler()).ServeHTTP(w, r)
		if got := w.Code; (got == 403) != (status == 403) {
			t.Errorf("%s: %d, want %d", target, got, status)
		}
	}
}

// TestCSRFTokenIsValidUntilTheSessionEnds: a token stays valid through renewals. No two texts of a
// token have a part in common. Otherwise compression could reveal it.
func TestCSRFTokenIsValidUntilTheSessionEnds(t *testing.T) {
	s := newSite(t, session.Config{CSRF: true})
	v := s.visitor()
	first := v.mustCSRFToken(t)
	if v.cookie == "" || s.store.Len() != 1 {
		t.Fatal("asking for a token did not store the session")
	}
	second := v.mustCSRFToken(t)
	if first == second || first[:24] == second[:24] || first[24:] == second[24:] {
		t.Error("two tokens have a part in common, so compression can reveal it")
	}
	check := func(what, token string, status int) {
		t.Helper()
		w, _ := v.post("POST", http.Header{"X-Csrf-Token": {token}}, "")
		mustEqual(t, what, w.Code, status)
	}
	check("at once", first, 200)
	v.do(renew)
	check("after a renewal", first, 200)
	check("the second token", second, 200)
	v.do(signIn("ada"))
	check("after sign-in", first, 403)
	third := v.mustCSRFToken(t)
	check("a new one", third, 200)
	v.do(signIn("ada"))
	check("after signing in again", third, 403)
	v.do(signOut)
	n0 := s.store.Len()
	v.mustCSRFToken(t)
	mustEqual(t, "sessions after a page with a token", s.store.Len(), n0+1)
	check("after sign-out", third, 403)
}

// TestCSRFTokenSurvivesRotation: a page that was open during a rotation can still post.
func TestCSRFTokenSurvivesRotation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, session.Config{CSRF: true, RotateEvery: time.Minute})
		v := s.known()
		token, before := v.mustCSRFToken(t), v.cookie
		time.Sleep(2 * time.Minute)
		v.do(readCount)
		if v.cookie == before {
			t.Fatal("the token did not rotate")
		}
		w, _ := v.post("POST", http.Header{"X-Csrf-Token": {token}}, "")
		mustEqual(t, "status", w.Code, 200)
	})
}

// TestCSRFTokenAfterSignInIsOfTheNewSession: also if SignIn of the store returns no record.
func TestCSRFTokenAfterSignInIsOfTheNewSession(t *testing.T) {
	for _, noRecord := range []bool{false, true} {
		s := newSite(t, session.Config{CSRF: true})
		s.store.noRecord = noRecord
		v := s.known()
		before := v.mustCSRFToken(t)
		var token string
		v.do(func(ses *session.Session) (err error) {
			if err = ses.SignIn(t.Context(), session.Login{User: "ada"}); err == nil {
				token, err = ses.CSRFToken(t.Context())
			}
			if ses.CheckCSRF(token) != nil || !errors.Is(ses.CheckCSRF(before), session.ErrCSRF) {
				t.Error("after SignIn, CheckCSRF accepts a token of the old session or rejects one of the new session")
			}
			return err
		})
		w, _ := v.post("POST", http.Header{"X-Csrf-Token": {token}}, "")
		mustEqual(t, "the status with the new token", w.Code, 200)
	}
}

// TestCSRFTokenWithoutARecordFromCreate: the first page of a visitor works if Create returns no
// record.
func TestCSRFTokenWithoutARecordFromCreate(t *testing.T) {
	m, err := session.New(&recordlessStore{UserStore: memstore.New()}, patient(session.Config{CSRF: true}))
	if err != nil {
		t.Fatal(err)
	}
	v := (&site{t: t, m: m}).visitor()
	w, _ := v.post("POST", http.Header{"X-Csrf-Token": {v.mustCSRFToken(t)}}, "")
	mustEqual(t, "status", w.Code, 200)
}

// TestCSRFReportsOtherErrorsAsThemselves: a store that is down is not a wrong token. A token that
// is not available fails no other call.
func TestCSRFReportsOtherErrorsAsThemselves(t *testing.T) {
	cfg := session.Config{CSRF: true}
	t.Run("the store is down", func(t *testing.T) {
		s := newSite(t, cfg)
		v := s.known()
		token := v.mustCSRFToken(t)
		s.store.down()
		w, ran := v.post("POST", http.Header{"X-Csrf-Token": {token}}, "")
		if mustAnswer(t, w, 503); ran || len(cookies(w)) != 0 {
			t.Error("the handler ran, or a cookie was sent")
		}
		s.store.up()
		mustEqual(t, "the session", v.count(), 1)
	})
	t.Run("the store is down, on an anonymous route", func(t *testing.T) {
		s := newSite(t, cfg)
		v := s.known()
		s.store.down()
		w := v.serveRoute(session.Route{Down: session.DownAnonymous},
			func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
				if _, err := ses.CSRFToken(r.Context()); !errors.Is(err, session.ErrUnavailable) {
					t.Errorf("CSRFToken: %v", err)
				}
				return nil
			})
		mustEqual(t, "the page without a form", w.Code, 200)
	})
	t.Run("two tokens", func(t *testing.T) {
		s := newSite(t, cfg)
		v := s.known()
		v.cookie += "; " + s.known().cookie
		w, _ := v.post("POST", nil, "")
		mustAnswer(t, w, 400)
	})
	t.Run("superseded token", func(t *testing.T) {
		s := newSite(t, cfg)
		v := s.known()
		late := v.tab()
		v.do(renew)
		late.do(func(ses *session.Session) error {
			if _, err := ses.CSRFToken(t.Context()); !errors.Is(err, session.ErrEnded) {
				t.Errorf("CSRFToken: %v", err)
			}
			return nil
		})
	})
	t.Run("after the header", func(t *testing.T) {
		newSite(t, cfg).visitor().serve(func(w http.ResponseWriter, r *http.Request, ses *session.Session) error {
			w.Write([]byte("page"))
			if _, err := ses.CSRFToken(r.Context()); !errors.Is(err, session.ErrHeaderSent) {
				t.Errorf("CSRFToken: %v", err)
			}
			return nil
		})
	})
	t.Run("without a session", func(t *testing.T) {
		newSite(t, cfg).visitor().do(func(ses *session.Session) error {
			if err := ses.CheckCSRF(""); !errors.Is(err, session.ErrCSRF) {
				t.Errorf("CheckCSRF: %v", err)
			}
			return nil
		})
	})
	t.Run("invalid pattern", func(t *testing.T) {
		for _, list := range [][]string{{"/{"}, {"/a", "/a"}, {""}, {"/{a}/b", "/b/{a}"}} {
			_, err := session.New(memstore.New(), session.Config{CSRFExempt: list})
			if err == nil || !strings.HasPrefix(err.Error(), "session: Config.CSRFExempt: ") {
				t.Errorf("%q: %v", list, err)
			}
		}
	})
}

// TestCheckCSRFWorksWithoutNetHTTP: CheckCSRF is the check of the middleware.
func TestCheckCSRFWorksWithoutNetHTTP(t *testing.T) {
	s := newSite(t, session.Config{CSRF: true})
	v := s.known()
	token := v.mustCSRFToken(t)
	ses, err := session.From(mustLoad(t, s.m, v.cookie))
	if err != nil {
		t.Fatal(err)
	}
	if err := ses.CheckCSRF(token); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "x", s.known().mustCSRFToken(t), strings.Repeat("A", 48)} {
		if err := ses.CheckCSRF(bad); !errors.Is(err, session.ErrCSRF) ||
			bad != "" && strings.Contains(err.Error(), bad+" ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestCSRFLeavesTheFormToTheHandler posts forms to a real server. The handler reads the whole body,
// although the middleware has looked for the token.
func TestCSRFLeavesTheFormToTheHandler(t *testing.T) {
	onBothProtocols(t, func(t *testing.T, http2 bool) {
		s := newSite(t, session.Config{CSRF: true})
		var token string
		large := strings.Repeat("picture ", 1<<17)
		mux := http.NewServeMux()
		mux.Handle("GET /form",
			session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, ses *session.Session) (err error) {
				token, err = ses.CSRFToken(r.Context())
				return err
			}))
		mux.HandleFunc("POST /parsed", func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, 2<<20)
			io.WriteString(w, r.PostFormValue("text"))
		})
		mux.HandleFunc("POST /raw", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
		mux.HandleFunc("POST /bounded", func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, 10)
			if _, err := io.ReadAll(r.Body); err != nil {
				w.WriteHeader(http.StatusRequestEntityTooLarge)
			}
		})
		mux.HandleFunc("POST /streamed", func(w http.ResponseWriter, r *http.Request) {
			parts, err := r.MultipartReader()
			for err == nil {
				var p *multipart.Part
				if p, err = parts.NextPart(); err == nil && p.FormName() == "text" {
					io.Copy(w, p)
				}
			}
		})
		srv, client := s.newServer(t, http2, mux)
		mustFetch(t, client, srv.URL+"/form")
		simple := func(token string) (string, string) {
			return "application/x-www-form-urlencoded", url.Values{"csrf_token": {token}, "text": {large}}.Encode()
		}
		parts := func(token string) (string, string) {
			var b bytes.Buffer
			m := multipart.NewWriter(&b)
			m.WriteField("csrf_token", token)
			m.WriteField("text", large)
			m.Close()
			return m.FormDataContentType(), b.String()
		}
		_, simpleBody := simple(token)
		for _, tt := range []struct {
			name, path, token string
			form              func(string) (string, string)
			status            int
			want              string
		}{
			{"simple", "/parsed", token, simple, 200, large},
			{"simple, raw", "/raw", token, simple, 200, simpleBody},
			{"simple, bounded", "/bounded", token, simple, 413, ""},
			{"simple, wrong", "/parsed", token[:47] + "!", simple, 403, ""},
			{"multipart", "/parsed", token, parts, 200, large},
			{"multipart, streamed", "/streamed", token, parts, 200, large},
			{"multipart, wrong", "/streamed", "", parts, 403, ""},
		} {
			kind, body := tt.form(tt.token)
			res, err := client.Post(srv.URL+tt.path, kind, strings.NewReader(body))
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
				continue
			}
			got, err := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != tt.status || err != nil || tt.want != "" && string(got) != tt.want {
				t.Errorf("%s: %d, %d bytes, %v; want %d, %d bytes", tt.name, res.StatusCode, len(got), err, tt.status,
					len(tt.want))
			}
		}
	})
}
