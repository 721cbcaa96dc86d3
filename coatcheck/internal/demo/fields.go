package demo

import (
	"time"

	"github.com/coatcheck-go/session"
)

// The fields of a session. A field is a name with a type and needs no registration. Each package of
// an application can declare its own fields.
const (
	count    session.Counter          = "count"    // visits, and the increments of the lab
	lastSlow session.Value[slowWrite] = "lab.slow" // written by the last slow request
	notice   session.Value[string]    = "notice"   // shown once on the page, after a redirect
)

// slowWrite is the value that a slow request writes after it has waited.
type slowWrite struct {
	Began  time.Time `json:"began"`
	Waited int64     `json:"waited_ms"`
}
