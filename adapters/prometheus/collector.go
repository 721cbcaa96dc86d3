// Package sessionprom exports metrics of sessions to Prometheus.
//
//	metrics := sessionprom.New(store, sessionprom.Options{})
//	prometheus.MustRegister(metrics)
//	sessions, err := session.New(store, session.Config{Observers: []session.Observer{metrics}})
//
// docs/observability.md lists the metrics, and what to alert on. dashboard.json is a dashboard for
// Grafana.
package sessionprom

import (
	"context"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// Collector collects the metrics of the Managers that have it in Config.Observers. Register it
// once. It is safe for concurrent use.
type Collector struct {
	operations *prometheus.CounterVec
	durations  *prometheus.HistogramVec
	events     *prometheus.CounterVec
	hits       prometheus.Counter // operations of the most frequent kind
	near       driver.NearReporter
	live       *live // nil: the store does not count
}

var _ session.Observer = (*Collector)(nil)
var _ prometheus.Collector = (*Collector)(nil)

// defaultBuckets are the upper bounds of the histogram of durations, in seconds.
var defaultBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}

// The operations and the outcomes that exist from the beginning, so that a rate sees their first
// increase.
var (
	operations = []string{
		session.OperationLoad, session.OperationCreate, session.OperationCommit, session.OperationUpdate,
		session.OperationTouch, session.OperationSignIn, session.OperationEnd, session.OperationEndUser,
		session.OperationEndAll, session.OperationList,
	}
	outcomes = []string{session.OutcomeOK, session.OutcomeUnknown, session.OutcomeUnavailable}
	kinds    = []session.EventKind{
		session.EventCreated, session.EventSignedIn, session.EventRenewed, session.EventRotated,
		session.EventSignedOut, session.EventRevoked, session.EventEvicted, session.EventExpired,
		session.EventStolen, session.EventRefused,
	}
)

// The values of the label "source".
const (
	fromStore = "store"
	fromCopy  = "copy"
)

// New returns a Collector for Managers on store. It asks the store for the figures of its near
// cache and for the number of live sessions, if the store has these.
func New(store driver.Store, o Options) *Collector {
	if o.Buckets == nil {
		o.Buckets = defaultBuckets
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	c := &Collector{
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coatcheck_operations_total",
			Help: "Calls of the store, by operation, outcome, and whether a copy in this process answered.",
		}, []string{"operation", "outcome", "source"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "coatcheck_operation_duration_seconds",
			Help:    "How long the store took, by operation. Reads that a copy answered are left out.",
			Buckets: o.Buckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}, []string{"operation"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coatcheck_events_total",
			Help: "Events of sessions on this node, by kind.",
		}, []string{"kind"}),
	}
	for _, operation := range operations {
		c.durations.WithLabelValues(operation)
		for _, outcome := range outcomes {
			c.operations.WithLabelValues(operation, outcome, fromStore)
		}
	}
	for _, kind := range kinds {
		c.events.WithLabelValues(label(kind))
	}
	c.hits = c.operations.WithLabelValues(session.OperationLoad, session.OutcomeOK, fromCopy)
	c.near, _ = store.(driver.NearReporter)
	c.live = newLive(store, &o)
	return c
}

// label returns a kind of event without spaces.
func label(kind session.EventKind) string { return strings.ReplaceAll(string(kind), " ", "_") }

// Start implements session.Observer.
func (c *Collector) Start(ctx context.Context, _ session.Operation) context.Context { return ctx }

// End implements session.Observer.
func (c *Collector) End(_ context.Context, o session.Operation) {
	switch {
	case o.Cached && o.Name == session.OperationLoad && o.Outcome == session.OutcomeOK:
		c.hits.Inc()
	case o.Cached:
		c.operations.WithLabelValues(o.Name, o.Outcome, fromCopy).Inc()
	default:
		c.operations.WithLabelValues(o.Name, o.Outcome, fromStore).Inc()
		c.durations.WithLabelValues(o.Name).Observe(o.Duration.Seconds())
	}
}

// Event implements session.Observer.
func (c *Collector) Event(_ context.Context, e session.Event) {
	c.events.WithLabelValues(label(e.Kind)).Inc()
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(descs chan<- *prometheus.Desc) {
	c.operations.Describe(descs)
	c.durations.Describe(descs)
	c.events.Describe(descs)
	for _, d := range []*prometheus.Desc{nearReads, nearDrops, nearEvictions, nearCopies, nearBytes, liveSessions, liveExact, countFailures} {
		descs <- d
	}
}

// Collect implements prometheus.Collector. It does not wait for the store: if live sessions are to
// be counted, it starts the count and returns the result of the last one.
func (c *Collector) Collect(metrics chan<- prometheus.Metric) {
	c.operations.Collect(metrics)
	c.durations.Collect(metrics)
	c.events.Collect(metrics)
	c.collectNear(metrics)
	c.live.collect(metrics)
}

var (
	nearReads = prometheus.NewDesc("coatcheck_near_cache_reads_total",
		"Reads of sessions, by whether a copy in the near cache answered.", []string{"result"}, nil)
	nearDrops = prometheus.NewDesc("coatcheck_near_cache_drops_total",
		"Copies dropped because the session changed elsewhere.", nil, nil)
	nearEvictions = prometheus.NewDesc("coatcheck_near_cache_evictions_total",
		"Copies dropped to make room.", nil, nil)
	nearCopies = prometheus.NewDesc("coatcheck_near_cache_copies", "Copies in the near cache.", nil, nil)
	nearBytes  = prometheus.NewDesc("coatcheck_near_cache_bytes", "Estimated memory of the copies.", nil, nil)
)

func (c *Collector) collectNear(metrics chan<- prometheus.Metric) {
	if c.near == nil {
		return
	}
	s, ok := c.near.Near()
	if !ok {
		return
	}
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	counter(nearReads, s.Hits, "hit")
	counter(nearReads, s.Misses, "miss")
	counter(nearDrops, s.Drops)
	counter(nearEvictions, s.Evictions)
	metrics <- prometheus.MustNewConstMetric(nearCopies, prometheus.GaugeValue, float64(s.Copies))
	metrics <- prometheus.MustNewConstMetric(nearBytes, prometheus.GaugeValue, float64(s.Bytes))
}
