package session

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// freshnessError is an ErrNotFresh that says what is missing.
type freshnessError struct {
	tooOld  bool
	maxAge  time.Duration // the route's MaxAuthAge, if tooOld
	level   int           // the route's MinLevel, or 0 if it is met
	methods []string      // those of the route's AuthMethods that were not used
}

func (e *freshnessError) Error() string {
	var missing []string
	if e.tooOld {
		missing = append(missing, fmt.Sprintf("one no older than %v", e.maxAge))
	}
	if e.level != 0 {
		missing = append(missing, fmt.Sprintf("level %d", e.level))
	}
	if len(e.methods) > 0 {
		missing = append(missing, fmt.Sprintf("methods %q", e.methods))
	}
	return ErrNotFresh.Error() + ": " + strings.Join(missing, ", ")
}

func (e *freshnessError) Unwrap() error { return ErrNotFresh }

// challenge returns the WWW-Authenticate header of RFC 9470, 3. It has no parameter for methods.
func (e *freshnessError) challenge() string {
	description := "A different authentication level is required"
	if e.tooOld {
		description = "More recent authentication is required"
	}
	c := `Bearer realm="session", error="insufficient_user_authentication", error_description="` + description + `"`
	if e.tooOld {
		c += fmt.Sprintf(`, max_age="%d"`, max(0, int64(e.maxAge/time.Second)))
	}
	if e.level != 0 {
		c += fmt.Sprintf(`, acr_values="%d"`, e.level)
	}
	return c
}

// isMetBy returns a freshnessError if an authentication does not meet the route. now is the store's
// time.
func (rt *Route) isMetBy(p *driver.Principal, now time.Time) error {
	var e freshnessError
	// A negative MaxAuthAge is a mistake, so it refuses every authentication.
	if rt.MaxAuthAge != 0 && now.Sub(p.Authenticated) > rt.MaxAuthAge {
		e.tooOld, e.maxAge = true, rt.MaxAuthAge
	}
	if p.Level < rt.MinLevel {
		e.level = rt.MinLevel
	}
	for _, m := range rt.AuthMethods {
		if !slices.Contains(p.Methods, m) {
			e.methods = append(e.methods, m)
		}
	}
	if e.tooOld || e.level != 0 || len(e.methods) > 0 {
		return &e
	}
	return nil
}
