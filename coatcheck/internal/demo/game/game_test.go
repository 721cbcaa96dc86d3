package game

import (
	"log/slog"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/memstore"
)

// TestOnePlayerGetsACoin lets 8 players take each coin at the same time. One of them gets it.
func TestOnePlayerGetsACoin(t *testing.T) {
	store := memstore.New()
	t.Cleanup(func() { store.Close() })
	sessions, err := session.New(store, session.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	seats := make([]*seat, 8)
	for i := range seats {
		ctx, err := sessions.Load(httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		s, err := session.From(ctx)
		if err != nil {
			t.Fatal(err)
		}
		seats[i] = &seat{session: s}
	}
	board, err := sessions.UserData(t.Context(), boardUser)
	if err != nil {
		t.Fatal(err)
	}
	coins.Set(board, "coin", somewhere())
	if err := board.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	const rounds = 50
	for range rounds {
		for _, p := range seats { // all see the coin where it is now
			if p.board, err = sessions.UserData(t.Context(), boardUser); err != nil {
				t.Fatal(err)
			}
		}
		seen, _ := coins.Get(seats[0].board, "coin")
		var all sync.WaitGroup
		for _, p := range seats {
			all.Go(func() {
				if err := p.collect(t.Context(), "coin", seen); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	total := int64(0)
	for _, p := range seats {
		total += score.Get(p.session)
	}
	if total != rounds {
		t.Errorf("the players have %d coins, want %d", total, rounds)
	}
}
