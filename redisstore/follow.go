package redisstore

import (
	"context"
	"errors"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

const (
	followBatch = 100
	followTail  = 1024        // newest entries to go on with where the stream was replaced
	maxNodes    = 10_000      // publishers whose last numbers a follower knows
	followPoll  = time.Second // how often it reads if nothing wakes it
)

// follower reads the feed for one caller of Follow.
type follower struct {
	s     *Store
	last  uint64               // number of the last entry that it read; 0: the stream was empty
	mark  string               // that entry's mark
	nodes map[string]published // by publisher
	gaps  uint64               // gaps in the stream, so far
}

// published is the last number of a publisher, and follower.gaps at that time. A number that is
// missing after a later gap needs no second ErrGap.
type published struct{ number, gaps uint64 }

// entry is one entry of the stream.
type entry struct {
	number       uint64
	mark, before string // before: the mark of the entry before
	node         string
	n            uint64 // the publisher's number
	event        []byte
}

// Follow implements driver.Feed. It works also if Options.Events is 0 here. It waits while the
// servers are away. If a failover lost entries, it yields driver.ErrGap and goes on with the
// newest entries that it has not yielded, at most 1,024.
func (s *Store) Follow(ctx context.Context) (iter.Seq2[[]byte, error], error) {
	f := &follower{s: s, nodes: map[string]published{}}
	// Twice as many as after a gap, so that no event from before the call is yielded then.
	tail, err := f.tail(ctx, 2*followTail)
	if err != nil {
		return nil, err
	}
	for i := range tail { // then an event that is lost soon is noticed by its number
		f.advance(&tail[i])
		f.nodes[tail[i].node] = published{max(tail[i].n, f.nodes[tail[i].node].number), 0}
	}
	return func(yield func([]byte, error) bool) {
		for f.step(ctx, yield) {
		}
	}, nil
}

// step yields new events, or waits for some, and reports whether to go on.
func (f *follower) step(ctx context.Context, yield func([]byte, error) bool) bool {
	entries, gap, err := f.next(ctx)
	switch {
	case ctx.Err() != nil:
		return false
	case errors.Is(err, ErrClosed):
		yield(nil, err)
		return false
	case err != nil:
		pause(ctx, 8)
		return true
	}
	if gap {
		if f.gaps++; !yield(nil, driver.ErrGap) {
			return false
		}
	}
	for i := range entries {
		if !f.yieldEntry(&entries[i], yield) {
			return false
		}
	}
	if len(entries) == 0 {
		f.wait(ctx)
	}
	return ctx.Err() == nil
}

// yieldEntry yields the event of an entry, unless it was yielded before. It yields driver.ErrGap
// first if the publisher lost an event.
func (f *follower) yieldEntry(e *entry, yield func([]byte, error) bool) bool {
	f.advance(e)
	last, known := f.nodes[e.node]
	if known && e.n <= last.number {
		return true
	}
	if len(f.nodes) >= maxNodes {
		clear(f.nodes)
	}
	f.nodes[e.node] = published{e.n, f.gaps}
	lost := known && last.gaps == f.gaps && e.n > last.number+1
	if (lost || len(e.event) == 0) && !yield(nil, driver.ErrGap) {
		return false
	}
	return len(e.event) == 0 || yield(e.event, nil)
}

func (f *follower) advance(e *entry) { f.last, f.mark = e.number, e.mark }

// next returns the entries after the last one, and whether entries are missing before them. It
// reads the last entry again: if it is not there with the same mark, entries are missing.
func (f *follower) next(ctx context.Context) (entries []entry, gap bool, err error) {
	entries, err = f.read(ctx, f.s.plain.B().Xrange().Key(f.s.keys.events()).Start(entryID(f.last)).End("+").
		Count(followBatch+1).Build().Pin())
	switch {
	case err != nil:
		return nil, false, err
	case len(entries) == 0 && f.last == 0:
		return nil, false, nil
	case len(entries) > 0 && entries[0].number == f.last && entries[0].mark == f.mark:
		return entries[1:], false, nil
	case len(entries) > 0 && entries[0].number > f.last: // the last entry was trimmed
		return entries, entries[0].before != f.mark, nil
	}
	// A failover lost entries and their numbers were given anew, or somebody removed them.
	if entries, err = f.tail(ctx, followTail); err != nil {
		return nil, false, err
	}
	if len(entries) == 0 {
		f.advance(&entry{})
	}
	return entries, true, nil
}

// tail returns the newest entries of the stream, the oldest of them first.
func (f *follower) tail(ctx context.Context, count int64) ([]entry, error) {
	key := f.s.keys.events()
	entries, err := f.read(ctx, f.s.plain.B().Xrevrange().Key(key).End("+").Start("-").Count(count).Build().Pin())
	slices.Reverse(entries)
	return entries, err
}

// read runs a command that replies with entries.
func (f *follower) read(ctx context.Context, command rueidis.Completed) (entries []entry, err error) {
	var list []rueidis.XRangeEntry
	err = f.s.withRetry(ctx, eventsPlace, readOnly, func(ctx context.Context) (err error) {
		list, err = f.s.plain.Do(ctx, command).AsXRange()
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range list {
		if strings.HasSuffix(list[i].ID, "-0") { // else publish.lua did not add it
			entries = append(entries, parseEntry(&list[i]))
		}
	}
	return entries, nil
}

// parseEntry reads an entry. An entry of another format is a gap: it has no event.
func parseEntry(x *rueidis.XRangeEntry) entry {
	number, _, _ := strings.Cut(x.ID, "-")
	v := x.FieldValues
	e := entry{mark: v["mark"], before: v["before"], node: v["node"], event: []byte(v["event"])}
	e.number, _ = strconv.ParseUint(number, 10, 64) // the server made it
	var err error
	if e.n, err = strconv.ParseUint(v["n"], 10, 64); err != nil {
		e.node, e.n, e.event = "", e.number, nil
	}
	return e
}

// wait returns when the stream may have a new entry. The client blocks on a connection of its
// own. That connection may lead to a deposed primary, so it waits for a second at most.
func (f *follower) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*followPoll)
	defer cancel()
	read := f.s.plain.B().Xread().Count(1).Block(followPoll.Milliseconds()).Streams().Key(f.s.keys.events()).
		Id(lastIDOf(f.last)).Build()
	if err := f.s.plain.Do(ctx, read).Error(); err != nil && !rueidis.IsRedisNil(err) {
		pause(ctx, 8)
	}
}

func entryID(number uint64) string { return strconv.FormatUint(number, 10) + "-0" }

// lastIDOf returns the greatest id with a number: somebody may have added entries by hand.
func lastIDOf(number uint64) string {
	return strconv.FormatUint(number, 10) + "-" + strconv.FormatUint(math.MaxUint64, 10)
}
