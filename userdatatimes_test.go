package session_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/filestore"
	"github.com/coatcheck-go/session/memstore"
)

// TestUserDataExpires: reading counts as use, to within an hour. Expired data begins anew, also for
// a request that has read it before.
func TestUserDataExpires(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := shop()
		// No use extends the session.
		cfg.UserDataTimeout, cfg.Lifetime, cfg.IdleTimeout = 20*time.Hour, 200*time.Hour, 200*time.Hour
		cfg.Keys, cfg.UserKey, cfg.Seal = [][]byte{key(1)}, key(2), true
		s := newSite(t, cfg)
		v := s.mustSignIn("ada")
		v.add("apple", 1)
		applies := s.store.applies.Load() + s.store.touches.Load()
		time.Sleep(50 * time.Minute)
		v.inData(func(context.Context, *session.Session, *session.Session) {})
		synctest.Wait()
		mustEqual(t, "writes of a read within the hour", s.store.applies.Load()+s.store.touches.Load()-applies, 0)
		for range 2 {
			time.Sleep(15 * time.Hour)
			v.mustHave("apple=1")
			synctest.Wait()
		}
		time.Sleep(19 * time.Hour)
		slow := v.tab().serve(func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
			data, err := ses.UserData(r.Context())
			if err != nil {
				return err
			}
			mustEqual(t, "the cart before it expires", contents(data), "apple=1")
			theme.Set(data, "dark")
			time.Sleep(21 * time.Hour)
			cart.Add(data, "pear", 1)
			return nil
		})
		mustAnswer(t, slow, 200)
		v.inData(func(_ context.Context, _, data *session.Session) {
			mustEqual(t, "the cart afterwards", contents(data), "pear=1")
			mustEqual(t, "the theme", theme.Get(data), "dark")
		})
	})
}

// TestSealedUserDataCreatedAnew: another request creates the expired data anew, before a request
// that has read it stores a sealed value. The value opens.
func TestSealedUserDataCreatedAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := shop()
		cfg.UserDataTimeout, cfg.Lifetime, cfg.IdleTimeout = 20*time.Hour, 200*time.Hour, 200*time.Hour
		cfg.Keys, cfg.UserKey, cfg.Seal = [][]byte{key(1)}, key(2), true
		s := newSite(t, cfg)
		v := s.mustSignIn("ada")
		v.add("apple", 1)
		v.inData(func(_ context.Context, _, data *session.Session) {
			theme.Set(data, "dark")
			time.Sleep(21 * time.Hour)
			v.tab().add("pear", 1)
		})
		v.inData(func(_ context.Context, _, data *session.Session) {
			mustEqual(t, "the cart", contents(data), "pear=1")
			mustEqual(t, "the theme", theme.Get(data), "dark")
		})
	})
}

// TestTwoRequestsCreateUserData: both began before the data was stored. Both take effect, sealed or
// not.
func TestTwoRequestsCreateUserData(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		cfg := shop()
		if sealed {
			cfg.Keys, cfg.UserKey, cfg.Seal = [][]byte{key(1)}, key(2), true
		}
		s := newSite(t, cfg)
		v := s.mustSignIn("ada")
		v.inData(func(ctx context.Context, _, data *session.Session) {
			cart.Add(data, "apple", 1)
			gifts.Set(data, "a", gift{For: "first"})
			v.tab().inData(func(_ context.Context, _, other *session.Session) {
				cart.Add(other, "apple", 1)
				gifts.Set(other, "b", gift{For: "second"})
			})
			got, err := theme.Update(ctx, data, func(string) (string, error) { return "dark", nil })
			mustEqual(t, "the Update", got, "dark")
			mustEqual(t, "its error", err, nil)
			mustEqual(t, "what the request sees", contents(data), "apple=2")
			a, _ := gifts.Get(data, "a")
			b, _ := gifts.Get(data, "b")
			mustEqual(t, "the gifts", a.For+b.For, "firstsecond")
			theme.Set(data, "light")
		})
		v.inData(func(_ context.Context, _, data *session.Session) { mustEqual(t, "the theme", theme.Get(data), "light") })
	}
}

// TestSignInAsAnother: what Ada's request changed is stored, her cart is not Bob's, and what the
// request writes to her data afterwards fails it.
func TestSignInAsAnother(t *testing.T) {
	s := newSite(t, shop())
	v := s.mustSignIn("ada")
	v.inData(func(ctx context.Context, ses, ada *session.Session) {
		cart.Add(ada, "apple", 1)
		// With a second factor, say.
		if err := ses.SignIn(ctx, session.Login{User: "ada"}); err != nil {
			t.Fatal(err)
		}
		cart.Add(ada, "apple", 1)
		if err := ses.SignIn(ctx, session.Login{User: "bob"}); err != nil {
			t.Fatal(err)
		}
		bob, err := ses.UserData(ctx)
		if err != nil {
			t.Fatal(err)
		}
		mustEqual(t, "Bob's cart", contents(bob), "")
		cart.Add(bob, "pear", 1)
	})
	mustEqual(t, "the user", v.who(), "bob")
	v.mustHave("pear=1")
	s.mustSignIn("ada").mustHave("apple=2")
	w := v.do(func(ses *session.Session) error {
		bob, err := ses.UserData(t.Context())
		if err != nil {
			return err
		}
		if err := ses.SignOut(t.Context()); err != nil {
			return err
		}
		cart.Add(bob, "pear", 1)
		return nil
	})
	mustAnswer(t, w, 409)
	s.mustSignIn("bob").mustHave("pear=1")
}

// TestWatchOfUserData: a change on another device arrives, an empty cart can be watched, and the
// watch ends with the session.
func TestWatchOfUserData(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, shop())
		phone, laptop := s.mustSignIn("ada"), s.mustSignIn("ada")
		var seen []string
		done := make(chan struct{})
		go func() {
			defer close(done)
			phone.tab().inData(func(ctx context.Context, _, data *session.Session) {
				for change, err := range data.Watch(ctx) {
					seen = append(seen, fmt.Sprint(change.Fields, contents(data), err))
				}
			})
		}()
		synctest.Wait()
		laptop.add("apple", 1)
		synctest.Wait()
		laptop.do(signOut)
		synctest.Wait()
		if _, err := s.m.RevokeUser(t.Context(), "ada"); err != nil {
			t.Fatal(err)
		}
		revoked := time.Now()
		<-done
		mustEqual(t, "how long the watch went on", time.Since(revoked), 0)
		mustEqual(t, "what the phone saw", strings.Join(seen, "; "), "[cart]apple=1<nil>; []apple=1"+session.ErrEnded.Error())
	})
}

// TestWatchOfUserDataThatOthersCreate: a request finds no data, and another request stores some
// before the first one watches. It sees that change.
func TestWatchOfUserDataThatOthersCreate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newSite(t, shop())
		phone, laptop := s.mustSignIn("ada"), s.mustSignIn("ada")
		seen := ""
		phone.tab().inData(func(ctx context.Context, _, data *session.Session) {
			mustEqual(t, "the cart at first", contents(data), "")
			laptop.add("apple", 1)
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			for change, err := range data.Watch(ctx) {
				seen += fmt.Sprint(change.Fields, contents(data), err)
			}
		})
		mustEqual(t, "what the phone saw", seen, "[cart]apple=1<nil>")
	})
}

// TestCartsEqualTheModel: four devices of one user, on two Managers, add, remove, sign in and out
// at the same time, in memory and in a file. The result is that of a model.
func TestCartsEqualTheModel(t *testing.T) {
	file, err := filestore.Open(filepath.Join(t.TempDir(), "carts"), filestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, store := range []driver.Store{memstore.New(), file} {
		nodes := newNodes(t, store, shop(), shop())
		var mu sync.Mutex
		model := map[string]int64{}
		var all sync.WaitGroup
		for device := range 4 {
			all.Go(func() {
				random := rand.New(rand.NewPCG(2, uint64(device)))
				v, signedIn, own := nodes[0].visitor(), false, map[string]int64{}
				count := func(fruit string, n int64) {
					mu.Lock()
					defer mu.Unlock()
					if signedIn {
						model[fruit] += n
					} else {
						own[fruit] += n
					}
				}
				for step := range 60 {
					v.site = nodes[random.IntN(2)]
					switch n := random.IntN(12); {
					case step == 59 && !signedIn, n == 0 && !signedIn:
						v.do(signIn("ada"))
						signedIn = true
						for fruit, n := range own {
							count(fruit, n)
						}
						clear(own)
					case n == 0 && step < 59:
						v.do(signOut)
						signedIn = false
					default:
						fruit, n := fmt.Sprint("fruit", random.IntN(5)), int64(random.IntN(7)-2)
						v.add(fruit, n)
						count(fruit, n)
					}
				}
			})
		}
		all.Wait()
		data, err := nodes[1].m.UserData(t.Context(), "ada")
		if err != nil {
			t.Fatal(err)
		}
		if got := maps.Collect(cart.All(data)); !maps.Equal(got, model) {
			t.Errorf("%T: the cart is %v, want %v", store, got, model)
		}
	}
}
