package sessionprom_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/coatcheck-go/session"
	sessionprom "github.com/coatcheck-go/session/adapters/prometheus"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/memstore"
)

const n session.Counter = "n"

// store is a memstore with a near cache that is made up.
type store struct {
	*memstore.Store
	cached bool
	down   error        // of Apply
	count  func() error // called before each Count
}

func (s *store) LoadAndReport(ctx context.Context, id driver.ID) (*driver.Record, time.Time, bool, error) {
	r, now, err := s.Load(ctx, id)
	return r, now, s.cached, err
}

func (s *store) Near() (driver.NearStats, bool) {
	return driver.NearStats{Hits: 7, Misses: 3, Drops: 2, Evictions: 1, Bytes: 4096, Copies: 5}, true
}

func (s *store) Apply(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
	if s.down != nil {
		return nil, s.down
	}
	return s.Store.Apply(ctx, id, c)
}

func (s *store) Count(ctx context.Context, sample int) (driver.Count, error) {
	if s.count != nil {
		if err := s.count(); err != nil {
			return driver.Count{}, err
		}
	}
	return s.Store.Count(ctx, sample)
}

// newVisitor returns a function that makes requests of one visitor.
func newVisitor(t *testing.T, m *session.Manager) func(f func(ctx context.Context, s *session.Session) error) {
	cookie := ""
	return func(f func(ctx context.Context, s *session.Session) error) {
		r, w := httptest.NewRequest("GET", "https://shop.example/", nil), httptest.NewRecorder()
		r.Header.Set("Cookie", cookie)
		m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
			return f(r.Context(), s)
		})).ServeHTTP(w, r)
		for _, c := range w.Result().Cookies() {
			if c.MaxAge >= 0 { // not deleted
				cookie = c.Name + "=" + c.Value
			}
		}
	}
}

func add(_ context.Context, s *session.Session) error { n.Add(s, 1); return nil }

// traffic makes a collector and a few requests. The store is down for the last one.
func traffic(t *testing.T, s *store) *prometheus.Registry {
	registry := prometheus.NewPedanticRegistry()
	metrics := sessionprom.New(s, sessionprom.Options{Logger: slog.New(slog.DiscardHandler)})
	registry.MustRegister(metrics)
	m, err := session.New(s, session.Config{Observers: []session.Observer{metrics}})
	if err != nil {
		t.Fatal(err)
	}
	visit := newVisitor(t, m)
	visit(add)
	visit(add)
	s.cached = true
	visit(add)
	visit(func(ctx context.Context, ses *session.Session) error {
		return ses.SignIn(ctx, session.Login{User: "ada"})
	})
	s.down = errors.New("connection refused")
	visit(add)
	synctest.Wait()
	return registry
}

// scrape returns what a server gets from the registry.
func scrape(t *testing.T, g prometheus.Gatherer) string {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(g, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	b, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("%d, %v: %s", w.Code, err, b)
	}
	return string(b)
}

// TestScrape: a scrape has each figure, and promlint finds nothing to change.
func TestScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := traffic(t, &store{Store: memstore.New()})
		if first := scrape(t, registry); strings.Contains(first, "coatcheck_live_sessions{") {
			t.Error("the first scrape has counted sessions: it has waited for the store")
		}
		synctest.Wait() // for the count
		text := scrape(t, registry)
		for _, want := range []string{
			`coatcheck_operations_total{operation="load",outcome="ok",source="store"} 1`,
			`coatcheck_operations_total{operation="load",outcome="ok",source="copy"} 3`,
			`coatcheck_operations_total{operation="commit",outcome="ok",source="store"} 2`,
			`coatcheck_operations_total{operation="commit",outcome="unavailable",source="store"} 1`,
			`coatcheck_operations_total{operation="touch",outcome="unavailable",source="store"} 0`,
			`coatcheck_operation_duration_seconds_count{operation="load"} 1`,
			`coatcheck_operation_duration_seconds_count{operation="commit"} 3`,
			`coatcheck_events_total{kind="signed_in"} 1`,
			`coatcheck_events_total{kind="stolen"} 0`,
			`coatcheck_near_cache_reads_total{result="hit"} 7`,
			`coatcheck_near_cache_reads_total{result="miss"} 3`,
			`coatcheck_near_cache_drops_total 2`,
			`coatcheck_near_cache_evictions_total 1`,
			`coatcheck_near_cache_copies 5`,
			`coatcheck_near_cache_bytes 4096`,
			`coatcheck_live_sessions{visitor="signed_in"} 1`,
			`coatcheck_live_sessions{visitor="anonymous"} 0`,
			`coatcheck_live_sessions_exact 1`,
			`coatcheck_count_failures_total 0`,
		} {
			if !strings.Contains(text, want+"\n") {
				t.Errorf("the scrape lacks %s", want)
			}
		}
		problems, err := testutil.GatherAndLint(registry)
		if err != nil || len(problems) > 0 {
			t.Errorf("promlint: %+v, %v", problems, err)
		}
		if t.Failed() {
			t.Log(text)
		}
	})
}

// TestStoreThatCannotCount: a scrape does not wait for it, one count runs at a time, and a failure
// removes the old figures. A panic does not end the process.
func TestStoreThatCannotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counts := 0
		s := &store{Store: memstore.New(), count: func() error { counts++; return nil }}
		registry := traffic(t, s)
		next := func() string {
			scrape(t, registry)
			synctest.Wait()
			text := scrape(t, registry)
			time.Sleep(time.Minute)
			return text
		}
		if text := next(); !strings.Contains(text, "coatcheck_live_sessions{") || counts != 1 {
			t.Fatalf("%d counts\n%s", counts, text)
		}
		s.count = func() error { return errors.New("NOPERM") }
		if text := next(); strings.Contains(text, "coatcheck_live_sessions{") || !strings.Contains(text, "coatcheck_count_failures_total 1\n") {
			t.Errorf("after a failure:\n%s", text)
		}
		s.count = func() error { panic("count") }
		if text := next(); !strings.Contains(text, "coatcheck_count_failures_total 2\n") {
			t.Errorf("after a panic:\n%s", text)
		}
		hang, counts := make(chan struct{}), 0
		s.count = func() error { counts++; <-hang; return nil }
		for range 3 {
			next()
		}
		if counts != 1 {
			t.Errorf("%d counts at the same time", counts)
		}
		close(hang)
	})
}

var (
	metricName = regexp.MustCompile(`coatcheck_\w+`)
	selector   = regexp.MustCompile(`(coatcheck_\w+)\{([^}]*)\}`)
	labelName  = regexp.MustCompile(`(\w+)\s*(?:=|!)`)
	grouping   = regexp.MustCompile(`by \(([^)]*)\)`)
)

// TestDashboardNamesExistingMetrics: each query of dashboard.json uses metrics and labels that a
// scrape has, and each metric is on the dashboard.
func TestDashboardNamesExistingMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := traffic(t, &store{Store: memstore.New()})
		scrape(t, registry)
		synctest.Wait()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		labels, used := map[string][]string{}, map[string]bool{}
		for _, f := range families {
			names := []string{"le", "instance", "job"}
			for _, l := range f.GetMetric()[0].GetLabel() {
				names = append(names, l.GetName())
			}
			labels[f.GetName()] = names
		}
		var dashboard struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		b, err := os.ReadFile("dashboard.json")
		if err == nil {
			err = json.Unmarshal(b, &dashboard)
		}
		if err != nil || len(dashboard.Panels) < 8 {
			t.Fatalf("dashboard.json: %d panels, %v", len(dashboard.Panels), err)
		}
		check := func(panel, metric, list string, pattern *regexp.Regexp) {
			for _, m := range pattern.FindAllStringSubmatch(list, -1) {
				if !slices.Contains(labels[metric], m[len(m)-1]) {
					t.Errorf("panel %q uses label %q, which %s does not have", panel, m[len(m)-1], metric)
				}
			}
		}
		for _, p := range dashboard.Panels {
			for _, target := range p.Targets {
				family := ""
				for _, name := range metricName.FindAllString(target.Expr, -1) {
					family = name
					for _, suffix := range []string{"_bucket", "_count", "_sum"} {
						if base, ok := strings.CutSuffix(name, suffix); ok && labels[base] != nil {
							family = base
						}
					}
					if used[family] = true; labels[family] == nil {
						t.Errorf("panel %q uses %s, which a scrape does not have", p.Title, name)
					}
				}
				for _, m := range selector.FindAllStringSubmatch(target.Expr, -1) {
					check(p.Title, family, m[2], labelName)
				}
				for _, m := range grouping.FindAllStringSubmatch(target.Expr, -1) {
					check(p.Title, family, m[1], regexp.MustCompile(`(\w+)`))
				}
			}
		}
		for name := range labels {
			if !used[name] {
				t.Errorf("no panel shows %s", name)
			}
		}
	})
}
