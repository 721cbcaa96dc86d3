package sessionprom

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck-go/session/driver"
)

// Options configure a [Collector]. The zero Options are good for production.
type Options struct {
	// CountEvery is how often live sessions are counted. A scrape starts the count: without scrapes
	// nothing is counted. Negative: never. Default: 1m.
	CountEvery time.Duration

	// CountSample is how many records the store looks at to count: see driver.SessionCounter. On
	// Redis, 1,000 take the server 5 to 10 ms, and the result is within 3.2% of the number of keys
	// in 95 of 100 cases. Each process that is scraped counts. Negative: all records, for an exact
	// count. Default: 1000.
	CountSample int

	// Buckets are the upper bounds of the histogram of durations, in seconds. A server that scrapes
	// native histograms does not use them. Default: 15 bounds from 100µs to 5s.
	Buckets []float64

	// Logger gets an error if counting fails. Default: slog.Default().
	Logger *slog.Logger
}

// countTimeout bounds one count.
const countTimeout = 30 * time.Second

var (
	liveSessions = prometheus.NewDesc("coatcheck_live_sessions",
		"Live sessions of all processes that share the store, as last counted.", []string{"visitor"}, nil)
	liveExact = prometheus.NewDesc("coatcheck_live_sessions_exact",
		"1 if the last count of live sessions was exact, 0 if it was an estimate.", nil, nil)
	countFailures = prometheus.NewDesc("coatcheck_count_failures_total",
		"Counts of live sessions that failed.", nil, nil)
)

// live counts live sessions in the background, one count at a time.
type live struct {
	store  driver.SessionCounter
	every  time.Duration
	sample int
	logger *slog.Logger

	mu       sync.Mutex
	counting bool
	began    time.Time // of the last count
	last     driver.Count
	known    bool // last is the result of a count
	failures int
}

func newLive(store driver.Store, o *Options) *live {
	counter, ok := store.(driver.SessionCounter)
	if !ok || o.CountEvery < 0 {
		return nil
	}
	l := &live{store: counter, every: o.CountEvery, sample: o.CountSample, logger: o.Logger}
	if l.every == 0 {
		l.every = time.Minute
	}
	switch {
	case l.sample == 0:
		l.sample = 1000
	case l.sample < 0:
		l.sample = 0
	}
	return l
}

// collect reports the last count, and starts another one if it is due.
func (l *live) collect(metrics chan<- prometheus.Metric) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.counting && (l.began.IsZero() || time.Since(l.began) >= l.every) {
		l.counting, l.began = true, time.Now()
		go l.count()
	}
	metrics <- prometheus.MustNewConstMetric(countFailures, prometheus.CounterValue, float64(l.failures))
	if !l.known {
		return
	}
	gauge := func(d *prometheus.Desc, n float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	gauge(liveSessions, float64(l.last.SignedIn), "signed_in")
	gauge(liveSessions, float64(l.last.Anonymous), "anonymous")
	exact := 0.0
	if l.last.Exact {
		exact = 1
	}
	gauge(liveExact, exact)
}

// count counts once. After a failure the last count is no longer reported.
func (l *live) count() {
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	var n driver.Count
	ok := false
	defer func() {
		if why := recover(); why != nil { // here it would end the process
			l.logger.Error("session: the store panicked while it counted", "panic", why, "stack", string(debug.Stack()))
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.counting, l.last, l.known = false, n, ok
		if !ok {
			l.failures++
		}
	}()
	n, err := l.store.Count(ctx, l.sample)
	if ok = err == nil; !ok {
		l.logger.Error("session: live sessions were not counted", "error", err)
	}
}
