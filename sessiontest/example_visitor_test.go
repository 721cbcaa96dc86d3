package sessiontest_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
	"github.com/coatcheck-go/session/sessiontest"
)

// These tests are in docs/testing.md.

func TestAddToCart(t *testing.T) {
	visitor := sessiontest.SignedIn(t, sessions, "ada")
	w := visitor.Do(shop, httptest.NewRequest("POST", "/cart?item=apple", nil))
	if n := cart.Get(visitor.Session(), "apple"); w.Code != http.StatusSeeOther || n != 1 {
		t.Errorf("status %d with %d apples in the cart, want 303 with 1", w.Code, n)
	}
}

func TestAccountIsForMembers(t *testing.T) {
	w := sessiontest.NewVisitor(t, sessions).Do(shop, httptest.NewRequest("GET", "/account", nil))
	if w.Code != http.StatusUnauthorized {
		t.Errorf("status %d, want 401", w.Code)
	}
}

func TestPayNeedsASecondFactor(t *testing.T) {
	visitor := sessiontest.SignedIn(t, sessions, "ada")
	if w := visitor.Do(shop, httptest.NewRequest("POST", "/pay", nil)); w.Code != http.StatusUnauthorized {
		t.Errorf("status %d with a password only, want 401", w.Code)
	}
	visitor.SignIn(session.Login{User: "ada", Methods: []string{"pwd", "otp"}, Level: 2, Device: "Firefox"})
	visitor.Change(func(s *session.Session) { balance.Set(s, 25) })
	w := visitor.Do(shop, httptest.NewRequest("POST", "/pay", nil))
	if euros := balance.Get(visitor.Session()); w.Code != 200 || euros != 15 {
		t.Errorf("status %d with %d euros left, want 200 with 15", w.Code, euros)
	}
}

func TestLoginKeepsTheCart(t *testing.T) {
	sessions := mustNewManager(memstore.New(), session.Config{KeepFields: []string{string(cart)}})
	visitor := sessiontest.NewVisitor(t, sessions)
	visitor.Change(func(s *session.Session) { cart.Add(s, "apple", 2) })
	w := visitor.Do(newShop(sessions), httptest.NewRequest("POST", "/login?user=ada", nil))
	if change := sessiontest.CookieIn(sessions, w.Result()); change != sessiontest.CookieSet {
		t.Errorf("the cookie is %s, want a new one", change)
	}
	s := visitor.Session()
	if s.User() != "ada" || cart.Get(s, "apple") != 2 {
		t.Errorf("signed in as %q with %d apples, want ada with 2", s.User(), cart.Get(s, "apple"))
	}
}

func TestLogout(t *testing.T) {
	visitor := sessiontest.SignedIn(t, sessions, "ada")
	w := visitor.Do(shop, httptest.NewRequest("POST", "/logout", nil))
	if change := sessiontest.CookieIn(sessions, w.Result()); change != sessiontest.CookieDeleted {
		t.Errorf("the cookie is %s, want it deleted", change)
	}
	if user := visitor.Session().User(); user != "" {
		t.Errorf("still signed in as %s", user)
	}
}

func TestShopOverHTTP(t *testing.T) {
	server := httptest.NewServer(shop)
	defer server.Close()
	client := sessiontest.SignedIn(t, sessions, "ada").Client(server)
	res, err := client.Get(server.URL + "/account")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); string(body) != "Hello ada on \n" {
		t.Errorf("%q, %v", body, err)
	}
}

func TestAPIClient(t *testing.T) {
	sessions := mustNewManager(memstore.New(), session.Config{Bearer: true})
	visitor := sessiontest.Bearer(t, sessions, "ada")
	if w := visitor.Do(newShop(sessions), httptest.NewRequest("GET", "/account", nil)); w.Code != 200 {
		t.Errorf("status %d, want 200", w.Code)
	}
}

func TestSessionExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sessions := mustNewManager(memstore.New(), session.Config{IdleTimeout: 30 * time.Minute})
		visitor := sessiontest.SignedIn(t, sessions, "ada")
		time.Sleep(30 * time.Minute)
		if w := visitor.Do(newShop(sessions), httptest.NewRequest("GET", "/account", nil)); w.Code != 401 {
			t.Errorf("status %d after 30 minutes, want 401", w.Code)
		}
	})
}

func TestLifetimeEndsABusySession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sessions := mustNewManager(memstore.New(), session.Config{Lifetime: 2 * time.Hour})
		shop, visitor := newShop(sessions), sessiontest.SignedIn(t, sessions, "ada")
		for at := 10 * time.Minute; at <= 2*time.Hour; at += 10 * time.Minute {
			time.Sleep(10 * time.Minute)
			w := visitor.Do(shop, httptest.NewRequest("GET", "/account", nil))
			if ended := at == 2*time.Hour; w.Code == 200 == ended {
				t.Errorf("status %d after %v", w.Code, at)
			}
		}
	})
}

func TestForeignPageCannotFillTheCart(t *testing.T) {
	visitor := sessiontest.SignedIn(t, sessions, "ada")
	r := sessiontest.CrossSite(httptest.NewRequest("POST", "/cart?item=apple", nil))
	if w := visitor.Do(shop, r); w.Code != http.StatusForbidden {
		t.Errorf("status %d, want 403", w.Code)
	}
}

func TestCartNeedsACSRFToken(t *testing.T) {
	sessions := mustNewManager(memstore.New(), session.Config{CSRF: true})
	shop, visitor := newShop(sessions), sessiontest.SignedIn(t, sessions, "ada")
	r := httptest.NewRequest("POST", "/cart?item=apple", nil)
	if w := visitor.Do(shop, r); w.Code != http.StatusSeeOther {
		t.Errorf("status %d with the visitor's token, want 303", w.Code)
	}
	r.Header.Set(session.CSRFHeader, "")
	if w := visitor.Do(shop, r); w.Code != http.StatusForbidden {
		t.Errorf("status %d without a token, want 403", w.Code)
	}
}

func TestFormCarriesItsToken(t *testing.T) {
	sessions := mustNewManager(memstore.New(), session.Config{CSRF: true})
	shop, visitor := newShop(sessions), sessiontest.SignedIn(t, sessions, "ada")
	page := visitor.Do(shop, httptest.NewRequest("GET", "/cart", nil)).Body.String()
	field := regexp.MustCompile(`name="csrf_token" value="([^"]+)"`).FindStringSubmatch(page)
	if field == nil {
		t.Fatalf("the page has no token: %s", page)
	}
	form := url.Values{session.CSRFField: {field[1]}, "item": {"apple"}}
	r := httptest.NewRequest("POST", "/cart", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set(session.CSRFHeader, "") // send no token but that of the form
	if w := visitor.Do(shop, r); w.Code != http.StatusSeeOther {
		t.Errorf("status %d, want 303", w.Code)
	}
}

func TestBrowserGetsTheCookies(t *testing.T) {
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	sessions := mustNewManager(memstore.New(), session.Config{Logger: logger})
	visitor := sessiontest.SignedIn(t, sessions, "ada")
	cookies := visitor.Prepare(httptest.NewRequest("GET", "/", nil)).Cookies()
	browser := httptest.NewRequest("GET", "/account", nil)
	for _, c := range cookies {
		browser.AddCookie(c)
	}
	w := httptest.NewRecorder()
	newShop(sessions).ServeHTTP(w, browser)
	if w.Code != 200 {
		t.Errorf("status %d, want 200", w.Code)
	}
}
