package session

import (
	"net/http"
	"time"
)

// cookie returns the Set-Cookie line for a token. For an empty one it is the cookie's deletion.
func (m *Manager) cookie(name, value string, maxAge time.Duration) string {
	return cookieIn(m.cfg.Cookie, name, value, maxAge)
}

// cookieIn returns the Set-Cookie line for a cookie in a scope.
func cookieIn(scope Cookie, name, value string, maxAge time.Duration) string {
	c := http.Cookie{ //nolint:gosec // checkCookie allows no Secure only with Cookie.Insecure
		Name:        name,
		Value:       value,
		Path:        scope.Path,
		Domain:      scope.Domain,
		Secure:      !scope.Insecure,
		HttpOnly:    true,
		SameSite:    scope.SameSite,
		Partitioned: scope.Partitioned,
		MaxAge:      int(maxAge / time.Second),
	}
	if value == "" {
		c.MaxAge = -1
		c.Expires = time.Unix(1, 0)
	}
	return c.String()
}

// deleteEverywhere deletes the cookies in each scope that they may have from an earlier
// configuration.
func (m *Manager) deleteEverywhere(h http.Header) {
	scopes := []Cookie{m.cfg.Cookie}
	vary := func(change func(*Cookie)) {
		for _, scope := range scopes {
			changed := scope
			if change(&changed); changed != scope {
				scopes = append(scopes, changed)
			}
		}
	}
	vary(func(c *Cookie) { c.Domain = "" })
	vary(func(c *Cookie) { c.Path = "/" })
	if !m.cfg.Cookie.Insecure { // browsers ignore Partitioned without Secure
		vary(func(c *Cookie) { c.Partitioned = !c.Partitioned })
	}
	for _, scope := range scopes {
		for _, name := range []string{m.cfg.Cookie.Name, m.cfg.Cookie.Name + anonymousSuffix} {
			h.Add("Set-Cookie", cookieIn(scope, name, "", 0))
		}
	}
}
