package app

import (
	"context"
	"net/http"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
)

func init() {
	register(System{
		Name:    Coatcheck,
		Modules: []string{"github.com/coatcheck-go/session", "github.com/redis/rueidis"},
		open:    overNetHTTP(openCoatcheck, "Vary", "Cache-Control"),
	})
}

// coatcheck is the library of this repository with its Redis store. The Config is zero, except for
// plain HTTP.
type coatcheck struct{ manager *session.Manager }

func openCoatcheck(o Options) (Library, error) {
	store, err := redisstore.Open(context.Background(), "redis://"+o.Redis, redisstore.Options{})
	if err != nil {
		return nil, err
	}
	manager, err := session.New(store, session.Config{Cookie: session.Cookie{Insecure: true}})
	return coatcheck{manager}, err
}

const visits session.Counter = CounterName

func (l coatcheck) Handler(next http.Handler) http.Handler { return l.manager.Handler(next) }

func (coatcheck) Read(_ http.ResponseWriter, r *http.Request) (int, bool, error) {
	s, err := session.From(r.Context())
	if err != nil {
		return 0, false, err
	}
	n := visits.Get(s)
	return int(n), n > 0, nil
}

func (coatcheck) Add(_ http.ResponseWriter, r *http.Request) error {
	s, err := session.From(r.Context())
	if err == nil {
		visits.Add(s, 1)
	}
	return err
}

func (coatcheck) Fill(_ http.ResponseWriter, r *http.Request) error {
	s, err := session.From(r.Context())
	if err != nil {
		return err
	}
	for name, value := range Payload {
		session.Value[string](name).Set(s, value)
	}
	visits.Add(s, 1)
	return nil
}

// SignIn creates a new session, like the other libraries. It also adds the session to the list of
// the user's sessions.
func (coatcheck) SignIn(_ http.ResponseWriter, r *http.Request, user string) error {
	s, err := session.From(r.Context())
	if err != nil {
		return err
	}
	return s.SignIn(r.Context(), session.Login{User: user})
}

func (coatcheck) SignOut(_ http.ResponseWriter, r *http.Request) error {
	s, err := session.From(r.Context())
	if err != nil {
		return err
	}
	return s.SignOut(r.Context())
}
