package redisstore_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// BenchmarkHandlerWrite is a request that adds to a counter, all but net/http's own part.
func BenchmarkHandlerWrite(b *testing.B) {
	const hits session.Counter = "hits"
	m, err := session.New(open(b, "redis://"+redistest.Start(b, redistest.Options{}).Addr(), redisstore.Options{}), session.Config{})
	if err != nil {
		b.Fatal(err)
	}
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
