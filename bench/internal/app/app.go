// Package app is the application that is measured: the same few routes on each session library.
//
// Each library has a file that registers a [System]. Most libraries implement [Library] and use the
// routes of this file. A framework with a server of its own (fiber) has its own routes. They must
// do the same, and send the same responses.
package app

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// The routes of the application. The first three are measured. The others serve the set-up and the
// tests of correctness.
const (
	PathRead   = "/read"    // GET: read the counter, respond with a fixed text
	PathWrite  = "/write"   // POST: add one to the counter, respond with a fixed text
	PathSignIn = "/sign-in" // POST: sign in a visitor who has no session

	PathFill     = "/fill"      // POST: create a session with Long and the counter 1; see FillPath
	PathValue    = "/value"     // GET: respond with the counter, or with 404 if there is no session
	PathSlow     = "/slow"      // POST: read, wait at the gate, then add one
	PathSignOut  = "/sign-out"  // POST: end the session
	PathGateWait = "/gate/wait" // POST: respond once a slow request waits at the gate
	PathGateOpen = "/gate/open" // POST: let the slow request continue
)

// The parameters of PathFill.
const (
	queryData  = "data"  // the name of the data
	queryUsers = "users" // how many users share the sessions; without it, nobody is signed in
)

// FillPath returns the path that creates a session with d. With users, the session belongs to one
// of as many users; only coatcheck can do that.
func FillPath(d Data, users int) string {
	query := url.Values{queryData: {d.Name}}
	if users > 0 {
		query.Set(queryUsers, strconv.Itoa(users))
	}
	return PathFill + "?" + query.Encode()
}

// The responses of the routes. Those that are measured have the same length, so that no system
// sends more than another.
const (
	answerRead   = "Hello, visitor\n"
	answerWrite  = "Counted you in\n"
	answerSignIn = "You are known.\n"
	answerDone   = "done\n"
	contentType  = "text/plain; charset=utf-8"
)

// header is the header of each response besides Content-Type. Either the library or the application
// adds it.
var header = [][2]string{
	{"Vary", "Cookie"},
	{"Cache-Control", "private, no-cache"},
}

// Library is a session library for net/http, as the application uses it.
type Library interface {
	// Handler wraps the application in the library's middleware. It returns next if there is none.
	Handler(next http.Handler) http.Handler

	// Read returns the counter of the visitor's session. ok is false if the visitor has no session.
	Read(w http.ResponseWriter, r *http.Request) (n int, ok bool, err error)

	// Add adds one to the counter. After a Read in the same request, it may use the session that
	// Read has loaded, if the library works that way.
	Add(w http.ResponseWriter, r *http.Request) error

	// Fill creates a session with data and the counter 1.
	Fill(w http.ResponseWriter, r *http.Request, data map[string]string) error

	// SignIn stores user in a new session or under a new id, as the library's documentation
	// recommends.
	SignIn(w http.ResponseWriter, r *http.Request, user string) error

	// SignOut ends the session.
	SignOut(w http.ResponseWriter, r *http.Request) error
}

// overNetHTTP returns a function that opens a Library and serves the application with it. sends
// names the headers that the library itself sends.
func overNetHTTP(open func(Options) (Library, error), sends ...string) func(Options) (Server, error) {
	return func(o Options) (Server, error) {
		library, err := open(o)
		if err != nil {
			return nil, err
		}
		a := &application{library: library, header: headerWithout(sends), gate: newGate()}
		server := &http.Server{Handler: a.routes(), ReadHeaderTimeout: 10 * time.Second}
		return netHTTP{server, library}, nil
	}
}

// netHTTP is a Server for a Library.
type netHTTP struct {
	*http.Server
	library Library
}

// headerWithout returns the header lines that the application must add, because the library does
// not.
func headerWithout(sends []string) [][2]string {
	var missing [][2]string
	for _, h := range header {
		sent := false
		for _, name := range sends {
			sent = sent || name == h[0]
		}
		if !sent {
			missing = append(missing, h)
		}
	}
	return missing
}

// Server is an application that is ready to listen.
type Server interface {
	// Serve answers requests until it fails.
	Serve(net.Listener) error
}

// application has the routes, and the Library that they use.
type application struct {
	library Library
	header  [][2]string
	gate    *gate
	users   users
}

// routes wraps each route separately. A request is therefore routed once, as it is without a
// library.
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
	query := r.URL.Query()
	data := DataNamed(query.Get(queryData)).Fields
	if !query.Has(queryUsers) {
		a.answer(w, answerDone, a.library.Fill(w, r, data))
		return
	}
	library, ok := a.library.(interface {
		FillSignedIn(w http.ResponseWriter, r *http.Request, data map[string]string, user string) error
	})
	number, err := strconv.Atoi(query.Get(queryUsers))
	if err == nil && (!ok || number < 1) {
		err = errors.ErrUnsupported
	}
	if err == nil {
		err = library.FillSignedIn(w, r, data, a.users.oneOf(number))
	}
	a.answer(w, answerDone, err)
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

// answer sends text, or the response for err.
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
	h.Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = w.Write([]byte(text)) // fails only if the client has hung up
}

// errNoSession is the error for a visitor without a session.
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

// users generates user ids. Each user signs in once.
type users struct{ n atomic.Int64 }

func (u *users) next() string { return userID(u.n.Add(1)) }

// oneOf returns the users 1 to n in turn.
func (u *users) oneOf(n int) string { return userID(u.n.Add(1)%int64(n) + 1) }

func userID(n int64) string { return fmt.Sprintf("user-%08d", n) }
