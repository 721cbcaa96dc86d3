package storetest_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// eventDefects concern the reports of ends and the feed.
var eventDefects = []userDefect{
	{"each end is reported", []string{"event/end-owned", "event/end-owned-once"}, func(b *brokenUsers) {
		b.endOwned = func(ctx context.Context, id driver.ID, owner driver.Hash, attempt driver.Attempt) (bool, error) {
			_, err := b.Store.EndAndReport(ctx, id, owner, attempt)
			return true, err
		}
	}},
	{"a repeated end is not reported", []string{"event/end-repeated"}, func(b *brokenUsers) {
		b.endOwned = func(ctx context.Context, id driver.ID, owner driver.Hash, _ driver.Attempt) (bool, error) {
			return b.Store.EndAndReport(ctx, id, owner, driver.Attempt{})
		}
	}},
	{"each end has the same attempt", []string{"event/end-owned-once", "event/end-repeated"}, func(b *brokenUsers) {
		b.endOwned = func(ctx context.Context, id driver.ID, owner driver.Hash, _ driver.Attempt) (bool, error) {
			return b.Store.EndAndReport(ctx, id, owner, driver.Attempt{1})
		}
	}},
	{"ended sessions are unknown", []string{"end/reported", "end/reported-for-a-while", "end/reported-to-others",
		"user/end-reported"},
		func(b *brokenUsers) {
			b.load = func(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
				r, now, err := b.Store.Load(ctx, id)
				if errors.Is(err, driver.ErrEnded) {
					err = driver.ErrNotFound
				}
				return r, now, err
			}
		}},
	{"the time of an end is missing", []string{"end/reported", "user/end-reported"}, func(b *brokenUsers) {
		b.load = func(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
			r, now, err := b.Store.Load(ctx, id)
			if errors.Is(err, driver.ErrEnded) {
				err = &driver.EndedError{}
			}
			return r, now, err
		}
	}},
	{"unknown sessions have ended", []string{"end/not-reported", "end/reported-for-a-while"}, func(b *brokenUsers) {
		b.load = func(ctx context.Context, id driver.ID) (*driver.Record, time.Time, error) {
			r, now, err := b.Store.Load(ctx, id)
			if errors.Is(err, driver.ErrNotFound) {
				err = &driver.EndedError{}
			}
			return r, now, err
		}
	}},
	{"a session lives for a minute until its first use", []string{"sign-in/full-limit"}, func(b *brokenUsers) {
		b.beforeSignIn(func(in *driver.SignIn) { in.Spec.Idle = min(in.Spec.Idle, time.Minute) })
	}},
	{"End of a replaced session succeeds", []string{"sign-in/moved-and-ended"}, func(b *brokenUsers) {
		b.endOwned = func(ctx context.Context, id driver.ID, owner driver.Hash, attempt driver.Attempt) (bool, error) {
			ended, err := b.Store.EndAndReport(ctx, id, owner, attempt)
			if errors.Is(err, driver.ErrMoved) {
				err = nil
			}
			return ended, err
		}
	}},
	{"each client reports each expiry", []string{"event/expired"},
		func(*brokenUsers) {}}, // the harness makes two of one table
	{"expiries are never reported", []string{"event/expired-after-reopen"}, func(b *brokenUsers) {
		b.onExpiry = func(func(driver.ExpiredSession)) {}
	}},
	{"events are converted to text", []string{"feed/order"}, func(b *brokenUsers) {
		b.publish = func(event []byte) { b.Store.Publish(bytes.ToValidUTF8(event, []byte("?"))) }
	}},
	{"events that are too long are dropped", []string{"feed/too-long"}, func(b *brokenUsers) {
		b.publish = func(event []byte) {
			if len(event) <= driver.MaxEvent {
				b.Store.Publish(event)
			}
		}
	}},
	{"a follower gets an earlier event", []string{"feed/ends"}, func(b *brokenUsers) {
		b.follow = func(ctx context.Context) (iter.Seq2[[]byte, error], error) {
			b.Store.Follow(ctx)
			return func(yield func([]byte, error) bool) { yield([]byte("the last"), nil) }, nil
		}
	}},
}
