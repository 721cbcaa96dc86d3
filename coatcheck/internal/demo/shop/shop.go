// Package shop is the shop of the tour: a cart that stays right when several tabs and devices
// change it at once, and that updates by itself.
package shop

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/coatcheck/internal/demo/page"
)

var (
	//go:embed *.html *.js *.css *.svg
	files embed.FS
	html  = page.Parse(files, "shop.html")

	//go:embed shop.go
	source string
)

// Stop is the shop in the tour.
var Stop = page.Stop{
	Path: "/shop", Name: "Shop",
	Shows: "Fill one cart from several tabs and devices at the same time: every addition counts. " +
		"All of them show the cart as it is, without a reload.",
	Files: files, Style: "shop.css", Script: "shop.js",
	Code: page.Code("shop/shop.go", source, "cart", "UserFields", "recordOf", "change", "events", "follow"),
}

// cart has the quantity of each article. Additions of concurrent requests add up.
const cart session.Counters = "shop.cart"

// UserFields belong to the user, not to one session: the cart is the same on all devices. At a
// sign-in, the cart of the visitor joins it.
var UserFields = []session.Field{cart}

// recordOf returns the record that has the cart: the data of the user, or the session while nobody
// is signed in.
func recordOf(ctx context.Context, s *session.Session) (*session.Session, error) {
	data, err := s.UserData(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		return s, nil // the store keeps no user data
	}
	return data, err
}

type article struct {
	Key, Name string
	Price     int64
}

var articles = []article{
	{"hat", "Top hat", 40}, {"scarf", "Silk scarf", 25}, {"gloves", "Kid gloves", 30},
	{"umbrella", "Umbrella", 35}, {"cane", "Walking cane", 50}, {"glasses", "Opera glasses", 60},
}

type shop struct{ *page.Site }

// Mount adds the routes of the stop to mux.
func Mount(mux *http.ServeMux, site *page.Site) {
	a := &shop{site}
	mux.Handle("GET /shop", session.HandlerFunc(a.page))
	mux.Handle("POST /shop/cart", session.HandlerFunc(a.change))
	mux.Handle("POST /shop/cart/empty", session.HandlerFunc(a.empty))
	mux.Handle("GET /shop/cart/events", site.Open(session.HandlerFunc(a.events)))
}

// page responds with the articles and the cart.
func (a *shop) page(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	data, err := recordOf(r.Context(), s)
	if err != nil {
		return err
	}
	c, err := a.contents(r.Context(), s, data)
	if err != nil {
		return err
	}
	return a.Render(w, r, s, html, struct {
		Articles []article
		Cart     contents
	}{articles, c})
}

// change adds to the quantity of one article, or subtracts from it.
func (a *shop) change(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	key, n, err := changeOf(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil
	}
	data, err := recordOf(r.Context(), s)
	if err != nil {
		return err
	}
	// The store keeps the bounds, whatever others do at the same time.
	_, err = cart.AddWithin(r.Context(), data, key, n, 0, maxQuantity, len(articles))
	if errors.Is(err, session.ErrLimit) && !page.Accepts(r, "text/html") {
		http.Error(w, fmt.Sprintf("the cart has 0 to %d of each article", maxQuantity), http.StatusConflict)
		return nil
	}
	if err != nil && !errors.Is(err, session.ErrLimit) {
		return err
	}
	return done(w, r)
}

// empty removes all articles.
func (a *shop) empty(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	data, err := recordOf(r.Context(), s)
	if err != nil {
		return err
	}
	cart.Clear(data)
	return done(w, r)
}

// changeOf reads the article and by how much its quantity changes. Its error is for the client.
func changeOf(w http.ResponseWriter, r *http.Request) (key string, n int64, err error) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	key = r.PostFormValue("article")
	if !slices.ContainsFunc(articles, func(a article) bool { return a.Key == key }) {
		return "", 0, fmt.Errorf("there is no article %.20q", key)
	}
	n, err = strconv.ParseInt(r.PostFormValue("n"), 10, 64)
	if err != nil || n == 0 || n < -maxChange || n > maxChange {
		return "", 0, fmt.Errorf("n must be a whole number from -%d to %[1]d and not 0, not %.20q", maxChange, r.PostFormValue("n"))
	}
	return key, n, nil
}

const (
	maxChange   = 10
	maxQuantity = 999 // of one article
)

// done responds to a change. A browser without scripts goes back to the page. A script needs no
// answer: it gets the cart as an event.
func done(w http.ResponseWriter, r *http.Request) error {
	if page.Accepts(r, "text/html") {
		http.Redirect(w, r, Stop.Path, http.StatusSeeOther)
	} else {
		w.WriteHeader(http.StatusNoContent)
	}
	return nil
}

// open is the route of the events. To look at the cart is not a use of the session.
var open = session.Route{Passive: true}

// events sends the cart as HTML in server-sent events, until the session ends.
func (a *shop) events(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	if s.Info().Handle == "" { // nothing is stored that can change
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	ctx, stop := open.Context(r.Context())
	defer stop()
	data, err := recordOf(ctx, s)
	if err != nil {
		return err
	}
	out, err := startEvents(w)
	if err != nil {
		return err
	}
	err = a.follow(ctx, out, s, data)
	if errors.Is(err, session.ErrEnded) {
		return out.send("ended", nil)
	}
	return nil // a browser that is still there connects again
}

// follow sends the cart now, and whenever it changes.
func (a *shop) follow(ctx context.Context, out *events, s, data *session.Session) error {
	if err := a.sendCart(ctx, out, s, data); err != nil {
		return err
	}
	for _, err := range data.Watch(ctx) {
		if err != nil {
			return err
		}
		if err := a.sendCart(ctx, out, s, data); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

func (a *shop) sendCart(ctx context.Context, out *events, s, data *session.Session) error {
	c, err := a.contents(ctx, s, data)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := html.ExecuteTemplate(&b, "cart", c); err != nil {
		return err
	}
	return out.send("cart", b.Bytes())
}

// contents is the cart as the page shows it.
type contents struct {
	Token string // for CSRF
	Lines []line
	Count int64
	Total int64
}

type line struct {
	article
	Quantity, Sum int64
}

func (a *shop) contents(ctx context.Context, s, data *session.Session) (c contents, err error) {
	v, err := a.View(ctx, s)
	c.Token = v.Token
	for _, article := range articles {
		n := cart.Get(data, article.Key)
		if n <= 0 {
			continue
		}
		c.Lines = append(c.Lines, line{article, n, n * article.Price})
		c.Count += n
		c.Total += n * article.Price
	}
	return c, err
}
