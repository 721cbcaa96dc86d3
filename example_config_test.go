package session_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"text/template"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

// One deployment's keys, and the options that use them.
func ExampleConfig_keys() {
	fromSecrets := func(string) []byte { // all nodes must get the same keys
		key := make([]byte, 32)
		rand.Read(key)
		return key
	}
	audit := func(_ context.Context, e session.Event) { fmt.Println("audit:", e.Kind, e.User) }
	store := memstore.New()
	sessions, err := session.New(store, session.Config{
		// The first key signs and encrypts. All keys verify and decrypt.
		Keys: [][]byte{fromSecrets("session/2026"), fromSecrets("session/2025")},
		Seal: true, // encrypts values and users

		// Hides user ids from the store. It must not change.
		UserKey: fromSecrets("session/users"),

		RotateEvery: 15 * time.Minute, // replaces older tokens
		OnEvent:     audit,            // gets the events of this process
	})
	if err != nil {
		panic(err)
	}
	login := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.SignIn(r.Context(), session.Login{User: "ada"})
	}
	browse(sessions.Handler(session.HandlerFunc(login)), "/")
	// Output:
	// audit: signed in ada
}

// With Seal the application reads values as before. A dump of the store does not show them.
func ExampleConfig_seal() {
	fromSecrets := func(name string) []byte { // all nodes must get the same keys
		key := make([]byte, 32)
		rand.Read(key)
		return key
	}
	const address session.Value[string] = "shipping.address"
	store := memstore.New()
	sessions, err := session.New(store, session.Config{
		Seal:    true,
		Keys:    [][]byte{fromSecrets("session/2026"), fromSecrets("session/2025")},
		UserKey: fromSecrets("session/users"),
	})
	if err != nil {
		panic(err)
	}
	write := func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
		address.Set(s, "12 Analytical Row")
		return nil
	}
	read := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		id, err := driver.ParseID(s.Info().Handle)
		if err != nil {
			return err
		}
		record, _, err := store.Load(r.Context(), id)
		if err != nil {
			return err
		}
		stored, _ := record.Fields.Get("shipping.address")
		_, err = fmt.Fprintf(w, "%s; the store has %.2s… of %d bytes\n", address.Get(s), stored, len(stored))
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/write", session.HandlerFunc(write))
	mux.Handle("/read", session.HandlerFunc(read))
	browse(sessions.Handler(mux), "/write", "/read")
	// Output:
	// 12 Analytical Row; the store has ~1… of 69 bytes
}

var form = template.Must(template.New("form").Parse(`<form method="post" action="/order">
<input type="hidden" name="csrf_token" value="{{.}}">
<input name="amount"> <button>Order</button>
</form>`))

// A form carries a token of the session. A post without it is refused.
func ExampleSession_CSRFToken() {
	sessions, err := session.New(memstore.New(), session.Config{CSRF: true})
	if err != nil {
		panic(err)
	}
	page := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		token, err := s.CSRFToken(r.Context())
		if err != nil {
			return err
		}
		return form.Execute(w, token)
	}
	order := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s ordered\n", template.HTMLEscapeString(r.PostFormValue("amount")))
	}
	mux := http.NewServeMux()
	mux.Handle("GET /order", session.HandlerFunc(page))
	mux.HandleFunc("POST /order", order)

	server := httptest.NewTLSServer(sessions.Handler(mux))
	defer server.Close()
	browser := server.Client()
	browser.Jar, _ = cookiejar.New(nil)
	body := func(res *http.Response, err error) string {
		if err != nil {
			panic(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return string(b)
	}
	_, after, _ := strings.Cut(body(browser.Get(server.URL+"/order")), `value="`)
	token, _, _ := strings.Cut(after, `"`)
	fmt.Print(body(browser.PostForm(server.URL+"/order", url.Values{"csrf_token": {token}, "amount": {"2"}})))
	fmt.Print(body(browser.PostForm(server.URL+"/order", url.Values{"amount": {"2000"}})))
	// Output:
	// 2 ordered
	// This page is out of date. Please reload it and try again.
}

// Cookie settings are checked by New: a cookie named __Host- cannot have a domain.
func Example_cookie() {
	sessions, err := session.New(memstore.New(), session.Config{
		Cookie: session.Cookie{
			Name:     "__Secure-session",
			Domain:   "shop.example",
			SameSite: http.SameSiteStrictMode,
		},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(sessions.Config().Cookie.Name, sessions.Config().Cookie.Path)

	_, err = session.New(memstore.New(), session.Config{
		Cookie: session.Cookie{Domain: "shop.example"},
	})
	fmt.Println(err != nil)
	// Output:
	// __Secure-session /
	// true
}

// A trusted origin, and a webhook that needs neither the same origin nor a CSRF token.
func Example_otherOrigins() {
	trusted := http.NewCrossOriginProtection()
	if err := trusted.AddTrustedOrigin("https://shop.example"); err != nil {
		panic(err)
	}
	trusted.AddInsecureBypassPattern("POST /webhook")
	_, err := session.New(memstore.New(), session.Config{
		CrossOrigin: trusted,
		CSRF:        true,
		CSRFExempt:  []string{"POST /webhook"},
	})
	fmt.Println(err)
	// Output: <nil>
}

// An application with two Managers, for visitors and for administrators. A handler below both gets
// the administrators' session from session.From, and the visitors' session from a middleware
// between the Managers.
func Example_twoManagers() {
	visitors, err1 := session.New(memstore.New(), session.Config{Cookie: session.Cookie{Name: "__Host-visitor"}})
	admins, err2 := session.New(memstore.New(), session.Config{Cookie: session.Cookie{Name: "__Host-admin"}})
	if err := errors.Join(err1, err2); err != nil {
		panic(err)
	}
	type visitorKey struct{}
	keepVisitor := func(next http.Handler) http.Handler {
		return session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), visitorKey{}, s)))
			return nil
		})
	}
	const visits session.Counter = "visits"
	page := func(w http.ResponseWriter, r *http.Request, admin *session.Session) error {
		visitor := r.Context().Value(visitorKey{}).(*session.Session)
		visits.Add(admin, 1)
		visits.Add(visitor, 10)
		_, err := fmt.Fprintln(w, visits.Get(admin), visits.Get(visitor))
		return err
	}
	browse(visitors.Handler(keepVisitor(admins.Handler(session.HandlerFunc(page)))), "/", "/")
	// Output:
	// 1 10
	// 2 20
}

// An audit log of sign-ins, sign-outs and other ends of sessions. OnEvent must not block: put a
// queue in front of a logger that may block.
func ExampleEvent() {
	sessions, err := session.New(memstore.New(), session.Config{
		OnEvent: func(ctx context.Context, e session.Event) {
			// In an application: slog.InfoContext(ctx, "session", "event", e)
			fmt.Printf("event: %s, user %q, instead of another: %v\n", e.Kind, e.User, e.Before != "")
		},
	})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", session.HandlerFunc(hello))
	mux.Handle("/login", session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.SignIn(r.Context(), session.Login{User: "ada"})
	}))
	mux.Handle("/logout", session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.SignOut(r.Context())
	}))
	browse(sessions.Handler(mux), "/", "/login", "/logout")
	// Output:
	// event: created, user "", instead of another: false
	// Hello World #0
	// event: signed in, user "ada", instead of another: true
	// event: signed out, user "ada", instead of another: false
}

// A page that shows events of all nodes. A gap says that events are missing.
func ExampleManager_Events() {
	// Several processes need a redisstore with Options.Events.
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	events := sessions.Events(ctx) // from now on

	login := session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.SignIn(r.Context(), session.Login{User: "ada"})
	})
	browse(sessions.Handler(login), "/")
	if _, err := sessions.RevokeUser(ctx, "ada"); err != nil {
		panic(err)
	}

	for e, err := range events {
		switch {
		case errors.Is(err, session.ErrGap):
			fmt.Println("some events are missing here")
			continue
		case err != nil:
			panic(err)
		}
		fmt.Println(e.User, e.Kind)
		if e.Kind == session.EventRevoked {
			break
		}
	}
	// Output:
	// ada signed in
	// ada revoked
}

// An audit log in a few lines.
func Example_audit() {
	audit := slog.New(slog.DiscardHandler) // in an application: a logger that does not block
	_, err := session.New(memstore.New(), session.Config{
		OnEvent: func(ctx context.Context, e session.Event) {
			audit.InfoContext(ctx, "session", "event", e)
		},
	})
	fmt.Println(err)
	// Output: <nil>
}

// Answers to errors that a script can read.
func ExampleConfig_json() {
	sessions, err := session.New(memstore.New(), session.Config{
		OnError: func(w http.ResponseWriter, _ *http.Request, err error) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(session.Status(err))
			_ = json.NewEncoder(w).Encode(map[string]string{"error": session.Message(err)})
		},
	})
	if err != nil {
		panic(err)
	}
	members := session.Route{SignedIn: true}
	browse(sessions.Handler(members.Handler(session.HandlerFunc(hello))), "/api/cart")
	// Output:
	// {"error":"Please sign in."}
}

// A page that is the same for everybody stands outside of the middleware, so that caches may keep
// it.
func ExampleManager_Handler_publicPages() {
	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		panic(err)
	}
	home := session.HandlerFunc(hello)
	products := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=60")
	})
	mux := http.NewServeMux()
	mux.Handle("GET /", sessions.Handler(home)) // depends on the visitor
	mux.Handle("GET /products/", products)      // is the same for everybody

	for _, path := range []string{"/", "/products/"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		fmt.Println(path, w.Header().Get("Cache-Control"), w.Header().Values("Vary"))
	}
	// Output:
	// / no-store [Cookie]
	// /products/ public, max-age=60 []
}

// Two applications on one host name need two names for their cookies.
func ExampleCookie_twoApplications() {
	shop := session.Config{Cookie: session.Cookie{Name: "__Host-shop"}}
	office := session.Config{Cookie: session.Cookie{Name: "__Host-office"}}

	for _, config := range []session.Config{shop, office} {
		sessions, err := session.New(memstore.New(), config)
		if err != nil {
			panic(err)
		}
		w := httptest.NewRecorder()
		sessions.Handler(session.HandlerFunc(hello)).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		fmt.Println(w.Result().Cookies()[0].Name)
	}
	// Output:
	// __Host-shop-anon
	// __Host-office-anon
}

// Each line that is logged with the context of a request has the session's handle, once the request
// has read or stored its session.
func ExampleLogHandler() {
	var out strings.Builder
	handler := slog.NewTextHandler(&out, nil)
	log := slog.New(session.LogHandler(handler))
	sessions, err := session.New(memstore.New(), session.Config{Logger: log})
	if err != nil {
		panic(err)
	}
	var handle string
	h := sessions.Handler(session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		session.Counter("paid").Add(s, 1)
		if err := s.Commit(r.Context()); err != nil {
			return err
		}
		log.InfoContext(r.Context(), "paid")
		handle = s.Info().Handle
		return nil
	}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	fmt.Println(strings.Contains(out.String(), "msg=paid session="+handle))
	// Output: true
}
