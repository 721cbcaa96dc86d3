package migrate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/coatcheck-go/session"
)

// Coatcheck is the [Source] for sessions of another store of Coatcheck: from a file to Redis, or
// from one server to another, while visitors browse. Manager is the one that the sessions had so
// far. The new one needs another Config.Cookie.Name. Options.KeepUntil is not supported.
//
// Old.Values has one value: the old *session.Session, under the key "session". Move copies fields:
//
//	var from *session.Session
//	old.Get("session", &from)
//	visits.Add(s, visits.Get(from))
//	return migrate.LoginOf(from), nil
//
// While the migration runs, revoke a user with Migration.RevokeUser and with Manager.RevokeUser of
// the old Manager.
type Coatcheck struct {
	Manager *session.Manager
}

// LoginOf returns a login that makes the user of a session the user of another one, with the same
// time and methods of authentication. It returns nil if nobody is signed in.
func LoginOf(from *session.Session) *session.Login {
	i := from.Info()
	if i.User == "" {
		return nil
	}
	return &session.Login{
		User: i.User, Methods: i.Methods, Level: i.Level, Authenticated: i.Authenticated,
		Device: i.Device, UserAgent: i.UserAgent, Address: i.Address,
	}
}

// ID implements Source. The id is the cookie's name and value. The cookie of a signed-in session
// comes first.
func (c Coatcheck) ID(h http.Header) (string, bool) {
	for _, cookie := range c.Cookies() {
		if value, ok := cookieOf(h, cookie.Name); ok {
			return cookie.Name + "=" + value, true
		}
	}
	return "", false
}

// Cookies implements Source: the cookie for signed-in sessions and the one for anonymous sessions.
func (c Coatcheck) Cookies() []*http.Cookie {
	cfg := c.Manager.Config().Cookie
	return []*http.Cookie{
		named(cfg.Name, cfg.Path, cfg.Domain), named(cfg.Name+"-anon", cfg.Path, cfg.Domain),
	}
}

// Load implements Source.
func (c Coatcheck) Load(ctx context.Context, id string) (*Old, error) {
	_, s, err := c.open(ctx, id)
	if err != nil {
		return nil, err
	}
	i := s.Info()
	return &Old{
		Values: map[any]any{"session": s}, Authenticated: i.Authenticated, Deadline: i.Deadline, Expires: i.Expires,
	}, nil
}

// open returns the old session and its context.
func (c Coatcheck) open(ctx context.Context, id string) (context.Context, *session.Session, error) {
	r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/"}, Header: http.Header{"Cookie": {id}}}
	ctx, err := c.Manager.Load(r.WithContext(ctx))
	if err != nil {
		return ctx, nil, err
	}
	s, err := session.From(ctx)
	switch {
	case errors.Is(err, session.ErrUnavailable):
		return ctx, nil, err
	case err != nil: // such as a key that is missing
		return ctx, nil, fmt.Errorf("%w: %v", ErrDecode, err)
	case s.Info().Handle == "":
		return ctx, nil, ErrNone
	}
	return ctx, s, nil
}

// End implements Source: it signs the old session out.
func (c Coatcheck) End(ctx context.Context, id string) error {
	ctx, s, err := c.open(ctx, id)
	if errors.Is(err, ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.SignOut(ctx); !errors.Is(err, session.ErrEnded) {
		return err
	}
	return nil
}
