package redisstore

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

// TestSignInAfterOwnRevocation: the servers' time, as this process knows it, is that of a server that is behind. A sign-in that began here after the
// answer to a revocation is later than it all the same; one that began before is not.
func TestSignInAfterOwnRevocation(t *testing.T) {
	s := newStore(Options{}, standalone)
	owner := driver.HashOf([]byte("ada"))
	asked := time.Now()
	s.clock.set(asked.Add(-3*time.Second), asked, asked)
	since := time.Now().UnixMilli()
	s.ownRevocations.add(owner, strconv.FormatInt(since, 10)+".1")
	time.Sleep(time.Millisecond)
	if began := s.authBegan(owner, 0); began <= since {
		t.Errorf("a sign-in after it began %d ms before it", since-began)
	}
	if began := s.authBegan(owner, time.Second); began > since {
		t.Errorf("a sign-in before it began %d ms after it", began-since)
	}
}

// FuzzParseRevocation: no text lets an older session live that it does not name.
func FuzzParseRevocation(f *testing.F) {
	id := driver.ID{Selector: driver.HashOf([]byte("session"))}
	name := id.Selector.String()
	for _, text := range []string{"1800000000000.1800086400000", "1800000000000.1800086400000." + name + ".1799999999999", "", ".", "1", "1.", "-1.2", "1.2." + name, name} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRevocation(text)
		if err != nil {
			return
		}
		if r.since > 1<<52 || r.since < -1<<52 {
			return
		}
		if !r.covers(id, time.UnixMilli(r.since)) && !strings.Contains(text, name) {
			t.Errorf("%q spares a session that it does not name", text)
		}
		if r.covers(id, time.UnixMilli(r.since+1)) {
			t.Errorf("%q covers a session that is younger", text)
		}
	})
}

// FuzzParseEntry: what stands in the feed is an event of a publisher's with a number, or a gap.
func FuzzParseEntry(f *testing.F) {
	f.Add("7-0", "mark", "node", "3", "event")
	f.Add("x", "", "", "-1", "event")
	f.Fuzz(func(t *testing.T, id, mark, node, n, event string) {
		e := parseEntry(&rueidis.XRangeEntry{ID: id, FieldValues: map[string]string{"mark": mark, "node": node, "n": n, "event": event}})
		if _, err := strconv.ParseUint(n, 10, 64); err != nil && (len(e.event) > 0 || e.node != "") {
			t.Errorf("an entry without a number is the event %q of %q", e.event, e.node)
		}
	})
}
