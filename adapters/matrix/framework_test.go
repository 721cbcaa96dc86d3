package matrix_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/coatcheck-go/session"
)

// framework runs the handlers of the matrix by the calls of one web framework.
type framework struct {
	name string

	// start serves an app on a real listener and returns its URL. The server stops when the test
	// ends.
	start func(t *testing.T, a *app) (url string)
}

// frameworks are the columns of the table. The others are compared with the first one.
var frameworks = []framework{
	{"net/http", startNetHTTP},
	{"chi", startChi},
	{"Echo v5", startEcho},
	{"Echo v4", startEchoV4},
	{"gin", startGin},
	{"Fiber", startFiber},
}

// app is what a cell serves at /, with any method, and at /static with a file. Other paths have no
// route. The middleware stands in this order, the outermost first: request logger, recovery,
// compression, the managers, compression, recovery, request logger, the route's requirements.
type app struct {
	managers []*session.Manager // the outermost first; the same one twice is nested
	route    session.Route      // what the route requires
	handle   handler

	logger, recovery, compression place

	// logged is what the framework's own request logger calls, with the status that it recorded.
	logged func(status int)
}

// place says where a middleware of the framework stands.
type place int

const (
	absent  place = iota
	outside       // of the managers
	inside
)

// handler is a handler of the matrix. A framework's handler returns its error, or does what the
// framework does with errors.
type handler func(x exchange) error

// exchange is one request and its response, by the framework's own calls.
type exchange interface {
	Context() context.Context
	Session() (*session.Session, error) // by the adapter's function
	Text(status int, text string) error // text/plain
	Empty(status int) error             // no body
	Redirect(to string) error           // 303

	// Stream answers 200 with text/event-stream. Each send is flushed.
	Stream(f func(send func(text string) error) error) error

	// Fail returns the framework's own error with this status.
	Fail(status int) error

	// Upgrade answers 101 and hands the connection to talk. It returns the framework's error if the
	// connection cannot be taken over.
	Upgrade(talk func(io.ReadWriter)) error
}

// fileName is the file that /static serves, with the text of fileText.
const (
	fileName = "testdata/static.txt"
	fileText = "static\n"
)

// switching is the head of the response that takes over a connection.
const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

// startHTTP serves h on the loopback interface.
func startHTTP(t *testing.T, h http.Handler) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return "http://" + l.Addr().String()
}

// hijack is Upgrade for frameworks on net/http.
func hijack(w http.ResponseWriter, talk func(io.ReadWriter)) error {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := rw.WriteString(switching); err != nil {
		return err
	}
	talk(flusher{rw})
	return nil
}

// flusher sends what is written at once.
type flusher struct {
	rw interface {
		io.ReadWriter
		Flush() error
	}
}

func (f flusher) Read(b []byte) (int, error) { return f.rw.Read(b) }

func (f flusher) Write(b []byte) (int, error) {
	n, err := f.rw.Write(b)
	if err == nil {
		err = f.rw.Flush()
	}
	return n, err
}
