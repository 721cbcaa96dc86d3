package demo

import (
	"time"

	"github.com/coatcheck-go/session"
)

// What a session holds. A field is its name and its type: there is nothing to register, and each package declares its own.
const (
	count    session.Counter          = "count"    // visits, and what the lab adds
	lastSlow session.Value[slowWrite] = "lab.slow" // left by the last slow request
	notice   session.Value[string]    = "notice"   // what the page says once, after a redirect
)

// slowWrite is what a slow request writes when it has waited.
type slowWrite struct {
	Began  time.Time `json:"began"`
	Waited int64     `json:"waited_ms"`
}
