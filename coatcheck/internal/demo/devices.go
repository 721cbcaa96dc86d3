package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/coatcheck-go/session"
)

// signedIn is what the routes of the devices ask. Fresh: who was signed out elsewhere a moment ago must not sign out others.
var signedIn = session.Route{SignedIn: true, Fresh: true}

// device is one of the places where a user is signed in.
type device struct {
	Handle  string    `json:"handle"`
	Label   string    `json:"device"`
	Created time.Time `json:"created"`
	Seen    time.Time `json:"seen"`
	This    bool      `json:"this"` // the one that asks
}

// devicesOf lists where the session's user is signed in, the newest first; of a visitor that is nowhere.
func (a *app) devicesOf(ctx context.Context, s *session.Session) ([]device, error) {
	infos, err := a.sessions.Sessions(ctx, s.User())
	this := s.Info().Handle
	devices := make([]device, len(infos))
	for n, i := range infos {
		devices[n] = device{i.Handle, i.Device, i.Created, i.Seen, i.Handle == this}
	}
	return devices, err
}

// devices answers the list, for scripts.
func (a *app) devices(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	list, err := a.devicesOf(r.Context(), s)
	if err != nil {
		return err
	}
	return writeJSON(w, map[string]any{"user": s.User(), "devices": list})
}

// signOutOne signs out one device of the user. Of a handle that is another user's it says what it says of one that nobody has.
func (a *app) signOutOne(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	handle := r.PathValue("handle")
	if handle == s.Info().Handle {
		return a.signOut(w, r, s) // ends it just the same, and deletes the cookie
	}
	if err := a.sessions.Revoke(r.Context(), s.User(), handle); err != nil {
		return err
	}
	a.log.InfoContext(r.Context(), "signed out a device", "device", handle)
	return reply(w, r, s, "signed out "+handle)
}

// signOutOthers signs out all devices of the user but this one.
func (a *app) signOutOthers(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	n, err := a.sessions.RevokeUser(r.Context(), s.User(), s.Info().Handle)
	if err != nil {
		return err
	}
	a.log.InfoContext(r.Context(), "signed out the other devices", "devices", n)
	return reply(w, r, s, fmt.Sprintf("other devices signed out: %d", n))
}

// signOutAll signs out all devices of the user, this one included.
func (a *app) signOutAll(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	n, err := a.sessions.RevokeUser(r.Context(), s.User())
	if err != nil {
		return err
	}
	if err := s.SignOut(r.Context()); err != nil { // deletes the cookie
		return err
	}
	a.log.InfoContext(r.Context(), "signed out all devices", "devices", n)
	return reply(w, r, s, fmt.Sprintf("devices signed out, this one included: %d", n))
}

// own asks for a signed-in user before it calls next. A browser that is too late is sent back to the page, which says so; a script gets
// the status.
func own(next session.HandlerFunc) session.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		err := signedIn.Check(r.Context())
		if err == nil {
			err = next(w, r, s)
		}
		switch {
		case errors.Is(err, session.ErrNotSignedIn) && accepts(r, "text/html"):
			return reply(w, r, s, "you are signed out here: on another device, or after a while")
		case errors.Is(err, session.ErrNotFound) && accepts(r, "text/html"):
			return reply(w, r, s, "that device was signed out already")
		}
		return err
	}
}

// reply says what happened: to a script in the response, to a browser on the page that it is sent back to.
func reply(w http.ResponseWriter, r *http.Request, s *session.Session, text string) error {
	if !accepts(r, "text/html") {
		return writeText(w, text)
	}
	notice.Set(s, text)
	http.Redirect(w, r, "/#devices", http.StatusSeeOther)
	return nil
}
