package demo_test

import (
	"testing"

	"github.com/chromedp/chromedp"
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
	screens[2].use(t, phone)
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
