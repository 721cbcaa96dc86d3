package storetest_test

import (
	"bytes"
	"context"
	"iter"

	"github.com/coatcheck-go/session/driver"
)

// eventDefects concern the reports of ends and the feed.
var eventDefects = []userDefect{
	{"each end is reported", []string{"event/end-owned", "event/end-owned-once"}, func(b *brokenUsers) {
		b.endOwned = func(ctx context.Context, id driver.ID, owner driver.Hash) (bool, error) {
			_, err := b.Store.EndAndReport(ctx, id, owner)
			return true, err
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
