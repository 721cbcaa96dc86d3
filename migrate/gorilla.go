package migrate

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/gorilla/securecookie"
)

// Gorilla is the [Source] for github.com/gorilla/sessions and for github.com/gin-contrib/sessions,
// which is built on it. The old sessions are in Redis, as boj/redistore (gin's redis store) and
// rbcervilla/redisstore store them, or in the cookies themselves (CookieStore, gin's cookie store).
type Gorilla struct {
	// CookieName is the name of the session: the second argument of Store.Get, the first of gin's
	// sessions.Sessions. It is required.
	CookieName string
	// Path and Domain are those of Options. Default: "/" and none.
	Path, Domain string
	// Keys are the key pairs of the store. They are required, unless Unsigned is set.
	Keys [][]byte
	// MaxAge is Options.MaxAge: how long a signed cookie counts. Default: 30 days.
	MaxAge time.Duration
	// Redis reaches the server of the old sessions. nil: the sessions are in the cookies.
	Redis Redis
	// Prefix is that of the store's keys. Default: "session_", or "session:" if Unsigned is set.
	Prefix string
	// JSON says that the store has redistore.JSONSerializer. Default: gob.
	JSON bool
	// Unsigned says that the cookie has the id as it is, as with rbcervilla/redisstore.
	Unsigned bool
}

// ID implements Source. The id of a session in a cookie is the cookie's value, in the one spelling
// that securecookie writes.
func (g Gorilla) ID(h http.Header) (string, bool) {
	value, ok := cookieOf(h, g.CookieName)
	if !ok || g.Unsigned {
		return value, ok
	}
	if g.Redis == nil {
		if g.decode(value, new(signed)) != nil {
			return "", false
		}
		return canonical(value)
	}
	var id string
	err := g.decode(value, &id)
	return id, err == nil && len(id) >= minID
}

// canonical returns the base64 text that encodes the same bytes as value. The decoder ignores some
// bits of a last character. So a cookie has several texts, and would otherwise move once for each.
func canonical(value string) (string, bool) {
	b, err := base64.URLEncoding.DecodeString(value)
	return base64.URLEncoding.EncodeToString(b), err == nil
}

// signed takes what a cookie signs, and does not decode it.
type signed []byte

// decode checks the signature of a cookie and decodes it.
func (g Gorilla) decode(value string, into any) error {
	codecs := securecookie.CodecsFromPairs(g.Keys...)
	for _, c := range codecs {
		c := c.(*securecookie.SecureCookie) //nolint:forcetypeassert // its only type
		c.MaxAge(int(g.maxAge().Seconds())).MaxLength(maxCookie).SetSerializer(serializer{})
	}
	return securecookie.DecodeMulti(g.CookieName, value, into, codecs...)
}

func (g Gorilla) maxAge() time.Duration { return cmp.Or(g.MaxAge, 30*24*time.Hour) }

// serializer is securecookie's gob, except that it keeps the text for a *signed, and does not
// panic.
type serializer struct{}

func (serializer) Serialize(any) ([]byte, error) { return nil, ErrDecode }

func (serializer) Deserialize(b []byte, into any) error {
	if text, ok := into.(*signed); ok {
		*text = b
		return nil
	}
	return decodeGob(b, into)
}

// encrypts reports that each key pair encrypts, with a random vector: no two cookies are equal.
func (g Gorilla) encrypts() bool {
	for i := 0; i < len(g.Keys); i += 2 {
		if i+1 == len(g.Keys) || g.Keys[i+1] == nil {
			return false
		}
	}
	return true
}

// Cookies implements Source.
func (g Gorilla) Cookies() []*http.Cookie {
	return []*http.Cookie{named(g.CookieName, g.Path, g.Domain)}
}

func (g Gorilla) key(id string) string {
	prefix := "session_"
	if g.Unsigned {
		prefix = "session:"
	}
	return cmp.Or(g.Prefix, prefix) + id
}

// Load implements Source. Neither library stores the time of authentication.
func (g Gorilla) Load(ctx context.Context, id string) (*Old, error) {
	old := &Old{Expires: time.Now().Add(g.maxAge())}
	if g.Redis == nil {
		var text signed
		if g.decode(id, &text) != nil {
			return nil, ErrNone // too old by now
		}
		old.Shared = !g.encrypts()
		return old, decodeGob(text, &old.Values)
	}
	b, expires, err := g.Redis.get(ctx, g.key(id))
	if err != nil {
		return nil, err
	}
	old.Expires = expires
	if g.JSON {
		old.Values, err = decodeJSON([]byte(b))
		return old, err
	}
	return old, decodeGob([]byte(b), &old.Values)
}

// End implements Source. A session in a cookie has nothing to end: the cookie is deleted.
func (g Gorilla) End(ctx context.Context, id string) error {
	if g.Redis == nil {
		return nil
	}
	return g.Redis.del(ctx, g.key(id))
}

// Keep implements Keeper.
func (g Gorilla) Keep(ctx context.Context, handle, id string, until time.Time) error {
	if g.Redis == nil {
		return nil
	}
	return g.Redis.keep(ctx, handle, g.key(id), until)
}

// EndKept implements Keeper.
func (g Gorilla) EndKept(ctx context.Context, handle string) error {
	if g.Redis == nil {
		return nil
	}
	return g.Redis.endKept(ctx, handle)
}
