package main

import (
	"html/template"
	"net/http"

	"github.com/coatcheck-go/session"
)

// Fields of all services. Each begins with the name of the service that writes it.
const (
	cart   session.Value[map[string]int64] = "shop.cart" // how many of each article
	orders session.Map[order]              = "ledger.orders"
	theme  session.Value[string]           = "page.theme"
	visits session.Counter                 = "page.visits"
)

// order is what the ledger books.
type order struct {
	Articles int64  `json:"articles"`
	At       string `json:"at"`
}

// newHandler serves the start page, and signs in and out for all services.
func newHandler(sessions *session.Manager) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", session.HandlerFunc(home))
	mux.Handle("POST /sign-in", session.HandlerFunc(signIn))
	mux.Handle("POST /sign-out", session.Route{Down: session.DownAnonymous}.Handler(session.HandlerFunc(signOut)))
	return sessions.Handler(mux)
}

func home(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
	p := page{User: s.User(), Theme: theme.Get(s), Visits: visits.Get(s), Services: services}
	for _, n := range cart.Get(s) {
		p.Articles += n
	}
	for range orders.All(s) {
		p.Orders++
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	return homePage.Execute(w, p)
}

// signIn signs in without a password: this example is about what comes after it.
func signIn(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	if err := s.SignIn(r.Context(), session.Login{User: r.FormValue("user"), UserAgent: r.UserAgent()}); err != nil {
		return err
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

func signOut(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	if err := s.SignOut(r.Context()); err != nil {
		return err
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

// page is what the start page shows.
type page struct {
	User, Theme      string
	Articles, Visits int64
	Orders           int
	Services         []service
}

func (s service) Path() string  { return "/" + s.folder + "/" }
func (s service) Title() string { return s.title }

var homePage = template.Must(template.New("home").Parse(`<!doctype html>
<html lang="en" data-theme="{{.Theme}}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A company in five languages</title>
<link rel="stylesheet" href="/style.css">
<h1>A company in five languages</h1>
<nav>{{range .Services}}<a href="{{.Path}}">{{.Title}}</a> {{end}}</nav>
{{if .User}}
<p>You are <strong id="user">{{.User}}</strong>.</p>
<dl>
<dt>Articles in the cart, by the shop in Node</dt><dd id="articles">{{.Articles}}</dd>
<dt>Orders, by the ledger in Java</dt><dd id="orders">{{.Orders}}</dd>
<dt>Visits, by the page in PHP</dt><dd id="visits">{{.Visits}}</dd>
<dt>Theme, by the page in PHP</dt><dd id="theme">{{or .Theme "none"}}</dd>
</dl>
<form method="post" action="/sign-out"><button id="sign-out">Sign out everywhere</button></form>
{{else}}
<form method="post" action="/sign-in">
<label>Name <input name="user" required autocomplete="username" maxlength="40"></label>
<button id="sign-in">Sign in</button>
</form>
{{end}}
</html>
`))
