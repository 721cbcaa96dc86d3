package peers

import (
	"context"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/boj/redistore/v2"
	ginsessions "github.com/gin-contrib/sessions"
	gincookie "github.com/gin-contrib/sessions/cookie"
	ginredis "github.com/gin-contrib/sessions/redis"
	"github.com/gin-gonic/gin"
	"github.com/gofiber/fiber/v3"
	fibersession "github.com/gofiber/fiber/v3/middleware/session"
	fiberredis "github.com/gofiber/storage/redis/v3"
	"github.com/gorilla/sessions"
	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/filestore"
	"github.com/coatcheck-go/session/migrate"
)

// key signs the cookies of the old programs.
var key = []byte("32 bytes for tests of a migration")[:32]

// oldLifetime is the lifetime of scs' sessions.
const oldLifetime = 12 * time.Hour

// program is an old program with one of the other libraries. Its requests carry what they do in the
// query: /fill stores visits, theme, cart, and user, /read writes them, /out signs out.
type program struct {
	name    string
	visitor int  // how many visitors the test of 1,000 has, if not 1,000
	notKept bool // going back is not supported
	shared  bool // two visitors with the same values may have the same cookie
	open    func(t *testing.T, addr string) (serve func(*http.Request) *http.Response, source migrate.Source)
}

// values are what an old program keeps for a visitor.
type values struct {
	visits int
	theme  string
	user   string
	ago    time.Duration // how long ago the user signed in, as the program stores it; not scs
}

// access is an old session, whatever the library.
type access struct {
	get     func(key string) any
	set     func(key string, value any)
	save    func() error
	destroy func() error
	renew   func() error // nil: the library has no such call
	dated   bool         // the library knows when renew was called
}

func init() {
	gob.Register(map[string]int{})
	gob.Register(time.Time{})
	gin.SetMode(gin.ReleaseMode)
}

// run is the old program's handler.
func (a access) run(path, query string) (string, error) {
	switch path {
	case "/fill":
		var v struct {
			Visits      int
			Theme, User string
			Ago         time.Duration
		}
		if err := json.Unmarshal([]byte(query), &v); err != nil {
			return "", err
		}
		if v.User != "" {
			if a.renew != nil {
				if err := a.renew(); err != nil {
					return "", err
				}
			}
			a.set("user", v.User)
			if !a.dated {
				a.set("login", time.Now().Add(-v.Ago).UTC())
			}
		}
		a.set("visits", v.Visits)
		a.set("theme", v.Theme)
		a.set("cart", map[string]int{"tea": v.Visits, "cup": 1})
		return "", a.save()
	case "/out":
		return "", a.destroy()
	}
	return fmt.Sprint(a.get("visits"), a.get("theme"), a.get("user")), nil
}

// serveHTTP runs the program with a library on net/http.
func serveHTTP(w http.ResponseWriter, r *http.Request, a access) {
	text, err := a.run(r.URL.Path, r.URL.Query().Get("q"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprint(w, text)
}

func recorded(h http.Handler) func(*http.Request) *http.Response {
	return func(r *http.Request) *http.Response {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Result()
	}
}

func client(t *testing.T, addr string) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialTimeout: time.Second})
	t.Cleanup(func() { c.Close() })
	return c
}

// commands sends the commands of package migrate with go-redis.
func commands(c *redis.Client) migrate.Redis {
	return func(ctx context.Context, args ...any) (any, error) { return c.Do(ctx, args...).Result() }
}

func openSCS(change func(*scs.SessionManager, *migrate.SCS)) func(*testing.T, string) (func(*http.Request) *http.Response, migrate.Source) {
	return func(t *testing.T, addr string) (func(*http.Request) *http.Response, migrate.Source) {
		m, c := scs.New(), client(t, addr)
		m.Store, m.Lifetime = goredisstore.New(c), oldLifetime
		source := migrate.SCS{Redis: commands(c), Lifetime: oldLifetime}
		if change != nil {
			change(m, &source)
		}
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := r.Context()
			serveHTTP(w, r, access{
				get:  func(k string) any { return m.Get(ctx, k) },
				set:  func(k string, v any) { m.Put(ctx, k, v) },
				save: func() error { return nil }, destroy: func() error { return m.Destroy(ctx) },
				renew: func() error { return m.RenewToken(ctx) }, dated: true,
			})
		})
		return recorded(m.LoadAndSave(h)), source
	}
}

// jsonCodec is a codec as applications write it: scs has no other than gob.
type jsonCodec struct{}

type jsonSession struct {
	Deadline time.Time
	Values   map[string]any
}

func (jsonCodec) Encode(deadline time.Time, values map[string]any) ([]byte, error) {
	return json.Marshal(jsonSession{deadline, values})
}

func (jsonCodec) Decode(b []byte) (time.Time, map[string]any, error) {
	var s jsonSession
	err := json.Unmarshal(b, &s)
	return s.Deadline, s.Values, err
}

const gorillaName = "app"

// onGorilla runs the program with a store of gorilla/sessions.
func onGorilla(store sessions.Store) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := store.Get(r, gorillaName)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		serveHTTP(w, r, access{
			get: func(k string) any { return s.Values[k] }, set: func(k string, v any) { s.Values[k] = v },
			save:    func() error { return s.Save(r, w) },
			destroy: func() error { s.Options.MaxAge = -1; return s.Save(r, w) },
		})
	})
}

func openGorilla(json bool) func(*testing.T, string) (func(*http.Request) *http.Response, migrate.Source) {
	return func(t *testing.T, addr string) (func(*http.Request) *http.Response, migrate.Source) {
		options := []redistore.Option{redistore.WithAddress("tcp", addr)}
		if json {
			options = append(options, redistore.WithSerializer(redistore.JSONSerializer{}))
		}
		store, err := redistore.NewStore(redistore.Keys(key), options...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		source := migrate.Gorilla{
			CookieName: gorillaName, Keys: [][]byte{key}, Redis: commands(client(t, addr)), JSON: json,
		}
		return recorded(onGorilla(store)), source
	}
}

func openGorillaCookies(*testing.T, string) (func(*http.Request) *http.Response, migrate.Source) {
	store := sessions.NewCookieStore(key, key) // signed and encrypted
	return recorded(onGorilla(store)), migrate.Gorilla{CookieName: gorillaName, Keys: [][]byte{key, key}}
}

func onGin(store ginsessions.Store) http.Handler {
	router := gin.New()
	router.Use(ginsessions.Sessions(gorillaName, store))
	router.NoRoute(func(c *gin.Context) {
		s := ginsessions.Default(c)
		text, err := access{
			get: func(k string) any { return s.Get(k) }, set: func(k string, v any) { s.Set(k, v) },
			save:    s.Save,
			destroy: func() error { s.Clear(); s.Options(ginsessions.Options{Path: "/", MaxAge: -1}); return s.Save() },
		}.run(c.Request.URL.Path, c.Query("q"))
		if err != nil {
			c.String(http.StatusInternalServerError, err.Error())
			return
		}
		c.String(http.StatusOK, text)
	})
	return router
}

func openGin(t *testing.T, addr string) (func(*http.Request) *http.Response, migrate.Source) {
	store, err := ginredis.NewStore(10, "tcp", addr, "", "", key)
	if err != nil {
		t.Fatal(err)
	}
	source := migrate.Gorilla{CookieName: gorillaName, Keys: [][]byte{key}, Redis: commands(client(t, addr))}
	return recorded(onGin(store)), source
}

func openGinCookies(*testing.T, string) (func(*http.Request) *http.Response, migrate.Source) {
	return recorded(onGin(gincookie.NewStore(key))), migrate.Gorilla{CookieName: gorillaName, Keys: [][]byte{key}}
}

func openFiber(t *testing.T, addr string) (func(*http.Request) *http.Response, migrate.Source) {
	storage := fiberredis.New(fiberredis.Config{Addrs: []string{addr}})
	t.Cleanup(func() { storage.Close() })
	app := fiber.New()
	app.Use(fibersession.New(fibersession.Config{Storage: storage, AbsoluteTimeout: oldLifetime}))
	app.Use(func(c fiber.Ctx) error {
		s := fibersession.FromContext(c)
		text, err := access{
			get: func(k string) any { return s.Get(k) }, set: func(k string, v any) { s.Set(k, v) },
			save: func() error { return nil }, destroy: s.Destroy, renew: s.Regenerate,
		}.run(c.Path(), c.Query("q"))
		if err != nil {
			return err
		}
		return c.SendString(text)
	})
	serve := func(r *http.Request) *http.Response {
		res, err := app.Test(r, fiber.TestConfig{}) // without the default limit of a second
		if err != nil {
			t.Error(err)
			return &http.Response{StatusCode: http.StatusInternalServerError, Body: http.NoBody}
		}
		return res
	}
	return serve, migrate.Fiber{Redis: commands(client(t, addr))}
}

// openCoatcheck is a program with Coatcheck itself, on a file, with sealed values.
func openCoatcheck(t *testing.T, _ string) (func(*http.Request) *http.Response, migrate.Source) {
	store, err := filestore.Open(t.TempDir(), filestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	m, err := session.New(store, session.Config{Keys: [][]byte{key}, UserKey: key, Seal: true})
	if err != nil {
		t.Fatal(err)
	}
	h := session.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		user := ""
		serveHTTP(w, r, access{
			get: func(k string) any {
				if s.Info().Handle == "" {
					return nil
				}
				return k
			},
			set: func(k string, v any) {
				switch v := v.(type) {
				case int:
					visits.Add(s, int64(v))
				case map[string]int:
					for item, n := range v {
						cart.Add(s, item, int64(n))
					}
				case time.Time:
					if err := s.SignIn(r.Context(), session.Login{User: user, Authenticated: v}); err != nil {
						t.Error(err)
					}
				case string:
					if k == "user" {
						user = v
						return
					}
					theme.Set(s, v)
				}
			},
			save: func() error { return nil }, destroy: func() error { return s.SignOut(r.Context()) },
		})
		return nil
	})
	return recorded(m.Handler(h)), migrate.Coatcheck{Manager: m}
}

var programs = []program{
	{name: "scs", open: openSCS(nil)},
	{name: "scs with a JSON codec", visitor: 50, open: openSCS(func(m *scs.SessionManager, s *migrate.SCS) {
		m.Codec, s.Codec = jsonCodec{}, jsonCodec{}
	})},
	{name: "scs with hashed tokens", visitor: 50, open: openSCS(func(m *scs.SessionManager, s *migrate.SCS) {
		m.HashTokenInStore, s.HashToken = true, true
	})},
	{name: "gorilla with redistore", open: openGorilla(false)},
	{name: "gorilla with redistore and JSON", visitor: 50, open: openGorilla(true)},
	{name: "gorilla with CookieStore", open: openGorillaCookies},
	{name: "gin with redis", open: openGin},
	{name: "gin with cookie", shared: true, open: openGinCookies},
	{name: "fiber", open: openFiber},
	{name: "Coatcheck on a file", visitor: 200, notKept: true, open: openCoatcheck},
}

// fill returns the path of a request that stores v.
func fill(v values) string {
	q, err := json.Marshal(map[string]any{"Visits": v.visits, "Theme": v.theme, "User": v.user, "Ago": v.ago})
	if err != nil {
		panic(err)
	}
	return "/fill?q=" + url.QueryEscape(string(q))
}

func userOf(i int) string {
	if i%2 == 0 {
		return ""
	}
	return "user-" + strconv.Itoa(i)
}
