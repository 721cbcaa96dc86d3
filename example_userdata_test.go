package session_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"slices"
	"sync"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

// shopCart belongs to the user: it is the same on all devices.
const shopCart session.Counters = "cart"

func addToCart(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	data, err := s.UserData(r.Context()) // s itself, while nobody is signed in
	if err != nil {
		return err
	}
	shopCart.Add(data, r.FormValue("article"), 1)
	return showCart(w, data)
}

func showCart(w http.ResponseWriter, data *session.Session) error {
	for article, quantity := range shopCart.All(data) {
		fmt.Fprintf(w, " %d %s", quantity, article)
	}
	return nil
}

func signInToShop(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
	return s.SignIn(r.Context(), session.Login{User: r.FormValue("user")})
}

// A cart that joins the user's at sign-in, and that two devices share.
func ExampleSession_UserData() {
	sessions, err := session.New(memstore.New(), session.Config{
		UserFields: []session.Field{shopCart},
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /cart", session.HandlerFunc(addToCart))
	mux.Handle("POST /sign-in", session.HandlerFunc(signInToShop))
	server := httptest.NewTLSServer(sessions.Handler(mux))
	defer server.Close()

	phone, laptop := deviceOf(server), deviceOf(server)
	fmt.Println("phone, unknown:" + phone("/cart?article=tea"))
	phone("/sign-in?user=ada")
	fmt.Println("phone, Ada:" + phone("/cart?article=milk"))
	fmt.Println("laptop, unknown:" + laptop("/cart?article=tea"))
	laptop("/sign-in?user=ada")
	fmt.Println("laptop, Ada:" + laptop("/cart?article=tea"))
	fmt.Println("phone, Ada:" + phone("/cart?article=cup"))
	// Output:
	// phone, unknown: 1 tea
	// phone, Ada: 1 milk 1 tea
	// laptop, unknown: 1 tea
	// laptop, Ada: 1 milk 3 tea
	// phone, Ada: 1 cup 1 milk 3 tea
}

// deviceOf returns a browser that posts to a path and returns the page.
func deviceOf(server *httptest.Server) func(path string) string {
	client := *server.Client()
	client.Jar, _ = cookiejar.New(nil)
	return func(path string) string {
		res, err := client.Post(server.URL+path, "", nil)
		if err != nil {
			log.Fatal(err)
		}
		defer res.Body.Close()
		body := make([]byte, 1000)
		n, _ := res.Body.Read(body)
		return string(body[:n])
	}
}

// A worker takes an article out of the carts of users. It works without a request of theirs.
func ExampleManager_UserData() {
	sessions, err := session.New(memstore.New(), session.Config{UserFields: []session.Field{shopCart}})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()

	withdraw := func(article string, users ...string) error {
		for _, user := range users {
			data, err := sessions.UserData(ctx, user)
			if err != nil {
				return err
			}
			shopCart.Delete(data, article)
			if err := data.Commit(ctx); err != nil {
				return err
			}
		}
		return nil
	}

	data, err := sessions.UserData(ctx, "ada")
	if err != nil {
		log.Fatal(err)
	}
	shopCart.Add(data, "tea", 2)
	shopCart.Add(data, "lead paint", 1)
	if err := data.Commit(ctx); err != nil {
		log.Fatal(err)
	}
	if err := withdraw("lead paint", "ada", "bob"); err != nil {
		log.Fatal(err)
	}
	if data, err = sessions.UserData(ctx, "ada"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(articles(data))

	// When an account is deleted:
	if _, err := sessions.DeleteUser(ctx, "ada"); err != nil {
		log.Fatal(err)
	}
	if data, err = sessions.UserData(ctx, "ada"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(articles(data))
	// Output:
	// [tea]
	// []
}

func articles(data *session.Session) []string {
	var names []string
	for article := range shopCart.All(data) {
		names = append(names, article)
	}
	return slices.Clip(names)
}

const export session.Value[string] = "export"

// lateJobs is a sync.WaitGroup whose goroutines wait until start is closed.
type lateJobs struct {
	sync.WaitGroup
	start chan struct{}
}

func (j *lateJobs) Go(f func()) { j.WaitGroup.Go(func() { <-j.start; f() }) }

// A goroutine that goes on after the response, and tells the session what came of it.
func ExampleSession_Commit_afterTheResponse() {
	jobs := lateJobs{start: make(chan struct{})} // usually a sync.WaitGroup
	startExport := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		export.Set(s, "running")
		if err := s.Commit(r.Context()); err != nil { // then the visitor has a session
			return err
		}
		jobs.Go(func() {
			// … the work …
			export.Set(s, "ready")
			if err := s.Commit(context.WithoutCancel(r.Context())); err != nil {
				log.Print(err) // ErrEnded: the visitor has signed out meanwhile
			}
		})
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	showExport := func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		fmt.Fprint(w, export.Get(s))
		return nil
	}

	sessions, err := session.New(memstore.New(), session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /export", session.HandlerFunc(startExport))
	mux.Handle("POST /show", session.HandlerFunc(showExport))
	server := httptest.NewTLSServer(sessions.Handler(mux))
	defer server.Close()
	browser := deviceOf(server)
	browser("/export")
	close(jobs.start) // the response has arrived
	jobs.Wait()
	fmt.Println(browser("/show"))
	// Output: ready
}
