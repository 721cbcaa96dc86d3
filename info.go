package session

import (
	"slices"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Info describes a session to people. It holds no secret. The zero Info is that of a session that is not stored.
type Info struct {
	Handle   string    // public, the same until sign-in: safe to log, to list and to put in a URL; tells which of Manager.Sessions this one is
	Created  time.Time // times are the store's
	Seen     time.Time // last use, to within the touch interval: a twentieth of the idle timeout, at most a minute
	Expires  time.Time // ends then unless used
	Deadline time.Time // ends then

	User          string // "" if nobody is signed in
	Authenticated time.Time
	Methods       []string // how, as in RFC 8176: "pwd", "otp", "hwk"
	Level         int      // assurance level, as the application counts
	Device        string   // a label for people
	UserAgent     string
	Address       string
}

// Info describes the session as it was when it was last read or committed.
func (s *Session) Info() Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != live || s.record == nil {
		return Info{}
	}
	return infoOf(s.id, s.record, s.principal())
}

// infoOf describes a session; p is its principal in clear.
func infoOf(id driver.ID, r *driver.Record, p *driver.Principal) Info {
	i := Info{
		Handle:   id.String(),
		Created:  r.Created,
		Seen:     latest(r.Seen, r.Created), // a session that was never used since sign-in may be kept as seen before it
		Expires:  r.Expires(),
		Deadline: r.Deadline,
	}
	if p != nil {
		i.User, i.Authenticated, i.Methods, i.Level = p.User, p.Authenticated, slices.Clone(p.Methods), p.Level
		i.Device, i.UserAgent, i.Address = p.Device, p.UserAgent, p.Address
	}
	return i
}

// User returns the id of who is signed in, "" if nobody is.
func (s *Session) User() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.principal(); p != nil {
		return p.User
	}
	return ""
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
