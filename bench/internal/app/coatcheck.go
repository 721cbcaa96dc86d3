package app

import (
	"context"
	"net/http"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
)

func init() {
	own := System{
		Name:    Coatcheck,
		Role:    Own,
		Modules: []string{"github.com/coatcheck-go/session", "github.com/redis/rueidis"},
		Tests:   Tests{Updates: true, SignOut: true, Memory: true},
		SignIn:  SignIn{NewToken: true, UserList: true, Revocations: true, Atomic: true},
		open:    overNetHTTP(openCoatcheck, "Vary", "Cache-Control"),
	}
	register(own)

	// The setting concerns how Redis stores a session. A read from the near cache does not use it.
	own.Name, own.Advised, own.Tests = CoatcheckAdvised, true, Tests{}
	own.Cases = []string{CaseWrite, CaseSignIn}
	register(own)
}

// coatcheck is the library of this repository with its Redis store. The Config is zero, except for
// plain HTTP.
type coatcheck struct {
	manager *session.Manager
	store   *redisstore.Store
}

func openCoatcheck(o Options) (Library, error) {
	var options redisstore.Options
	if o.NoNearCache {
		options.NearCache = -1
	}
	store, err := redisstore.Open(context.Background(), "redis://"+o.Redis, options)
	if err != nil {
		return nil, err
	}
	manager, err := session.New(store, session.Config{Cookie: session.Cookie{Insecure: true}})
	return coatcheck{manager, store}, err
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

func (coatcheck) Fill(_ http.ResponseWriter, r *http.Request, data map[string]string) error {
	s, err := session.From(r.Context())
	if err != nil {
		return err
	}
	for name, value := range data {
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

// FillSignedIn does the work of Fill and SignIn in one request. It records more about the sign-in
// than its user.
func (l coatcheck) FillSignedIn(w http.ResponseWriter, r *http.Request, data map[string]string, user string) error {
	if err := l.Fill(w, r, data); err != nil {
		return err
	}
	s, err := session.From(r.Context())
	if err != nil {
		return err
	}
	return s.SignIn(r.Context(), session.Login{
		User: user, Methods: loginMethods, Device: loginDevice, Address: loginAddress,
	})
}

func (l coatcheck) close() { _ = l.store.Close() } // nothing depends on it: the server ends as well
