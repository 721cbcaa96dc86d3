package demo_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/policy"
)

// TestPageSendsCSRFTokens checks that the script and the forms of the page send the CSRF token of
// the session when the policy requires one, also in a session that a race has started.
func TestPageSendsCSRFTokens(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(mustNewAppWith(t, session.Config{Policy: policy.AAL2}).handler)
	t.Cleanup(server.Close)
	ctx := mustOpenBrowser(t)
	console := recordConsole(ctx)
	mustDo(t, ctx, chromedp.Navigate(server.URL), chromedp.Navigate(server.URL+"/lab"))
	commands := mustText(t, ctx, `[aria-labelledby="terminal"]`)
	if !strings.Contains(commands, `-H "X-CSRF-Token: $csrf"`) {
		t.Errorf("the commands do not show how to send a CSRF token: %s", commands)
	}
	increments := func() {
		t.Helper()
		mustEqual(t, "verdict", mustRunRace(t, ctx, "#add"), "good")
		mustEqual(t, "its text", mustText(t, ctx, "#add-verdict"), noneLost)
	}
	increments()
	mustEqual(t, "verdict", mustRunRace(t, ctx, "#end"), "good")
	increments() // in the new session

	mustDo(t, ctx, chromedp.Navigate(server.URL+"/account"))
	mustSignInOnPage(t, ctx, "Ann")
	mustClick(t, ctx, ".devices .this button")
	mustDo(t, ctx, chromedp.Navigate(server.URL+"/account"))
	mustDo(t, ctx, chromedp.WaitVisible(chromedp.CSS("#name")))
	mustSignInOnPage(t, ctx, "Ann")
	mustClick(t, ctx, "#sign-out-all")
	mustEqual(t, "notice", mustText(t, ctx, ".notice"), "devices signed out, including this one: 1")
	for _, line := range console() {
		if !strings.Contains(line, "409 (Conflict)") { // the slow request of the race
			t.Errorf("the browser's console has: %s", line)
		}
	}

	t.Run("a form with an outdated token", func(t *testing.T) {
		mustEvaluate[bool](t, ctx, `document.querySelector(".sign-in [name=csrf_token]").value = "x".repeat(48), true`)
		mustDo(t, ctx, chromedp.SendKeys(chromedp.CSS("#name"), "Eve"))
		resp, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(".sign-in button")))
		if err != nil {
			t.Fatal(err)
		}
		mustEqual(t, "status", resp.Status, 403)
		mustEqual(t, "message", strings.TrimSpace(mustText(t, ctx, "body")),
			"This page is out of date. Please reload it and try again.")
	})
}
