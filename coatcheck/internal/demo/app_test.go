package demo_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"sync"
	"testing"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/coatcheck/internal/demo"
	"github.com/coatcheck-go/session/memstore"
)

// app is the demo with a store in memory, and its log.
type app struct {
	handler http.Handler
	log     *buffer
}

func mustNewApp(t *testing.T) *app {
	t.Helper()
	return mustNewAppWith(t, session.Config{})
}

func mustNewAppWith(t *testing.T, cfg session.Config) *app {
	t.Helper()
	return mustNewAppWithin(t, t.Context(), cfg)
}

// mustNewAppWithin returns a demo that stops when ctx is done.
func mustNewAppWithin(t *testing.T, ctx context.Context, cfg session.Config) *app {
	t.Helper()
	store := memstore.New()
	t.Cleanup(func() { store.Close() })
	a := &app{log: new(buffer)}
	var err error
	cfg.Logger = slog.New(slog.NewTextHandler(a.log, nil))
	a.handler, _, err = demo.New(ctx, store, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// buffer is a bytes.Buffer for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func mustEqual[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
