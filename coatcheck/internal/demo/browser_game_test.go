package demo_test

import (
	"context"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// placesOnBoard is the text of where all players and coins are, and how many coins each player has.
// The place of the browser's own player may be ahead of the server.
const placesOnBoard = `[...document.querySelectorAll(".board > *")].map((el) =>
	Math.round(parseFloat(el.style.left) * 10) + "," + Math.round(parseFloat(el.style.top) * 6)).sort().join(" ") +
	[...document.querySelectorAll("#players b")].map((el) => el.textContent).join(" ")`

// hold presses a key of the keyboard, or releases it.
func hold(kind input.DispatchKeyEventType, code string) chromedp.Action[chromedp.Void] {
	p := input.DispatchKeyEventParams{Type: kind, Code: code, Key: code}
	if code == "Space" {
		p.Key, p.WindowsVirtualKeyCode = " ", 32
	}
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, input.DispatchKeyEvent, p)
		return chromedp.Void{}, err
	}
}

// TestTwoProcessesAreOneGame plays with two browsers, each at another process of the demo: one with
// the keyboard alone, the other on a phone. Both show the same board. A sign-out ends the game of
// one browser, and the other browser sees it.
func TestTwoProcessesAreOneGame(t *testing.T) {
	t.Parallel()
	urls := mustStartProcesses(t)
	one, phone := mustOpenBrowser(t), mustOpenBrowser(t)
	console := recordConsole(one)
	aPhone.use(t, phone)
	mustDo(t, one, chromedp.Navigate(urls[0]+"/game"))
	mustDo(t, phone, chromedp.Navigate(urls[1]+"/game"))
	mustBecome(t, `document.querySelectorAll(".player").length === 2 && document.querySelectorAll(".coin").length === 8`, one, phone)

	// The page gives the focus to the board.
	mustDo(t, one, hold(input.DispatchKeyEventTypeKeyDown, "ArrowRight"))
	mustBecome(t, `document.querySelector(".player:not(.me)").style.left === "100%"`, phone)
	mustDo(t, one, hold(input.DispatchKeyEventTypeKeyUp, "ArrowRight"))

	// The phone presses one coin after the other, until it has two.
	const press = `(() => {
		const box = document.querySelector(".coin").getBoundingClientRect();
		const at = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2, pointerId: 1, bubbles: true };
		document.querySelector("#board").setPointerCapture = () => {};
		document.querySelector("#board").dispatchEvent(new PointerEvent("pointerdown", at));
		return Number(document.querySelector("#state").textContent.match(/You have (\d+)/)?.[1]) >= 2;
	})()`
	mustBecome(t, press, phone)
	mustBecome(t, `[...document.querySelectorAll("#players b")].some((el) => Number(el.textContent) >= 2)`, one)
	mustEvaluate[bool](t, phone, `document.querySelector("#board").dispatchEvent(new KeyboardEvent("keydown", { code: "KeyW" }))`)
	mustEvaluate[bool](t, phone, `document.dispatchEvent(new KeyboardEvent("keyup", { code: "KeyW" }))`)
	mustAgree(t, one, phone, placesOnBoard)

	account := mustOpenWindow(t, one, urls[1])
	mustDo(t, account, chromedp.Click(chromedp.CSS(".stub button")))
	mustBecome(t, `document.querySelector("#state").textContent === "The game is over: the session has ended."`, one)
	mustBecome(t, `document.querySelectorAll(".player").length === 1`, phone)
	mustDo(t, one, chromedp.Click(chromedp.CSS("#again")))
	mustBecome(t, `document.querySelectorAll(".player").length === 2`, one, phone)
	for _, line := range console() {
		t.Errorf("the browser's console has: %s", line)
	}
}

// mustAgree waits until an expression has the same value in both pages.
func mustAgree(t *testing.T, one, other context.Context, expression string) {
	t.Helper()
	var a, b string
	for began := time.Now(); time.Since(began) < patience; time.Sleep(20 * time.Millisecond) {
		a, b = mustEvaluate[string](t, one, expression), mustEvaluate[string](t, other, expression)
		if a == b {
			return
		}
	}
	t.Errorf("the pages do not agree:\n%s\n%s", a, b)
}
