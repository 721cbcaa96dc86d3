package migrate

import (
	"cmp"
	"context"
	"encoding/gob"
	"net/http"
	"reflect"
	"sync"
	"time"
)

// Fiber is the [Source] for the session middleware of github.com/gofiber/fiber/v3 with
// gofiber/storage/redis and its default extractor, a cookie. Its zero fields stand for the defaults
// of the middleware.
type Fiber struct {
	// Redis reaches the server of the old sessions. It is required. Fiber's keys have no prefix, so
	// give Redis a database that holds only sessions.
	Redis Redis
	// CookieName is the name of the cookie. Default: "session_id".
	CookieName string
	// Path and Domain are CookiePath and CookieDomain. Default: "/" and none.
	Path, Domain string
}

// ID implements Source.
func (f Fiber) ID(h http.Header) (string, bool) {
	return cookieOf(h, cmp.Or(f.CookieName, "session_id"))
}

// Cookies implements Source.
func (f Fiber) Cookies() []*http.Cookie {
	return []*http.Cookie{named(cmp.Or(f.CookieName, "session_id"), f.Path, f.Domain)}
}

// Load implements Source. Fiber does not store the time of authentication.
func (f Fiber) Load(ctx context.Context, id string) (*Old, error) {
	registerFiber()
	b, expires, err := f.Redis.get(ctx, id)
	if err != nil {
		return nil, err
	}
	old := &Old{Expires: expires}
	if err := decodeGob([]byte(b), &old.Values); err != nil {
		return nil, err
	}
	for k, v := range old.Values {
		if reflect.TypeOf(k).Name() != reflect.TypeFor[absExpirationKeyType]().Name() {
			continue
		}
		delete(old.Values, k)
		deadline, _ := v.(time.Time)
		if !deadline.After(time.Now()) {
			return nil, ErrNone
		}
		old.Deadline = deadline
	}
	return old, nil
}

// absExpirationKeyType is the type of the key under which fiber stores AbsoluteTimeout.
type absExpirationKeyType int

// registerFiber registers the types that fiber registers. If the process uses fiber's middleware,
// too, that one may be first: its types then decode.
var registerFiber = sync.OnceFunc(func() {
	defer func() { _ = recover() }() // gob panics if the name is registered
	gob.Register(time.Time{})
	gob.RegisterName("github.com/gofiber/fiber/v3/middleware/session.absExpirationKeyType", absExpirationKeyType(0))
})

// End implements Source.
func (f Fiber) End(ctx context.Context, id string) error { return f.Redis.del(ctx, id) }

// Keep implements Keeper.
func (f Fiber) Keep(ctx context.Context, handle, id string, until time.Time) error {
	return f.Redis.keep(ctx, handle, id, until)
}

// EndKept implements Keeper.
func (f Fiber) EndKept(ctx context.Context, handle string) error { return f.Redis.endKept(ctx, handle) }
