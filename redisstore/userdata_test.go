package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

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
	if o.Timeout == 0 {
		o = patient(o)
	}
	m, err := session.New(mustOpen(t, url, o), session.Config{
		UserFields: []session.Field{fruits, notes}, Logger: slog.New(slog.DiscardHandler), MaxSize: 1 << 20,
		CommitTimeout: o.Timeout,
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
	eventually(t, anytime, func() error { // a copy may lag for a moment
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

// TestJoinWhoseReplyIsLost: the store has moved the cart, and the request moves nothing twice.
func TestJoinWhoseReplyIsLost(t *testing.T) {
	t.Parallel()
	p := startProxy(t, redistest.Start(t, redistest.Options{}).Addr())
	node := mustServeCarts(t, "redis://"+p.Addr(), redisstore.Options{})
	mustAddFruit(t, node, node.mustSignIn(t, "ada"), "apple", 5)
	node.mustDo(t, mustAddFruit(t, node, "", "apple", 1), func(ctx context.Context, s *session.Session) error {
		return s.SignIn(ctx, session.Login{User: "bob"}) // the server then knows the script
	})
	cookie := mustAddFruit(t, node, "", "apple", 2)
	p.loseNextReply("=5") // only the join compares with it
	cookie = node.mustDo(t, cookie, func(ctx context.Context, s *session.Session) error {
		return s.SignIn(ctx, session.Login{User: "ada"})
	})
	if p.losing.Load() != nil {
		t.Error("no reply was lost")
	}
	mustAddFruit(t, node, cookie, "pear", 1)
	mustEqualModel(t, node, &cartModel{fruits: map[string]int64{"apple": 7, "pear": 1}})
}

// mustAddFruit adds to the cart, and returns the cookie that the browser has then.
func mustAddFruit(t *testing.T, node webNode, cookie, fruit string, n int64) string {
	t.Helper()
	return node.mustDo(t, cookie, func(ctx context.Context, s *session.Session) error {
		data, err := s.UserData(ctx)
		if err == nil {
			fruits.Add(data, fruit, n)
		}
		return err
	})
}

// TestProcessDiesWhileCartsJoin: whatever script of a sign-in was the last one, the cart is in one
// place. A second sign-in does not count it twice, nor does the next request of a browser that has
// received the response.
func TestProcessDiesWhileCartsJoin(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t, redistest.Options{}).Addr()
	signIn := session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.SignIn(r.Context(), session.Login{User: "ada"})
	})
	// The server then knows the scripts.
	warm := mustServeCarts(t, "redis://"+addr, redisstore.Options{})
	warm.request(mustAddFruit(t, warm, "", "apple", 1), signIn)
	const most = 7 // a sign-in takes fewer scripts
	var joined [most + 1]int64
	t.Run("last script", func(t *testing.T) {
		for steps := range int64(most + 1) {
			t.Run(fmt.Sprint(steps), func(t *testing.T) {
				t.Parallel()
				o := redisstore.Options{Namespace: fmt.Sprint("dies", steps)}
				p, short := startProxy(t, addr), patient(o)
				short.Timeout = 2 * time.Second // nobody waits for a process that was killed
				dying, node := mustServeCarts(t, "redis://"+p.Addr(), short), mustServeCarts(t, "redis://"+addr, o)
				mustHave := func(counts ...int64) int64 {
					t.Helper()
					data, err := node.UserData(t.Context(), "ada")
					must(t, err)
					n := fruits.Get(data, "apple")
					if !slices.Contains(counts, n) {
						t.Errorf("the data has %d apples, want one of %d", n, counts)
					}
					return n
				}
				cookie := mustAddFruit(t, node, "", "apple", 2)
				p.dieAfter(steps)
				response := dying.request(cookie, signIn)
				joined[steps] = mustHave(0, 2)
				node.request(cookie, signIn)
				if joined[steps] == 2 {
					mustHave(2)
				} else {
					mustHave(0, 2)
				}
				if cookie = cookieOf(response); cookie != "" {
					mustAddFruit(t, node, cookie, "pear", 1) // what is left joins
					mustHave(2)
				}
			})
		}
	})
	if joined[0] != 0 || joined[most] != 2 {
		t.Errorf("after 0 to %d scripts the data has %d apples, want 0 first and 2 last", most, joined)
	}
}

// cookieOf returns the cookie that a response sets, or "".
func cookieOf(w *httptest.ResponseRecorder) (cookie string) {
	for _, c := range w.Result().Cookies() {
		if c.MaxAge >= 0 { // a sign-in also deletes the anonymous cookie
			cookie = c.Name + "=" + c.Value
		}
	}
	return cookie
}

// TestRevocationWhileCartsJoin: carts join while their user is revoked and signs out. Each cart has
// joined as a whole, or not at all, and once.
func TestRevocationWhileCartsJoin(t *testing.T) {
	t.Parallel()
	url := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	nodes := []webNode{mustServeCarts(t, url, redisstore.Options{}), mustServeCarts(t, url, redisstore.Options{})}
	var all sync.WaitGroup
	const devices = 40
	for i := range devices {
		if i == 1 {
			all.Wait() // the first cart has joined before the first revocation
		}
		all.Go(func() {
			node, entry := nodes[i%2], fmt.Sprint("device", i)
			cookie := node.mustDo(t, "", func(ctx context.Context, s *session.Session) error {
				fruits.Add(s, entry, 3)
				fruits.Add(s, entry+"b", 3)
				fruits.Add(s, "all", 1)
				return nil
			})
			w := node.request(cookie, session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
				return s.SignIn(r.Context(), session.Login{User: "ada"})
			}))
			for _, c := range w.Result().Cookies() {
				if c.MaxAge >= 0 && i%4 == 0 {
					nodes[1].request(c.Name+"="+c.Value, session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
						return s.SignOut(r.Context())
					}))
				}
			}
			if i%5 == 0 {
				_, err := nodes[0].RevokeUser(t.Context(), "ada")
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	data, err := nodes[0].UserData(t.Context(), "ada")
	must(t, err)
	joined := int64(0)
	for i := range devices {
		entry := fmt.Sprint("device", i)
		a, b := fruits.Get(data, entry), fruits.Get(data, entry+"b")
		if a != b || a != 0 && a != 3 {
			t.Errorf("the cart of %s is %d and %d, want 3 and 3, or none", entry, a, b)
		}
		joined += a / 3
	}
	if n := fruits.Get(data, "all"); n != joined || n == 0 {
		t.Errorf("%d carts have joined, and they have counted %d", joined, n)
	}
}

// TestOneDeviceEmptiesWhatAnotherFills: what is left is what was added after the last emptying.
func TestOneDeviceEmptiesWhatAnotherFills(t *testing.T) {
	t.Parallel()
	url := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	fills, empties := mustServeCarts(t, url, redisstore.Options{}), mustServeCarts(t, url, redisstore.Options{})
	filler, emptier := fills.mustSignIn(t, "ada"), empties.mustSignIn(t, "ada")
	const last = 300
	var all sync.WaitGroup
	first := make(chan struct{})
	all.Go(func() {
		for i := range last {
			mustAddFruit(t, fills, filler, fmt.Sprintf("%03d", i), 1)
			if i == 0 {
				close(first)
			}
		}
	})
	all.Go(func() {
		for i := range 50 {
			if i == 49 {
				<-first // so there is something to empty
			}
			empties.mustDo(t, emptier, func(ctx context.Context, s *session.Session) error {
				data, err := s.UserData(ctx)
				if err == nil {
					fruits.Clear(data)
				}
				return err
			})
		}
	})
	all.Wait()
	mustAddFruit(t, fills, filler, fmt.Sprintf("%03d", last), 1)
	data, err := empties.UserData(t.Context(), "ada")
	must(t, err)
	left := maps.Collect(fruits.All(data))
	for i := range len(left) {
		if name := fmt.Sprintf("%03d", last-i); left[name] != 1 {
			t.Errorf("%s is there %d times, but an earlier one of %d is there", name, left[name], len(left))
		}
	}
	if len(left) == 0 || len(left) > last {
		t.Errorf("%d of %d are left", len(left), last+1)
	}
}

// TestUserDataWhileItsSlotMoves: the data can be changed, and fields join when the move is over.
func TestUserDataWhileItsSlotMoves(t *testing.T) {
	limitParallel(t)
	c := redistest.StartCluster(t, redistest.Options{})
	node := mustServeCarts(t, clusterURL(c), redisstore.Options{Namespace: "slots"})
	cookie, handle := node.mustSignIn(t, "ada"), ""
	mustAddFruit(t, node, cookie, "apple", 1)
	node.mustDo(t, cookie, func(_ context.Context, s *session.Session) error {
		fruits.Add(s, "apple", 2) // as before Config.UserFields had it
		handle = s.Info().Handle
		return nil
	})
	key := "slots:{" + handle[:4] + "}:s:" + handle[5:]
	m, _ := mustMigrate(t, c, redistest.Slot(key))
	must(t, m.Move(key))
	mustAddFruit(t, node, cookie, "apple", 1)
	mustEqualModel(t, node, &cartModel{fruits: map[string]int64{"apple": 2}})
	keys, err := m.Keys()
	must(t, err)
	must(t, m.Move(keys...))
	must(t, m.Finish())
	mustAddFruit(t, node, cookie, "pear", 1)
	mustEqualModel(t, node, &cartModel{fruits: map[string]int64{"apple": 4, "pear": 1}})
}

// TestWorkerInAnotherProcess: a worker without a request changes the data of a user. A page that is
// open on another node shows it, until its session ends. The worker may go on.
func TestWorkerInAnotherProcess(t *testing.T) {
	t.Parallel()
	url := "redis://" + redistest.Start(t, redistest.Options{}).Addr()
	node, worker := mustServeCarts(t, url, redisstore.Options{}), mustServeCarts(t, url, redisstore.Options{})
	cookie := node.mustSignIn(t, "ada")
	work := func() {
		data, err := worker.UserData(t.Context(), "ada")
		must(t, err)
		fruits.Add(data, "apple", 1)
		must(t, data.Commit(t.Context()))
	}
	seen, over := make(chan int64, 16), make(chan error, 1)
	go node.request(cookie, session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		data, err := s.UserData(r.Context())
		if err != nil {
			over <- err
			return err
		}
		seen <- fruits.Get(data, "apple")
		for _, err = range data.Watch(t.Context()) {
			if err == nil {
				seen <- fruits.Get(data, "apple")
			}
		}
		over <- err
		return nil
	}))
	for want := range int64(4) {
		for got := int64(-1); got != want; {
			select {
			case got = <-seen:
			case err := <-over:
				t.Fatalf("the page's loop ended with %v", err)
			case <-time.After(time.Minute):
				t.Fatalf("the page shows %d, want %d", got, want)
			}
		}
		work()
	}
	_, err := worker.RevokeUser(t.Context(), "ada")
	must(t, err)
	work()
	select {
	case err := <-over:
		if !errors.Is(err, session.ErrEnded) {
			t.Errorf("the page's loop ended with %v, want ErrEnded", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the page's loop goes on after the end of its session")
	}
	mustEqualModel(t, node, &cartModel{fruits: map[string]int64{"apple": 5}})
}
