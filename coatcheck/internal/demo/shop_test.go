package demo_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/coatcheck-go/session"
)

// change posts a change of the cart, as the script of the page does.
func (v *visitor) change(t *testing.T, article, n string, more ...string) *http.Response {
	t.Helper()
	form := url.Values{"article": {article}, "n": {n}}.Encode()
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/shop/cart", strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Cookie", v.cookie)
	for i := 0; i < len(more); i += 2 {
		r.Header.Set(more[i], more[i+1])
	}
	w := httptest.NewRecorder()
	v.app.handler.ServeHTTP(w, r)
	return w.Result()
}

// mustHaveQuantity checks the quantity of an article on the page of the shop.
func mustHaveQuantity(t *testing.T, v *visitor, article string, want int) {
	t.Helper()
	shown := fmt.Sprintf(` data-article=%q>%d</output>`, article, want)
	if page := mustReadBody(t, v.send(t.Context(), "GET", "/shop")); !strings.Contains(page, shown) {
		t.Errorf("the page of the shop does not contain %s", shown)
	}
}

func TestConcurrentAdditionsToTheCartCount(t *testing.T) {
	v := mustVisit(t, mustNewApp(t))
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 20 {
				mustEqual(t, "status", v.change(t, []string{"hat", "cane"}[i%2], "1").StatusCode, 204)
			}
		})
	}
	wg.Wait()
	mustHaveQuantity(t, v, "hat", 160)
	mustHaveQuantity(t, v, "cane", 160)
	resp := v.change(t, "hat", "-1", "Accept", "text/html")
	mustEqual(t, "status for a form", resp.StatusCode, 303)
	mustEqual(t, "location for a form", resp.Header.Get("Location"), "/shop")
	mustHaveQuantity(t, v, "hat", 159)
	v.send(t.Context(), "POST", "/shop/cart/empty")
	if page := mustReadBody(t, v.send(t.Context(), "GET", "/shop")); !strings.Contains(page, "The cart is empty.") {
		t.Error("the cart is not empty")
	}
}

// TestCartIsTheSameOnTwoDevices checks that the carts of two visitors join when they sign in as one
// user, and that the cart is there again after a sign-out.
func TestCartIsTheSameOnTwoDevices(t *testing.T) {
	a := mustNewApp(t)
	laptop, phone := mustVisit(t, a), mustVisit(t, a)
	laptop.change(t, "hat", "2")
	laptop.keep(laptop.submit(t, "Ann"))
	phone.change(t, "hat", "1")
	phone.change(t, "cane", "1")
	phone.keep(phone.submit(t, "Ann"))
	for _, v := range []*visitor{laptop, phone} {
		mustHaveQuantity(t, v, "hat", 3)
		mustHaveQuantity(t, v, "cane", 1)
	}
	events := mustFollow(t, laptop, "/shop/cart/events")
	mustContain(t, <-events, `data-article="hat">3<`)
	phone.change(t, "hat", "4")
	mustContain(t, <-events, `data-article="hat">7<`)
	phone.send(t.Context(), "POST", "/sign-out")
	mustHaveQuantity(t, mustSignIn(t, a, "Ann", iPhone), "hat", 7)
}

// TestTwoDevicesEmptyAndFillOneCart fills and empties one cart from two devices at the same time.
// No quantity leaves its bounds, and both devices show the same cart.
func TestTwoDevicesEmptyAndFillOneCart(t *testing.T) {
	a := mustNewApp(t)
	laptop, phone := mustSignIn(t, a, "Ann", firefox), mustSignIn(t, a, "Ann", iPhone)
	var wg sync.WaitGroup
	for _, v := range []*visitor{laptop, phone} {
		wg.Go(func() {
			for i := range 100 {
				mustEqual(t, "adding", v.change(t, "hat", "10").StatusCode, 204)
				if status := v.change(t, "hat", "-7").StatusCode; status != 204 && status != 409 {
					t.Errorf("removing: status %d, want 204, or 409 after the other device has emptied the cart", status)
				}
				if i%5 == 0 {
					mustEqual(t, "emptying", v.send(t.Context(), "POST", "/shop/cart/empty").StatusCode, 204)
				}
			}
		})
	}
	wg.Wait()
	quantity := regexp.MustCompile(`data-article="hat">(-?\d+)<`)
	shown := func(v *visitor) string {
		page := mustReadBody(t, v.send(t.Context(), "GET", "/shop"))
		return fmt.Sprint(quantity.FindStringSubmatch(page))
	}
	mustEqual(t, "the carts of the two devices", shown(laptop), shown(phone))
	mustEqual(t, "emptying", laptop.send(t.Context(), "POST", "/shop/cart/empty").StatusCode, 204)
	mustEqual(t, "removing from an empty cart", laptop.change(t, "hat", "-1").StatusCode, 409)
	for range 99 {
		mustEqual(t, "adding 10", phone.change(t, "hat", "10").StatusCode, 204)
	}
	mustEqual(t, "adding 10 to 990", laptop.change(t, "hat", "10").StatusCode, 409)
	mustHaveQuantity(t, laptop, "hat", 990)
}

// TestSignOutWhileTheCartsJoin signs a user out on all devices while a visitor with a cart signs in
// as the same user. No article is counted twice, and none is lost without a line in the log.
func TestSignOutWhileTheCartsJoin(t *testing.T) {
	a := mustNewApp(t)
	const rounds = 50
	for range rounds {
		laptop, phone := mustSignIn(t, a, "Ann", firefox), mustVisit(t, a)
		phone.change(t, "hat", "1")
		var wg sync.WaitGroup
		wg.Go(func() {
			status := phone.submit(t, "Ann").StatusCode
			// Refused, because the sign-out came first. The visitor still has the cart.
			if status == 401 {
				status = phone.submit(t, "Ann").StatusCode
			}
			mustEqual(t, "signing in", status, 200)
		})
		wg.Go(func() { laptop.send(t.Context(), "POST", "/devices/all/sign-out") })
		wg.Wait()
	}
	// A sign-out between the sign-in and the join ends the new session, and the cart in it.
	ended := strings.Count(a.log.String(), "did not join the data of its user")
	mustHaveQuantity(t, mustSignIn(t, a, "Ann", iPhone), "hat", rounds-ended)
}

func TestShopRefusesNonsense(t *testing.T) {
	v := mustVisit(t, mustNewApp(t))
	for _, c := range []struct{ article, n, says string }{
		{"", "1", `there is no article ""`},
		{"yacht", "1", `there is no article "yacht"`},
		{strings.Repeat("x", 5000), "1", "there is no article"},
		{"hat", "", `n must be a whole number from -10 to 10 and not 0, not ""`},
		{"hat", "0", `not "0"`},
		{"hat", "11", `not "11"`},
		{"hat", "1e3", `not "1e3"`},
		{"hat", "-99999999999999999999", `not "-9999999999999999999"`},
	} {
		resp := v.change(t, c.article, c.n)
		mustEqual(t, fmt.Sprintf("status for %.20q, %q", c.article, c.n), resp.StatusCode, 400)
		if got := mustReadBody(t, resp); !strings.Contains(got, c.says) {
			t.Errorf("response for %.20q, %q: got %q, want it to contain %q", c.article, c.n, got, c.says)
		}
	}
	mustEqual(t, "status for another site", v.change(t, "hat", "1", "Sec-Fetch-Site", "cross-site").StatusCode, 403)
	if page := mustReadBody(t, v.send(t.Context(), "GET", "/shop")); !strings.Contains(page, "The cart is empty.") {
		t.Error("a refused change has changed the cart")
	}
}

// TestCartEventsEndWithTheSession follows the cart over server-sent events: each change of another
// request comes as an event, and so does the end of the session.
func TestCartEventsEndWithTheSession(t *testing.T) {
	v := mustVisit(t, mustNewApp(t))
	events := mustFollow(t, v, "/shop/cart/events")
	mustContain(t, <-events, "event: cart", "The cart is empty.")
	v.change(t, "cane", "3")
	mustContain(t, <-events, "event: cart", `data-article="cane">3<`)
	v.send(t.Context(), "POST", "/sign-out")
	mustContain(t, <-events, "event: ended")
	if event, open := <-events; open {
		t.Errorf("got %q after the end of the session", event)
	}
}

func TestCartEventsNeedASession(t *testing.T) {
	resp := (&visitor{app: mustNewApp(t)}).send(t.Context(), "GET", "/shop/cart/events")
	mustEqual(t, "status", resp.StatusCode, 204)
	mustEqual(t, "cookies", len(resp.Cookies()), 0)
}

// TestOpenResponsesEndWhenTheServerStops checks that a response that follows the cart does not keep
// the server from stopping.
func TestOpenResponsesEndWhenTheServerStops(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	v := mustVisit(t, mustNewAppWithin(t, ctx, session.Config{}))
	events := mustFollow(t, v, "/shop/cart/events")
	mustContain(t, <-events, "event: cart")
	stop()
	if event, open := <-events; open {
		t.Errorf("got %q after the server has stopped", event)
	}
}

// mustFollow opens a response of server-sent events, and returns its events.
func mustFollow(t *testing.T, v *visitor, path string) <-chan string {
	t.Helper()
	server := httptest.NewServer(v.app.handler)
	t.Cleanup(server.Close)
	r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Cookie", v.cookie)
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	mustEqual(t, "content type", resp.Header.Get("Content-Type"), "text/event-stream")
	events := make(chan string)
	go func() {
		defer close(events)
		event := ""
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if line := lines.Text(); line != "" {
				event += line + "\n"
				continue
			}
			select {
			case events <- event:
			case <-t.Context().Done():
				return
			}
			event = ""
		}
	}()
	return events
}

func mustContain(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Fatalf("got %q, want it to contain %q", got, w)
		}
	}
}
