package demo

import (
	"fmt"
	"net/http"

	"github.com/coatcheck-go/session"
)

// visit counts a visit. Browsers get the page, other clients get plain text.
func (a *app) visit(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	count.Add(s, 1)
	// Without this Commit, the change would be committed before the first byte of the response.
	// With it, count.Get returns the committed count, so that concurrent visits get different
	// numbers.
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

// signOut ends the session, also for running requests. After that, the old cookie finds no session.
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
