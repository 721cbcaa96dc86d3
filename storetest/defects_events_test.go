package storetest_test

import (
	"context"

	"github.com/coatcheck-go/session/driver"
)

// eventDefects are those of a store that tells of ends.
var eventDefects = []userDefect{
	{"every end ended something", []string{"event/end-owned", "event/end-owned-once"}, func(b *brokenUsers) {
		b.endOwned = func(ctx context.Context, id driver.ID, owner driver.Hash) (bool, error) {
			_, err := b.Store.EndOwned(ctx, id, owner)
			return true, err
		}
	}},
	{"every client tells", []string{"event/expired"}, func(*brokenUsers) {}}, // the harness makes two of one table
	{"who opens the store hears of nothing", []string{"event/expired-after-reopen"}, func(b *brokenUsers) {
		b.onExpiry = func(func(driver.Expired)) {}
	}},
}
