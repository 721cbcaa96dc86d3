package app

import (
	"net/http"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/redis/go-redis/v9"
)

func init() {
	register(System{
		Name:   "scs",
		Tests:  Tests{Updates: true, SignOut: true, Memory: true},
		SignIn: SignIn{NewToken: true, Atomic: true},
		Modules: []string{
			"github.com/alexedwards/scs/v2", "github.com/alexedwards/scs/goredisstore", "github.com/redis/go-redis/v9",
		},
		open: overNetHTTP(openSCS, "Vary"),
	})
}

// scsLibrary is alexedwards/scs with its go-redis store, set up as in its README.
type scsLibrary struct{ *scs.SessionManager }

func openSCS(o Options) (Library, error) {
	manager := scs.New()
	manager.Store = goredisstore.New(redis.NewClient(&redis.Options{Addr: o.Redis, PoolSize: o.Pool}))
	return scsLibrary{manager}, nil
}

func (l scsLibrary) Handler(next http.Handler) http.Handler { return l.LoadAndSave(next) }

func (l scsLibrary) Read(_ http.ResponseWriter, r *http.Request) (int, bool, error) {
	n, ok := l.Get(r.Context(), CounterName).(int)
	return n, ok, nil
}

func (l scsLibrary) Add(_ http.ResponseWriter, r *http.Request) error {
	l.Put(r.Context(), CounterName, l.GetInt(r.Context(), CounterName)+1)
	return nil
}

func (l scsLibrary) Fill(_ http.ResponseWriter, r *http.Request, data map[string]string) error {
	for name, value := range data {
		l.Put(r.Context(), name, value)
	}
	l.Put(r.Context(), CounterName, 1)
	return nil
}

// SignIn renews the token first, as the library's documentation recommends.
func (l scsLibrary) SignIn(_ http.ResponseWriter, r *http.Request, user string) error {
	if err := l.RenewToken(r.Context()); err != nil {
		return err
	}
	l.Put(r.Context(), userName, user)
	return nil
}

func (l scsLibrary) SignOut(_ http.ResponseWriter, r *http.Request) error {
	return l.Destroy(r.Context())
}
