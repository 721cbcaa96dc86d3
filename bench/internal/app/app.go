// Package app is the application that is measured: the same few routes on each session library.
//
// A library takes part by a [System] in a file of its own, registered under its name. Most implement [Library], and
// the routes of this file are their application; a framework with a server of its own (fiber) brings its own routes,
// which must do and answer exactly the same.
package app

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// The routes of the application. All but the first three serve the set-up and the tests of correctness.
const (
	PathRead   = "/read"    // GET: read the counter, answer a fixed text
	PathWrite  = "/write"   // POST: add one to the counter, answer a fixed text
	PathSignIn = "/sign-in" // POST: a visitor without a session signs in

	PathFill     = "/fill"      // POST: a new session with Payload, and the counter at 1
	PathValue    = "/value"     // GET: answer the counter, 404 without a session
	PathSlow     = "/slow"      // POST: read, wait at the gate, then add one
	PathSignOut  = "/sign-out"  // POST: end the session
	PathGateWait = "/gate/wait" // POST: answers once a slow request is waiting at the gate
	PathGateOpen = "/gate/open" // POST: lets the slow request go on
)

// What the routes answer. Reading and writing have answers of one length, so that no system sends more than another.
const (
	answerRead   = "Hello, visitor\n"
	answerWrite  = "Counted you in\n"
	answerSignIn = "You are known.\n"
	answerDone   = "done\n"
	contentType  = "text/plain; charset=utf-8"
)

// header is what every answer carries beside Content-Type, whether the library or the application adds it.
var header = [][2]string{
	{"Vary", "Cookie"},
	{"Cache-Control", "private, no-cache"},
}

// Library is what the application asks of a session library that works with net/http.
type Library interface {
	// Handler is the library's middleware around the application; next itself if it has none.
	Handler(next http.Handler) http.Handler

	// Read returns the counter of the visitor's session; false if the visitor has no session.
	Read(w http.ResponseWriter, r *http.Request) (n int, ok bool, err error)

	// Add adds one to the counter. Called after Read in the same request, it works on what Read has loaded, if
	// that is how the library works.
	Add(w http.ResponseWriter, r *http.Request) error

	// Fill starts a session that holds Payload, and the counter at 1.
	Fill(w http.ResponseWriter, r *http.Request) error

	// SignIn stores user in a new session, or under a new id, as the library's documentation says.
	SignIn(w http.ResponseWriter, r *http.Request, user string) error

	// SignOut ends the session.
	SignOut(w http.ResponseWriter, r *http.Request) error
}

// overNetHTTP makes of a Library what a System serves.
func overNetHTTP(open func(Options) (Library, error), sends ...string) func(Options) (Server, error) {
	return func(o Options) (Server, error) {
		library, err := open(o)
		if err != nil {
			return nil, err
		}
		a := &application{library: library, header: headersLeft(sends), gate: newGate()}
		return &http.Server{Handler: a.routes(), ReadHeaderTimeout: 10 * time.Second}, nil
	}
}

// headersLeft returns the headers that the application must add, because the library does not.
func headersLeft(sends []string) [][2]string {
	var left [][2]string
	for _, h := range header {
		sent := false
		for _, name := range sends {
			sent = sent || name == h[0]
		}
		if !sent {
			left = append(left, h)
		}
	}
	return left
}

// Server is an application that is ready to listen.
type Server interface {
	// Serve answers requests until it fails.
	Serve(net.Listener) error
}

// application is the routes over a Library.
type application struct {
	library Library
	header  [][2]string
	gate    *gate
	users   users
}

// routes wraps each route by itself, so that a request is routed once, as it would be with no library.
func (a *application) routes() http.Handler {
	mux := http.NewServeMux()
	session := func(pattern string, h http.HandlerFunc) { mux.Handle(pattern, a.library.Handler(h)) }
	session("GET "+PathRead, a.read)
	session("POST "+PathWrite, a.write)
	session("POST "+PathSignIn, a.signIn)
	session("POST "+PathFill, a.fill)
	session("GET "+PathValue, a.value)
	session("POST "+PathSlow, a.slow)
	session("POST "+PathSignOut, a.signOut)

	mux.HandleFunc("POST "+PathGateWait, func(w http.ResponseWriter, _ *http.Request) {
		a.answer(w, answerDone, a.gate.wait())
	})
	mux.HandleFunc("POST "+PathGateOpen, func(w http.ResponseWriter, _ *http.Request) {
		a.answer(w, answerDone, a.gate.open())
	})
	return mux
}

func (a *application) read(w http.ResponseWriter, r *http.Request) {
	_, ok, err := a.library.Read(w, r)
	a.answer(w, answerRead, orNoSession(ok, err))
}

func (a *application) write(w http.ResponseWriter, r *http.Request) {
	a.answer(w, answerWrite, a.library.Add(w, r))
}

func (a *application) signIn(w http.ResponseWriter, r *http.Request) {
	a.answer(w, answerSignIn, a.library.SignIn(w, r, a.users.next()))
}

func (a *application) fill(w http.ResponseWriter, r *http.Request) {
	a.answer(w, answerDone, a.library.Fill(w, r))
}

func (a *application) value(w http.ResponseWriter, r *http.Request) {
	n, ok, err := a.library.Read(w, r)
	a.answer(w, strconv.Itoa(n)+"\n", orNoSession(ok, err))
}

func (a *application) slow(w http.ResponseWriter, r *http.Request) {
	_, ok, err := a.library.Read(w, r)
	if err = orNoSession(ok, err); err == nil {
		err = a.gate.pass()
	}
	if err == nil {
		err = a.library.Add(w, r)
	}
	a.answer(w, answerDone, err)
}

func (a *application) signOut(w http.ResponseWriter, r *http.Request) {
	a.answer(w, answerDone, a.library.SignOut(w, r))
}

// answer sends text, or what err means.
func (a *application) answer(w http.ResponseWriter, text string, err error) {
	if err != nil {
		http.Error(w, err.Error(), status(err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	for _, line := range a.header {
		h.Set(line[0], line[1])
	}
	_, _ = w.Write([]byte(text)) // a client that has gone away is not the application's concern
}

// errNoSession is the answer to a visitor whom the library does not know.
var errNoSession = errors.New("no session")

func orNoSession(ok bool, err error) error {
	if err == nil && !ok {
		return errNoSession
	}
	return err
}

func status(err error) int {
	if errors.Is(err, errNoSession) {
		return http.StatusNotFound
	}
	return http.StatusInternalServerError
}

// users makes the ids of users who sign in: each signs in once.
type users struct{ n atomic.Int64 }

func (u *users) next() string { return fmt.Sprintf("user-%08d", u.n.Add(1)) }
