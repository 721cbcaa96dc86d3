package session

import (
	"net/http"
	"time"
)

// cookie returns the Set-Cookie for a token; for an empty one the cookie's deletion, with the same attributes.
func (m *Manager) cookie(value string, maxAge time.Duration) string {
	c := http.Cookie{ //nolint:gosec // Secure is left out for Config.Cookie.Insecure alone; checkCookie refuses a SameSite that is unset
		Name:        m.cfg.Cookie.Name,
		Value:       value,
		Path:        m.cfg.Cookie.Path,
		Domain:      m.cfg.Cookie.Domain,
		Secure:      !m.cfg.Cookie.Insecure,
		HttpOnly:    true,
		SameSite:    m.cfg.Cookie.SameSite,
		Partitioned: m.cfg.Cookie.Partitioned,
		MaxAge:      int(maxAge / time.Second),
	}
	if value == "" {
		c.MaxAge = -1
		c.Expires = time.Unix(1, 0)
	}
	return c.String()
}
