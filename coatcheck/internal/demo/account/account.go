// Package account is the stop of the tour for signing in, and for the devices of a user.
//
//   - signin.go signs a user in and out;
//   - devices.go lists the devices on which a user is signed in, and signs them out.
package account

import (
	"embed"
	"net/http"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/coatcheck/internal/demo/page"
)

var (
	//go:embed *.html *.js
	files embed.FS
	html  = page.Parse(files, "account.html")

	//go:embed devices.go
	devicesGo string
)

// Stop is the sign-in in the tour.
var Stop = page.Stop{
	Path: "/account", Name: "Sign-in",
	Shows: "Sign in on two devices, and sign one out from the other. " +
		"The list is exact, and a device that is signed out stays signed out.",
	Files: files, Script: "account.js", Code: page.Code("account/devices.go", devicesGo, "signedIn", "signOutOne", "signOutOthers"),
}

// MaxDevices is how many devices one user can be signed in on at the same time.
const MaxDevices = 5

// notice is a text that the page shows once, after a redirect.
const notice session.Value[string] = "notice"

type account struct{ *page.Site }

// Mount adds the routes of the stop to mux.
func Mount(mux *http.ServeMux, site *page.Site) {
	a := &account{site}
	mux.Handle("GET /account", session.HandlerFunc(a.page))
	mux.Handle("POST /sign-in", session.HandlerFunc(a.signIn))
	mux.Handle("POST /sign-out", session.HandlerFunc(a.signOut))
	mux.Handle("GET /devices", signedIn.Handler(session.HandlerFunc(a.devices)))
	mux.Handle("POST /devices/{handle}/sign-out", forUser(a.signOutOne))
	mux.Handle("POST /devices/others/sign-out", forUser(a.signOutOthers))
	mux.Handle("POST /devices/all/sign-out", forUser(a.signOutAll))
}

// page responds with the sign-in form, or with the list of the user's devices.
func (a *account) page(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	devices, err := a.devicesOf(r.Context(), s)
	if err != nil {
		return err
	}
	message, _, err := notice.Take(r.Context(), s) // without a notice, no store access
	if err != nil {
		return err
	}
	return a.Render(w, r, s, html, struct {
		Notice     string
		Devices    []device
		MaxDevices int
		MaxName    int
	}{message, devices, MaxDevices, maxName})
}
