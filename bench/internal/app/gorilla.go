package app

import (
	"net/http"

	"github.com/boj/redistore/v2"
	"github.com/gorilla/sessions"
)

func init() {
	register(System{
		Name:   "gorilla",
		Tests:  Tests{Updates: true, SignOut: true, Memory: true},
		SignIn: SignIn{Atomic: true},
		Modules: []string{
			"github.com/gorilla/sessions", "github.com/boj/redistore/v2", "github.com/gomodule/redigo",
		},
		open: overNetHTTP(openGorilla),
	})
}

// gorilla is gorilla/sessions with boj/redistore, set up as in its README. It sends PING before it
// uses a connection.
type gorilla struct{ store sessions.Store }

func openGorilla(o Options) (Library, error) {
	store, err := redistore.NewStore(
		redistore.Keys([]byte("a key for the benchmark only....")),
		redistore.WithAddress("tcp", o.Redis),
		redistore.WithPoolSize(o.Pool),
	)
	return gorilla{store}, err
}

func (gorilla) Handler(next http.Handler) http.Handler { return next }

func (l gorilla) Read(_ http.ResponseWriter, r *http.Request) (int, bool, error) {
	session, err := l.store.Get(r, cookieName)
	if err != nil {
		return 0, false, err
	}
	n, ok := session.Values[CounterName].(int)
	return n, ok, nil
}

func (l gorilla) Add(w http.ResponseWriter, r *http.Request) error {
	return l.change(w, r, func(s *sessions.Session) {
		n, _ := s.Values[CounterName].(int)
		s.Values[CounterName] = n + 1
	})
}

func (l gorilla) Fill(w http.ResponseWriter, r *http.Request, data map[string]string) error {
	return l.change(w, r, func(s *sessions.Session) {
		for name, value := range data {
			s.Values[name] = value
		}
		s.Values[CounterName] = 1
	})
}

// SignIn stores the user in a new session. The library has no call that changes the id of a
// session.
func (l gorilla) SignIn(w http.ResponseWriter, r *http.Request, user string) error {
	return l.change(w, r, func(s *sessions.Session) { s.Values[userName] = user })
}

func (l gorilla) SignOut(w http.ResponseWriter, r *http.Request) error {
	return l.change(w, r, func(s *sessions.Session) { s.Options.MaxAge = -1 })
}

func (l gorilla) change(w http.ResponseWriter, r *http.Request, f func(*sessions.Session)) error {
	session, err := l.store.Get(r, cookieName)
	if err != nil {
		return err
	}
	f(session)
	return session.Save(r, w)
}
