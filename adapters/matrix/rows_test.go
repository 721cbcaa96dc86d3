package matrix_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coatcheck-go/session"
)

// row is one case of the matrix. What is not set is the plainest: a known visitor with n = 1 sends
// GET /.
type row struct {
	name   string
	handle func(c *cell, x exchange) error
	config session.Config
	route  session.Route

	// managers are those of the app, if not the cell's alone.
	managers func(c *cell) []*session.Manager

	logger, recovery, compression place // the logger is outside if not set

	visitor func(c *cell) // default: known
	run     func(c *cell) // default: send GET /
}

// perform does what the row says. The cell's facts are the outcome.
func (r *row) perform(c *cell) {
	if r.visitor == nil {
		c.known()
	} else {
		r.visitor(c)
	}
	if r.run == nil {
		c.send(c.request("GET", "/", nil))
	} else {
		r.run(c)
	}
	c.noteStored()
}

// errApp is an application's error. Clients must not see its text.
var errApp = errors.New("secret cause")

var rows = []*row{
	{name: "change, then write; a new visitor", handle: changeAndWrite, visitor: stranger},
	{name: "change, then write", handle: changeAndWrite},
	{name: "write, then change", handle: func(_ *cell, x exchange) error {
		s, err := x.Session()
		if err != nil {
			return err
		}
		defer n.Add(s, 1)
		return x.Text(200, "ok")
	}},
	{name: "change, and write nothing; a new visitor", handle: changeOnly, visitor: stranger},
	{name: "204 without a body", handle: func(_ *cell, x exchange) error {
		return errors.Join(change(x), x.Empty(204))
	}},
	{name: "HEAD", handle: changeAndWrite, run: func(c *cell) { c.send(c.request("HEAD", "/", nil)) }},
	{name: "redirect", handle: func(_ *cell, x exchange) error {
		return errors.Join(change(x), x.Redirect("/next"))
	}},
	{name: "a file, without the session", handle: changeAndWrite, run: func(c *cell) { c.send(c.request("GET", "/static", nil)) }},
	{name: "no such route", handle: changeAndWrite, run: func(c *cell) { c.send(c.request("GET", "/nowhere", nil)) }},
	{name: "no such route; the store is down", handle: changeAndWrite, run: func(c *cell) {
		c.store.set(down)
		c.send(c.request("GET", "/nowhere", nil))
	}},
	{name: "stream that commits each change", handle: stream},
	{name: "commits twice", handle: commitTwice},

	{name: "sign in", visitor: stranger, handle: func(_ *cell, x exchange) error {
		s, err := x.Session()
		if err != nil {
			return err
		}
		if err := s.SignIn(x.Context(), session.Login{User: "ada"}); err != nil {
			return err
		}
		return x.Redirect("/account")
	}},
	{name: "sign out", visitor: (*cell).member, handle: func(_ *cell, x exchange) error {
		s, err := x.Session()
		if err != nil {
			return err
		}
		if err := s.SignOut(x.Context()); err != nil {
			return err
		}
		return x.Redirect("/")
	}},
	{name: "a route for members", visitor: (*cell).member, handle: changeAndWrite, route: session.Route{SignedIn: true}},
	{name: "a route for members; a visitor", handle: changeAndWrite, route: session.Route{SignedIn: true}},

	{name: "error", handle: changeAndFail},
	{name: "error with a status", handle: func(_ *cell, x exchange) error {
		if err := change(x); err != nil {
			return err
		}
		return x.Fail(422)
	}},
	{name: "error after a write", handle: func(_ *cell, x exchange) error {
		s, err := x.Session()
		if err != nil {
			return err
		}
		n.Add(s, 1)
		if err := x.Text(200, "ok"); err != nil {
			return err
		}
		n.Add(s, 1)
		return errApp
	}},
	{name: "error after a sign-in", visitor: stranger, handle: func(_ *cell, x exchange) error {
		s, err := x.Session()
		if err != nil {
			return err
		}
		if err := s.SignIn(x.Context(), session.Login{User: "ada"}); err != nil {
			return err
		}
		n.Add(s, 1)
		return errApp
	}},
	{name: "error; logger inside", logger: inside, handle: changeAndFail},
	{name: "panic; recovery outside", recovery: outside, handle: changeAndPanic},
	{name: "panic; recovery inside", recovery: inside, handle: changeAndPanic},
	{name: "panic; recovery and compression inside", recovery: inside, compression: inside, handle: changeAndPanic},

	{name: "compression outside", compression: outside, handle: changeAndWrite},
	{name: "compression inside", compression: inside, handle: changeAndWrite},
	{name: "compression outside; the commit fails", compression: outside, handle: changeWhileDown},
	{name: "compression inside; the commit fails", compression: inside, handle: changeWhileDown},

	{name: "WebSocket", handle: webSocket, run: (*cell).talk},
	{name: "WebSocket; a new visitor", handle: webSocket, visitor: stranger, run: (*cell).talk},
	{name: "WebSocket; revoked elsewhere", handle: untilRevoked, visitor: (*cell).member, run: (*cell).talk},

	{name: "client gone", handle: nil, run: nil},

	{name: "the store is down", handle: changeAndWrite, run: func(c *cell) {
		c.store.set(down)
		c.send(c.request("GET", "/", nil))
	}},
	{name: "the store hangs", handle: changeAndWrite, run: func(c *cell) {
		c.store.set(hanging)
		c.send(c.request("GET", "/", nil))
	}},
	{name: "the commit fails", handle: changeWhileDown},
	{name: "the commit fails; the handler ignores it", handle: func(c *cell, x exchange) error {
		_ = changeWhileDown(c, x)
		return nil
	}},
	{name: "the commit fails; logger inside", logger: inside, handle: changeWhileDown},
	{name: "the commit fails; nothing written", handle: func(c *cell, x exchange) error {
		defer c.store.set(down)
		return change(x)
	}},
	{name: "the commit fails; redirect", handle: func(c *cell, x exchange) error {
		err := change(x)
		c.store.set(down)
		return errors.Join(err, x.Redirect("/next"))
	}},
	{name: "the commit fails; nothing written; logger inside", logger: inside, handle: func(c *cell, x exchange) error {
		defer c.store.set(down)
		return change(x)
	}},
	{name: "the commit fails; HEAD", handle: changeWhileDown, run: func(c *cell) { c.send(c.request("HEAD", "/", nil)) }},
	{name: "the outcome of the commit is unknown", handle: func(c *cell, x exchange) error {
		err := change(x)
		c.store.set(hanging)
		return errors.Join(err, x.Text(200, "ok"))
	}},

	{name: "cross-site POST", handle: changeAndWrite, run: func(c *cell) {
		r := c.request("POST", "/", nil)
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		c.send(r)
	}},
	{name: "POST with a CSRF token", handle: changeAndWrite, config: session.Config{CSRF: true}, run: func(c *cell) {
		var token string
		c.direct(func(ctx context.Context, s *session.Session) (err error) { token, err = s.CSRFToken(ctx); return err })
		c.send(c.form(url.Values{session.CSRFField: {token}}))
	}},
	{name: "POST without a CSRF token", handle: changeAndWrite, config: session.Config{CSRF: true}, run: func(c *cell) {
		c.send(c.form(url.Values{"name": {"ada"}}))
	}},

	{name: "keeps the Session after its request", handle: nil, run: nil},
	{name: "two Managers", handle: changeAndWrite, managers: func(c *cell) []*session.Manager {
		return []*session.Manager{c.other(), c.manager}
	}},
	{name: "two Managers; error", handle: changeAndFail, managers: func(c *cell) []*session.Manager {
		return []*session.Manager{c.other(), c.manager}
	}},
	{name: "two Managers; the commit fails", handle: changeWhileDown, managers: func(c *cell) []*session.Manager {
		return []*session.Manager{c.other(), c.manager}
	}},
	{name: "one Manager twice", handle: changeAndWrite, managers: func(c *cell) []*session.Manager {
		return []*session.Manager{c.manager, c.manager}
	}},
	{name: "one Manager twice; error", handle: changeAndFail, managers: func(c *cell) []*session.Manager {
		return []*session.Manager{c.manager, c.manager}
	}},
}

// stranger leaves the visitor without a session.
func stranger(*cell) {}

func change(x exchange) error {
	s, err := x.Session()
	if err == nil {
		n.Add(s, 1)
	}
	return err
}

func changeOnly(_ *cell, x exchange) error { return change(x) }

func changeAndWrite(_ *cell, x exchange) error {
	if err := change(x); err != nil {
		return err
	}
	return x.Text(200, "ok")
}

func changeAndFail(_ *cell, x exchange) error {
	if err := change(x); err != nil {
		return err
	}
	return errApp
}

func changeAndPanic(_ *cell, x exchange) error {
	if err := change(x); err != nil {
		return err
	}
	panic("secret panic")
}

func changeWhileDown(c *cell, x exchange) error {
	if err := change(x); err != nil {
		return err
	}
	c.store.set(down)
	return x.Text(200, "ok")
}

func commitTwice(_ *cell, x exchange) error {
	s, err := x.Session()
	if err != nil {
		return err
	}
	for range 2 {
		n.Add(s, 1)
		if err := s.Commit(x.Context()); err != nil {
			return err
		}
	}
	return x.Text(200, "ok")
}

func stream(_ *cell, x exchange) error {
	s, err := x.Session()
	if err != nil {
		return err
	}
	ctx := x.Context()
	return x.Stream(func(send func(string) error) error {
		for range 3 {
			n.Add(s, 1)
			if err := s.Commit(ctx); err != nil {
				return err
			}
			if err := send(fmt.Sprint(n.Get(s), ";")); err != nil {
				return err
			}
		}
		return nil
	})
}

// webSocket changes the session before the connection is taken over, and on it.
func webSocket(_ *cell, x exchange) error {
	s, err := x.Session()
	if err != nil {
		return err
	}
	n.Add(s, 1)
	ctx := x.Context()
	return x.Upgrade(func(conn io.ReadWriter) {
		n.Add(s, 1)
		if err := s.Commit(ctx); err != nil {
			fmt.Fprint(conn, err)
			return
		}
		fmt.Fprint(conn, "n=", n.Get(s))
	})
}

// untilRevoked keeps a WebSocket open until another process revokes the user.
func untilRevoked(c *cell, x exchange) error {
	members := session.Route{SignedIn: true, Passive: true}
	if _, err := x.Session(); err != nil {
		return err
	}
	ctx, stop := members.Context(context.WithoutCancel(x.Context()))
	return x.Upgrade(func(conn io.ReadWriter) {
		defer stop()
		if _, err := c.mustManager(c.store.UserStore, session.Config{}).RevokeUser(context.Background(), "ada"); err != nil {
			fmt.Fprint(conn, err)
			return
		}
		select {
		case <-ctx.Done():
			fmt.Fprint(conn, "closed: ", errors.Is(context.Cause(ctx), session.ErrEnded))
		case <-time.After(time.Minute):
			fmt.Fprint(conn, "still open")
		}
	})
}

// form returns a POST of the visitor with a form.
func (c *cell) form(v url.Values) *http.Request {
	r := c.request("POST", "/", strings.NewReader(v.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

func init() {
	for _, r := range rows {
		switch r.name {
		case "client gone":
			clientGone(r)
		case "keeps the Session after its request":
			keepsSession(r)
		}
	}
}

// clientGone makes r a row whose client hangs up while the handler works.
func clientGone(r *row) {
	started, release := make(chan struct{}, 1), make(chan struct{}, 1)
	r.handle = func(_ *cell, x exchange) error {
		s, err := x.Session()
		if err != nil {
			return err
		}
		started <- struct{}{}
		<-release
		n.Add(s, 1)
		return x.Text(200, "ok")
	}
	r.run = func(c *cell) {
		ctx, hangUp := context.WithCancel(c.t.Context())
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			res, err := client.Do(c.request("GET", "/", nil).WithContext(ctx))
			if err == nil {
				res.Body.Close()
				c.t.Error("the client got a response")
			}
		}()
		<-started
		hangUp()
		<-gone
		release <- struct{}{}
		c.noteLogged()
	}
}

// keepsSession makes r a row whose handler leaves its Session to a goroutine that goes on when the
// response is complete.
func keepsSession(r *row) {
	kept := make(chan *session.Session, 1)
	r.handle = func(_ *cell, x exchange) error {
		s, err := x.Session()
		if err != nil {
			return err
		}
		n.Add(s, 1)
		kept <- s
		return x.Text(200, "ok")
	}
	r.run = func(c *cell) {
		c.send(c.request("GET", "/", nil))
		s := <-kept
		n.Add(s, 1)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Commit(ctx); err != nil {
			c.note("later commit fails")
		} else {
			c.note("later commit stores")
		}
	}
}
