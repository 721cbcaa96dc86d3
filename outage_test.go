package session_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

// silentStore is a store that does not answer. It knows no outage: each call waits.
type silentStore struct {
	driver.Store
	hangs bool
	ends  int
}

func (h *silentStore) Load(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
	if !h.hangs {
		return h.Store.Load(ctx, id)
	}
	time.Sleep(2 * time.Second)
	return nil, time.Now(), errDown
}

func (h *silentStore) End(ctx context.Context, id driver.ID) error {
	if !h.hangs {
		return h.Store.End(ctx, id)
	}
	h.ends++
	<-ctx.Done()
	return ctx.Err()
}

// TestSignOutWaitsOnceInAnOutage: a sign-out whose read has waited for the store does not wait
// again. It still asks the store to end the session.
func TestSignOutWaitsOnceInAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := &silentStore{Store: memstore.New()}
		s := newNodes(t, store, session.Config{})[0]
		v := s.known()
		store.hangs = true
		begin := time.Now()
		w := v.serveRoute(session.Route{Down: session.DownAnonymous},
			func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
				return ses.SignOut(r.Context())
			})
		mustAnswer(t, w, 503)
		if took := time.Since(begin); took > 2*time.Second+200*time.Millisecond {
			t.Errorf("the sign-out took %v, want at most one wait of 2s", took)
		}
		if store.ends != 1 {
			t.Errorf("the store was asked to end the session %d times, want 1", store.ends)
		}
	})
}
