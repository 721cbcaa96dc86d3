package peers

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/migrate"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// The fields of the new program.
const (
	visits session.Counter       = "visits"
	theme  session.Value[string] = "theme"
	cart   session.Counters      = "cart"
)

// moveValues is Options.Move of the new program.
func moveValues(_ context.Context, old *migrate.Old, s *session.Session) (*session.Login, error) {
	var (
		n     int64
		name  string
		items map[string]int64
		login session.Login
		from  *session.Session // of another store of Coatcheck
	)
	if old.Get("session", &from) {
		visits.Add(s, visits.Get(from))
		theme.Set(s, theme.Get(from))
		for item, n := range cart.All(from) {
			cart.Add(s, item, n)
		}
		return migrate.LoginOf(from), nil
	}
	if old.Get("visits", &n) {
		visits.Add(s, n)
	}
	if old.Get("theme", &name) {
		theme.Set(s, name)
	}
	old.Get("cart", &items)
	for item, n := range items {
		cart.Add(s, item, n)
	}
	old.Get("login", &login.Authenticated)
	if old.Get("user", &login.User) {
		return &login, nil
	}
	return nil, nil
}

// site is an old program, and the new one on two nodes.
type site struct {
	t      *testing.T
	old    func(*http.Request) *http.Response
	source migrate.Source
	oldAt  *redistest.Node // the server of the old sessions
	newAt  *redistest.Node
	nodes  []*node
}

type node struct {
	manager   *session.Manager
	store     *redisstore.Store
	migration *migrate.Migration
	handler   http.Handler
}

// keepFor returns Options.KeepUntil: an hour from now, if the source supports it.
func (p program) keepFor(d time.Duration) time.Time {
	if p.notKept {
		return time.Time{}
	}
	return time.Now().Add(d)
}

// newSite starts the servers and opens both programs.
func newSite(t *testing.T, p program, o migrate.Options) *site {
	t.Helper()
	server := redistest.Options{Config: []string{"appendonly yes", "appendfsync always"}}
	x := &site{t: t, oldAt: redistest.Start(t, server), newAt: redistest.Start(t, server)}
	x.old, x.source = p.open(t, x.oldAt.Addr())
	x.deploy(o)
	return x
}

// deploy opens the new program on two nodes.
func (x *site) deploy(o migrate.Options) {
	x.t.Helper()
	x.nodes = nil
	quiet := slog.New(slog.DiscardHandler)
	if o.Logger = quiet; o.Move == nil {
		o.Move = moveValues
	}
	for range 2 {
		n := &node{}
		var err error
		if n.store, err = redisstore.Open(x.t.Context(), "redis://"+x.newAt.Addr(), redisstore.Options{Logger: quiet, Timeout: 30 * time.Second}); err != nil {
			x.t.Fatal(err)
		}
		x.t.Cleanup(func() { n.store.Close() })
		n.manager, err = session.New(n.store, session.Config{
			Logger: quiet, Cookie: session.Cookie{Name: "__Host-new"}, CommitTimeout: 30 * time.Second,
			OnEvent: func(ctx context.Context, e session.Event) { n.migration.OnEvent(ctx, e) },
		})
		if err == nil {
			n.migration, err = migrate.New(n.manager, n.store, x.source, o)
		}
		if err != nil {
			x.t.Fatal(err)
		}
		n.handler = n.manager.Handler(n.migration.Handler(session.Route{Fresh: true}.Handler(session.HandlerFunc(serveNew))))
		x.nodes = append(x.nodes, n)
	}
}

// serveNew is the new program: it reads, adds a visit at /add, and signs out at /out.
func serveNew(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	switch r.URL.Path {
	case "/add":
		visits.Add(s, 1)
	case "/out":
		if err := s.SignOut(r.Context()); err != nil {
			return err
		}
	}
	at := s.Info().Authenticated
	if !at.IsZero() {
		w.Header().Set("Authenticated", at.Format(time.RFC3339Nano))
	}
	w.Header().Set("Handle", s.Info().Handle)
	fmt.Fprintf(w, "%d %s %d %d %s", visits.Get(s), theme.Get(s), cart.Get(s, "tea"), cart.Get(s, "cup"), s.User())
	return nil
}

// visitor is a browser of both programs.
type visitor struct {
	x       *site
	cookies map[string]string
}

func (x *site) visitor() *visitor { return &visitor{x, map[string]string{}} }

// tab returns a browser with the same cookies.
func (v *visitor) tab() *visitor {
	next := v.x.visitor()
	for name, value := range v.cookies {
		next.cookies[name] = value
	}
	return next
}

func (v *visitor) request(path string) *http.Request {
	r := httptest.NewRequestWithContext(v.x.t.Context(), http.MethodGet, "https://example.test"+path, nil)
	for name, value := range v.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	return r
}

// receive keeps the cookies of a response and returns its body.
func (v *visitor) receive(res *http.Response) string {
	for _, c := range res.Cookies() {
		if v.cookies[c.Name] = c.Value; c.MaxAge < 0 || c.Value == "" {
			delete(v.cookies, c.Name)
		}
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	return string(body)
}

// visitOld makes a request of the old program.
func (v *visitor) visitOld(path string) string {
	v.x.t.Helper()
	res := v.x.old(v.request(path))
	body := v.receive(res)
	if res.StatusCode != http.StatusOK {
		v.x.t.Fatalf("the old program at %s: %d, %s", path, res.StatusCode, body)
	}
	return body
}

// visit makes a request of the new program on one of its nodes.
func (v *visitor) visit(node int, path string) (*http.Response, string) {
	w := httptest.NewRecorder()
	v.x.nodes[node].handler.ServeHTTP(w, v.request(path))
	res := w.Result()
	return res, v.receive(res)
}

// mustVisit makes a request that must succeed with this text.
func (v *visitor) mustVisit(node int, path, want string) *http.Response {
	v.x.t.Helper()
	res, body := v.visit(node, path)
	if res.StatusCode != http.StatusOK || body != want {
		v.x.t.Errorf("%s: %d, %q, want %q", path, res.StatusCode, body, want)
	}
	return res
}

// hasOld reports whether the browser has a cookie of the old program.
func (v *visitor) hasOld() bool {
	return slices.ContainsFunc(v.x.source.Cookies(), func(c *http.Cookie) bool { return v.cookies[c.Name] != "" })
}

// text is what the new program says about a visitor with these values.
func (v values) text() string {
	return fmt.Sprintf("%d %s %d %d %s", v.visits, v.theme, v.visits, 1, v.user)
}

// nobody is what the new program says about an unknown visitor.
const nobody = "0  0 0 "

// ada are the values of the tests with one visitor.
var ada = values{visits: 7, theme: "dark", user: "ada"}

// known returns a visitor whom the old program knows.
func (x *site) known(v values) *visitor {
	x.t.Helper()
	out := x.visitor()
	out.visitOld(fill(v))
	if !out.hasOld() {
		x.t.Fatal("the old program set no cookie")
	}
	return out
}
