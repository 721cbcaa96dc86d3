package measure

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/coatcheck-go/session/bench/internal/app"
)

// visitor sends one request again and again to an application in this process.
type visitor struct {
	app     app.Local
	request *http.Request
	answer  answer
}

// newVisitor opens a system, creates a session at the path fill, and prepares a request that shows
// the session's cookie.
func (b *bench) newVisitor(ctx context.Context, system, fill, method, path string) (*visitor, error) {
	local, err := app.OpenLocal(system, app.Options{Redis: b.redis, Pool: 1})
	if err != nil {
		return nil, err
	}
	v := &visitor{app: local, answer: answer{header: http.Header{}}}
	v.request = newRequest(ctx, http.MethodPost, fill)
	if err := v.send(); err != nil {
		v.app.Close()
		return nil, err
	}
	cookie, _, _ := strings.Cut(v.answer.header.Get("Set-Cookie"), ";")
	v.request = newRequest(ctx, method, path)
	v.request.Header.Set("Cookie", cookie)
	return v, nil
}

// newRequest returns a request like that of package load, as a server has parsed it.
func newRequest(ctx context.Context, method, path string) *http.Request {
	target, err := url.Parse(path)
	if err != nil {
		panic(err) // the paths are constants
	}
	r := &http.Request{
		Method: method, URL: target, RequestURI: path, Host: "bench.example", RemoteAddr: "127.0.0.1:40000",
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody,
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r.WithContext(ctx)
}

// send sends the request.
func (v *visitor) send() error {
	clear(v.answer.header)
	v.answer.status = http.StatusOK
	v.app.ServeHTTP(&v.answer, v.request)
	if v.answer.status != http.StatusOK {
		return fmt.Errorf("%s %s: status %d", v.request.Method, v.request.URL, v.answer.status)
	}
	return nil
}

// answer is a ResponseWriter that drops the body.
type answer struct {
	header http.Header
	status int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) Write(p []byte) (int, error) { return len(p), nil }
func (a *answer) WriteHeader(status int)      { a.status = status }
