package storetest_test

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// watchDefects concern the wakes of watchers.
var watchDefects = []userDefect{
	{"own changes wake nobody", []string{"watch/change"}, func(b *brokenUsers) {
		var own atomic.Bool
		b.watch = func(id driver.ID, wake func(bool)) func() {
			return b.Store.Watch(id, func(missed bool) {
				if !own.Load() {
					wake(missed)
				}
			})
		}
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			own.Store(true)
			defer own.Store(false)
			return b.Store.Apply(ctx, id, c)
		}
	}},
	{"changes of other processes wake nobody", []string{"watch/change-elsewhere", "watch/end-elsewhere"},
		func(b *brokenUsers) {
			var own driver.Watchers
			b.watch = own.Watch
			b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
				defer own.Wake(id)
				return b.Store.Apply(ctx, id, c)
			}
		}},
	{"only changes wake", []string{"watch/end", "watch/end-elsewhere"}, func(b *brokenUsers) {
		var own driver.Watchers
		b.watch = own.Watch
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			defer own.Wake(id)
			return b.Store.Apply(ctx, id, c)
		}
	}},
	{"watchers are woken before the change", []string{"watch/change", "watch/last-state"}, func(b *brokenUsers) {
		var own driver.Watchers
		b.watch = own.Watch
		b.apply = func(ctx context.Context, id driver.ID, c *driver.Change) (*driver.Result, error) {
			own.Wake(id)
			time.Sleep(20 * time.Millisecond)
			return b.Store.Apply(ctx, id, c)
		}
	}},
	{"a watcher is woken once", []string{"watch/change"}, func(b *brokenUsers) {
		b.watch = func(id driver.ID, wake func(bool)) func() {
			var woken atomic.Bool
			return b.Store.Watch(id, func(missed bool) {
				if !woken.Swap(true) {
					wake(missed)
				}
			})
		}
	}},
	{"a session has one watcher", []string{"watch/many"}, func(b *brokenUsers) {
		stops := map[driver.ID]func(){}
		b.watch = func(id driver.ID, wake func(bool)) func() {
			if stop := stops[id]; stop != nil {
				stop()
			}
			stops[id] = b.Store.Watch(id, wake)
			return stops[id]
		}
	}},
	{"a watcher cannot stop", []string{"watch/many"}, func(b *brokenUsers) {
		b.watch = func(id driver.ID, wake func(bool)) func() {
			b.Store.Watch(id, wake)
			return func() {}
		}
	}},
}
