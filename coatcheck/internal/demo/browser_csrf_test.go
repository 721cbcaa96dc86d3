package demo_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/policy"
)

// TestPageUnderAAL2: with CSRF tokens asked for, the page's script and its forms send them, also those of a session that a lab began.
func TestPageUnderAAL2(t *testing.T) {
	server := httptest.NewServer(newAppWith(t, session.Config{Policy: policy.AAL2}).handler)
	t.Cleanup(server.Close)
	ctx := browser(t)
	console := listen(ctx)
	do(t, ctx, chromedp.Navigate(server.URL), chromedp.WaitVisible(chromedp.CSS("#greeting")))
	if commands := text(t, ctx, `[aria-labelledby="terminal"]`); !strings.Contains(commands, `-H "X-CSRF-Token: $csrf"`) {
		t.Errorf("the page does not say how to post with a token: %s", commands)
	}
	increments := func() {
		t.Helper()
		do(t, ctx, chromedp.Click(chromedp.CSS("#add")), chromedp.WaitVisible(chromedp.CSS(`#add-verdict:is([data-state="good"], [data-state="bad"])`)))
		equal(t, "verdict", text(t, ctx, "#add-verdict"), "None is lost: 50 requests, 50 different answers.")
	}
	increments()
	do(t, ctx, chromedp.Click(chromedp.CSS("#end")), chromedp.WaitVisible(chromedp.CSS(`#end-verdict[data-state="good"]`)))
	increments() // in a new session

	signInOnPage(t, ctx, "Ann")
	click(t, ctx, ".devices .this button")
	do(t, ctx, chromedp.WaitVisible(chromedp.CSS("#name")))
	signInOnPage(t, ctx, "Ann")
	click(t, ctx, "#sign-out-all")
	equal(t, "notice", text(t, ctx, ".notice"), "devices signed out, this one included: 1")
	for _, line := range console() {
		if !strings.Contains(line, "409 (Conflict)") { // of the lab
			t.Errorf("the browser's console says: %s", line)
		}
	}

	t.Run("a form of a page from before", func(t *testing.T) {
		evaluate[bool](t, ctx, `document.querySelector(".sign-in [name=csrf_token]").value = "x".repeat(48), true`)
		do(t, ctx, chromedp.SendKeys(chromedp.CSS("#name"), "Eve"))
		resp, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(".sign-in button")))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "status", resp.Status, 403)
		equal(t, "what people are told", strings.TrimSpace(text(t, ctx, "body")), "This page is out of date. Please reload it and try again.")
	})
}
