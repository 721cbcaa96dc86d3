package ginsession_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	ginsession "github.com/coatcheck-go/session/adapters/gin"
	gingzip "github.com/gin-contrib/gzip"
	"github.com/gin-gonic/gin"
)

// TestWriterIsLikeGins: a handler and its client see the same with the middleware as without,
// except for the headers of the session.
func TestWriterIsLikeGins(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file.txt")
	if err := os.WriteFile(file, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	scripts := map[string]func(c *gin.Context, see func()){
		"nothing":                func(*gin.Context, func()) {},
		"status":                 func(c *gin.Context, see func()) { c.Status(202); see(); c.Status(204); see() },
		"body":                   func(c *gin.Context, see func()) { c.JSON(200, 1); see() },
		"error":                  func(c *gin.Context, see func()) { c.String(404, "no"); see() },
		"error, then status":     func(c *gin.Context, see func()) { c.String(404, "no"); see(); c.Status(200); see() },
		"body, then another":     func(c *gin.Context, see func()) { c.JSON(200, 1); see(); c.JSON(500, 2); see() },
		"header now":             func(c *gin.Context, see func()) { c.Status(201); c.Writer.WriteHeaderNow(); see() },
		"header now, then again": func(c *gin.Context, see func()) { c.Writer.WriteHeaderNow(); see(); c.Status(500); see() },
		"error header now":       func(c *gin.Context, see func()) { c.AbortWithStatus(409); see() },
		"error header, then a body": func(c *gin.Context, see func()) {
			c.AbortWithStatus(409)
			see()
			c.Status(200)
			see()
			c.Writer.WriteString("why")
			see()
		},
		"AbortWithError, then a body": func(c *gin.Context, see func()) {
			c.AbortWithError(400, errApp)
			see()
			c.Writer.WriteString("x")
			see()
		},
		"empty write": func(c *gin.Context, see func()) { c.Writer.Write(nil); see() },
		"flush":       func(c *gin.Context, see func()) { c.Status(202); c.Writer.Flush(); see() },
		"redirect":    func(c *gin.Context, see func()) { c.Redirect(302, "/next"); see() },
		"file":        func(c *gin.Context, see func()) { c.File(file); see() },
		"attachment":  func(c *gin.Context, see func()) { c.FileAttachment(file, "x.txt"); see() },
		"reader": func(c *gin.Context, see func()) {
			c.DataFromReader(200, 5, "text/x", strings.NewReader("hello"), map[string]string{"X-A": "b"})
			see()
		},
		"event":    func(c *gin.Context, see func()) { c.SSEvent("news", "x"); see() },
		"protobuf": func(c *gin.Context, see func()) { c.Data(200, "application/x", []byte{0, 1}); see() },
		"push": func(c *gin.Context, see func()) {
			if c.Writer.Pusher() != nil {
				c.Status(500)
			}
			see()
		},
	}
	for name, script := range scripts {
		for _, method := range []string{"GET", "HEAD"} {
			for _, zip := range []bool{false, true} {
				if zip && strings.Contains(name, "then") {
					continue // gin-contrib/gzip mixes up the two
				}
				t.Run(fmt.Sprint(name, method, zip), func(t *testing.T) {
					s := newSite(t, session.Config{})
					outcome := func(mw ...gin.HandlerFunc) (seen string) {
						r := gin.New()
						if zip {
							r.Use(gingzip.Gzip(gingzip.BestSpeed))
						}
						r.Use(mw...)
						r.Handle(method, "/", func(c *gin.Context) {
							script(c, func() { seen += fmt.Sprintln(c.Writer.Status(), c.Writer.Size(), c.Writer.Written()) })
						})
						res := s.do(r, method, "/", "Accept-Encoding", "gzip")
						for _, ours := range []string{"Date", "Vary", "Cache-Control", "Set-Cookie"} {
							delete(res.Header, ours)
						}
						return seen + fmt.Sprintln(res.StatusCode, res.Header, res.body)
					}
					plain := outcome()
					mustEqual(t, "without use of the session", outcome(ginsession.Middleware(s.m)), plain)
					mustEqual(t, "with a change", outcome(ginsession.Middleware(s.m), func(c *gin.Context) { add(t, c) }), plain)
				})
			}
		}
	}
}

// TestRouterAnswers: 404 and 405, with a middleware that changes the session.
func TestRouterAnswers(t *testing.T) {
	s, r := newSite(t, session.Config{}), gin.New()
	r.HandleMethodNotAllowed = true
	r.Use(ginsession.Middleware(s.m), func(c *gin.Context) { add(t, c) })
	r.POST("/", func(*gin.Context) {})
	for path, want := range map[string]string{"/": "405 405 method not allowed", "/x": "404 404 page not found"} {
		res := s.do(r, "GET", path)
		mustEqual(t, path, fmt.Sprint(res.StatusCode, " ", res.body), want)
	}
	mustEqual(t, "n", s.count(), 3)
}

// TestHeaderLeavesWithTheCookie: also if the body comes much later.
func TestHeaderLeavesWithTheCookie(t *testing.T) {
	s, r := newSite(t, session.Config{}), gin.New()
	s.cookie = ""
	r.Use(ginsession.Middleware(s.m))
	release := make(chan bool)
	r.GET("/", func(c *gin.Context) {
		add(t, c)
		c.Header("Content-Type", "text/plain")
		c.Status(201)
		c.Writer.WriteHeaderNow()
		<-release
		c.Writer.WriteString("done")
	})
	srv := httptest.NewServer(r)
	defer srv.Close()
	res, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	mustEqual(t, "status", res.StatusCode, 201)
	mustEqual(t, "cookies", len(res.Cookies()), 1)
	close(release)
	body, _ := io.ReadAll(res.Body)
	mustEqual(t, "body", string(body), "done")
}

// TestStream: c.Stream goes on while its commits succeed, and ends when the client has gone.
func TestStream(t *testing.T) {
	s, r := newSite(t, session.Config{}), gin.New()
	r.Use(ginsession.Middleware(s.m))
	ended := make(chan bool, 1)
	r.GET("/", func(c *gin.Context) {
		ses := add(t, c)
		ended <- c.Stream(func(io.Writer) bool {
			c.SSEvent("n", n.Get(ses))
			n.Add(ses, 1)
			if err := ses.Commit(c.Request.Context()); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Millisecond) // a stream of news
			return true
		})
	})
	srv := httptest.NewServer(r)
	defer srv.Close()
	ctx, hangUp := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "GET", srv.URL, nil)
	req.Header.Set("Cookie", s.cookie)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	in := bufio.NewReader(res.Body)
	for _, want := range []string{"event:n\n", "data:2\n", "\n", "event:n\n", "data:3\n"} {
		if line, err := in.ReadString('\n'); line != want {
			t.Fatalf("%q, %v, want %q", line, err, want)
		}
	}
	hangUp()
	mustEqual(t, "ended by the client", <-ended, true)
}

// TestStreamOfAFailedCommitEnds: its client gets the error.
func TestStreamOfAFailedCommitEnds(t *testing.T) {
	s, r := newSite(t, session.Config{}), gin.New()
	r.Use(jsonErrors, ginsession.Middleware(s.m))
	r.GET("/", func(c *gin.Context) {
		add(t, c)
		s.store.down.Store(true)
		if err := http.NewResponseController(c.Writer).Flush(); err == nil || err.Error() != session.Message(session.ErrUnavailable) {
			t.Errorf("Flush: %v", err)
		}
		if _, _, err := c.Writer.Hijack(); err == nil {
			t.Error("Hijack succeeds")
		}
	})
	mustEqual(t, "status", s.do(r, "GET", "/").StatusCode, 503)
	mustEqual(t, "n", s.count(), 1)
}

// TestGzip: compression outside and inside, with a success and with a failed commit.
func TestGzip(t *testing.T) {
	for _, outside := range []bool{true, false} {
		for _, down := range []bool{true, false} {
			s, r := newSite(t, session.Config{}), gin.New()
			mw := []gin.HandlerFunc{ginsession.Middleware(s.m), gingzip.Gzip(gingzip.BestSpeed)}
			if outside {
				mw[0], mw[1] = mw[1], mw[0]
			}
			r.Use(append([]gin.HandlerFunc{jsonErrors}, mw...)...)
			r.GET("/", func(c *gin.Context) {
				add(t, c)
				s.store.down.Store(down)
				c.String(200, "the page")
			})
			res := s.do(r, "GET", "/", "Accept-Encoding", "gzip")
			got := fmt.Sprint(res.StatusCode, " ", res.body)
			if res.Header.Get("Content-Encoding") == "gzip" {
				z, err := gzip.NewReader(strings.NewReader(res.body))
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(z)
				got = fmt.Sprint(res.StatusCode, " gzip ", string(text), err)
			}
			want, stored := "200 gzip the page<nil>", int64(2)
			if down {
				want, stored = `503 {"error":"`+session.Message(session.ErrUnavailable)+`"}`, 1
			}
			mustEqual(t, fmt.Sprint("outside: ", outside), got, want)
			mustEqual(t, "n", s.count(), stored)
		}
	}
}

// TestGzipOutsideOfANewVisitorsError: gzip decides at the first write that it leaves an error as it
// is. The header of the new cookie does not leave before.
func TestGzipOutsideOfANewVisitorsError(t *testing.T) {
	s, r := newSite(t, session.Config{}), gin.New()
	s.cookie = ""
	r.Use(gingzip.Gzip(gingzip.BestSpeed), ginsession.Middleware(s.m))
	r.GET("/", func(c *gin.Context) { add(t, c); c.String(404, "no such page") })
	res := s.do(r, "GET", "/", "Accept-Encoding", "gzip")
	mustEqual(t, "response", fmt.Sprint(res.StatusCode, res.Header.Get("Content-Encoding"), " ", res.body), "404 no such page")
	mustEqual(t, "cookies", len(res.Cookies()), 1)
}

// TestWebSocket: the handshake by a hijack alone, and by a header first.
func TestWebSocket(t *testing.T) {
	for _, header := range []bool{true, false} {
		for _, known := range []bool{true, false} {
			s, r := newSite(t, session.Config{}), gin.New()
			if !known {
				s.cookie = ""
			}
			r.Use(ginsession.Middleware(s.m))
			r.GET("/", func(c *gin.Context) {
				add(t, c)
				if header {
					c.Header("Upgrade", "x")
					c.Header("Connection", "Upgrade")
					c.Writer.WriteHeader(101)
					c.Writer.WriteHeaderNow()
				}
				conn, rw, err := c.Writer.Hijack()
				if err != nil {
					c.String(426, "no")
					return
				}
				defer conn.Close()
				if !header {
					rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
					rw.Flush()
				}
			})
			res := s.do(r, "GET", "/", "Connection", "Upgrade", "Upgrade", "x")
			want := 101
			if !known && !header {
				want = 426 // there is no response that could bring the cookie
			}
			mustEqual(t, fmt.Sprint("header ", header, " known ", known), res.StatusCode, want)
			mustEqual(t, "cookies", len(res.Cookies()) == 1, !known)
			if known {
				mustEqual(t, "n", s.count(), 2)
			}
		}
	}
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// TestAllocations: the adapter adds at most 3 allocations to the Manager's own.
func TestAllocations(t *testing.T) {
	s := newSite(t, session.Config{})
	w := discard{http.Header{}}
	req := httptest.NewRequest("GET", "/", nil)
	req.Header.Set("Cookie", s.cookie)
	allocs := func(h http.Handler) float64 {
		return allocations(func() { clear(w.h); h.ServeHTTP(w, req) })
	}
	for name, use := range map[string]func(context.Context){
		"not used": func(context.Context) {},
		"read": func(ctx context.Context) {
			if ses, err := session.From(ctx); err != nil || n.Get(ses) == 0 {
				t.Error("no session")
			}
		},
	} {
		page := func(w http.ResponseWriter, r *http.Request) { use(r.Context()); w.Write([]byte("ok")) }
		if strings.HasPrefix(name, "not") {
			page = func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok")) }
		}
		engine := func(mw ...gin.HandlerFunc) http.Handler {
			r := gin.New()
			r.Use(mw...)
			r.GET("/", func(c *gin.Context) { page(c.Writer, c.Request) })
			return r
		}
		bare, bareGin := 0.0, 0.0
		if strings.HasPrefix(name, "not") {
			bare, bareGin = allocs(http.HandlerFunc(page)), allocs(engine())
		}
		core := allocs(s.m.Handler(http.HandlerFunc(page))) - bare
		adapter := allocs(engine(ginsession.Middleware(s.m))) - bareGin
		t.Logf("%s: %v, of them %v the Manager's own", name, adapter, core)
		if adapter > core+3 {
			t.Errorf("%s: %v allocations, at most 3 more than %v", name, adapter, core)
		}
	}
}

// allocations returns how many allocations f makes. Servers of other tests may allocate meanwhile,
// so the least of several counts is the one.
func allocations(f func()) float64 {
	least := testing.AllocsPerRun(200, f)
	for range 4 {
		least = min(least, testing.AllocsPerRun(200, f))
	}
	return least
}
