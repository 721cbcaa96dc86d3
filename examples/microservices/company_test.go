package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestOneSessionForACompany walks a browser through all services. It signs in once and out once.
func TestOneSessionForACompany(t *testing.T) {
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	began := time.Now()
	c, err := startCompany(t.Context(), log)
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			printed, _ := os.ReadFile(log.Name())
			t.Logf("the services printed:\n%s", printed)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("all services were ready after %v", time.Since(began).Round(time.Second))

	laptop, phone := browser(t, c.address), browser(t, c.address)

	// Before the sign-in the cart is in an anonymous session.
	laptop.open("/shop/")
	laptop.click("#add-tea")
	laptop.open("/")
	laptop.typeIn(`input[name="user"]`, "ada")
	laptop.click("#sign-in")
	laptop.sees("#user", "ada")
	laptop.sees("#articles", "1") // the cart is kept

	for _, s := range services { // each service knows who it is, without a sign-in of its own
		laptop.open(s.Path())
		laptop.sees("#user", "ada")
	}

	laptop.open("/shop/")
	laptop.click("#add-tea")
	laptop.sees("#articles", "2")
	laptop.open("/ledger/")
	laptop.click("#order")
	laptop.sees("#orders", "1")
	laptop.open("/page/")
	laptop.click("#dark")
	laptop.sees("#theme", "dark")
	laptop.seesSoon("/", "#theme", "dark")
	laptop.sees("#articles", "0") // the ledger has taken the cart
	laptop.sees("#orders", "1")
	laptop.sees("#theme", "dark")

	// The admin ends the phone's session. It is over in each service, at once.
	phone.open("/")
	phone.typeIn(`input[name="user"]`, "ada")
	phone.click("#sign-in")
	phone.open("/shop/")
	phone.sees("#user", "ada")
	laptop.open("/admin/")
	laptop.sees("#sessions", "2")
	laptop.click(".end")
	laptop.sees("#sessions", "1")
	for _, s := range services {
		phone.open(s.Path())
		phone.sees("#user", "nobody")
	}

	// One sign-out, in Go, is a sign-out of all.
	laptop.open("/")
	laptop.click("#sign-out")
	for _, s := range services {
		laptop.open(s.Path())
		laptop.sees("#user", "nobody")
	}
}

// pageTimeout is how long a busy machine may take for a page.
const pageTimeout = 2 * time.Minute

// tab is the only tab of a browser with a profile of its own.
type tab struct {
	t       *testing.T
	ctx     context.Context //nolint:containedctx // chromedp keeps the browser there
	address string
}

func browser(t *testing.T, address string) tab {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx,
		chromedp.ExecPath(chromium(t)), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, chromedp.NoFirstRun,
		chromedp.DisableGPU, chromedp.IgnoreCertErrors,
		chromedp.Flag("headless", "new"), chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
	)
	t.Cleanup(cancel)
	ctx, _ = chromedp.NewContext(ctx)
	t.Cleanup(func() { // the browser writes to its folder until it has ended
		if err := chromedp.Cancel(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("stopping the browser: %v", err)
		}
	})
	if err := chromedp.Do(ctx); err != nil { // the browser lives as long as this context
		t.Fatalf("the browser does not start: %v", err)
	}
	return tab{t, ctx, address}
}

// do makes steps, and reports the page if one of them fails.
func (b tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, pageTimeout)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		page, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`location.pathname + "\n" + document.body.innerText`))
		b.t.Fatalf("%s: %v; the page is %s", what, err, page)
	}
}

func (b tab) open(path string) {
	b.t.Helper()
	b.do("open "+path, chromedp.Navigate(b.address+path))
}

// click clicks a button that sends a form, and waits for the next page.
func (b tab) click(selector string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, pageTimeout)
	defer cancel()
	res, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector)))
	if err != nil {
		b.t.Fatalf("click on %s: %v", selector, err)
	}
	if res.Status != 200 {
		b.t.Fatalf("click on %s: status %d from %s", selector, res.Status, res.URL)
	}
}

func (b tab) typeIn(selector, text string) {
	b.t.Helper()
	b.do("type into "+selector, chromedp.SendKeys(chromedp.CSS(selector), text))
}

// seesSoon opens a page of the Go service until the text of an element is as wanted. That service
// keeps copies of sessions. A copy is never older than lease.
func (b tab) seesSoon(path, selector, want string) {
	b.t.Helper()
	const lease = 2 * time.Second
	for began := time.Now(); ; {
		last := time.Since(began) >= lease
		b.open(path)
		if got := b.text(selector); got == want || last {
			break
		}
	}
	b.sees(selector, want)
}

// sees checks the text of an element.
func (b tab) sees(selector, want string) {
	b.t.Helper()
	if got := b.text(selector); got != want {
		page, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("location.pathname"))
		b.t.Errorf("%s on %s: %q, want %q", selector, page, got, want)
	}
}

// text returns the text of an element.
func (b tab) text(selector string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, pageTimeout)
	defer cancel()
	got, err := chromedp.Run(ctx, chromedp.TextContent(chromedp.CSS(selector)))
	if err != nil {
		page, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`location.pathname + "\n" + document.body.innerText`))
		b.t.Fatalf("look at %s: %v; the page is %s", selector, err, page)
	}
	return strings.TrimSpace(got)
}

func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no Chromium: install the package chromium")
	return ""
}
