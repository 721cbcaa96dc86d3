package fibersession_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/coatcheck-go/session"
	fibersession "github.com/coatcheck-go/session/adapters/fiber"
	"github.com/gofiber/fiber/v3"
	"github.com/valyala/fasthttp"
)

// TestAllocations: what the adapter adds to the Manager's own Load and Commit. Four allocations
// describe the request, since Load reads an http.Request: the description itself, two of its
// header, which is a map, and the copy of the texts.
func TestAllocations(t *testing.T) {
	s := newSite(t, session.Config{})
	raw := "GET /a?b HTTP/1.1\r\nHost: a.example\r\nSec-Fetch-Site: none\r\nCookie: " + s.cookie + "\r\n\r\n"
	use := func(ses *session.Session, err error) {
		if err != nil || n.Get(ses) == 0 {
			t.Error("no session")
		}
	}
	for _, used := range []bool{false, true} {
		app := func(mw ...any) float64 {
			a := fiber.New()
			for _, m := range mw {
				a.Use(m)
			}
			a.Get("/*", func(c fiber.Ctx) error {
				if used && len(mw) > 0 {
					use(fibersession.From(c))
				}
				return nil
			})
			h := a.Handler()
			fctx := &fasthttp.RequestCtx{}
			if err := fctx.Request.Read(bufio.NewReader(strings.NewReader(raw))); err != nil {
				t.Fatal(err)
			}
			return allocations(func() { fctx.Response.Reset(); fctx.ResetUserValues(); h(fctx) })
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil {
			t.Fatal(err)
		}
		core := allocations(func() {
			ctx, err := s.m.Load(r)
			if err != nil {
				t.Error(err)
			}
			if used {
				use(session.From(ctx))
			}
			if _, err := s.m.Commit(ctx); err != nil {
				t.Error(err)
			}
		})
		adapter := app(fibersession.Middleware(s.m)) - app()
		t.Logf("used %v: %v allocations, of them %v the Manager's own", used, adapter, core)
		if adapter > core+4 {
			t.Errorf("used %v: %v allocations, at most 4 more than %v", used, adapter, core)
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
