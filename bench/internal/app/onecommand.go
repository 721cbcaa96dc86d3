package app

import (
	"errors"
	"net/http"

	"github.com/redis/rueidis"
)

func init() {
	register(System{
		Name:    OneCommand,
		Role:    Limit,
		Tests:   Tests{Updates: true, SignOut: true, Memory: true},
		SignIn:  SignIn{NewToken: true, Atomic: true},
		Modules: []string{"github.com/redis/rueidis"},
		open:    overNetHTTP(openOneCommand),
	})
}

// oneCommand is the application with one plain Redis command per request. It has no time limit, and
// does not check that the session exists. No library can write faster.
type oneCommand struct{ redis rueidis.Client }

func openOneCommand(o Options) (Library, error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{o.Redis}})
	return oneCommand{client}, err
}

func (oneCommand) Handler(next http.Handler) http.Handler { return next }

func (c oneCommand) Read(_ http.ResponseWriter, r *http.Request) (int, bool, error) {
	key, err := keyOf(r)
	if err != nil {
		return 0, false, err
	}
	n, err := c.redis.Do(r.Context(), c.redis.B().Hget().Key(key).Field(CounterName).Build()).AsInt64()
	if rueidis.IsRedisNil(err) {
		return 0, false, nil
	}
	return int(n), err == nil, err
}

func (c oneCommand) Add(_ http.ResponseWriter, r *http.Request) error {
	key, err := keyOf(r)
	if err != nil {
		return err
	}
	return c.redis.Do(r.Context(), c.redis.B().Hincrby().Key(key).Field(CounterName).Increment(1).Build()).Error()
}

func (c oneCommand) Fill(w http.ResponseWriter, r *http.Request, data map[string]string) error {
	fields := c.redis.B().Hset().Key(keyPrefix+newCookie(w)).FieldValue().FieldValue(CounterName, "1")
	for name, value := range data {
		fields = fields.FieldValue(name, value)
	}
	return c.redis.Do(r.Context(), fields.Build()).Error()
}

func (c oneCommand) SignIn(w http.ResponseWriter, r *http.Request, user string) error {
	key := keyPrefix + newCookie(w)
	return c.redis.Do(r.Context(), c.redis.B().Hset().Key(key).FieldValue().FieldValue(userName, user).Build()).Error()
}

func (c oneCommand) SignOut(_ http.ResponseWriter, r *http.Request) error {
	key, err := keyOf(r)
	if err != nil {
		return err
	}
	return c.redis.Do(r.Context(), c.redis.B().Del().Key(key).Build()).Error()
}

func (c oneCommand) close() { c.redis.Close() }

const keyPrefix = "session:"

// keyOf returns the key of the visitor's session.
func keyOf(r *http.Request) (string, error) {
	cookie, err := r.Cookie(cookieName)
	if errors.Is(err, http.ErrNoCookie) {
		return "", errNoSession
	}
	if err != nil {
		return "", err
	}
	return keyPrefix + cookie.Value, nil
}
