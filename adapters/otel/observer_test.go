package sessionotel_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/coatcheck-go/session"
	sessionotel "github.com/coatcheck-go/session/adapters/otel"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

const n session.Counter = "n"

// store is a memstore with a near cache that is made up, and a span for each commit, as the client
// of a server might make it.
type store struct {
	*memstore.Store
	provider *trace.TracerProvider
	down     error
}

func (s *store) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	ctx, span := s.provider.Tracer("redis").Start(ctx, "EVALSHA")
	defer span.End()
	if s.down != nil {
		return nil, s.down
	}
	return s.Store.Apply(ctx, id, c)
}

func (s *store) Near() (driver.NearStats, bool) {
	return driver.NearStats{Hits: 7, Misses: 3, Drops: 2, Evictions: 1, Bytes: 4096, Copies: 5}, true
}

// site serves one visitor, with all telemetry in memory.
type site struct {
	t      *testing.T
	store  *store
	spans  *tracetest.InMemoryExporter
	reader *metric.ManualReader
	m      *session.Manager
	cookie string
}

func newSite(t *testing.T) *site {
	s := &site{t: t, spans: tracetest.NewInMemoryExporter(), reader: metric.NewManualReader()}
	provider := trace.NewTracerProvider(trace.WithSyncer(s.spans))
	s.store = &store{Store: memstore.New(), provider: provider}
	observer, err := sessionotel.New(s.store, sessionotel.Options{
		TracerProvider: provider, MeterProvider: metric.NewMeterProvider(metric.WithReader(s.reader)), CountSample: 100,
	})
	if err == nil {
		s.m, err = session.New(s.store, session.Config{Observers: []session.Observer{observer}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// request makes a request inside a span, and returns the spans that ended meanwhile by name.
func (s *site) request(f func(ctx context.Context, s *session.Session) error) map[string]tracetest.SpanStub {
	s.spans.Reset()
	ctx, span := s.store.provider.Tracer("http").Start(s.t.Context(), "GET")
	r := httptest.NewRequestWithContext(ctx, "GET", "https://shop.example/", nil)
	r.Header.Set("Cookie", s.cookie)
	w := httptest.NewRecorder()
	s.m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, ses *session.Session) error {
		return f(r.Context(), ses)
	})).ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		s.cookie = c.Name + "=" + c.Value
	}
	span.End()
	found := map[string]tracetest.SpanStub{}
	for _, span := range s.spans.GetSpans() {
		found[span.Name] = span
	}
	return found
}

func value(attrs []attribute.KeyValue, key attribute.Key) string {
	for _, a := range attrs {
		if a.Key == key {
			return a.Value.String()
		}
	}
	return ""
}

// TestSpans: an operation is a child of the request's span and the parent of the client's. It has
// the handle and the outcome, and no token.
func TestSpans(t *testing.T) {
	s := newSite(t)
	add := func(ctx context.Context, ses *session.Session) error { n.Add(ses, 1); return nil }
	created := s.request(add)["GET"]
	var handle string
	spans := s.request(func(ctx context.Context, ses *session.Session) error {
		handle = ses.Info().Handle
		return add(ctx, ses)
	})
	for _, name := range []string{"session load", "session commit"} {
		span := spans[name]
		if span.Parent.SpanID() != spans["GET"].SpanContext.SpanID() {
			t.Errorf("%s is not a child of the request's span", name)
		}
		if value(span.Attributes, sessionotel.AttrSession) != handle || value(span.Attributes, sessionotel.AttrOutcome) != "ok" ||
			value(span.Attributes, sessionotel.AttrCached) != "false" || span.Status.Code != codes.Unset {
			t.Errorf("%s: %v, %v", name, span.Attributes, span.Status)
		}
	}
	if spans["EVALSHA"].Parent.SpanID() != spans["session commit"].SpanContext.SpanID() {
		t.Error("the client's span is not a child of the operation's")
	}
	if len(created.Events) != 1 || value(created.Events[0].Attributes, sessionotel.AttrEvent) != "created" {
		t.Errorf("the events of the request's span: %+v", created.Events)
	}
	s.store.down = errors.New("connection refused")
	if span := s.request(add)["session commit"]; span.Status.Code != codes.Error || span.Status.Description != "connection refused" ||
		value(span.Attributes, sessionotel.AttrError) != "unavailable" {
		t.Errorf("an outage: %v, %v", span.Status, span.Attributes)
	}
	_, token, _ := strings.Cut(s.cookie, "=")
	if all := fmt.Sprintf("%+v %+v", spans, created); strings.Contains(all, token) || handle == "" {
		t.Error("a span contains the token")
	}
}

// TestMetrics: durations by operation and outcome, events, the near cache and live sessions, with
// the names that docs/observability.md has.
func TestMetrics(t *testing.T) {
	s := newSite(t)
	for range 3 {
		s.request(func(_ context.Context, ses *session.Session) error { n.Add(ses, 1); return nil })
	}
	s.request(func(ctx context.Context, ses *session.Session) error {
		return ses.SignIn(ctx, session.Login{User: "ada"})
	})
	var all metricdata.ResourceMetrics
	if err := s.reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, m := range all.ScopeMetrics[0].Metrics {
		got[m.Name] = text(m.Data)
	}
	for name, want := range map[string]string{
		"coatcheck.operation.duration":   "3 cached=false operation=load outcome=ok",
		"coatcheck.events":               "1 event=signed_in",
		"coatcheck.near_cache.reads":     "7 cached=true",
		"coatcheck.near_cache.drops":     "2",
		"coatcheck.near_cache.evictions": "1",
		"coatcheck.near_cache.copies":    "5",
		"coatcheck.near_cache.size":      "4096",
		"coatcheck.live_sessions":        "1 exact=true visitor=signed_in",
	} {
		if !strings.Contains(got[name], want+"\n") {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if len(got) != 8 {
		t.Errorf("%d metrics: add the new ones to this test and to docs/observability.md: %q", len(got), got)
	}
}

// text returns a line for each series of a metric: its number and its attributes.
func text(data metricdata.Aggregation) string {
	var b strings.Builder
	line := func(n int64, attrs attribute.Set) {
		fmt.Fprint(&b, n)
		for _, a := range attrs.ToSlice() {
			fmt.Fprintf(&b, " %s=%s", strings.TrimPrefix(string(a.Key), "coatcheck."), a.Value.String())
		}
		b.WriteString("\n")
	}
	switch d := data.(type) {
	case metricdata.Histogram[float64]:
		for _, p := range d.DataPoints {
			line(int64(p.Count), p.Attributes)
		}
	case metricdata.Sum[int64]:
		for _, p := range d.DataPoints {
			line(p.Value, p.Attributes)
		}
	}
	return b.String()
}

// TestSpanOfATouchEnds: a touch is written after the response. Its span ends, too.
func TestSpanOfATouchEnds(t *testing.T) {
	s := newSite(t)
	s.request(func(_ context.Context, ses *session.Session) error { n.Add(ses, 1); return nil })
	s.request(func(_ context.Context, ses *session.Session) error { n.Get(ses); return nil })
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		for _, span := range s.spans.GetSpans() {
			if span.Name == "session touch" {
				return
			}
		}
		if time.Since(begin) > time.Minute {
			t.Fatal("the span of the touch does not end")
		}
	}
}
