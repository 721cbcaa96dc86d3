package demo_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/coatcheck-go/session/coatcheck/internal/freeaddr"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// addTwenty presses the button of an article 20 times, without waiting.
func addTwenty(article string) string {
	return `for (let i = 0; i < 20; i++) document.querySelector('[aria-label="Add ` + article + `"]').click(), true`
}

func hasInCart(article, quantity string) string {
	return `document.querySelector('[data-article="` + article + `"]')?.textContent === "` + quantity + `"`
}

// TestTwoProcessesAreOneShop shops with two windows of one browser, each at another process of the
// demo. Both show the same cart, without a reload, and follow a sign-in. The cart of another
// browser joins when the same user signs in there.
func TestTwoProcessesAreOneShop(t *testing.T) {
	t.Parallel()
	urls := mustStartProcesses(t)
	one := mustOpenBrowser(t)
	console := recordConsole(one)
	mustDo(t, one, chromedp.Navigate(urls[0]+"/shop"), chromedp.Click(chromedp.CSS(`[aria-label="Add Top hat"]`)))
	mustBecome(t, hasInCart("hat", "1"), one)
	other := mustOpenWindow(t, one, urls[1]+"/shop")
	mustBecome(t, hasInCart("hat", "1"), other)

	mustEvaluate[bool](t, one, addTwenty("Top hat"))
	mustEvaluate[bool](t, other, addTwenty("Top hat"))
	mustEvaluate[bool](t, other, addTwenty("Umbrella"))
	mustBecome(t, hasInCart("hat", "41"), one, other)
	mustBecome(t, hasInCart("umbrella", "20"), one, other)
	mustBecome(t, `document.querySelector("#total").textContent === "€ 2340"`, one, other)

	account := mustOpenWindow(t, one, urls[0]+"/account")
	mustSignInOnPage(t, account, "Ann")
	mustBecome(t, `document.querySelector("#cart-title").textContent === "The cart of Ann"`, one, other)
	mustBecome(t, hasInCart("hat", "41"), one, other)

	phone := mustOpenBrowser(t)
	aPhone.use(t, phone)
	mustDo(t, phone, chromedp.Navigate(urls[1]+"/shop"), chromedp.Click(chromedp.CSS(`[aria-label="Add Top hat"]`)))
	mustBecome(t, hasInCart("hat", "1"), phone)
	mustDo(t, phone, chromedp.Navigate(urls[1]+"/account"))
	mustSignInOnPage(t, phone, "Ann")
	mustDo(t, phone, chromedp.Navigate(urls[1]+"/shop"))
	mustBecome(t, hasInCart("hat", "42"), one, other, phone)
	mustEvaluate[bool](t, phone, addTwenty("Top hat"))
	mustEvaluate[bool](t, one, addTwenty("Top hat"))
	mustBecome(t, hasInCart("hat", "82"), one, other, phone)
	mustDo(t, other, chromedp.Click(chromedp.CSS("#empty")))
	mustBecome(t, `document.querySelector("#cart").textContent.includes("empty")`, one, other, phone)
	mustDo(t, account, chromedp.Click(chromedp.CSS("#sign-out-all")))
	mustBecome(t, `document.querySelector("#who").textContent === "not signed in"`, one, other)
	for _, line := range console() {
		t.Errorf("the browser's console has: %s", line)
	}
}

// TestShopCatchesUpAfterAnOutage kills the process of one window, and then the Redis server of all.
// The windows say so, and show the cart as it is when the shop is back, without a reload. Meanwhile
// the other process serves the same cart.
func TestShopCatchesUpAfterAnOutage(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t, redistest.Options{Config: []string{"appendonly yes", "appendfsync always"}})
	store := "redis://" + redis.Addr()
	addr, err := freeaddr.Next()
	if err != nil {
		t.Fatal(err)
	}
	url, kill := mustStartProcess(t, store, addr)
	otherURL, _ := mustStartProcess(t, store, "127.0.0.1:0")
	one := mustOpenBrowser(t)
	mustDo(t, one, chromedp.Navigate(url+"/shop"), chromedp.Click(chromedp.CSS(`[aria-label="Add Top hat"]`)))
	mustBecome(t, hasInCart("hat", "1"), one)
	mustEvaluate[bool](t, one, `window.reloads = 0, true`)
	const (
		lost = `document.querySelector("#cart-note").textContent === "The shop does not respond. Trying again."`
		back = ` && document.querySelector("#cart-note").textContent !== "The shop does not respond. Trying again." && window.reloads === 0`
	)

	kill()
	mustBecome(t, lost, one)
	other := mustOpenWindow(t, one, otherURL+"/shop")
	mustDo(t, other, chromedp.Click(chromedp.CSS(`[aria-label="Add Top hat"]`)))
	mustBecome(t, hasInCart("hat", "2"), other)
	mustStartProcess(t, store, strings.TrimPrefix(url, "http://"))
	mustBecome(t, hasInCart("hat", "2")+back, one)

	mustEvaluate[bool](t, other, `window.reloads = 0, true`)
	if err := redis.Kill(); err != nil {
		t.Fatal(err)
	}
	mustBecome(t, lost, one, other)
	if err := redis.Restart(); err != nil {
		t.Fatal(err)
	}
	mustBecome(t, hasInCart("hat", "2")+back, one, other)
	mustDo(t, one, chromedp.Click(chromedp.CSS(`[aria-label="Add Top hat"]`)))
	mustBecome(t, hasInCart("hat", "3")+back, one, other)
}

// TestFirstAdditionsOfAVisitorCount presses Add many times before the visitor has a session.
func TestFirstAdditionsOfAVisitorCount(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(mustNewApp(t).handler)
	t.Cleanup(server.Close)
	ctx := mustOpenBrowser(t)
	mustDo(t, ctx, chromedp.Navigate(server.URL+"/shop"))
	mustEvaluate[bool](t, ctx, addTwenty("Top hat"))
	mustBecome(t, hasInCart("hat", "20"), ctx)
}
