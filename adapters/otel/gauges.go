package sessionotel

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/coatcheck-go/session/driver"
)

// observeNear registers the figures of the near cache.
func observeNear(meter metric.Meter, near driver.NearReporter) error {
	reads, err1 := meter.Int64ObservableCounter("coatcheck.near_cache.reads", metric.WithUnit("{read}"),
		metric.WithDescription("Reads of sessions, by whether a copy answered."))
	drops, err2 := meter.Int64ObservableCounter("coatcheck.near_cache.drops", metric.WithUnit("{copy}"),
		metric.WithDescription("Copies dropped because the session changed elsewhere."))
	evictions, err3 := meter.Int64ObservableCounter("coatcheck.near_cache.evictions", metric.WithUnit("{copy}"),
		metric.WithDescription("Copies dropped to make room."))
	copies, err4 := meter.Int64ObservableUpDownCounter("coatcheck.near_cache.copies", metric.WithUnit("{copy}"),
		metric.WithDescription("Copies in the near cache."))
	size, err5 := meter.Int64ObservableUpDownCounter("coatcheck.near_cache.size", metric.WithUnit("By"),
		metric.WithDescription("Estimated memory of the copies."))
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s, ok := near.Near()
		if !ok {
			return nil
		}
		o.ObserveInt64(reads, int64(s.Hits), metric.WithAttributes(AttrCached.Bool(true)))
		o.ObserveInt64(reads, int64(s.Misses), metric.WithAttributes(AttrCached.Bool(false)))
		o.ObserveInt64(drops, int64(s.Drops))
		o.ObserveInt64(evictions, int64(s.Evictions))
		o.ObserveInt64(copies, int64(s.Copies))
		o.ObserveInt64(size, int64(s.Bytes))
		return nil
	}, reads, drops, evictions, copies, size)
	return err
}

// observeLive registers the number of live sessions.
func observeLive(meter metric.Meter, counter driver.SessionCounter, o *Options) error {
	sample, logger := max(0, o.CountSample), o.Logger
	_, err := meter.Int64ObservableUpDownCounter("coatcheck.live_sessions", metric.WithUnit("{session}"),
		metric.WithDescription("Live sessions of all processes that share the store."),
		metric.WithInt64Callback(func(ctx context.Context, o metric.Int64Observer) error {
			n, err := counter.Count(ctx, sample)
			if err != nil {
				logger.ErrorContext(ctx, "session: live sessions were not counted", "error", err)
				return err
			}
			visitor, exact := attribute.Key("coatcheck.visitor"), attribute.Bool("coatcheck.exact", n.Exact)
			o.Observe(int64(n.SignedIn), metric.WithAttributes(visitor.String("signed_in"), exact))
			o.Observe(int64(n.Anonymous), metric.WithAttributes(visitor.String("anonymous"), exact))
			return nil
		}))
	return err
}
