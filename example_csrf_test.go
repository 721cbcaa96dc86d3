package session_test

import (
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

var form = template.Must(template.New("form").Parse(`<form method="post" action="/order">
<input type="hidden" name="csrf_token" value="{{.}}">
<input name="amount"> <button>Order</button>
</form>`))

func ExampleSession_CSRFToken() {
	sessions, err := session.New(memstore.New(), session.Config{CSRF: true})
	if err != nil {
		panic(err)
	}
	page := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		token, err := s.CSRFToken(r.Context())
		if err != nil {
			return err
		}
		return form.Execute(w, token)
	}
	order := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s ordered\n", template.HTMLEscapeString(r.PostFormValue("amount")))
	}
	mux := http.NewServeMux()
	mux.Handle("GET /order", session.HandlerFunc(page))
	mux.HandleFunc("POST /order", order)

	server := httptest.NewTLSServer(sessions.Handler(mux))
	defer server.Close()
	browser := server.Client()
	browser.Jar, _ = cookiejar.New(nil)
	body := func(res *http.Response, err error) string {
		if err != nil {
			panic(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return string(b)
	}
	_, after, _ := strings.Cut(body(browser.Get(server.URL+"/order")), `value="`)
	token, _, _ := strings.Cut(after, `"`)
	fmt.Print(body(browser.PostForm(server.URL+"/order", url.Values{"csrf_token": {token}, "amount": {"2"}})))
	fmt.Print(body(browser.PostForm(server.URL+"/order", url.Values{"amount": {"2000"}})))
	// Output:
	// 2 ordered
	// This page is out of date. Please reload it and try again.
}
