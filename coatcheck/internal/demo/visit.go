package demo

import (
	"fmt"
	"net/http"

	"github.com/coatcheck-go/session"
)

// visit counts a visit. It answers in plain text, and to browsers with the page.
func (a *app) visit(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	count.Add(s, 1)
	// Without this the change is committed just the same, before the first byte. With it the answer is exact: each visit has a
	// number of its own, however many come at once.
	if err := s.Commit(r.Context()); err != nil {
		return err
	}
	n := count.Get(s) - 1
	a.log.InfoContext(r.Context(), "visit", "count", n)

	w.Header().Add("Vary", "Accept")
	if accepts(r, "text/html") {
		return a.page(w, r, s, n)
	}
	return writeText(w, fmt.Sprintf("Hello World #%d", n))
}

// signOut ends the session, for requests that are running, too. Afterwards the old cookie leads to nothing.
func (a *app) signOut(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	if err := s.SignOut(r.Context()); err != nil {
		return err
	}
	a.log.InfoContext(r.Context(), "signed out")
	if accepts(r, "text/html") {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return nil
	}
	return writeText(w, "signed out")
}
