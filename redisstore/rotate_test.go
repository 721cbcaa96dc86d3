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
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// age makes a token an hour older, unless the browser has not shown it yet. KEYS[1] is the session's hash.
const age = `
local generation, issued, hash = string.match(redis.call('HGET', KEYS[1], '@token'), '^(%d+)%.(%d+)%.(.+)$')
local state, before, number = string.match(redis.call('HGET', KEYS[1], '@previous') or '', '^(%a+)%.([^.]+)%.(%d+)$')
if state == 'pending' then return 0 end
if state == 'grace' then redis.call('HSET', KEYS[1], '@previous', 'grace.' .. before .. '.' .. number - 3600000) end
if issued == '0' then issued = redis.call('HGET', KEYS[1], '@created') end
redis.call('HSET', KEYS[1], '@token', generation .. '.' .. issued - 3600000 .. '.' .. hash)
redis.call('HINCRBY', KEYS[1], '@rev', 1)
return 1`

// TestConcurrentRotationOnTwoNodesKeepsSession: a browser sends several requests at once, to two nodes with a near cache each, fifty times, and most times its
// token is old. It is never signed out, never taken for a thief, and gets one new token at a time.
func TestConcurrentRotationOnTwoNodesKeepsSession(t *testing.T) {
	const hits session.Counter = "hits"
	node := redistest.Start(t, redistest.Options{})
	var mu sync.Mutex
	told := map[session.EventKind]int{}
	cfg := session.Config{Cookie: session.Cookie{Insecure: true}, RotateEvery: 30 * time.Minute, OnEvent: func(_ context.Context, e session.Event) {
		mu.Lock()
		defer mu.Unlock()
		told[e.Kind]++
	}}
	var handle string
	h := session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		if r.Method == http.MethodPost {
			hits.Add(s, 1)
		}
		if hits.Get(s) == 0 {
			return fmt.Errorf("signed out: %+v", s.Info())
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
		m, err := session.New(mustOpen(t, "redis://"+node.Addr(), redisstore.Options{}), cfg)
		if err != nil {
			t.Fatal(err)
		}
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
			t.Errorf("%s: %d %s", method, w.Code, w.Body)
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
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{node.Addr()}, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	posted := int64(1)
	for range 50 {
		if err := client.Do(t.Context(), client.B().Eval().Script(age).Numkeys(1).Key("coatcheck:{"+bucket+"}:s:"+name).Build()).Error(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond) // both nodes hear that it is old
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
					request(nodes[(i+1)%2], http.MethodGet) // which may not have heard of the new token yet
				}
			})
		}
		wg.Wait()
		if cookies.Load() > 1 {
			t.Errorf("%d new tokens at the same time", cookies.Load())
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	request(nodes[1], http.MethodGet)
	if told[session.EventStolen]+told[session.EventRefused] > 0 || told[session.EventCreated] != 1 || told[session.EventRotated] < 20 {
		t.Errorf("told of %v", told)
	}
	values, err := client.Do(t.Context(), client.B().Hget().Key("coatcheck:{"+bucket+"}:s:"+name).Field("hits").Build()).AsInt64()
	if err != nil || values != posted {
		t.Errorf("%d hits, %v, want %d", values, err, posted)
	}
}
