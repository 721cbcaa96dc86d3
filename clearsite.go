package session

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// siteData are the directives of Clear-Site-Data (W3C Clear Site Data, 3.1, with those that browsers added since). "*" is all of them.
var siteData = []string{"cache", "clientHints", "cookies", "executionContexts", "prefetchCache", "prerenderCache", "storage"}

func (c *Config) checkSiteData() error {
	for i, d := range c.ClearSiteData {
		if d != "*" && !slices.Contains(siteData, d) {
			return fmt.Errorf("session: Config.ClearSiteData: %.40q is none of %s and *, without quotes", d, strings.Join(siteData, ", "))
		}
		if slices.Contains(c.ClearSiteData[:i], d) {
			return fmt.Errorf("session: Config.ClearSiteData: %q is there twice", d)
		}
	}
	return nil
}

// clearSite adds what the browser is to forget, after a sign-out. A session that the same response begins keeps its cookie. What the
// application has set itself stays. The caller holds the lock.
func (s *Session) clearSite(h http.Header, keepCookies bool) {
	if !s.response.signedOut {
		return
	}
	s.response.signedOut = false
	directives := s.m.cfg.ClearSiteData
	if keepCookies && slices.Contains(directives, "*") {
		directives = siteData
	}
	var quoted []string
	for _, d := range directives {
		if !keepCookies || d != "cookies" {
			quoted = append(quoted, `"`+d+`"`)
		}
	}
	if len(quoted) > 0 && h["Clear-Site-Data"] == nil {
		h.Set("Clear-Site-Data", strings.Join(quoted, ", "))
	}
}
