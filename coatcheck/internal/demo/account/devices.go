package account

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/coatcheck/internal/demo/page"
)

// signedIn is the requirement of the device routes. Fresh reads the session from the store, not
// from a cached copy: a device that was signed out a moment ago must not sign out others.
var signedIn = session.Route{SignedIn: true, Fresh: true}

// device is a device on which a user is signed in.
type device struct {
	Handle  string    `json:"handle"`
	Label   string    `json:"device"`
	Created time.Time `json:"created"`
	Seen    time.Time `json:"seen"`
	This    bool      `json:"this"` // the device that sends the request
}

// devicesOf lists the devices of the session's user, the newest first. It is empty for a visitor
// who is not signed in.
func (a *account) devicesOf(ctx context.Context, s *session.Session) ([]device, error) {
	devices := []device{}
	if s.User() == "" {
		return devices, nil
	}
	this := s.Info().Handle
	for i, err := range a.Sessions.Sessions(ctx, s.User()) {
		if err != nil {
			return devices, err
		}
		devices = append(devices, device{i.Handle, i.Device, i.Created, i.Seen, i.Handle == this})
	}
	return devices, nil
}

// devices responds with the list as JSON.
func (a *account) devices(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	list, err := a.devicesOf(r.Context(), s)
	if err != nil {
		return err
	}
	return page.WriteJSON(w, map[string]any{"user": s.User(), "devices": list})
}

// signOutOne signs out one device of the user. A handle of another user gets the same response as a
// handle that does not exist.
func (a *account) signOutOne(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	handle := r.PathValue("handle")
	if handle == s.Info().Handle {
		return a.signOut(w, r, s) // also deletes the cookie
	}
	if err := a.Sessions.Revoke(r.Context(), s.User(), handle); err != nil {
		return err
	}
	a.Log.InfoContext(r.Context(), "signed out a device", "device", handle)
	return reply(w, r, s, "signed out "+handle)
}

// signOutOthers signs out all devices of the user except this one.
func (a *account) signOutOthers(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	n, err := a.Sessions.RevokeUser(r.Context(), s.User(), s.Info().Handle)
	if err != nil {
		return err
	}
	a.Log.InfoContext(r.Context(), "signed out the other devices", "devices", n)
	return reply(w, r, s, fmt.Sprintf("other devices signed out: %d", n))
}

// signOutAll signs out all devices of the user, including this one.
func (a *account) signOutAll(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	n, err := a.Sessions.RevokeUser(r.Context(), s.User())
	if err != nil {
		return err
	}
	if err := s.SignOut(r.Context()); err != nil { // deletes the cookie
		return err
	}
	a.Log.InfoContext(r.Context(), "signed out all devices", "devices", n)
	return reply(w, r, s, fmt.Sprintf("devices signed out, including this one: %d", n))
}

// forUser calls next only for a signed-in user. If the user or the device is already signed out, a
// browser is redirected to the page with a notice, and a script gets the error status.
func forUser(next session.HandlerFunc) session.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		err := signedIn.Check(r.Context())
		if err == nil {
			err = next(w, r, s)
		}
		switch {
		case errors.Is(err, session.ErrNotSignedIn) && page.Accepts(r, "text/html"):
			return reply(w, r, s, "you are signed out here: another device signed you out, or the session expired")
		case errors.Is(err, session.ErrNotFound) && page.Accepts(r, "text/html"):
			return reply(w, r, s, "that device was already signed out")
		}
		return err
	}
}

// reply reports a result. A script gets it as the response. A browser is redirected to the page,
// which shows it.
func reply(w http.ResponseWriter, r *http.Request, s *session.Session, text string) error {
	if !page.Accepts(r, "text/html") {
		return page.WriteText(w, text)
	}
	notice.Set(s, text)
	http.Redirect(w, r, Stop.Path, http.StatusSeeOther)
	return nil
}
