// Package sessiontest helps applications to test their handlers. Authors of stores use package
// storetest.
//
// A test of a handler signs a visitor in, makes a request, and reads what the handler left in the
// session:
//
//	func TestAddToCart(t *testing.T) {
//		visitor := sessiontest.SignedIn(t, sessions, "ada")
//		w := visitor.Do(handler, httptest.NewRequest("POST", "/cart?item=apple", nil))
//		if n := cart.Get(visitor.Session(), "apple"); w.Code != http.StatusSeeOther || n != 1 {
//			t.Errorf("status %d with %d apples in the cart, want 303 with 1", w.Code, n)
//		}
//	}
//
// The application's own Manager does all the work, so its Config holds: keys, sealing, the cookie's
// name, limits and hooks. Any store will do. Package memstore is the fastest, and it also works in
// a bubble of testing/synctest, where a test of an expiry takes no time.
//
//   - [Visitor] is a browser, or a client of an API, without a network.
//   - [Visitor.Client] is the same visitor as an http.Client of an httptest.Server.
//   - [CookieIn] says whether a response sets or deletes the session's cookie.
//   - [CrossSite] makes a request one that another site caused.
//   - [Faulty] wraps a store, so that it fails, hangs or refuses when a test says so.
//
// See docs/testing.md for one example of each.
package sessiontest
