package demo_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// signInOnPage fills in the form and sends it.
func signInOnPage(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	do(t, ctx, chromedp.SendKeys(chromedp.CSS("#name"), name))
	click(t, ctx, ".sign-in button")
	equal(t, "notice", text(t, ctx, ".notice"), "signed in as "+name+", under a new token")
}

// click clicks what leads to another page, and waits for it.
func click(t *testing.T, ctx context.Context, selector string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	resp, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector)))
	if err != nil {
		t.Fatalf("clicking %s: %v", selector, err)
	}
	equal(t, "status after clicking "+selector, resp.Status, 200)
}

func devicesShown(t *testing.T, ctx context.Context) int {
	t.Helper()
	return evaluate[int](t, ctx, `document.querySelectorAll(".devices li").length`)
}

// TestTwoProfiles: one person in two browsers. What one signs out is signed out in the other on its next click.
func TestTwoProfiles(t *testing.T) {
	server := httptest.NewServer(newApp(t).handler)
	t.Cleanup(server.Close)
	one, other := browser(t), browser(t)
	console := listen(one)
	for _, ctx := range []context.Context{one, other} {
		do(t, ctx, chromedp.Navigate(server.URL))
		signInOnPage(t, ctx, "Ann")
		equal(t, "greeting, the count come along", text(t, ctx, "#greeting"), "Hello World #1")
	}
	do(t, one, chromedp.Reload())
	equal(t, "devices", devicesShown(t, one), 2)
	equal(t, "devices that are this one", evaluate[int](t, one, `document.querySelectorAll(".devices .this").length`), 1)
	handle := text(t, other, `[data-show="handle"]`)

	t.Run("one signs out the other", func(t *testing.T) {
		click(t, one, ".devices li:not(.this) button")
		equal(t, "notice", text(t, one, ".notice"), "signed out "+handle)
		equal(t, "devices", devicesShown(t, one), 1)
	})
	t.Run("the other clicks", func(t *testing.T) {
		click(t, other, "#sign-out-all")
		if got := text(t, other, ".notice"); !strings.HasPrefix(got, "you are signed out here") {
			t.Errorf("notice: %q", got)
		}
		equal(t, "devices", devicesShown(t, other), 0)
		do(t, other, chromedp.WaitVisible(chromedp.CSS("#name")))
		equal(t, "greeting of a new session", text(t, other, "#greeting"), "Hello World #0")
	})
	t.Run("that signed nobody out", func(t *testing.T) {
		do(t, one, chromedp.Reload())
		equal(t, "user", text(t, one, "#people-title"), "Signed in as Ann")
	})
	t.Run("others, then all", func(t *testing.T) {
		signInOnPage(t, other, "Ann")
		click(t, other, "#sign-out-others")
		equal(t, "notice", text(t, other, ".notice"), "other devices signed out: 1")
		click(t, other, "#sign-out-all")
		equal(t, "notice", text(t, other, ".notice"), "devices signed out, this one included: 1")
		do(t, one, chromedp.Reload(), chromedp.WaitVisible(chromedp.CSS("#name")))
	})
	for _, line := range console() {
		t.Errorf("the browser's console says: %s", line)
	}
}

// TestLabSignsOut: when a lab ends the session of somebody who is signed in, the panel does not pretend otherwise.
func TestLabSignsOut(t *testing.T) {
	server := httptest.NewServer(newApp(t).handler)
	t.Cleanup(server.Close)
	ctx := browser(t)
	do(t, ctx, chromedp.Navigate(server.URL))
	signInOnPage(t, ctx, "Ann")
	do(t, ctx, chromedp.Click(chromedp.CSS("#end")), chromedp.WaitVisible(chromedp.CSS(`#end-verdict[data-state="good"]`)))
	do(t, ctx, chromedp.WaitVisible(chromedp.CSS("#name")))
	equal(t, "devices", devicesShown(t, ctx), 0)
	equal(t, "what still says that somebody is signed in", evaluate[int](t, ctx, `document.querySelectorAll(".notice").length`), 0)
}

// TestDaysOfDevices: the page says "today", and of another day which one.
func TestDaysOfDevices(t *testing.T) {
	server := httptest.NewServer(newApp(t).handler)
	t.Cleanup(server.Close)
	ctx := browser(t)
	do(t, ctx, chromedp.Navigate(server.URL))
	signInOnPage(t, ctx, "Ann")
	const times = `[...document.querySelectorAll(".devices time")].map((el) => el.textContent).join("; ")`
	if got := evaluate[string](t, ctx, times); strings.Count(got, "today, ") != 2 {
		t.Errorf("signed in and seen: %q, want today", got)
	}
	do(t, ctx, script(`{ const now = Date.now() + 40 * 86400e3; const D = Date;
		Date = class extends D { constructor(...a) { super(...(a.length ? a : [now])); } static now() { return now; } }; }`), chromedp.Reload())
	got, year := evaluate[string](t, ctx, times), time.Now().Format("2006")
	if strings.Contains(got, "today") || strings.Count(got, year) != 2 {
		t.Errorf("signed in and seen 40 days ago: %q, want the day, with its year", got)
	}
}

// script runs in each page that is opened from now on, before the page's own.
func script(source string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: source})
		return chromedp.Void{}, err
	}
}

// TestFixationInABrowser: somebody has got a token of their own into the victim's browser, and the victim signs in.
func TestFixationInABrowser(t *testing.T) {
	a := newApp(t)
	server := httptest.NewServer(a.handler)
	t.Cleanup(server.Close)
	attacker := arrive(t, a)
	victim := browser(t)
	do(t, victim, chromedp.Navigate(server.URL+"/session")) // sets no cookie
	evaluate[string](t, victim, fmt.Sprintf("document.cookie = %q", attacker.cookie+"; Secure; Path=/"))
	do(t, victim, chromedp.Navigate(server.URL))
	equal(t, "the planted session", text(t, victim, `[data-show="handle"]`), shown(t, attacker).Handle)

	signInOnPage(t, victim, "Ann")
	signedOut(t, "the attacker", attacker)
	handle := text(t, victim, `[data-show="handle"]`)
	equal(t, "a visit of the attacker, whose session has moved", attacker.send(t.Context(), "GET", "/").StatusCode, 409)
	do(t, victim, chromedp.Reload())
	equal(t, "the victim's session", text(t, victim, `[data-show="handle"]`), handle)
	equal(t, "the victim", text(t, victim, "#people-title"), "Signed in as Ann")
	equal(t, "cookies that scripts see", evaluate[string](t, victim, "document.cookie"), "")
}
