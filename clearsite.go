package session

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// siteData are the directives of Clear-Site-Data (W3C Clear Site Data, 3.1), and those that
// browsers added. "*" stands for all of them.
var siteData = []string{
	"cache", "clientHints", "cookies", "executionContexts", "prefetchCache", "prerenderCache", "storage",
}

func (c *Config) checkSiteData() error {
	for i, d := range c.ClearSiteData {
		if d != "*" && !slices.Contains(siteData, d) {
			return fmt.Errorf("session: Config.ClearSiteData: %.40q is not one of %s and *, without quotes",
				d, strings.Join(siteData, ", "))
		}
		if slices.Contains(c.ClearSiteData[:i], d) {
			return fmt.Errorf("session: Config.ClearSiteData: %q is listed twice", d)
		}
	}
	return nil
}

// clearSite adds the Clear-Site-Data header after a sign-out. It leaves out "cookies" if the
// response sets the cookie of a new session. It does not replace a header that the application set.
func (r *response) clearSite(h http.Header, directives []string) {
	if !r.signedOut {
		return
	}
	r.signedOut = false
	keepCookies := r.cookie == setCookie
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
