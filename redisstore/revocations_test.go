package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// TestSignInAfterOwnRevocation: this process's estimate of the servers' time is behind. A sign-in
// that began here after the reply to a revocation is still later than the revocation. A sign-in
// that began before is not.
func TestSignInAfterOwnRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(Options{}, standalone)
		owner := driver.HashOf([]byte("ada"))
		asked := time.Now()
		s.clock.set(asked.Add(-3*time.Second), asked, asked)
		since := time.Now().UnixMilli()
		s.ownRevocations.add(owner, fmt.Sprintf("%012x%012x", since, since))
		time.Sleep(time.Millisecond)
		if began := s.authBegan(owner, 0); began <= since {
			t.Errorf("a sign-in after the revocation began %d ms before it", since-began)
		}
		if began := s.authBegan(owner, time.Second); began > since {
			t.Errorf("a sign-in before the revocation began %d ms after it", began-since)
		}
	})
}

// TestReadsWaitTogetherForGlobalRevocation: a read of the global revocation gets no reply. All that
// wait for it fail at their own time limit, not one after another.
func TestReadsWaitTogetherForGlobalRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(Options{Timeout: 300 * time.Millisecond}, standalone)
		s.global.invalidations.Add(1)
		s.global.turn <- struct{}{} // of the read without a reply
		begin := time.Now()
		var all sync.WaitGroup
		for range 30 {
			all.Go(func() {
				if err := s.syncGlobalRevocation(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("syncGlobalRevocation: %v, want the time limit", err)
				}
			})
		}
		all.Wait()
		if took := time.Since(begin); took != s.opt.Timeout {
			t.Errorf("30 concurrent reads took %v, want %v", took, s.opt.Timeout)
		}
	})
}

// FuzzParseRevocation: every revocation covers all older sessions that it does not name, and no
// younger one.
func FuzzParseRevocation(f *testing.F) {
	id := driver.ID{Selector: driver.HashOf([]byte("session"))}
	name := id.Selector.String()
	for _, text := range []string{
		"01a3185c500001a31d82ac00", "01a3185c500001a31d82ac00" + name + "01a3185c4fff",
		"", "01a3185c5000", "01a3185c500001a31d82ac0", "01A3185C500001A31D82AC00", "-1a3185c500001a31d82ac00",
		"01a3185c500001a31d82ac00" + name, "ffffffffffffffffffffffff",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRevocation(text)
		if err != nil {
			return
		}
		if r.since < 0 || r.since >= 1<<48 {
			t.Fatalf("%q has the time %d", text, r.since)
		}
		if !r.covers(id, r.since) && !strings.Contains(text, name) {
			t.Errorf("%q does not cover an older session that it does not name", text)
		}
		if r.covers(id, r.since+1) {
			t.Errorf("%q covers a younger session", text)
		}
	})
}

// FuzzParseEntry: an entry of the feed is a publisher's event with a number, or a gap.
func FuzzParseEntry(f *testing.F) {
	f.Add("7-0", "mark", "node", "3", "event")
	f.Add("x", "", "", "-1", "event")
	f.Fuzz(func(t *testing.T, id, mark, node, n, event string) {
		values := map[string]string{"mark": mark, "node": node, "n": n, "event": event}
		e := parseEntry(&rueidis.XRangeEntry{ID: id, FieldValues: values})
		if _, err := strconv.ParseUint(n, 10, 64); err != nil && (len(e.event) > 0 || e.node != "") {
			t.Errorf("an entry without a number has the event %q of %q, want a gap", e.event, e.node)
		}
	})
}
