package page

import (
	"context"
	"time"

	"github.com/coatcheck-go/session"
)

// The fields that several stops use. A field is a name with a type and needs no registration. The
// other fields are declared by the packages that use them.
const (
	Count    session.Counter          = "count"    // visits, and the increments of the lab
	LastSlow session.Value[SlowWrite] = "lab.slow" // written by the last slow request of the lab
)

// SlowWrite is the value that a slow request of the lab writes after it has waited.
type SlowWrite struct {
	Began  time.Time `json:"began"`
	Waited int64     `json:"waited_ms"`
}

// View is the part of a session that the pages show. The token is not in it: a page cannot read it.
type View struct {
	Handle   string     `json:"handle"` // "" if there is no session
	Created  time.Time  `json:"created,omitzero"`
	Seen     time.Time  `json:"seen,omitzero"`
	Idle     time.Time  `json:"idle,omitzero"`
	Deadline time.Time  `json:"deadline,omitzero"`
	User     string     `json:"user,omitempty"`
	Count    int64      `json:"count"`
	LastSlow *SlowWrite `json:"lab.slow,omitempty"`
	Token    string     `json:"csrf_token,omitempty"` // for CSRF; may be ""
}

// View returns the view of a session. It never creates a session.
func (site *Site) View(ctx context.Context, s *session.Session) (v View, err error) {
	i := s.Info()
	v = View{
		Handle: i.Handle, Created: i.Created, Seen: i.Seen, Idle: i.Expires, Deadline: i.Deadline,
		User: i.User, Count: Count.Get(s),
	}
	if slow, ok, err := LastSlow.Lookup(s); ok && err == nil {
		v.LastSlow = &slow
	}
	if site.CSRF && v.Handle != "" { // CSRFToken would create a session
		v.Token, err = s.CSRFToken(ctx)
	}
	return v, err
}
