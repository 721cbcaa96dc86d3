package migrate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"
)

// SCS is the [Source] for github.com/alexedwards/scs/v2 with goredisstore or redisstore. Its zero
// fields stand for the defaults of scs.
type SCS struct {
	// Redis reaches the server of the old sessions. It is required.
	Redis Redis
	// CookieName is SessionManager.Cookie.Name. Default: "session".
	CookieName string
	// Path and Domain are those of SessionManager.Cookie. Default: "/" and none.
	Path, Domain string
	// Prefix is that of the store's keys. Default: "scs:session:".
	Prefix string
	// Codec is SessionManager.Codec. Default: gob. A type that the old program registered with
	// gob.Register must be registered, under the same name.
	Codec interface {
		Decode(b []byte) (deadline time.Time, values map[string]any, err error)
	}
	// HashToken is SessionManager.HashTokenInStore.
	HashToken bool
	// Lifetime is SessionManager.Lifetime, if the old program calls RenewToken when a user signs
	// in. The time of authentication is then the deadline minus Lifetime. Default: that time counts
	// as unknown.
	Lifetime time.Duration
}

// ID implements Source.
func (s SCS) ID(h http.Header) (string, bool) { return cookieOf(h, cmp.Or(s.CookieName, "session")) }

// Cookies implements Source.
func (s SCS) Cookies() []*http.Cookie {
	return []*http.Cookie{named(cmp.Or(s.CookieName, "session"), s.Path, s.Domain)}
}

func (s SCS) key(id string) string {
	if s.HashToken {
		sum := sha256.Sum256([]byte(id))
		id = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return cmp.Or(s.Prefix, "scs:session:") + id
}

// Load implements Source.
func (s SCS) Load(ctx context.Context, id string) (*Old, error) {
	b, expires, err := s.Redis.get(ctx, s.key(id))
	if err != nil {
		return nil, err
	}
	deadline, values, err := s.decode([]byte(b))
	if err != nil {
		return nil, err
	}
	if !deadline.After(time.Now()) { // a store may keep a session that is over
		return nil, ErrNone
	}
	old := &Old{Values: anyKeys(values), Deadline: deadline, Expires: expires}
	if s.Lifetime > 0 {
		old.Authenticated = deadline.Add(-s.Lifetime)
	}
	return old, nil
}

func (s SCS) decode(b []byte) (deadline time.Time, values map[string]any, err error) {
	if s.Codec != nil {
		defer func() {
			if why := recover(); why != nil {
				err = fmt.Errorf("%w: the codec panicked: %v", ErrDecode, why)
			}
		}()
		if deadline, values, err = s.Codec.Decode(b); err != nil {
			err = fmt.Errorf("%w: %v", ErrDecode, err)
		}
		return deadline, values, err
	}
	var stored struct {
		Deadline time.Time
		Values   map[string]any
	}
	err = decodeGob(b, &stored)
	return stored.Deadline, stored.Values, err
}

// End implements Source.
func (s SCS) End(ctx context.Context, id string) error { return s.Redis.del(ctx, s.key(id)) }

// Keep implements Keeper.
func (s SCS) Keep(ctx context.Context, handle, id string, until time.Time) error {
	return s.Redis.keep(ctx, handle, s.key(id), until)
}

// EndKept implements Keeper.
func (s SCS) EndKept(ctx context.Context, handle string) error { return s.Redis.endKept(ctx, handle) }
