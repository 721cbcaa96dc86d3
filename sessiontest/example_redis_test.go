package sessiontest_test

import (
	"net/http/httptest"
	"testing"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
	"github.com/coatcheck-go/session/sessiontest"
)

// This test is in docs/testing.md.

func TestShopOnRedis(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	store, err := redisstore.Open(t.Context(), "redis://"+server.Addr(), redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	sessions := mustNewManager(store, session.Config{})
	visitor := sessiontest.SignedIn(t, sessions, "ada")
	visitor.Do(newShop(sessions), httptest.NewRequest("POST", "/cart?item=apple", nil))
	if n := cart.Get(visitor.Session(), "apple"); n != 1 {
		t.Errorf("%d apples in the cart, want 1", n)
	}
}
