package session

import (
	"slices"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Info describes a session to people. It holds no secret. The zero Info is that of a session that
// is not stored.
type Info struct {
	// Handle is the session's public name. It stays the same until the next sign-in, and grants
	// nothing: it is safe to log, to list and to put into a URL.
	Handle string
	// Created is when the session began. All times are the store's.
	Created time.Time
	// Seen is the last use, to within a twentieth of the idle timeout or a minute, whichever is
	// less.
	Seen time.Time
	// Expires is when the session ends unless it is used.
	Expires time.Time
	// Deadline is when the session ends, used or not.
	Deadline time.Time

	User          string    // who is signed in; "": nobody
	Authenticated time.Time // when the user authenticated: at the sign-in, or Login.Authenticated
	Methods       []string  // how, as in RFC 8176: "pwd", "otp", "hwk"
	Level         int       // assurance level, as the application counts
	Device        string    // a label for people
	UserAgent     string
	Address       string
}

// Info describes the session as it was when it was last read or committed.
func (s *Session) Info() Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view.record == nil {
		return Info{}
	}
	i := infoOf(s.cred.id, s.view.record, s.identity.principal)
	if s.owned != nil {
		i.User = s.owned.user
	}
	return i
}

// infoOf describes a session. p is its principal, opened.
func infoOf(id driver.ID, r *driver.Record, p *driver.Principal) Info {
	i := Info{
		Handle:   id.String(),
		Created:  r.Created,
		Seen:     latest(r.Seen, r.Created), // see RecordSpec: it can be stored as seen earlier
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
	if s.owned != nil {
		return s.owned.user
	}
	if p := s.identity.principal; p != nil {
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
