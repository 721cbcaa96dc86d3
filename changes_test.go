package session_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

// TestNamesAndSizesAreLimited: a commit over a limit returns an error and stores nothing.
func TestNamesAndSizesAreLimited(t *testing.T) {
	long := strings.Repeat("k", 257)
	for _, tt := range []struct {
		name   string
		change func(s *session.Session)
		err    error
	}{
		{"no name", func(s *session.Session) { session.Counter("").Add(s, 1) }, session.ErrInvalid},
		// It would be the entry "tea" of cart.
		{"a colon", func(s *session.Session) { session.Counter("cart:tea").Add(s, 1) }, session.ErrInvalid},
		{"a colon, value", func(s *session.Session) { session.Value[int]("cart:tea").Set(s, 1) }, session.ErrInvalid},
		{"a colon, deleted", func(s *session.Session) { session.Value[int]("cart:tea").Delete(s) }, session.ErrInvalid},
		{"a colon, map", func(s *session.Session) { session.Map[int]("cart:tea").Set(s, "x", 1) }, session.ErrInvalid},
		{"a colon, cleared", func(s *session.Session) { session.Counters("cart:tea").Clear(s) }, session.ErrInvalid},
		{"a colon, taken", func(s *session.Session) { session.Value[int]("cart:tea").Take(t.Context(), s) },
			session.ErrInvalid},
		{"metadata", func(s *session.Session) { session.Value[int]("@s").Set(s, 1) }, session.ErrInvalid},
		{"not ASCII", func(s *session.Session) { session.Value[int]("größe").Set(s, 1) }, session.ErrInvalid},
		{"64 bytes", func(s *session.Session) { session.Counter(long[:64]).Add(s, 1) }, nil},
		{"65 bytes", func(s *session.Session) { session.Counter(long[:65]).Add(s, 1) }, session.ErrInvalid},
		{"key of 256 bytes", func(s *session.Session) { cart.Add(s, long[:256], 1) }, nil},
		{"key of 257 bytes", func(s *session.Session) { cart.Add(s, long, 1) }, session.ErrInvalid},
		{"key not UTF-8", func(s *session.Session) { cart.Add(s, "\xff", 1) }, session.ErrInvalid},
		{"bad name of a map", func(s *session.Session) { session.Map[int]("a/b").Clear(s) }, session.ErrInvalid},
		{"take with a bad name", func(s *session.Session) { session.Value[int]("a/b").Take(t.Context(), s) },
			session.ErrInvalid},
		{"update with a bad name", func(s *session.Session) {
			session.Value[int]("a/b").Update(t.Context(), s, func(int) (int, error) { return 1, nil })
		}, session.ErrInvalid},
		{"not JSON", func(s *session.Session) { session.Value[float64]("nan").Set(s, math.NaN()) }, session.ErrInvalid},
		{"overflow", func(s *session.Session) { n.Add(s, math.MaxInt64); n.Add(s, 1) }, session.ErrInvalid},
		{"underflow", func(s *session.Session) { n.Add(s, math.MinInt64); n.Add(s, -1) }, session.ErrInvalid},
		{"exactly MaxSize", func(s *session.Session) { theme.Set(s, strings.Repeat("x", 200-len(`theme""`))) }, nil},
		{"one byte over MaxSize", func(s *session.Session) { theme.Set(s, strings.Repeat("x", 201-len(`theme""`))) },
			session.ErrTooLarge},
		{"updated to more than MaxSize", func(s *session.Session) {
			theme.Update(t.Context(), s, func(string) (string, error) { return strings.Repeat("x", 200), nil })
		}, session.ErrTooLarge},
		{"4096 changes", func(s *session.Session) {
			for i := range 4096 {
				session.Counters(fmt.Sprint("c", i)).Clear(s)
			}
		}, nil},
		{"4097 changes", func(s *session.Session) {
			for i := range 4097 {
				session.Counters(fmt.Sprint("c", i)).Clear(s)
			}
		}, session.ErrTooLarge},
		{"clearing a map drops the changes of its entries", func(s *session.Session) {
			for range 10_000 {
				cart.Clear(s)
				cart.Add(s, "a", 1)
			}
		}, nil},
		{"changes of the same field are merged", func(s *session.Session) {
			for i := range 10_000 {
				n.Add(s, 1)
				cart.Add(s, "a", 1)
				theme.Set(s, fmt.Sprint(i))
			}
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			size := 200
			if strings.Contains(tt.name, "key of") {
				size = 2000
			}
			s := newSite(t, session.Config{MaxSize: size})
			v := s.visitor()
			w := v.do(func(s *session.Session) error {
				tt.change(s)
				if err := s.Commit(t.Context()); !errors.Is(err, tt.err) {
					t.Errorf("Commit: %v, want %v", err, tt.err)
				}
				return nil
			})
			if tt.err != nil {
				mustAnswer(t, w, 500)
				mustEqual(t, "stored", s.store.Len(), 0)
			} else {
				mustEqual(t, "status", w.Code, 200)
			}
		})
	}
	s := newSite(t, session.Config{})
	w := s.visitor().do(func(s *session.Session) error {
		for i := range 1025 {
			cart.Add(s, fmt.Sprint(i), 1)
		}
		return nil
	})
	mustAnswer(t, w, 500)
}

// TestSessionMayExceedFourKilobytes: a library that stores the session in the cookie cannot do
// this.
func TestSessionMayExceedFourKilobytes(t *testing.T) {
	v := newSite(t, session.Config{}).visitor()
	v.mustDo(func(_ context.Context, s *session.Session) { theme.Set(s, strings.Repeat("x", 60_000)) })
	v.mustDo(func(_ context.Context, s *session.Session) { mustEqual(t, "length", len(theme.Get(s)), 60_000) })
}

// TestMergedChangesEqualTheSequence: a request merges the operations that it buffers. Random
// operations in one commit must have the same result as the same operations in a commit each. The
// size limit holds too, and the request's view shows the result before the commit.
func TestMergedChangesEqualTheSequence(t *testing.T) {
	const size = 100
	for seed := range uint64(1000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := newSite(t, session.Config{MaxSize: size})
		merged, naive := s.known(), s.known()
		var done []string
		var view string
		var commitErr error
		var accepted []func(*session.Session)
		for range 2 + rng.IntN(30) {
			what, f := randomChange(rng)
			var err error
			naive.do(func(s *session.Session) error { f(s); err = s.Commit(t.Context()); return err })
			if err == nil { // otherwise it is over the limit, and not part of the sequence
				accepted, done = append(accepted, f), append(done, what)
			}
		}
		w := merged.do(func(s *session.Session) error {
			for _, f := range accepted {
				f(s)
			}
			view = dump(s)
			commitErr = s.Commit(t.Context())
			return commitErr
		})
		var stored, want string
		merged.do(func(s *session.Session) error { stored = dump(s); return nil })
		naive.do(func(s *session.Session) error { want = dump(s); return nil })
		if w.Code != 200 || stored != want || view != want {
			t.Fatalf("seed %d: %s\nerror:  %v\nstored  %s\nview    %s\nwant    %s", seed, strings.Join(done, ", "),
				commitErr, stored, view, want)
		}
	}
}

// randomChange returns a random change and its name.
func randomChange(rng *rand.Rand) (string, func(*session.Session)) {
	x, delta := []string{"a", "b", "c2"}[rng.IntN(3)], []int64{1, -1, 999_999_999, -999_999_999}[rng.IntN(4)]
	text := strings.Repeat("x", []int{0, 1, 10, 30, 45, 60}[rng.IntN(6)])
	v, m := session.Value[string](x), session.Map[string]("m")
	switch rng.IntN(20) {
	case 0:
		return "clear", func(s *session.Session) { s.Clear() }
	case 1:
		return "m.clear", func(s *session.Session) { m.Clear(s) }
	case 2, 3:
		return x + ".delete", func(s *session.Session) { v.Delete(s) }
	case 4, 5:
		return "m." + x + ".delete", func(s *session.Session) { m.Delete(s, x) }
	case 6:
		return "c.reset", func(s *session.Session) { session.Counter("c").Reset(s) }
	case 7, 8:
		return fmt.Sprint("c+=", delta), func(s *session.Session) { session.Counter("c").Add(s, delta) }
	case 9, 10:
		return fmt.Sprint("k.", x, "+=", delta), func(s *session.Session) { session.Counters("k").Add(s, x, delta) }
	case 11, 12:
		return fmt.Sprint("m.", x, "=", len(text)), func(s *session.Session) { m.Set(s, x, text) }
	default:
		return fmt.Sprint(x, "=", len(text)), func(s *session.Session) { v.Set(s, text) }
	}
}

// dump returns everything that randomChange can change, as text.
func dump(s *session.Session) string {
	var b strings.Builder
	for _, x := range []session.Value[string]{"a", "b", "c2"} {
		v, ok, _ := x.Lookup(s)
		fmt.Fprint(&b, x, "=", len(v), ok, " ")
	}
	fmt.Fprint(&b, "n=", n.Get(s), " c=", session.Counter("c").Get(s))
	for _, k := range slices.Sorted(maps.Keys(maps.Collect(session.Counters("k").All(s)))) {
		fmt.Fprint(&b, " k.", k, "=", session.Counters("k").Get(s, k))
	}
	for k, v := range session.Map[string]("m").All(s) {
		fmt.Fprint(&b, " m.", k, "=", len(v))
	}
	return b.String()
}

// TestViewAfterACommitWithoutARecord: the store returns no record, and another request changes the
// same fields before the view is read again. Fields that the request has changed read as its commit
// left them. All other fields read as they are now.
func TestViewAfterACommitWithoutARecord(t *testing.T) {
	const hits, other, unset = session.Counter("hits"), session.Counter("other"), session.Counter("unset")
	var name session.Value[string] = "name"
	store := &recordlessStore{UserStore: memstore.New()}
	m, err := session.New(store, patient(session.Config{}))
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, m: m}
	v := s.visitor()
	run := func(f func(*session.Session)) {
		t.Helper()
		w := v.request("POST",
			m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
				f(s)
				return s.Commit(r.Context())
			})))
		if w.Code != http.StatusOK {
			t.Fatalf("status %d", w.Code)
		}
	}
	run(func(s *session.Session) { hits.Add(s, 1) })
	meanwhile := func() {
		run(func(s *session.Session) { hits.Add(s, 10); other.Add(s, 5); name.Set(s, "theirs") })
	}
	run(func(s *session.Session) {
		store.afterApply = meanwhile
		hits.Add(s, 1)
		unset.Add(s, 1)
		unset.Reset(s)
		name.Set(s, "mine")
		if err := s.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := name.Get(s); hits.Get(s) != 2 || other.Get(s) != 5 || unset.Get(s) != 0 || got != "mine" {
			t.Errorf("hits %d, other %d, unset %d, name %q, want 2, 5, 0, mine", hits.Get(s), other.Get(s),
				unset.Get(s), got)
		}
	})
	run(func(s *session.Session) {
		if got := name.Get(s); hits.Get(s) != 12 || got != "theirs" {
			t.Errorf("afterwards: hits %d, name %q, want 12, theirs", hits.Get(s), got)
		}
	})
}

// view is what a request should read.
type view struct {
	stored      bool
	user, theme string
	entry       string
	n           int64
}

// model is a visitor and the session that the visitor should have.
type model struct {
	committed, now view
	ops            []func(*view) // in now, and not in committed
	events         []session.EventKind
	csrf, old      string // a CSRF token of the session, and one of an earlier session
}

// change adds an operation that is not committed.
func (m *model) change(f func(*view)) {
	f(&m.now)
	m.ops = append(m.ops, f)
}

// commit commits all operations.
func (m *model) commit() {
	if len(m.ops) > 0 && !m.committed.stored {
		m.now.stored = true
		m.events = append(m.events, session.EventCreated)
	}
	m.committed, m.ops = m.now, nil
}

// signIn starts a new session for the user.
func (m *model) signIn(user string) {
	next := view{}
	if m.committed.user == "" || m.committed.user == user {
		next = m.committed
	}
	next.stored, next.user = true, user
	for _, f := range m.ops {
		f(&next)
	}
	m.now, m.committed, m.ops = next, next, nil
	m.events = append(m.events, session.EventSignedIn)
	m.old, m.csrf = m.csrf, ""
}

// signOut ends the session.
func (m *model) signOut() {
	if m.committed.stored {
		m.events = append(m.events, session.EventSignedOut)
	}
	*m = model{events: m.events, old: m.csrf}
}

// step does one random thing to the session and to the model. It returns the name of the step.
func (m *model) step(ctx context.Context, s *session.Session) (name string, err error) {
	text := fmt.Sprint(rand.IntN(1000))
	switch rand.IntN(15) {
	case 0, 1:
		theme.Set(s, text)
		m.change(func(v *view) { v.theme = text })
		return "set", nil
	case 2, 3:
		n.Add(s, 3)
		m.change(func(v *view) { v.n += 3 })
		return "add", nil
	case 4:
		secrets.Set(s, "a", text)
		m.change(func(v *view) { v.entry = text })
		return "set entry", nil
	case 5:
		s.Clear()
		m.change(func(v *view) { v.theme, v.entry, v.n = "", "", 0 })
		return "clear", nil
	case 6:
		m.change(func(v *view) { v.theme += "+" })
		m.commit()
		_, err = theme.Update(ctx, s, func(t string) (string, error) { return t + "+", nil })
		return "update", err
	case 7:
		if m.now.entry != "" {
			m.change(func(v *view) { v.entry = "" })
			m.commit()
		}
		_, _, err = secrets.Take(ctx, s, "a")
		return "take", err
	case 8:
		m.commit()
		return "commit", s.Commit(ctx)
	case 9:
		was := m.committed.stored
		m.commit()
		if was {
			m.events = append(m.events, session.EventRenewed)
		}
		return "renew", s.Renew(ctx)
	case 10:
		m.now, m.ops = m.committed, nil
		return "reload", s.Reload(ctx)
	case 11:
		user := []string{"ada", "bob"}[rand.IntN(2)]
		m.signIn(user)
		return "sign in " + user, s.SignIn(ctx, session.Login{User: user})
	case 12:
		m.signOut()
		return "sign out", s.SignOut(ctx)
	case 13:
		const limit = 12
		if m.now.n+2 <= limit {
			m.change(func(v *view) { v.n += 2 })
			m.commit()
			_, err = n.AddWithin(ctx, s, 2, 0, limit)
			return "add within", err
		}
		if _, err = n.AddWithin(ctx, s, 2, 0, limit); !errors.Is(err, session.ErrLimit) {
			return "add over the limit", fmt.Errorf("AddWithin returns %v, want ErrLimit", err)
		}
		return "add over the limit", nil
	}
	if !m.committed.stored {
		m.change(func(*view) {})
		m.commit()
	}
	before := m.csrf
	if m.csrf, err = s.CSRFToken(ctx); err != nil {
		return "CSRF token", err
	}
	if s.CheckCSRF(m.csrf) != nil || before != "" && s.CheckCSRF(before) != nil || s.CheckCSRF(m.old) == nil {
		err = errors.New("CheckCSRF refuses a token of the session, or accepts one of another")
	}
	return "CSRF token", err
}

// TestRandomRequestsMatchTheModel makes requests of several random steps each. After each step the
// session must read as the model does.
func TestRandomRequestsMatchTheModel(t *testing.T) {
	const rounds, requests, steps = 100, 8, 7
	plain, sealed := session.Config{KeepFields: []string{"theme", "secrets", "n"}}, sealing(key(1))
	for name, cfg := range map[string]session.Config{"plain": plain, "sealed": sealed} {
		for _, records := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, records %v", name, records), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					for range rounds {
						mem := memstore.New()
						var store driver.Store = mem
						if !records {
							store = &recordlessStore{UserStore: mem}
						}
						var l eventLog
						cfg.OnEvent, cfg.RotateEvery = l.record, time.Minute
						sessions, err := session.New(store, cfg)
						if err != nil {
							t.Fatal(err)
						}
						v := (&site{t: t, m: sessions}).visitor()
						var m model
						var done []string
						for range requests {
							time.Sleep(rand.N(2 * time.Minute))
							done = append(done, "| ")
							v.request("POST", sessions.Handler(session.HandlerFunc(
								func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
									for range rand.IntN(steps) {
										did, err := m.step(r.Context(), s)
										done = append(done, did)
										if err != nil {
											t.Fatalf("%q: %v", done, err)
										}
										entry, _ := secrets.Get(s, "a")
										now := view{m.now.stored, s.User(), theme.Get(s), entry, n.Get(s)}
										if now != m.now {
											t.Fatalf("%q: %+v, want %+v", done, now, m.now)
										}
									}
									return nil
								})))
							m.commit()
							if mem.Len() > 1 || (mem.Len() == 1) != m.committed.stored ||
								(v.cookie != "") != m.committed.stored {
								t.Fatalf("%q: %d sessions, cookie %q, want a session: %v", done, mem.Len(), v.cookie,
									m.committed.stored)
							}
						}
						if records {
							m.mustMatchEvents(t, &l, done)
						}
						mem.Close()
					}
				})
			})
		}
	}
}

// mustMatchEvents compares the events with those of the model, except rotations, which depend on
// time.
func (m *model) mustMatchEvents(t *testing.T, l *eventLog, done []string) {
	t.Helper()
	var got []session.EventKind
	for _, e := range l.events {
		if e.Kind != session.EventRotated {
			got = append(got, e.Kind)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(m.events) {
		t.Fatalf("%q: events %q, want %q", done, got, m.events)
	}
}
