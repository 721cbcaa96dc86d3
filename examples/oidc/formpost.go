package main

import (
	"html/template"
	"net/http"
)

// repost answers a provider that returns by response_mode=form_post. That is a post from another
// site, so the browser leaves out the session's cookie. The page posts the same form again, from
// this site, and the cookie comes with it.
func repost(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return signInError(err.Error())
	}
	w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'sha256-"+submitHash+"'; form-action 'self'")
	// With "no-referrer" the browser would send "Origin: null", and the post would be cross-origin.
	w.Header().Set("Referrer-Policy", "same-origin")
	return repostPage.Execute(w, r.PostForm)
}

const (
	submit     = `document.forms[0].submit()`
	submitHash = "ePniVEkSivX/c7XWBGafqh8tSpiRrKiqYeqbG7N1TOE="
)

var repostPage = template.Must(template.New("").Parse(`<!doctype html><title>Signing in</title>
<form method="post">
{{range $name, $values := .}}{{range $values}}<input type="hidden" name="{{$name}}" value="{{.}}">{{end}}{{end}}
<input type="hidden" name="again" value="1">
<button>Continue</button>
</form>
<script>` + submit + `</script>`))
