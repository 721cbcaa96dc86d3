// Package sessionotel makes traces and metrics of sessions with OpenTelemetry.
//
//	observer, err := sessionotel.New(store, sessionotel.Options{})
//	sessions, err := session.New(store, session.Config{Observers: []session.Observer{observer}})
//
// Each call of the store is a span, a child of the request's span. See docs/observability.md for
// the names of spans, metrics and attributes. Nothing contains a token, a value or a user.
package sessionotel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
)

// Scope is the name of the tracer and of the meter.
const Scope = "github.com/coatcheck-go/session/adapters/otel"

// The attributes of spans and metrics. session.id and error.type are names of OpenTelemetry's
// semantic conventions.
const (
	// AttrSession is the handle of the session, never its token. Spans have it, metrics do not.
	AttrSession = attribute.Key("session.id")
	// AttrOperation is session.Operation.Name.
	AttrOperation = attribute.Key("coatcheck.operation")
	// AttrOutcome is session.Operation.Outcome.
	AttrOutcome = attribute.Key("coatcheck.outcome")
	// AttrCached is true if a copy in this process answered.
	AttrCached = attribute.Key("coatcheck.cached")
	// AttrError is the outcome of an operation that the store failed: unknown or unavailable.
	AttrError = attribute.Key("error.type")
	// AttrEvent is the kind of an event, with underscores for spaces.
	AttrEvent = attribute.Key("coatcheck.event")
)

// Options configure an [Observer]. The zero Options use the global providers.
type Options struct {
	// TracerProvider makes the spans. For metrics alone, use the one of package
	// go.opentelemetry.io/otel/trace/noop. Default: the global one.
	TracerProvider trace.TracerProvider

	// MeterProvider makes the metrics. For traces alone, use the one of package
	// go.opentelemetry.io/otel/metric/noop. Default: the global one.
	MeterProvider metric.MeterProvider

	// CountSample is how many records the store looks at each time that metrics are collected, to
	// count live sessions: see driver.SessionCounter. The collection waits for the count. Negative:
	// all records, for an exact count. Default: 0, live sessions are not counted.
	CountSample int

	// Logger gets an error if counting fails. Default: slog.Default().
	Logger *slog.Logger
}

// Observer is a session.Observer. It is safe for concurrent use.
type Observer struct {
	tracer    trace.Tracer
	durations metric.Float64Histogram
	events    metric.Int64Counter
}

var _ session.Observer = (*Observer)(nil)

// New returns an Observer for Managers on store. It registers the metrics, and returns the error of
// the MeterProvider.
func New(store driver.Store, o Options) (*Observer, error) {
	if o.TracerProvider == nil {
		o.TracerProvider = otel.GetTracerProvider()
	}
	if o.MeterProvider == nil {
		o.MeterProvider = otel.GetMeterProvider()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	x := &Observer{tracer: o.TracerProvider.Tracer(Scope)}
	meter := o.MeterProvider.Meter(Scope)
	var err, failed error
	x.durations, err = meter.Float64Histogram("coatcheck.operation.duration", metric.WithUnit("s"),
		metric.WithDescription("How long the store took."),
		metric.WithExplicitBucketBoundaries(.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5))
	failed = errors.Join(failed, err)
	x.events, err = meter.Int64Counter("coatcheck.events", metric.WithUnit("{event}"),
		metric.WithDescription("Events of sessions on this node."))
	failed = errors.Join(failed, err)
	if near, ok := store.(driver.NearReporter); ok {
		failed = errors.Join(failed, observeNear(meter, near))
	}
	if counter, ok := store.(driver.SessionCounter); ok && o.CountSample != 0 {
		failed = errors.Join(failed, observeLive(meter, counter, &o))
	}
	if failed != nil {
		return nil, fmt.Errorf("sessionotel: %w", failed)
	}
	return x, nil
}

type spanKey struct{}

// Start implements session.Observer. It begins a span.
func (x *Observer) Start(ctx context.Context, o session.Operation) context.Context {
	attrs := make([]attribute.KeyValue, 1, 2)
	attrs[0] = AttrOperation.String(o.Name)
	if o.Handle != "" {
		attrs = append(attrs, AttrSession.String(o.Handle))
	}
	ctx, span := x.tracer.Start(ctx, "session "+o.Name, trace.WithAttributes(attrs...))
	// With a key of its own, End never ends another span.
	return context.WithValue(ctx, spanKey{}, span)
}

// End implements session.Observer. It ends the span. The span's status is an error only if the
// store failed.
func (x *Observer) End(ctx context.Context, o session.Operation) {
	attrs := []attribute.KeyValue{
		AttrOperation.String(o.Name), AttrOutcome.String(o.Outcome), AttrCached.Bool(o.Cached),
	}
	failed := o.Outcome == session.OutcomeUnknown || o.Outcome == session.OutcomeUnavailable
	if failed {
		attrs = append(attrs, AttrError.String(o.Outcome))
	}
	x.durations.Record(ctx, o.Duration.Seconds(), metric.WithAttributes(attrs...))
	span, ok := ctx.Value(spanKey{}).(trace.Span)
	if !ok {
		return
	}
	defer span.End()
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(attrs[1:]...)
	if o.Handle != "" { // an Update may have stored the session
		span.SetAttributes(AttrSession.String(o.Handle))
	}
	if failed && o.Err != nil {
		span.SetStatus(codes.Error, o.Err.Error())
	}
}

// Event implements session.Observer. It counts the event, and adds it to the request's span.
func (x *Observer) Event(ctx context.Context, e session.Event) {
	kind := AttrEvent.String(strings.ReplaceAll(string(e.Kind), " ", "_"))
	x.events.Add(ctx, 1, metric.WithAttributes(kind))
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	attrs := []attribute.KeyValue{kind}
	if e.Handle != "" {
		attrs = append(attrs, AttrSession.String(e.Handle))
	}
	span.AddEvent("session event", trace.WithAttributes(attrs...))
}
