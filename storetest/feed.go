package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// feedCases: the events that the processes which share a store send each other.
var feedCases = []testCase{
	{
		name: "feed/order",
		why: "All followers see all events once, in one order, unchanged, and none from before. The events of " +
			"one process are in its own order.",
		able: publishes,
		run:  feedOrder,
	},
	{
		name: "feed/too-long",
		why: "Followers see a gap in place of an event that is too long, and the events that are published " +
			"after it.",
		able: publishes,
		run: func(k *kit) {
			f := k.follow(k.store)
			feed := k.store.(driver.Feed)
			feed.Publish([]byte("first"))
			feed.Publish(make([]byte, driver.MaxEvent+1))
			feed.Publish([]byte("last"))
			if got := f.take(k, 3); !slices.Equal(got, []string{"first", gap, "last"}) {
				k.Errorf("the events are %q", got)
			}
		},
	},
	{
		name: "feed/ends",
		why:  "A follower stops when the context is done, and leaves nothing behind.",
		able: publishes,
		run: func(k *kit) {
			ctx, cancel := context.WithCancel(k.Context())
			events, err := k.store.(driver.Feed).Follow(ctx)
			if err != nil {
				k.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				for _, err := range events {
					done <- fmt.Errorf("nothing was published, and Follow yielded an event with the error %v", err)
					return
				}
				done <- nil
			}()
			k.wait(10 * time.Millisecond)
			cancel()
			if err := <-done; err != nil {
				k.Error(err)
			}
			if _, err := k.store.(driver.Feed).Follow(ctx); err == nil {
				k.Error("Follow with a cancelled context: no error")
			}
		},
	},
}

func publishes(s driver.Store) bool {
	feed, ok := s.(driver.Feed)
	return ok && feed.Publishing()
}

// gap represents driver.ErrGap among the events.
const gap = "GAP"

// follower receives the events of a feed.
type follower chan string

func (k *kit) follow(s driver.Store) follower {
	k.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	events, err := s.(driver.Feed).Follow(ctx)
	if err != nil {
		k.Fatal(err)
	}
	f := make(follower, 10_000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b, err := range events {
			switch {
			case errors.Is(err, driver.ErrGap):
				f <- gap
			case err != nil:
				f <- err.Error()
			default:
				f <- string(b)
			}
		}
	}()
	k.Cleanup(func() { cancel(); <-done })
	return f
}

// take returns the next n events.
func (f follower) take(k *kit, n int) (got []string) {
	k.Helper()
	limit := time.After(time.Minute)
	for range n {
		select {
		case e := <-f:
			got = append(got, e)
		case <-limit:
			k.Fatalf("%d of %d events arrived", len(got), n)
		}
	}
	return got
}

func feedOrder(k *kit) {
	const each = 100
	stores := []driver.Store{k.store}
	if k.h.Second != nil {
		stores = append(stores, k.other().store)
	}
	bytes := "any bytes: \x00\xff\r\n\"\xe2\x82"
	k.store.(driver.Feed).Publish([]byte("before"))
	first := k.follow(k.store)
	k.store.(driver.Feed).Publish([]byte("mark"))
	// From a server, an event that was published earlier may arrive after Follow has returned.
	for e := ""; e != "mark"; {
		if e = first.take(k, 1)[0]; e != "mark" && e != "before" {
			k.Errorf("the events are %q", e)
		}
	}
	followers := []follower{first}
	for _, s := range stores {
		followers = append(followers, k.follow(s))
	}
	concurrently(len(stores), func(i int) {
		for n := range each {
			stores[i].(driver.Feed).Publish(fmt.Appendf(nil, "%d %03d %s", i, n, bytes))
		}
	})
	var order []string
	for i, f := range followers {
		got := f.take(k, each*len(stores))
		if i > 0 && !slices.Equal(got, order) {
			k.Error("two followers see different orders")
		}
		order = got
	}
	for i := range stores {
		own := slices.DeleteFunc(slices.Clone(order), func(e string) bool {
			return !strings.HasPrefix(e, fmt.Sprint(i, " "))
		})
		if len(own) != each || !slices.IsSorted(own) || !strings.HasSuffix(own[0], bytes) {
			k.Errorf("%d events of process %d arrived, want %d in order: %q…", len(own), i, each, own[:min(2, len(own))])
		}
	}
}
