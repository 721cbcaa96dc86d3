package redisstore_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// BenchmarkOutage serves 64 connections while the server is gone for 30s, and prints the rows of
// docs/outages.md. Each connection requests three routes in turn: one that needs the store, and one
// for each of DownAnonymous and DownReadOnly. The clients run in the same process.
//
//   - Paced: each connection sends 20 requests a second.
//   - Closed loop: each connection sends a request as soon as it has the last response. This
//     saturates the processors, so it measures queues more than the store. Compare it with the same
//     load before the outage.
//
// With -short the server is gone for 6s.
func BenchmarkOutage(b *testing.B) {
	length := 30 * time.Second
	if testing.Short() {
		length = 6 * time.Second
	}
	b.Run("paced", func(b *testing.B) { measureOutage(b, length, 50*time.Millisecond) })
	b.Run("closed-loop", func(b *testing.B) { measureOutage(b, length, 0) })
}

const (
	outageConnections = 64
	outageKnown       = 2500 * time.Millisecond // every outage is known after that
)

// downRoutes are the routes that the connections request in turn.
var downRoutes = []struct {
	path string
	down session.Down
}{
	{"/refuse", session.DownRefuse}, {"/anonymous", session.DownAnonymous}, {"/copy", session.DownReadOnly},
}

// outageSample is one request.
type outageSample struct {
	sent   time.Time
	took   time.Duration // as the client saw it
	served time.Duration // in the middleware and the handler
	route  int
	status int
}

// measureOutage measures one outage. Each connection sends a request every pace, or without a pause
// if pace is 0.
func measureOutage(b *testing.B, length, pace time.Duration) {
	node := redistest.Start(b, redistest.Options{Config: []string{"appendonly yes"}})
	log := slog.New(slog.NewTextHandler(io.Discard, nil)) //nolint:sloglint // formatting costs
	store := mustOpen(b, "redis://"+node.Addr(), redisstore.Options{Logger: log})
	server := serveOutage(b, store, log)
	var all sync.WaitGroup
	stop := make(chan struct{})
	samples := make([][]outageSample, outageConnections)
	for i := range samples {
		c := server.dial(b, i)
		all.Go(func() { samples[i] = c.run(b, stop, pace) })
	}
	var late []time.Duration // how late a plain sleep was: what the machine adds
	all.Go(func() { late = sleepLateness(stop) })
	var goroutines [3]int // before the outage, at most during it, after it
	sleepAndCount := func(d time.Duration, n *int) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			*n = max(*n, runtime.NumGoroutine())
		}
	}
	sleepAndCount(time.Second, &goroutines[0])
	killed := time.Now()
	must(b, node.Kill())
	sleepAndCount(length, &goroutines[1])
	started := time.Now()
	must(b, node.Restart())
	sleepAndCount(time.Second, new(int))
	sleepAndCount(500*time.Millisecond, &goroutines[2])
	close(stop)
	all.Wait()

	o := outageTimes{killed: killed, known: killed.Add(outageKnown), last: started.Add(-time.Second), started: started}
	o.report(b, slices.Concat(samples...))
	b.Logf("| goroutines before, at most during, after | %d, %d, %d |", goroutines[0], goroutines[1], goroutines[2])
	b.Logf("| lateness of a sleep of 10 ms | %s |", quantiles(late))
}

// outageTimes are the moments of an outage. A request that is sent until last has its response
// before the server is started again.
type outageTimes struct{ killed, known, last, started time.Time }

// report prints rows of a table.
func (o *outageTimes) report(b *testing.B, every []outageSample) {
	row := func(name string, from, to time.Time, served bool, keep func(s *outageSample) bool) {
		var took []time.Duration
		for i := range every {
			s := &every[i]
			switch {
			case s.sent.Before(from) || !s.sent.Before(to) || !keep(s):
			case served:
				took = append(took, s.served)
			default:
				took = append(took, s.took)
			}
		}
		b.Logf("| %s: p50, p99, max of %d requests | %s |", name, len(took), quantiles(took))
	}
	all := func(*outageSample) bool { return true }
	refused := func(s *outageSample) bool { return s.route == 0 && s.status == http.StatusServiceUnavailable }
	degraded := func(s *outageSample) bool { return s.route != 0 && s.status == http.StatusOK }
	row("before the outage", time.Time{}, o.killed, false, all)
	row("the first 2.5 s of the outage", o.killed, o.known, false, all)
	row("routes without `Down`: 503", o.known, o.last, false, refused)
	row("`DownAnonymous`, `DownReadOnly`: 200", o.known, o.last, false, degraded)
	row("both, in the middleware and the handler alone", o.known, o.last, true, all)
	first, last := o.started.Add(time.Hour), o.started
	for i := range every {
		s := &every[i]
		if !s.sent.Before(o.known) && s.sent.Before(o.last) && !refused(s) && !degraded(s) {
			b.Fatalf("%s: status %d in a known outage", downRoutes[s.route].path, s.status)
		}
		switch done := s.sent.Add(s.took); {
		case s.route == 0 && s.status == http.StatusOK && s.sent.After(o.last) && done.Before(first):
			first = done
		case s.status == http.StatusServiceUnavailable && done.After(last):
			last = done
		}
	}
	b.Logf("| from starting the server to the first 200, to the last 503 | %s, %s ms |",
		ms(first.Sub(o.started)), ms(last.Sub(o.started)))
}

// quantiles formats the median, p99 and the maximum.
func quantiles(d []time.Duration) string {
	if len(d) == 0 {
		return "none"
	}
	slices.Sort(d)
	return ms(d[len(d)/2]) + ", " + ms(d[len(d)*99/100]) + ", " + ms(d[len(d)-1]) + " ms"
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()*1000) }

// sleepLateness returns how late sleeps of 10ms were, until stop is closed.
func sleepLateness(stop <-chan struct{}) (late []time.Duration) {
	for {
		select {
		case <-stop:
			return late
		default:
		}
		begin := time.Now()
		time.Sleep(10 * time.Millisecond)
		late = append(late, time.Since(begin)-10*time.Millisecond)
	}
}

// outageServer serves downRoutes, and /set, which makes a session.
type outageServer struct {
	addr   string
	served [outageConnections]atomic.Int64 // how long the last request of a connection took
}

func serveOutage(b *testing.B, store *redisstore.Store, log *slog.Logger) *outageServer {
	sessions, err := session.New(store, session.Config{Logger: log})
	must(b, err)
	theme := session.Value[string]("theme")
	mux := http.NewServeMux()
	mux.Handle("/set", session.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
		theme.Set(s, "dark")
		return nil
	}))
	show := session.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		_, err := io.WriteString(w, theme.Get(s))
		return err
	})
	for _, r := range downRoutes {
		mux.Handle(r.path, session.Route{Down: r.down}.Handler(show))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	o, h := &outageServer{addr: listener.Addr().String()}, sessions.Handler(mux)
	// Not httptest: all connections of its server wait for one lock.
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		h.ServeHTTP(w, r)
		if i, err := strconv.Atoi(r.Header.Get("X-Connection")); err == nil && i < outageConnections {
			o.served[i].Store(int64(time.Since(begin))) // before net/http sends the response
		}
	})}
	go server.Serve(listener)
	b.Cleanup(func() { server.Close() })
	return o
}

// outageClient is one connection with a session.
type outageClient struct {
	conn   net.Conn
	reader *bufio.Reader
	number int
	served *atomic.Int64
	cookie string
}

// dial makes a connection with a session that the store has a copy of.
func (o *outageServer) dial(b *testing.B, number int) *outageClient {
	conn, err := net.Dial("tcp", o.addr)
	must(b, err)
	b.Cleanup(func() { conn.Close() })
	c := &outageClient{conn: conn, reader: bufio.NewReader(conn), number: number, served: &o.served[number]}
	for _, path := range []string{"/set", "/copy", "/copy", "/copy"} {
		res, err := c.get(path)
		must(b, err)
		if cookies := res.Cookies(); len(cookies) > 0 {
			c.cookie = cookies[0].Name + "=" + cookies[0].Value
		}
	}
	return c
}

// get sends a request and reads the response.
func (c *outageClient) get(path string) (*http.Response, error) {
	if _, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nX-Connection: %d\r\nCookie: %s\r\n\r\n",
		path, c.number, c.cookie); err != nil {
		return nil, err
	}
	res, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res, err
}

// run sends requests until stop is closed.
func (c *outageClient) run(b *testing.B, stop <-chan struct{}, pace time.Duration) (samples []outageSample) {
	next := time.Now().Add(rand.N(max(pace, 1)))
	for route := c.number; ; route++ {
		select {
		case <-stop:
			return samples
		case <-time.After(time.Until(next)):
		}
		next = next.Add(pace)
		s := outageSample{sent: time.Now(), route: route % len(downRoutes)}
		res, err := c.get(downRoutes[s.route].path)
		if err != nil {
			b.Error(err)
			return samples
		}
		s.took, s.served, s.status = time.Since(s.sent), time.Duration(c.served.Load()), res.StatusCode
		samples = append(samples, s)
	}
}
