package sessiontest_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/sessiontest"
)

// These tests are in docs/testing.md.

func TestStoreDown(t *testing.T) {
	store, faults := sessiontest.Faulty(memstore.New())
	sessions := mustNewManager(store, session.Config{})
	shop, visitor := newShop(sessions), sessiontest.SignedIn(t, sessions, "ada")

	faults.Set(sessiontest.Unavailable)
	w := visitor.Do(shop, httptest.NewRequest("GET", "/account", nil))
	if w.Code != 503 || sessiontest.CookieIn(sessions, w.Result()) != sessiontest.CookieUnchanged {
		t.Errorf("status %d, want 503 and the cookie unchanged", w.Code)
	}
	faults.Clear()
	if w := visitor.Do(shop, httptest.NewRequest("GET", "/account", nil)); w.Code != 200 {
		t.Errorf("status %d when the store is back, want 200", w.Code)
	}
}

func TestOffersWhileTheStoreIsDown(t *testing.T) {
	store, faults := sessiontest.Faulty(memstore.New())
	sessions := mustNewManager(store, session.Config{})
	visitor := sessiontest.NewVisitor(t, sessions)
	visitor.Change(func(s *session.Session) { cart.Add(s, "apple", 2) })
	faults.Set(sessiontest.Unavailable)
	w := visitor.Do(newShop(sessions), httptest.NewRequest("GET", "/offers", nil))
	if w.Code != 200 || w.Body.String() != "2 apples in your cart" {
		t.Errorf("%d %q, want the cart of the copy", w.Code, w.Body)
	}
}

func TestPaymentIsNotRepeated(t *testing.T) {
	store, faults := sessiontest.Faulty(memstore.New())
	sessions := mustNewManager(store, session.Config{})
	visitor := sessiontest.NewVisitor(t, sessions).SignIn(session.Login{User: "ada", Level: 2})
	faults.Next(1, sessiontest.ReplyLost, sessiontest.OpApply)
	w := visitor.Do(newShop(sessions), httptest.NewRequest("POST", "/pay", nil))
	if euros := balance.Get(visitor.Session()); w.Code != 503 || euros != -10 {
		t.Errorf("status %d with %d euros, want 503 with one payment of 10", w.Code, euros)
	}
}

func TestStoreHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the wait of 2 s takes no time
		store, faults := sessiontest.Faulty(memstore.New())
		sessions := mustNewManager(store, session.Config{})
		visitor := sessiontest.SignedIn(t, sessions, "ada")
		faults.Set(sessiontest.Hang, sessiontest.OpApply)
		w := visitor.Do(newShop(sessions), httptest.NewRequest("POST", "/cart?item=apple", nil))
		if w.Code != http.StatusServiceUnavailable {
			t.Errorf("status %d, want 503", w.Code)
		}
	})
}

func TestSignedOutInAnotherTab(t *testing.T) {
	store, faults := sessiontest.Faulty(memstore.New())
	sessions := mustNewManager(store, session.Config{})
	shop, visitor := newShop(sessions), sessiontest.SignedIn(t, sessions, "ada")
	faults.Next(1, func(_ context.Context, _ sessiontest.Op, call func() error) error {
		visitor.Do(shop, httptest.NewRequest("POST", "/logout", nil))
		return call()
	}, sessiontest.OpApply)
	w := visitor.Do(shop, httptest.NewRequest("POST", "/cart?item=apple", nil))
	if w.Code != http.StatusConflict || visitor.Session().User() != "" {
		t.Errorf("status %d, user %q; want 409 and nobody", w.Code, visitor.Session().User())
	}
}
