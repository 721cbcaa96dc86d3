package demo_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// noneLost is what the page says when the increments are counted right.
const noneLost = "No increment is lost: 50 requests got 50 different counts."

// TestPageRunsBothRaces clicks the two buttons of the page in a real browser and checks the
// results.
func TestPageRunsBothRaces(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(mustNewApp(t).handler)
	t.Cleanup(server.Close)
	ctx := mustOpenBrowser(t)
	console := recordConsole(ctx)

	mustDo(t, ctx, chromedp.Navigate(server.URL), chromedp.WaitVisible(chromedp.CSS("#greeting")))
	mustEqual(t, "heading", mustText(t, ctx, "#greeting"), "Hello World #0")
	mustDo(t, ctx, chromedp.Reload())
	mustEqual(t, "heading after a reload", mustText(t, ctx, "#greeting"), "Hello World #1")
	handle := mustText(t, ctx, `[data-show="handle"]`)

	mustDo(t, ctx, chromedp.Navigate(server.URL+"/lab"))
	t.Run("no write is lost", func(t *testing.T) {
		mustRunRace(t, ctx, "#add")
		mustEqual(t, "before", mustText(t, ctx, "#before"), "2")
		mustEqual(t, "expected", mustText(t, ctx, "#expected"), "52")
		mustEqual(t, "after", mustText(t, ctx, "#after"), "52")
		mustEqual(t, "verdict", mustText(t, ctx, "#add-verdict"), noneLost)
		done := mustEvaluate[int](t, ctx, `document.querySelectorAll('#cells [data-state="done"]').length`)
		mustEqual(t, "cells done", done, 50)
		mustEqual(t, "count on the ticket", mustText(t, ctx, `[data-show="count"]`), "52")
	})

	t.Run("ended is ended", func(t *testing.T) {
		mustRunRace(t, ctx, "#end")
		mustEqual(t, "slow request", mustText(t, ctx, "#lane-slow .outcome"), "409, refused")
		mustEqual(t, "sign-out", mustText(t, ctx, "#lane-out .outcome"), "200, signed out")
		mustEqual(t, "old cookie", mustText(t, ctx, "#lane-look .outcome"), "no session")
		mustEqual(t, "next request", mustText(t, ctx, "#lane-next .outcome"), "no session")
		mustEqual(t, "handle on the ticket", mustText(t, ctx, `[data-show="handle"]`), "no session")
		got := mustText(t, ctx, "#end-verdict")
		if !strings.Contains(got, "stays ended") || !strings.Contains(got, handle) {
			t.Errorf("verdict: got %q, want it to say that %s stays ended", got, handle)
		}
	})

	t.Run("a race without a session starts one", func(t *testing.T) {
		mustEqual(t, "verdict", mustRunRace(t, ctx, "#add"), "good")
		mustEqual(t, "before", mustText(t, ctx, "#before"), "1")
		mustEqual(t, "after", mustText(t, ctx, "#after"), "51")
		if got := mustText(t, ctx, `[data-show="handle"]`); got == handle || got == "no session" {
			t.Errorf("handle on the ticket: got %q, want that of a new session", got)
		}
	})

	t.Run("the sign-out button", func(t *testing.T) {
		mustDo(t, ctx, chromedp.Navigate(server.URL))
		if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(".stub button"))); err != nil {
			t.Fatal(err)
		}
		mustEqual(t, "heading", mustText(t, ctx, "#greeting"), "Hello World #0")
	})

	mustEqual(t, "cookies that scripts can read", mustEvaluate[string](t, ctx, "document.cookie"), "")
	for _, line := range console() {
		// The browser itself reports the expected response 409.
		if !strings.Contains(line, "409 (Conflict)") {
			t.Errorf("the browser's console has: %s", line)
		}
	}
}

// mustRunRace clicks the button of a race and waits for the verdict, which is "good" or "bad".
func mustRunRace(t *testing.T, ctx context.Context, button string) string {
	t.Helper()
	verdict := button + "-verdict"
	done := verdict + `:is([data-state="good"], [data-state="bad"])`
	mustDo(t, ctx, chromedp.Click(chromedp.CSS(button)), chromedp.WaitVisible(chromedp.CSS(done)))
	return mustEvaluate[string](t, ctx, `document.querySelector("`+verdict+`").dataset.state`)
}

// chromium starts the headless Chromium of all tests, at its first call. stop stops it.
var chromium = sync.OnceValues(func() (ctx context.Context, err error) {
	path, err := findChromium()
	if err != nil {
		return nil, err
	}
	ctx, _ = chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path),
		chromedp.WSURLReadTimeout(patience),
		chromedp.NoSandbox, // root cannot use the sandbox, and the tests open only their own pages
		chromedp.NoFirstRun,
		chromedp.DisableGPU,
		chromedp.Flag("headless", "new"),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("force-prefers-reduced-motion", true),
	)
	ctx, _ = chromedp.NewContext(ctx)
	if err := chromedp.Do(ctx); err != nil {
		return nil, fmt.Errorf("the browser does not start: %w", err)
	}
	stopChromium = func() error { return chromedp.Cancel(ctx) }
	return ctx, nil
})

var stopChromium = func() error { return nil }

// mustOpenBrowser opens a window of the browser with a profile of its own: it shares no cookies
// with other windows. Without Chromium the test fails, because the page is half of the demo.
func mustOpenBrowser(t *testing.T) context.Context {
	t.Helper()
	browser, err := chromium()
	if err != nil {
		t.Fatal(err)
	}
	return mustOpen(t, browser, chromedp.WithNewBrowserContext(), chromedp.WithNewWindow(true))
}

// mustOpenWindow opens one more window of a profile. A tab of one window would hide the others.
func mustOpenWindow(t *testing.T, profile context.Context, url string) context.Context {
	t.Helper()
	window := mustOpen(t, profile, chromedp.WithNewWindow(true))
	mustDo(t, window, chromedp.Navigate(url))
	return window
}

func mustOpen(t *testing.T, parent context.Context, options ...chromedp.ContextOption) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(parent, 10*time.Minute)
	t.Cleanup(cancel)
	ctx, _ = chromedp.NewContext(ctx, options...)
	t.Cleanup(func() { // wait until the window is closed
		if err := chromedp.Cancel(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("closing the window: %v", err)
		}
	})
	// This opens the window. It closes when the context of its first step ends.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("the window does not open: %v", err)
	}
	mustDo(t, ctx, script(`window.slower = 3`)) // the race of a sign-out with a slow request
	return ctx
}

// findChromium returns the path of an installed Chromium or Chrome.
func findChromium() (string, error) {
	for _, name := range []string{
		"chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
	} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("found no Chromium: install it (Debian, Ubuntu: apt-get install chromium) and run the test again")
}

// recordConsole records the messages of the page's console, such as errors and violations of the
// Content-Security-Policy. The returned function stops the recording and returns the messages.
func recordConsole(ctx context.Context) (stop func() []string) {
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

// mustDo runs steps in the browser.
func mustDo(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// mustText returns the text of the first element that matches a selector.
func mustText(t *testing.T, ctx context.Context, selector string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := chromedp.Run(ctx, chromedp.TextContent(chromedp.CSS(selector)))
	if err != nil {
		t.Fatalf("%s: %v", selector, err)
	}
	return s
}

// mustEvaluate returns the value of a JavaScript expression.
func mustEvaluate[T any](t *testing.T, ctx context.Context, script string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return v
}
