package redisstore_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// age makes a session's token an hour older, unless the browser has not used the token yet. KEYS[1]
// is the session's hash.
const age = `
local sub, state, previous = string.sub, redis.call('HGET', KEYS[1], '@s'), redis.call('HGET', KEYS[1], '@previous')
local function earlier(text, at) return sub(text, 1, at - 1) .. string.format('%012x', tonumber(sub(text, at, at + 11), 16) - 3600000) .. sub(text, at + 12) end
local accepted = previous and sub(previous, 1, 1) == 'a'
if accepted and sub(state, 2, 2) == '1' then return 0 end
if accepted then previous = earlier(previous, 24) end
if previous then
  redis.call('HSET', KEYS[1], '@previous', earlier(previous, 44))
else
  redis.call('HSET', KEYS[1], '@l', earlier(redis.call('HGET', KEYS[1], '@l'), 23))
end
local revision = tonumber(sub(state, 25, 36), 16) + 1
redis.call('HSET', KEYS[1], '@s', sub(state, 1, 24) .. string.format('%012x', revision) .. sub(state, 37))
return 1`

// TestConcurrentRotationOnTwoNodesKeepsSession plays a browser that sends several requests at once
// to two nodes with near caches, fifty times, mostly with an old token. The browser is never signed
// out or taken for a thief, and gets at most one new token at a time.
func TestConcurrentRotationOnTwoNodesKeepsSession(t *testing.T) {
	const hits session.Counter = "hits"
	node := redistest.Start(t, redistest.Options{})
	var mu sync.Mutex
	reported := map[session.EventKind]int{}
	cfg := session.Config{
		Cookie:      session.Cookie{Insecure: true},
		RotateEvery: 30 * time.Minute,
		OnEvent: func(_ context.Context, e session.Event) {
			mu.Lock()
			defer mu.Unlock()
			reported[e.Kind]++
		},
	}
	var handle string
	h := session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		if r.Method == http.MethodPost {
			hits.Add(s, 1)
		}
		if hits.Get(s) == 0 {
			return fmt.Errorf("the visitor is signed out: %+v", s.Info())
		}
		if handle == "" {
			if err := s.Commit(r.Context()); err != nil {
				return err
			}
			handle = s.Info().Handle
		}
		return nil
	})
	var nodes [2]http.Handler
	for i := range nodes {
		m, err := session.New(mustOpen(t, "redis://"+node.Addr(), calm), cfg)
		must(t, err)
		nodes[i] = m.Handler(h)
	}
	var jar string // the browser's cookie
	request := func(on http.Handler, method string) (rotated bool) {
		r := httptest.NewRequestWithContext(t.Context(), method, "/", nil)
		mu.Lock()
		r.Header.Set("Cookie", jar)
		mu.Unlock()
		w := httptest.NewRecorder()
		on.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Errorf("%s: status %d, body %q, want 200", method, w.Code, w.Body)
		}
		for _, c := range w.Result().Cookies() {
			mu.Lock()
			jar, rotated = c.Name+"="+c.Value, true
			mu.Unlock()
		}
		return rotated
	}
	request(nodes[0], http.MethodPost)
	bucket, name, _ := strings.Cut(handle, "-")
	key := "coatcheck:{" + bucket + "}:s:" + name
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{node.Addr()}, DisableCache: true})
	must(t, err)
	defer client.Close()
	posted := int64(1)
	for range 50 {
		must(t, client.Do(t.Context(), client.B().Eval().Script(age).Numkeys(1).Key(key).Build()).Error())
		time.Sleep(5 * time.Millisecond) // both nodes drop their copies
		var wg sync.WaitGroup
		var cookies atomic.Int64
		for i := range 8 {
			method := http.MethodGet
			if i%3 == 0 {
				method = http.MethodPost
				posted++
			}
			wg.Go(func() {
				if request(nodes[i%2], method) {
					cookies.Add(1)
					request(nodes[(i+1)%2], http.MethodGet) // its copy may have the old token
				}
			})
		}
		wg.Wait()
		if cookies.Load() > 1 {
			t.Errorf("the browser gets %d new tokens at the same time, want at most 1", cookies.Load())
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	request(nodes[1], http.MethodGet)
	if reported[session.EventStolen]+reported[session.EventRefused] > 0 || reported[session.EventCreated] != 1 ||
		reported[session.EventRotated] < 20 {
		t.Errorf("events: %v, want none stolen or refused, 1 created, and at least 20 rotated", reported)
	}
	values, err := client.Do(t.Context(), client.B().Hget().Key(key).Field("hits").Build()).AsInt64()
	if err != nil || values != posted {
		t.Errorf("the counter is %d, error %v, want %d", values, err, posted)
	}
}
