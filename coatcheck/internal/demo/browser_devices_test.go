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

// mustSignInOnPage fills in the sign-in form and sends it.
func mustSignInOnPage(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	mustDo(t, ctx, chromedp.SendKeys(chromedp.CSS("#name"), name))
	mustClick(t, ctx, ".sign-in button")
	mustEqual(t, "notice", mustText(t, ctx, ".notice"), "signed in as "+name+", with a new token")
}

// mustClick clicks a link or button that loads a page, and waits for the page.
func mustClick(t *testing.T, ctx context.Context, selector string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector)))
	if err != nil {
		t.Fatalf("clicking %s: %v", selector, err)
	}
	mustEqual(t, "status after clicking "+selector, resp.Status, 200)
}

// mustCountDevices returns the number of devices in the list.
func mustCountDevices(t *testing.T, ctx context.Context) int {
	t.Helper()
	return mustEvaluate[int](t, ctx, `document.querySelectorAll(".devices li").length`)
}

// TestOneBrowserSignsOutTheOther signs the same user in with two browsers. When one browser signs
// out the other, the next click in the other browser shows it.
func TestOneBrowserSignsOutTheOther(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(mustNewApp(t).handler)
	t.Cleanup(server.Close)
	one, other := mustOpenBrowser(t), mustOpenBrowser(t)
	console := recordConsole(one)
	for _, ctx := range []context.Context{one, other} {
		mustDo(t, ctx, chromedp.Navigate(server.URL), chromedp.Navigate(server.URL+"/account"))
		mustSignInOnPage(t, ctx, "Ann")
		mustEqual(t, "count, kept at sign-in", mustText(t, ctx, `[data-show="count"]`), "1")
	}
	mustDo(t, one, chromedp.Reload())
	mustEqual(t, "devices", mustCountDevices(t, one), 2)
	marked := mustEvaluate[int](t, one, `document.querySelectorAll(".devices .this").length`)
	mustEqual(t, "devices marked as this device", marked, 1)
	handle := mustText(t, other, `[data-show="handle"]`)

	t.Run("one signs out the other", func(t *testing.T) {
		mustClick(t, one, ".devices li:not(.this) button")
		mustEqual(t, "notice", mustText(t, one, ".notice"), "signed out "+handle)
		mustEqual(t, "devices", mustCountDevices(t, one), 1)
	})
	t.Run("the other clicks", func(t *testing.T) {
		mustClick(t, other, "#sign-out-all")
		if got := mustText(t, other, ".notice"); !strings.HasPrefix(got, "you are signed out here") {
			t.Errorf("notice: got %q, want it to say that the user is signed out", got)
		}
		mustEqual(t, "devices", mustCountDevices(t, other), 0)
		mustDo(t, other, chromedp.WaitVisible(chromedp.CSS("#name")))
		mustEqual(t, "count of a new session", mustText(t, other, `[data-show="count"]`), "0")
	})
	t.Run("the late click signed nobody out", func(t *testing.T) {
		mustDo(t, one, chromedp.Reload())
		mustEqual(t, "user", mustText(t, one, "#people-title"), "Signed in as Ann")
	})
	t.Run("others, then all", func(t *testing.T) {
		mustSignInOnPage(t, other, "Ann")
		mustClick(t, other, "#sign-out-others")
		mustEqual(t, "notice", mustText(t, other, ".notice"), "other devices signed out: 1")
		mustClick(t, other, "#sign-out-all")
		mustEqual(t, "notice", mustText(t, other, ".notice"), "devices signed out, including this one: 1")
		mustDo(t, one, chromedp.Reload(), chromedp.WaitVisible(chromedp.CSS("#name")))
	})
	for _, line := range console() {
		t.Errorf("the browser's console has: %s", line)
	}
}

// TestRaceUpdatesTheUser checks that the page no longer names the user after a race has ended the
// session, and that the page of the account offers a sign-in again.
func TestRaceUpdatesTheUser(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(mustNewApp(t).handler)
	t.Cleanup(server.Close)
	ctx := mustOpenBrowser(t)
	mustDo(t, ctx, chromedp.Navigate(server.URL+"/account"))
	mustSignInOnPage(t, ctx, "Ann")
	mustDo(t, ctx, chromedp.Navigate(server.URL+"/lab"))
	mustEqual(t, "user at the top", mustText(t, ctx, "#who"), "Ann")
	mustEqual(t, "verdict", mustRunRace(t, ctx, "#end"), "good")
	mustEqual(t, "user at the top", mustText(t, ctx, "#who"), "not signed in")
	mustDo(t, ctx, chromedp.Navigate(server.URL+"/account"), chromedp.WaitVisible(chromedp.CSS("#name")))
	mustEqual(t, "devices", mustCountDevices(t, ctx), 0)
	mustEqual(t, "notices of the sign-in", mustEvaluate[int](t, ctx, `document.querySelectorAll(".notice").length`), 0)
}

// TestDeviceTimesNameTheDay checks that the page says "today", and names any other day with its
// year.
func TestDeviceTimesNameTheDay(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(mustNewApp(t).handler)
	t.Cleanup(server.Close)
	ctx := mustOpenBrowser(t)
	mustDo(t, ctx, chromedp.Navigate(server.URL+"/account"))
	mustSignInOnPage(t, ctx, "Ann")
	const times = `[...document.querySelectorAll(".devices time")].map((el) => el.textContent).join("; ")`
	if got := mustEvaluate[string](t, ctx, times); strings.Count(got, "today, ") != 2 {
		t.Errorf("times of a sign-in today: got %q, want \"today\" twice", got)
	}
	mustDo(t, ctx, script(`{
		const now = Date.now() + 40 * 86400e3;
		const D = Date;
		Date = class extends D {
			constructor(...a) { super(...(a.length ? a : [now])); }
			static now() { return now; }
		};
	}`), chromedp.Reload())
	got, year := mustEvaluate[string](t, ctx, times), time.Now().Format("2006")
	if strings.Contains(got, "today") || strings.Count(got, year) != 2 {
		t.Errorf("times of a sign-in 40 days ago: got %q, want days with their year", got)
	}
}

// script adds a script that runs in each page opened from now on, before the scripts of the page.
func script(source string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, page.AddScriptToEvaluateOnNewDocument,
			page.AddScriptToEvaluateOnNewDocumentParams{Source: source})
		return chromedp.Void{}, err
	}
}

// TestFixationInABrowser plants the attacker's token in the victim's browser before the victim
// signs in. After the sign-in, the attacker's token is useless.
func TestFixationInABrowser(t *testing.T) {
	t.Parallel()
	a := mustNewApp(t)
	server := httptest.NewServer(a.handler)
	t.Cleanup(server.Close)
	attacker := mustVisit(t, a)
	victim := mustOpenBrowser(t)
	mustDo(t, victim, chromedp.Navigate(server.URL+"/session")) // this response sets no cookie
	// Chromium may set the cookie a moment later. It has done so when the cookie is read.
	planted := mustEvaluate[string](t, victim, fmt.Sprintf("document.cookie = %q; document.cookie", attacker.cookie+"; Secure; Path=/"))
	mustEqual(t, "the planted cookie", planted, attacker.cookie)
	mustDo(t, victim, chromedp.Navigate(server.URL))
	mustEqual(t, "the planted session", mustText(t, victim, `[data-show="handle"]`), mustGetSession(t, attacker).Handle)

	mustDo(t, victim, chromedp.Navigate(server.URL+"/account"))
	mustSignInOnPage(t, victim, "Ann")
	mustBeSignedOut(t, "the attacker", attacker)
	handle := mustText(t, victim, `[data-show="handle"]`)
	mustEqual(t, "a visit with the superseded token", attacker.send(t.Context(), "GET", "/").StatusCode, 409)
	mustDo(t, victim, chromedp.Reload())
	mustEqual(t, "the victim's session", mustText(t, victim, `[data-show="handle"]`), handle)
	mustEqual(t, "the victim", mustText(t, victim, "#people-title"), "Signed in as Ann")
	mustEqual(t, "cookies that scripts see", mustEvaluate[string](t, victim, "document.cookie"), "")
}
