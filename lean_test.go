package session_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

// lean is a store that has no record at hand after a change, as one on Redis without a copy of it.
type lean struct {
	driver.Store
	between func() // called when a change was done and is not answered yet
}

func (l *lean) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	res, err := l.Store.Apply(ctx, id, c)
	if err == nil {
		res.Record = nil
	}
	if between := l.between; between != nil {
		l.between = nil
		between()
	}
	return res, err
}

// TestCommitWithoutTheRecord: what a request changed reads as its commit left it, also where the store cannot say what else there is,
// and others change the same before it is asked. What the request did not touch is as it is now.
func TestCommitWithoutTheRecord(t *testing.T) {
	const hits, other, gone = session.Counter("hits"), session.Counter("other"), session.Counter("gone")
	var name session.Value[string] = "name"
	store := &lean{Store: memstore.New()}
	m, err := session.New(store, session.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, m: m}
	v := s.visitor()
	run := func(f func(*session.Session)) {
		t.Helper()
		w := v.request("POST", m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
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
		store.between = meanwhile
		hits.Add(s, 1)
		gone.Add(s, 1)
		gone.Reset(s)
		name.Set(s, "mine")
		if err := s.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := name.Get(s); hits.Get(s) != 2 || other.Get(s) != 5 || gone.Get(s) != 0 || got != "mine" {
			t.Errorf("hits %d, other %d, gone %d, name %q, want 2, 5, 0, mine", hits.Get(s), other.Get(s), gone.Get(s), got)
		}
	})
	run(func(s *session.Session) {
		if got := name.Get(s); hits.Get(s) != 12 || got != "theirs" {
			t.Errorf("afterwards: hits %d, name %q, want 12, theirs", hits.Get(s), got)
		}
	})
}
