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
	followBatch    = 100
	followRemember = 1024        // entries whose marks a follower knows, to find where histories part
	followNodes    = 10_000      // publishers whose numbers it knows
	followPoll     = time.Second // how often it looks where the stream ends if nothing wakes it
)

// follower is one who follows the feed.
type follower struct {
	s     *Store
	last  uint64            // number of the last entry that was seen; 0: the stream was empty
	marks map[uint64]string // of the last entries
	nodes map[string]heard  // of each publisher
	gaps  uint64            // in the stream, so far
}

// heard is the last number of a publisher, and how many gaps the stream had then: what is missing after another one is told of already.
type heard struct{ n, gaps uint64 }

// entry is one of the stream.
type entry struct {
	number       uint64
	mark, before string
	node         string
	n            uint64
	event        []byte
}

// Follow implements driver.Feed. It follows what others publish also if Options.Events is 0 here. While the servers are away it waits; when it
// meets another history than it has seen, after a failover, it tells of a gap and goes on where the two part.
func (s *Store) Follow(ctx context.Context) (iter.Seq2[[]byte, error], error) {
	f := &follower{s: s, marks: map[uint64]string{}, nodes: map[string]heard{}}
	tail, err := f.rangeOf(ctx, true, "+", followRemember)
	if err != nil {
		return nil, err
	}
	for _, e := range slices.Backward(tail) { // so that it knows what to expect of who has published lately
		f.remember(&e)
		f.nodes[e.node] = heard{max(e.n, f.nodes[e.node].n), 0}
	}
	return func(yield func([]byte, error) bool) {
		for f.turn(ctx, yield) {
		}
	}, nil
}

// turn yields what is new, waits for more if there is nothing, and reports whether to go on.
func (f *follower) turn(ctx context.Context, yield func([]byte, error) bool) bool {
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
		if !f.tell(&entries[i], yield) {
			return false
		}
	}
	if len(entries) == 0 {
		f.wait(ctx)
	}
	return ctx.Err() == nil
}

// tell yields one entry's event, unless it was published twice, after a gap if its publisher lost one before.
func (f *follower) tell(e *entry, yield func([]byte, error) bool) bool {
	f.remember(e)
	last, known := f.nodes[e.node]
	if known && e.n <= last.n {
		return true
	}
	if len(f.nodes) >= followNodes {
		clear(f.nodes)
	}
	f.nodes[e.node] = heard{e.n, f.gaps}
	lost := known && last.gaps == f.gaps && e.n > last.n+1
	if (lost || len(e.event) == 0) && !yield(nil, driver.ErrGap) {
		return false
	}
	return len(e.event) == 0 || yield(e.event, nil)
}

func (f *follower) remember(e *entry) {
	f.last = e.number
	f.marks[e.number] = e.mark
	if len(f.marks) > 2*followRemember {
		for n := range f.marks {
			if n+followRemember < e.number || n > e.number {
				delete(f.marks, n)
			}
		}
	}
}

// next returns the entries after the last one, and whether some are missing before them.
func (f *follower) next(ctx context.Context) (entries []entry, gap bool, err error) {
	from := "-"
	if f.last > 0 {
		from = id(f.last) // which must be there, and the same: else this is another history
	}
	entries, err = f.rangeOf(ctx, false, from, followBatch+1)
	if err != nil {
		return nil, false, err
	}
	switch {
	case f.last == 0 && len(entries) == 0:
		return nil, false, nil
	case f.last == 0:
		return entries, entries[0].before != "", nil
	case len(entries) == 0:
		return f.part(ctx)
	case entries[0].number == f.last && entries[0].mark == f.marks[f.last]:
		return entries[1:], false, nil
	case entries[0].number == f.last+1 && entries[0].before == f.marks[f.last]:
		return entries, false, nil
	case entries[0].number > f.last+1: // trimmed, as far as can be told
		return entries, true, nil
	}
	return f.part(ctx)
}

// part finds where the history of the stream parts from the one that was seen, and returns what comes after.
func (f *follower) part(ctx context.Context) (entries []entry, gap bool, err error) {
	for from := "+"; ; {
		page, err := f.rangeOf(ctx, true, from, followBatch)
		if err != nil {
			return nil, false, err
		}
		for i := range page {
			if mark, ok := f.marks[page[i].number]; ok && mark == page[i].mark {
				f.remember(&page[i])
				f.forgetAfter(f.last)
				return nil, true, nil
			}
		}
		if len(page) < followBatch || len(page) > 0 && page[len(page)-1].number == 1 {
			f.last = 0 // nothing in common: all of it is new
			clear(f.marks)
			first, err := f.rangeOf(ctx, false, "-", followBatch)
			return first, true, err
		}
		from = "(" + id(page[len(page)-1].number)
	}
}

// forgetAfter drops the marks of a history that is over.
func (f *follower) forgetAfter(number uint64) {
	for n := range f.marks {
		if n > number {
			delete(f.marks, n)
		}
	}
}

// wait returns when there may be something new. The client blocks on a connection of its own, which may be one to a server that is the
// primary no longer: therefore not for long.
func (f *follower) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*followPoll)
	defer cancel()
	read := f.s.plain.B().Xread().Count(1).Block(followPoll.Milliseconds()).Streams().Key(f.s.keys.events()).Id(idAfter(f.last)).Build()
	if err := f.s.plain.Do(ctx, read).Error(); err != nil && !rueidis.IsRedisNil(err) {
		pause(ctx, 8)
	}
}

func id(number uint64) string { return strconv.FormatUint(number, 10) + "-0" }

// idAfter is after all entries that somebody could have added by hand with the same number.
func idAfter(number uint64) string {
	return strconv.FormatUint(number, 10) + "-" + strconv.FormatUint(math.MaxUint64, 10)
}

// rangeOf reads entries from one on, or from one back.
func (f *follower) rangeOf(ctx context.Context, back bool, from string, count int64) ([]entry, error) {
	b := f.s.plain.B
	var entries []entry
	err := f.s.attempt(ctx, reading, func(ctx context.Context) error {
		command := b().Xrange().Key(f.s.keys.events()).Start(from).End("+").Count(count).Build()
		if back {
			command = b().Xrevrange().Key(f.s.keys.events()).End(from).Start("-").Count(count).Build()
		}
		list, err := f.s.plain.Do(ctx, command).AsXRange()
		if err != nil {
			return err
		}
		read := make([]entry, 0, len(list))
		for i := range list {
			if strings.HasSuffix(list[i].ID, "-0") { // else it was not added by publish.lua
				read = append(read, parseEntry(&list[i]))
			}
		}
		entries = read
		return nil
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// parseEntry reads an entry. One that is of another format is a gap: it has no event.
func parseEntry(x *rueidis.XRangeEntry) entry {
	number, _, _ := strings.Cut(x.ID, "-")
	e := entry{mark: x.FieldValues["mark"], before: x.FieldValues["before"], node: x.FieldValues["node"], event: []byte(x.FieldValues["event"])}
	e.number, _ = strconv.ParseUint(number, 10, 64) // the server's
	var err error
	if e.n, err = strconv.ParseUint(x.FieldValues["n"], 10, 64); err != nil {
		e.node, e.n, e.event = "", e.number, nil
	}
	return e
}
