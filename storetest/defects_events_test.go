package storetest_test

import (
	"bytes"
	"context"
	"iter"

	"github.com/coatcheck-go/session/driver"
)

// eventDefects are those of a store that tells of ends.
var eventDefects = []userDefect{
	{"every end ended something", []string{"event/end-owned", "event/end-owned-once"}, func(b *brokenUsers) {
		b.endOwned = func(ctx context.Context, id driver.ID, owner driver.Hash) (bool, error) {
			_, err := b.Store.EndAndReport(ctx, id, owner)
			return true, err
		}
	}},
	{"every client tells", []string{"event/expired"}, func(*brokenUsers) {}}, // the harness makes two of one table
	{"who opens the store hears of nothing", []string{"event/expired-after-reopen"}, func(b *brokenUsers) {
		b.onExpiry = func(func(driver.ExpiredSession)) {}
	}},
	{"events are text", []string{"feed/order"}, func(b *brokenUsers) {
		b.publish = func(event []byte) { b.Store.Publish(bytes.ToValidUTF8(event, []byte("?"))) }
	}},
	{"what is too long is left out", []string{"feed/too-long"}, func(b *brokenUsers) {
		b.publish = func(event []byte) {
			if len(event) <= driver.MaxEvent {
				b.Store.Publish(event)
			}
		}
	}},
	{"who follows hears the last event again", []string{"feed/ends"}, func(b *brokenUsers) {
		b.follow = func(ctx context.Context) (iter.Seq2[[]byte, error], error) {
			b.Store.Follow(ctx)
			return func(yield func([]byte, error) bool) { yield([]byte("the last"), nil) }, nil
		}
	}},
}
