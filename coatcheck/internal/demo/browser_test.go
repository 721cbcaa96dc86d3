package demo_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestPage presses both buttons of the page in a real browser and reads what they say.
func TestPage(t *testing.T) {
	server := httptest.NewServer(newApp(t).handler)
	t.Cleanup(server.Close)
	ctx := browser(t)
	console := listen(ctx)

	do(t, ctx, chromedp.Navigate(server.URL), chromedp.WaitVisible(chromedp.CSS("#greeting")))
	equal(t, "heading", text(t, ctx, "#greeting"), "Hello World #0")
	do(t, ctx, chromedp.Reload())
	equal(t, "heading after a reload", text(t, ctx, "#greeting"), "Hello World #1")
	handle := text(t, ctx, `[data-show="handle"]`)

	t.Run("no write is lost", func(t *testing.T) {
		do(t, ctx, chromedp.Click(chromedp.CSS("#add")), chromedp.WaitVisible(chromedp.CSS(`#add-verdict:is([data-state="good"], [data-state="bad"])`)))
		equal(t, "before", text(t, ctx, "#before"), "2")
		equal(t, "expected", text(t, ctx, "#expected"), "52")
		equal(t, "after", text(t, ctx, "#after"), "52")
		equal(t, "verdict", text(t, ctx, "#add-verdict"), "None is lost: 50 requests, 50 different answers.")
		equal(t, "cells done", evaluate[int](t, ctx, `document.querySelectorAll('#cells [data-state="done"]').length`), 50)
		equal(t, "count on the ticket", text(t, ctx, `[data-show="count"]`), "52")
	})

	t.Run("ended is ended", func(t *testing.T) {
		do(t, ctx, chromedp.Click(chromedp.CSS("#end")), chromedp.WaitVisible(chromedp.CSS(`#end-verdict:is([data-state="good"], [data-state="bad"])`)))
		equal(t, "slow writer", text(t, ctx, "#lane-slow .outcome"), "409, refused")
		equal(t, "sign-out", text(t, ctx, "#lane-out .outcome"), "200, signed out")
		equal(t, "old cookie", text(t, ctx, "#lane-look .outcome"), "finds nothing")
		equal(t, "next request", text(t, ctx, "#lane-next .outcome"), "finds nothing")
		equal(t, "handle on the ticket", text(t, ctx, `[data-show="handle"]`), "no session")
		if got := text(t, ctx, "#end-verdict"); !strings.Contains(got, "stays ended") || !strings.Contains(got, handle) {
			t.Errorf("verdict: %q: want it to say that %s stays ended", got, handle)
		}
	})

	t.Run("a lab without a session begins one", func(t *testing.T) {
		do(t, ctx, chromedp.Click(chromedp.CSS("#add")), chromedp.WaitVisible(chromedp.CSS(`#add-verdict[data-state="good"]`)))
		equal(t, "before", text(t, ctx, "#before"), "1")
		equal(t, "after", text(t, ctx, "#after"), "51")
		if got := text(t, ctx, `[data-show="handle"]`); got == handle || got == "no session" {
			t.Errorf("handle on the ticket: %q: want a new session's", got)
		}
	})

	t.Run("the sign-out button", func(t *testing.T) {
		if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(".stub button"))); err != nil {
			t.Fatal(err)
		}
		equal(t, "heading", text(t, ctx, "#greeting"), "Hello World #0")
	})

	equal(t, "cookies that the page's script sees", evaluate[string](t, ctx, "document.cookie"), "")
	for _, line := range console() {
		// The one thing that belongs there: the browser reports the answer 409 itself.
		if !strings.Contains(line, "409 (Conflict)") {
			t.Errorf("the browser's console says: %s", line)
		}
	}
}

// browser starts a headless Chromium with one empty tab. A machine without one fails the test: the page is half of the demo.
func browser(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx,
		chromedp.ExecPath(chromium(t)),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, // root has none, and the only page that it opens is ours
		chromedp.NoFirstRun,
		chromedp.DisableGPU,
		chromedp.Flag("headless", "new"),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
	)
	t.Cleanup(cancel)
	ctx, _ = chromedp.NewContext(ctx)
	t.Cleanup(func() { // waits until the browser has gone, and with it what it writes to the directory
		if err := chromedp.Cancel(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("stopping the browser: %v", err)
		}
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("the browser does not start: %v", err)
	}
	return ctx
}

func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{
		"chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
	} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no Chromium here: install it (Debian, Ubuntu: apt-get install chromium) and run the test again")
	return ""
}

// listen returns a function that stops listening and returns what the page's console got: errors, and what the
// Content-Security-Policy refused.
func listen(ctx context.Context) (stop func() []string) {
	ctx, cancel := context.WithCancel(ctx)
	messages := chromedp.Console(ctx)
	lines := make(chan []string)
	go func() {
		var all []string
		for m, err := range messages {
			if err != nil {
				break
			}
			all = append(all, m.Text)
		}
		lines <- all
	}()
	return func() []string {
		cancel()
		return <-lines
	}
}

func do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

func text(t *testing.T, ctx context.Context, selector string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	s, err := chromedp.Run(ctx, chromedp.TextContent(chromedp.CSS(selector)))
	if err != nil {
		t.Fatalf("%s: %v", selector, err)
	}
	return s
}

func evaluate[T any](t *testing.T, ctx context.Context, script string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return v
}
