package demo_test

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// keyboard is all that a visitor without a mouse has.
type keyboard struct{ ctx context.Context }

func (k keyboard) press(t *testing.T, keys string) {
	t.Helper()
	mustDo(t, k.ctx, chromedp.KeyEvent(keys))
}

// load presses a key that loads a page, and waits for the page.
func (k keyboard) load(t *testing.T, key string) {
	t.Helper()
	resp, err := chromedp.RunResponse(k.ctx, chromedp.KeyEvent(key))
	if err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "status of "+resp.URL, resp.Status, 200)
}

// focusAt describes the element that has the focus: whether it matches the selector, whether a
// visitor can see it and its outline, and whether it comes after the element that was described
// before it.
func focusAt(selector string) string {
	return `(() => {
	const el = document.activeElement;
	if (el === document.body) return { at: "" };
	const style = getComputedStyle(el);
	const box = el.getBoundingClientRect();
	const last = window.lastFocus;
	window.lastFocus = el;
	return {
		at: el.outerHTML.slice(0, 100),
		is: el.matches('` + selector + `'),
		outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 && el.matches(":focus-visible"),
		visible: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
		later: !last?.isConnected || Boolean(last.compareDocumentPosition(el) & Node.DOCUMENT_POSITION_FOLLOWING),
	};
})()`
}

type focused struct {
	At                           string
	Is, Outlined, Visible, Later bool
}

// tab presses Tab, and checks that the visitor can see where the focus is.
func (k keyboard) tab(t *testing.T, selector string) focused {
	t.Helper()
	k.press(t, kb.Tab)
	f := mustEvaluate[focused](t, k.ctx, focusAt(selector))
	if f.At != "" && (!f.Outlined || !f.Visible) {
		t.Errorf("the focus cannot be seen: %+v", f)
	}
	return f
}

// tabTo presses Tab until an element has the focus.
func (k keyboard) tabTo(t *testing.T, selector string) {
	t.Helper()
	for range 60 {
		if k.tab(t, selector).Is {
			return
		}
	}
	t.Fatalf("Tab does not reach %s", selector)
}

// visit goes to a page of the tour by its link at the top.
func (k keyboard) visit(t *testing.T, path string) {
	t.Helper()
	k.tabTo(t, `nav a[href="`+path+`"]`)
	k.load(t, kb.Enter)
}

// walkThrough presses Tab from the top of the page to its end. The focus meets each control once,
// in the order of the text, and leaves the page at the end.
func (k keyboard) walkThrough(t *testing.T, what string) {
	t.Helper()
	const controls = `document.querySelectorAll("a[href], button, input:not([type=hidden]), [tabindex='0']")`
	want := mustEvaluate[int](t, k.ctx, `document.querySelector(".skip").focus(), window.lastFocus = document.activeElement,
		[...`+controls+`].filter((el) => el.checkVisibility()).length`)
	for met := 1; ; met++ {
		f := k.tab(t, ".skip")
		if f.At == "" || f.Is {
			mustEqual(t, what+": controls that Tab meets", met, want)
			return
		}
		if !f.Later {
			t.Fatalf("%s: the focus goes back to %s", what, f.At)
		}
	}
}

// mustBeFocused checks which element has the focus.
func (k keyboard) mustBeFocused(t *testing.T, selector string) {
	t.Helper()
	if got := mustEvaluate[string](t, k.ctx, `document.activeElement.outerHTML.slice(0, 100)`); !mustEvaluate[bool](t, k.ctx, "document.activeElement.matches(`"+selector+"`)") {
		t.Errorf("the focus is at %s, want it at %s", got, selector)
	}
}

// mustSay waits until the live region with this id says a text.
func (k keyboard) mustSay(t *testing.T, id, text string) {
	t.Helper()
	mustBecome(t, `document.querySelector("#`+id+`[role=status]").textContent === "`+text+`"`, k.ctx)
}

// TestTourWithTheKeyboardAlone takes the whole tour with Tab, Enter, Space and the arrow keys. The
// focus is always visible, and stays where it is when others change the cart.
func TestTourWithTheKeyboardAlone(t *testing.T) {
	t.Parallel()
	a := mustNewApp(t)
	server := httptest.NewServer(a.handler)
	t.Cleanup(server.Close)
	k := keyboard{mustOpenBrowser(t)}
	mustDo(t, k.ctx, chromedp.Navigate(server.URL))
	k.walkThrough(t, "counter")

	k.tabTo(t, ".skip")
	k.press(t, kb.Enter)
	k.tab(t, "*")
	k.mustBeFocused(t, "main .stub button") // the first control of the content

	k.visit(t, "/lab")
	k.walkThrough(t, "lab")
	k.tabTo(t, "#add")
	k.press(t, " ")
	k.mustSay(t, "add-verdict", noneLost)
	k.mustBeFocused(t, "#add")
	k.tabTo(t, "#end")
	k.press(t, kb.Enter)
	mustBecome(t, `document.querySelector("#end-verdict[role=status]").dataset.state === "good"`, k.ctx)
	k.mustBeFocused(t, "#end")

	phone := mustSignIn(t, a, "Ann", iPhone)
	k.visit(t, "/account")
	k.walkThrough(t, "sign-in")
	k.tabTo(t, "#name")
	k.press(t, "Ann")
	k.load(t, kb.Enter)
	mustEqual(t, "title", mustText(t, k.ctx, "#people-title"), "Signed in as Ann")
	k.walkThrough(t, "devices")
	k.tabTo(t, `[aria-label^="Sign out Safari on iPhone"]`)
	k.load(t, kb.Enter)
	mustBeSignedOut(t, "the phone", phone)

	k.shop(t, server.URL, mustSignIn(t, a, "Ann", iPhone))

	k.visit(t, "/game")
	mustBecome(t, `document.querySelectorAll(".player").length === 1`, k.ctx)
	k.mustBeFocused(t, "#board")
	k.walkThrough(t, "game")
	k.tabTo(t, "#board")
	mustDo(t, k.ctx, hold(input.DispatchKeyEventTypeKeyDown, "ArrowLeft"))
	mustBecome(t, `document.querySelector(".me").style.left === "0%"`, k.ctx)
	mustDo(t, k.ctx, hold(input.DispatchKeyEventTypeKeyUp, "ArrowLeft"))
	k.press(t, kb.ArrowRight) // between two frames
	mustBecome(t, `document.querySelector(".me").style.left !== "0%"`, k.ctx)

	k.tabTo(t, ".who button")
	k.load(t, kb.Enter)
	mustEqual(t, "user at the top", mustText(t, k.ctx, "#who"), "not signed in")
}

// shop fills the cart and empties it, while another device of the user changes it, too.
func (k keyboard) shop(t *testing.T, url string, phone *visitor) {
	t.Helper()
	k.visit(t, "/shop")
	k.tabTo(t, `[aria-label="Add Top hat"]`)
	k.press(t, " ")
	k.mustSay(t, "cart-note", "Top hat: 1. The cart has 1 article.")
	k.press(t, kb.Enter)
	k.mustSay(t, "cart-note", "Top hat: 2. The cart has 2 articles.")
	k.mustBeFocused(t, `[aria-label="Add Top hat"]`)
	k.walkThrough(t, "shop")

	k.tabTo(t, "#more-hat")
	phone.change(t, "scarf", "1")
	k.mustSay(t, "cart-note", "Silk scarf: 1. The cart has 3 articles.")
	k.mustBeFocused(t, "#more-hat")
	k.press(t, " ")
	k.mustSay(t, "cart-note", "Top hat: 3. The cart has 4 articles.")
	k.mustBeFocused(t, "#more-hat")

	// A button stays pressed while the cart changes.
	mustDo(t, k.ctx, hold(input.DispatchKeyEventTypeKeyDown, "Space"))
	phone.change(t, "hat", "2")
	k.mustSay(t, "cart-note", "Top hat: 5. The cart has 6 articles.")
	mustDo(t, k.ctx, hold(input.DispatchKeyEventTypeKeyUp, "Space"))
	k.mustSay(t, "cart-note", "Top hat: 6. The cart has 7 articles.")

	tab := mustOpenWindow(t, k.ctx, url+"/shop")
	mustBecome(t, hasInCart("hat", "6"), tab)
	k.press(t, " ")
	mustBecome(t, hasInCart("hat", "7"), tab, k.ctx)

	k.tabTo(t, "#less-scarf")
	k.press(t, kb.Enter)
	k.mustSay(t, "cart-note", "Silk scarf: 0. The cart has 7 articles.")
	k.mustBeFocused(t, "#cart-title")
	k.tabTo(t, "#empty")
	k.press(t, kb.Enter)
	k.mustSay(t, "cart-note", "Top hat: 0. The cart has 0 articles.")
	k.mustBeFocused(t, "#cart-title")
	mustBecome(t, `document.querySelector("#cart").textContent.includes("empty")`, tab)
}
