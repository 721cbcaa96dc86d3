package sessiontest_test

import (
	"fmt"
	"net/http"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

// The application that the examples test.

const (
	cart    session.Counters   = "cart"
	balance session.Value[int] = "balance"
)

var (
	sessions = mustNewManager(memstore.New(), session.Config{})
	shop     = newShop(sessions)
)

func mustNewManager(store driver.Store, cfg session.Config) *session.Manager {
	if cfg.CommitTimeout == 0 {
		cfg.CommitTimeout = time.Minute // a busy machine may stop in a commit
	}
	m, err := session.New(store, cfg)
	if err != nil {
		panic(err)
	}
	return m
}

// newShop returns the handler of a shop.
func newShop(sessions *session.Manager) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /cart", session.HandlerFunc(addToCart))
	mux.Handle("GET /cart", session.HandlerFunc(showCart))
	mux.Handle("POST /pay", session.Route{SignedIn: true, MinLevel: 2}.Handler(session.HandlerFunc(pay)))
	mux.Handle("GET /account", session.Route{SignedIn: true}.Handler(session.HandlerFunc(account)))
	mux.Handle("POST /login", session.HandlerFunc(login))
	mux.Handle("POST /logout", session.Route{Down: session.DownAnonymous}.Handler(session.HandlerFunc(logout)))
	mux.Handle("GET /offers", session.Route{Down: session.DownReadOnly}.Handler(session.HandlerFunc(offers)))
	return sessions.Handler(mux)
}

func addToCart(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	cart.Add(s, r.FormValue("item"), 1)
	http.Redirect(w, r, "/cart", http.StatusSeeOther)
	return nil
}

func showCart(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	token, err := s.CSRFToken(r.Context())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, `<form method="post"><input type="hidden" name="csrf_token" value="%s">%d apples</form>`,
		token, cart.Get(s, "apple"))
	return err
}

func pay(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	_, err := balance.Update(r.Context(), s, func(euros int) (int, error) { return euros - 10, nil })
	return err
}

func account(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	_, err := fmt.Fprintf(w, "Hello %s on %s\n", s.User(), s.Info().Device)
	return err
}

func login(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	return s.SignIn(r.Context(), session.Login{User: r.FormValue("user")})
}

func logout(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	return s.SignOut(r.Context())
}

func offers(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	_, err := fmt.Fprintf(w, "%d apples in your cart", cart.Get(s, "apple"))
	return err
}
