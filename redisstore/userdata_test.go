package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// The fields that belong to a user.
const (
	fruits session.Counters    = "fruits"
	notes  session.Map[string] = "notes"
)

// mustServeCarts is mustServe for a shop whose carts belong to users.
func mustServeCarts(t testing.TB, url string, o redisstore.Options) webNode {
	t.Helper()
	m, err := session.New(mustOpen(t, url, o), session.Config{
		UserFields: []session.Field{fruits, notes}, Logger: slog.New(slog.DiscardHandler), MaxSize: 1 << 20,
	})
	must(t, err)
	return webNode{m}
}

// cartModel is what a cart must have in the end.
type cartModel struct {
	mu     sync.Mutex
	fruits map[string]int64
	notes  map[string]string
}

func newCartModel() *cartModel {
	return &cartModel{fruits: map[string]int64{}, notes: map[string]string{}}
}

// join adds the cart of a visitor who signs in.
func (m *cartModel) join(o *cartModel) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, n := range o.fruits {
		m.fruits[k] += n
	}
	maps.Copy(m.notes, o.notes)
	clear(o.fruits)
	clear(o.notes)
}

// shopper is one browser, whose requests go to any node.
type shopper struct {
	t      *testing.T
	number int
	nodes  []webNode
	random *rand.Rand
	cookie string
	user   *cartModel
	own    *cartModel // the anonymous cart
	in     bool
}

func (s *shopper) do(f func(ctx context.Context, ses, data *session.Session) error) {
	node := s.nodes[s.random.IntN(len(s.nodes))]
	s.cookie = node.mustDo(s.t, s.cookie, func(ctx context.Context, ses *session.Session) error {
		data, err := ses.UserData(ctx)
		if err != nil {
			return err
		}
		return f(ctx, ses, data)
	})
}

// step makes one request.
func (s *shopper) step() {
	model := s.own
	if s.in {
		model = s.user
	}
	fruit, note := fmt.Sprint("fruit", s.random.IntN(20)), fmt.Sprint("note", s.number, "-", s.random.IntN(20))
	switch n := s.random.IntN(20); {
	case n < 8:
		count := int64(s.random.IntN(9) - 3)
		s.do(func(_ context.Context, _, data *session.Session) error { fruits.Add(data, fruit, count); return nil })
		model.mu.Lock()
		model.fruits[fruit] += count
		model.mu.Unlock()
	case n < 13:
		text := fmt.Sprint(s.random.Int())
		s.do(func(_ context.Context, _, data *session.Session) error { notes.Set(data, note, text); return nil })
		model.mu.Lock()
		model.notes[note] = text
		model.mu.Unlock()
	case n < 16:
		s.do(func(_ context.Context, _, data *session.Session) error { notes.Delete(data, note); return nil })
		model.mu.Lock()
		delete(model.notes, note)
		model.mu.Unlock()
	case s.in:
		s.do(func(ctx context.Context, ses, _ *session.Session) error { return ses.SignOut(ctx) })
		s.cookie, s.in = "", false
	default:
		s.signIn()
	}
}

func (s *shopper) signIn() {
	s.do(func(ctx context.Context, ses, _ *session.Session) error {
		return ses.SignIn(ctx, session.Login{User: "ada"})
	})
	s.in = true
	s.user.join(s.own)
}

// TestCartsOfEightDevicesEqualTheModel: eight browsers of one user, on three processes, add and
// remove 1,000 entries, and sign in and out meanwhile.
func TestCartsOfEightDevicesEqualTheModel(t *testing.T) {
	t.Parallel()
	url := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	var nodes []webNode
	for range 3 {
		nodes = append(nodes, mustServeCarts(t, url, redisstore.Options{}))
	}
	model := newCartModel()
	var all sync.WaitGroup
	for i := range 8 {
		s := &shopper{t: t, number: i, nodes: nodes, user: model, own: newCartModel(), random: rand.New(rand.NewPCG(1, uint64(i)))}
		all.Go(func() {
			for range 125 {
				s.step()
			}
			if !s.in {
				s.signIn()
			}
			// What is left joins.
			s.do(func(context.Context, *session.Session, *session.Session) error { return nil })
		})
	}
	all.Wait()
	for _, node := range nodes {
		mustEqualModel(t, node, model)
	}
}

func mustEqualModel(t *testing.T, node webNode, model *cartModel) {
	t.Helper()
	eventually(t, lease, func() error { // a copy may lag for a moment
		data, err := node.UserData(t.Context(), "ada")
		if err != nil {
			return err
		}
		if got := maps.Collect(fruits.All(data)); !maps.Equal(got, model.fruits) {
			return fmt.Errorf("the fruits are %v, want %v", got, model.fruits)
		}
		if got := maps.Collect(notes.All(data)); !maps.Equal(got, model.notes) {
			return fmt.Errorf("the notes are %v, want %v", got, model.notes)
		}
		return nil
	})
}

// TestUserDataOfARevokedSessionOnAnotherNode: a request that still runs cannot write the data.
func TestUserDataOfARevokedSessionOnAnotherNode(t *testing.T) {
	t.Parallel()
	url := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	a, b := mustServeCarts(t, url, redisstore.Options{}), mustServeCarts(t, url, redisstore.Options{})
	cookie := a.mustSignIn(t, "ada")
	w := a.request(cookie, session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		data, err := s.UserData(r.Context())
		must(t, err)
		_, err = b.RevokeUser(t.Context(), "ada")
		must(t, err)
		eventually(t, lease, func() error {
			fruits.Add(data, "apple", 1)
			if err := data.Commit(r.Context()); !errors.Is(err, session.ErrEnded) {
				return fmt.Errorf("Commit: %v, want ErrEnded", err)
			}
			return nil
		})
		return nil
	}))
	if w.Code != http.StatusConflict {
		t.Errorf("status %d, want 409", w.Code)
	}
}
