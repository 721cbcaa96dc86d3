package redisstore

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestEndsDuringAnOutage: during an outage each end is repeated once a second. After it, each
// is repeated after repeatDelays.
func TestEndsDuringAnOutage(t *testing.T) {
	stones := newTombstones()
	id := driver.ID{Bucket: 1}
	stones.add(id, driver.Hash{})
	now := time.Now()
	tick := func(outage bool, d time.Duration) (tries int) {
		for end := now.Add(d); now.Before(end); {
			now = now.Add(250 * time.Millisecond)
			ids, _ := stones.due(now)
			tries += len(ids)
			if outage {
				stones.retry(ids, now)
			}
		}
		return tries
	}
	if n := tick(true, 30*time.Second); n < 20 || n > 30 {
		t.Fatalf("one end was sent %d times in 30s, want 20 to 30", n)
	}
	if n := tick(false, 10*time.Minute); n != len(repeatDelays) {
		t.Errorf("the end was repeated %d times after the outage, want %d", n, len(repeatDelays))
	}
	for i := range stones.queues {
		if n := len(stones.queues[i]); n > 0 {
			t.Errorf("%d repetitions are still scheduled, want 0", n)
		}
	}
}

// TestEndInProgressIsNotRepeated: an end is not repeated until its first attempt has returned.
func TestEndInProgressIsNotRepeated(t *testing.T) {
	stones := newTombstones()
	id, now := driver.ID{Bucket: 1}, time.Now()
	done := stones.begin(id, driver.Hash{}, false)
	for range 10 {
		now = now.Add(time.Second)
		if ids, _ := stones.due(now); len(ids) > 0 {
			t.Fatal("an end in progress was repeated")
		}
	}
	done(notKnown)
	if ids, _ := stones.due(now.Add(2 * time.Second)); len(ids) != 1 {
		t.Errorf("%d ends are due after the first attempt, want 1", len(ids))
	}
}

// TestEndOfUnknownSessionIsForgotten: an end of a session that never existed leaves no tombstone,
// however many callers make it, and removes no other tombstone.
func TestEndOfUnknownSessionIsForgotten(t *testing.T) {
	stones := newTombstones()
	kept, unknown := driver.ID{Bucket: 1}, driver.ID{Bucket: 2}
	stones.begin(kept, driver.Hash{}, false)(notKnown)
	stones.begin(kept, driver.Hash{}, false)(absent) // a second call finds no session
	first, second := stones.begin(unknown, driver.Hash{}, false), stones.begin(unknown, driver.Hash{}, false)
	first(absent)
	if stones.refusal(unknown) == nil {
		t.Error("the session is not refused while a caller ends it")
	}
	second(absent)
	if len(stones.kept) != 1 || stones.unconfirmed.Len() != 1 || stones.confirmed.Len() != 0 || len(stones.inProgress) != 0 || stones.refusal(kept) == nil || stones.refusal(unknown) != nil {
		t.Errorf("tombstones are %v in order %v, in progress %v; want only %v", stones.kept, stones.unconfirmed, stones.inProgress, kept)
	}
	first, second = stones.begin(unknown, driver.Hash{}, false), stones.begin(unknown, driver.Hash{}, false)
	first(notKnown)
	second(absent)
	if stones.refusal(unknown) == nil {
		t.Error("the tombstone is missing, although one of two callers found the session")
	}
}

// TestUnconfirmedEndsPushOutNoConfirmedEnd: anybody can sign out with made-up tokens. During an
// outage their ends stay unconfirmed. They have a bound of their own, so they push out no end of a
// session that existed.
func TestUnconfirmedEndsPushOutNoConfirmedEnd(t *testing.T) {
	stones := newTombstones()
	stones.maxConfirmed, stones.maxUnconfirmed = 100, 20
	id := numberedID
	const seen, acknowledged, named, repeated, lost = 1, 2, 3, 4, 5
	stones.begin(id(seen), driver.Hash{}, true)(notKnown)         // this node had read the record
	stones.begin(id(acknowledged), driver.Hash{}, false)(existed) // the server found the session
	stones.add(id(named), driver.Hash{})                          // the server named the session
	stones.begin(id(repeated), driver.Hash{}, false)(notKnown)    // a repetition finds the session
	stones.confirm(id(repeated))
	stones.begin(id(lost), driver.Hash{}, false)(notKnown) // nobody knows
	for n := range 200 {
		stones.begin(id(1000+n), driver.Hash{}, false)(notKnown)
	}
	for what, n := range map[string]int{"seen": seen, "acknowledged": acknowledged, "named": named, "repeated": repeated} {
		if !stones.has(id(n)) {
			t.Errorf("unconfirmed ends pushed out the confirmed one that was %s", what)
		}
	}
	if stones.has(id(lost)) {
		t.Error("the oldest unconfirmed end is still kept")
	}
	if n := len(stones.kept); n != 24 {
		t.Errorf("%d ends are kept, want 24", n)
	}
	stones.reassertAll()
	if ids, all := stones.due(time.Now()); !all || len(ids) != 24 || ids[0] != id(seen) {
		t.Errorf("%d ends are repeated, all: %v; want 24, the confirmed ones first", len(ids), all)
	}
	// A later end without evidence does not take a confirmation back.
	stones.begin(id(seen), driver.Hash{}, false)(absent)
	for n := range 200 {
		stones.begin(id(2000+n), driver.Hash{}, false)(notKnown)
	}
	if !stones.has(id(seen)) {
		t.Error("a second sign-out took the confirmation of an end back")
	}
	// Confirmed ends push out the oldest confirmed ones.
	for n := range 100 {
		stones.add(id(3000+n), driver.Hash{})
	}
	if stones.has(id(named)) || stones.confirmed.Len() != 100 || stones.unconfirmed.Len() != 20 {
		t.Errorf("%d confirmed ends and %d others are kept, want 100 and 20", stones.confirmed.Len(), stones.unconfirmed.Len())
	}
}

// numberedID returns a different session for each number.
func numberedID(n int) driver.ID {
	return driver.ID{Bucket: uint16(n), Selector: driver.HashOf(binary.BigEndian.AppendUint64(nil, uint64(n)))}
}

// TestMadeUpEndsPushOutNoRealEnd ends two sessions, one acknowledged and one during an outage. Then
// it ends more made-up sessions than a store remembers. The store still refuses the real ones,
// which a failover could bring back. After the outage it repeats both ends.
func TestMadeUpEndsPushOutNoRealEnd(t *testing.T) {
	node := redistest.Start(t, redistest.Options{Config: []string{"appendonly yes", "appendfsync always"}})
	s, err := Open(t.Context(), "redis://"+node.Addr(), waitToDial(Options{}))
	must(t, err)
	t.Cleanup(func() { s.Close() })
	s.ends.maxConfirmed, s.ends.maxUnconfirmed = 100, 20
	create := func(n int) driver.ID {
		id, o := numberedID(n), &driver.RecordSpec{Verifier: driver.HashOf([]byte{1}), Idle: time.Hour, Lifetime: time.Hour}
		_, err := s.Create(t.Context(), id, o, &driver.Change{Verifier: o.Verifier})
		must(t, err)
		return id
	}
	acknowledged, seen := create(1), create(2)
	dump, err := node.Do("DUMP", s.keys.record(acknowledged))
	must(t, err)
	must(t, s.End(t.Context(), acknowledged))
	// A failover brings the session back.
	_, err = node.Do("RESTORE", s.keys.record(acknowledged), "0", dump.(string), "REPLACE")
	must(t, err)
	_, _, err = s.Load(t.Context(), seen)
	must(t, err)
	must(t, node.Kill())
	time.Sleep(2 * downAfter)
	for n := range 200 {
		if n == 100 {
			if err := s.End(t.Context(), seen); err == nil {
				t.Error("End succeeded without a server")
			}
		}
		_ = s.End(t.Context(), numberedID(1000+n))
	}
	for what, id := range map[string]driver.ID{"acknowledged": acknowledged, "failed": seen} {
		if _, _, err := s.LoadFresh(t.Context(), id); !errors.Is(err, driver.ErrNotFound) {
			t.Errorf("Load of a session whose end was %s: %v, want ErrNotFound", what, err)
		}
	}
	must(t, node.Restart())
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		began, alive := time.Since(begin), 0
		for _, id := range []driver.ID{acknowledged, seen} {
			n, err := node.Do("HEXISTS", s.keys.record(id), "@s") // a marker has none
			must(t, err)
			if n == int64(1) {
				alive++
			}
		}
		if alive == 0 {
			return
		}
		if began > time.Minute {
			t.Fatalf("%d of two ended sessions are alive after the outage, want none", alive)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
