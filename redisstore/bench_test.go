package redisstore_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// benchmarkStore runs an operation in parallel. Each goroutine has a session of its own.
func benchmarkStore(b *testing.B, run func(s *redisstore.Store, id driver.ID, o *driver.RecordSpec) error) {
	s := mustOpen(b, "redis://"+redistest.Start(b, redistest.Options{}).Addr(), redisstore.Options{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		id, o := newSession()
		if _, err := s.Create(b.Context(), id, o, &driver.Change{Verifier: o.Verifier}); err != nil {
			b.Error(err)
		}
		for pb.Next() {
			if err := run(s, id, o); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkReadWarm reads a session from the near cache.
func BenchmarkReadWarm(b *testing.B) {
	benchmarkStore(b, func(s *redisstore.Store, id driver.ID, _ *driver.RecordSpec) error {
		_, _, err := s.Load(b.Context(), id)
		return err
	})
}

// BenchmarkReadFresh reads a session from the server.
func BenchmarkReadFresh(b *testing.B) {
	benchmarkStore(b, func(s *redisstore.Store, id driver.ID, _ *driver.RecordSpec) error {
		_, _, err := s.LoadFresh(b.Context(), id)
		return err
	})
}

// BenchmarkAdd adds to a counter.
func BenchmarkAdd(b *testing.B) {
	benchmarkStore(b, func(s *redisstore.Store, id driver.ID, o *driver.RecordSpec) error {
		_, err := s.Apply(b.Context(), id, increment(o))
		return err
	})
}

// BenchmarkHandlerWrite serves a request that adds to a counter, without net/http's own part.
func BenchmarkHandlerWrite(b *testing.B) {
	const hits session.Counter = "hits"
	url := "redis://" + redistest.Start(b, redistest.Options{}).Addr()
	m, err := session.New(mustOpen(b, url, redisstore.Options{}), session.Config{})
	must(b, err)
	h := m.Handler(session.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		hits.Add(s, 1)
		w.WriteHeader(http.StatusNoContent)
		return nil
	}))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/", nil)
		for pb.Next() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			for _, c := range w.Result().Cookies() {
				r.Header.Set("Cookie", c.Name+"="+c.Value)
			}
		}
	})
}

var backgroundSessions = flag.Int("sessions", 10_000, "how many other sessions BenchmarkSignOutEverywhere stores")

// BenchmarkSignOutEverywhere ends the 10 sessions of a user, and compares that with one HGETALL:
//
//   - "listed": the node has listed the sessions before;
//   - "unknown": the node knows nothing of the sessions;
//   - "alone": as "listed", and no other node has copies;
//   - "served": how long another node, which has copies, still serves one of them.
//
// The other node runs in this process. Except in "alone", it takes processor time from the node
// that is measured. To measure the published figures, run:
//
//	go test ./redisstore -run '^$' -bench SignOutEverywhere -benchtime 2000x -sessions 1000000
func BenchmarkSignOutEverywhere(b *testing.B) {
	node := redistest.Start(b, redistest.Options{})
	url := "redis://" + node.Addr()
	a, stranger, other := mustOpen(b, url, redisstore.Options{}), mustOpen(b, url, redisstore.Options{}),
		mustOpen(b, url, redisstore.Options{})
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{node.Addr()}, DisableCache: true, AlwaysPipelining: true, PipelineMultiplex: -1,
	})
	must(b, err)
	defer client.Close()
	mustPopulate(b, client, *backgroundSessions)
	var hgetall, listed, unknown, alone, served []time.Duration
	user := 0
	signOut := func(s *redisstore.Store, list, copies bool) time.Duration {
		user++
		name := fmt.Sprint("user", user)
		var ids []driver.ID
		for range 10 {
			id, in := newSignIn(name, 0)
			in.Change.Ops = payload
			_, err := a.SignIn(b.Context(), id, in)
			must(b, err)
			for range 2 {
				if copies {
					_, _, err := other.Load(b.Context(), id)
					must(b, err)
				}
			}
			ids = append(ids, id)
		}
		if list {
			_, err := s.Sessions(b.Context(), ownerOf(name), driver.SessionCursor{}, 100)
			must(b, err)
		}
		time.Sleep(2 * time.Millisecond)
		begin := time.Now()
		ended, err := s.EndUser(b.Context(), ownerOf(name), driver.Selection{})
		done := time.Now()
		if err != nil || len(ended) != 10 {
			b.Fatalf("EndUser ended %d sessions, error %v, want 10", len(ended), err)
		}
		if !copies {
			return done.Sub(begin)
		}
		var last time.Duration // when the other node last served one of the sessions
		for left := ids; len(left) > 0; {
			left = slices.DeleteFunc(left, func(id driver.ID) bool {
				_, _, err := other.Load(b.Context(), id)
				if err == nil {
					last = time.Since(done)
				}
				return errors.Is(err, driver.ErrNotFound)
			})
		}
		served = append(served, last)
		return done.Sub(begin)
	}
	for b.Loop() {
		id, in := newSignIn("one", 1)
		in.Change.Ops = payload
		_, err := a.SignIn(b.Context(), id, in)
		must(b, err)
		time.Sleep(2 * time.Millisecond)
		begin := time.Now()
		_, err = client.Do(b.Context(), client.B().Hgetall().Key(sessionKey(id)).Build()).AsStrMap()
		must(b, err)
		hgetall = append(hgetall, time.Since(begin))
		listed = append(listed, signOut(a, true, true))
		unknown = append(unknown, signOut(stranger, false, true))
		alone = append(alone, signOut(a, true, false))
	}
	b.ReportMetric(0, "ns/op")
	for _, m := range []struct {
		name string
		all  []time.Duration
	}{{"HGETALL", hgetall}, {"listed", listed}, {"unknown", unknown}, {"alone", alone}, {"served", served}} {
		slices.Sort(m.all)
		b.ReportMetric(float64(m.all[len(m.all)/2].Nanoseconds())/1000, m.name+"-p50-µs")
		b.ReportMetric(float64(m.all[len(m.all)*99/100].Nanoseconds())/1000, m.name+"-p99-µs")
	}
	b.ReportMetric(float64(listed[len(listed)/2])/float64(hgetall[len(hgetall)/2]), "listed/HGETALL")
	b.ReportMetric(float64(alone[len(alone)/2])/float64(hgetall[len(hgetall)/2]), "alone/HGETALL")
	b.ReportMetric(float64(unknown[len(unknown)/2])/float64(hgetall[len(hgetall)/2]), "unknown/HGETALL")
}

// payload is about 700 bytes of fields.
var payload = func() (ops []driver.Op) {
	for i := range 10 {
		value := []byte(`"` + strings.Repeat("x", 62) + `"`)
		ops = append(ops, driver.Op{Kind: driver.Set, Key: driver.Key(fmt.Sprint("field", i)), Value: value})
	}
	return ops
}()

// mustPopulate stores n anonymous sessions.
func mustPopulate(b *testing.B, c rueidis.Client, n int) {
	_, o := newSession()
	res, err := driver.NewRecord(time.Now(), o, &driver.Change{Verifier: o.Verifier, Ops: payload})
	must(b, err)
	values := driver.Encode(res.Record)
	for n > 0 {
		batch := make([]rueidis.Completed, 0, 1000)
		for range min(n, cap(batch)) {
			id, _ := newSession()
			set := c.B().Hset().Key(sessionKey(id)).FieldValue()
			for _, v := range values {
				set = set.FieldValue(string(v.Key), string(v.Value))
			}
			batch = append(batch, set.Build())
		}
		for _, res := range c.DoMulti(context.Background(), batch...) {
			must(b, res.Error())
		}
		n -= len(batch)
	}
}
