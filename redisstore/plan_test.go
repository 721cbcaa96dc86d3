package redisstore

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// TestPlanSparesOnlyWhatTheCopyShows: a script is spared the time, the revocations and the global
// revocation only if this process's copy shows that it needs none of them.
func TestPlanSparesOnlyWhatTheCopyShows(t *testing.T) {
	at := time.UnixMilli(vectorNow)
	anonymous := base()(at) // touch interval: a minute
	user := signedInRecord(at)
	unused := with(base(), func(r *driver.Record, now time.Time) {
		r.Tokens.Previous, r.Tokens.PreviousUntil, r.Tokens.Unused = verifierB, now.Add(time.Minute), true
	})(at)
	seen := func(ago time.Duration) *driver.Record {
		return with(base(), func(r *driver.Record, now time.Time) { r.Seen = now.Add(-ago) })(at)
	}
	created := anonymous.Created.UnixMilli()
	for _, c := range []struct {
		name        string
		copied      *driver.Record
		noLease     bool
		global      int64
		shown       driver.Hash
		revocations bool
		wantGlobal  string
		clock       bool
	}{
		{name: "no copy", global: 5, shown: verifierA, revocations: true, wantGlobal: "5", clock: true},
		{name: "anonymous", copied: anonymous, global: created - 1, shown: verifierA, wantGlobal: "0"},
		{name: "signed in", copied: user, shown: verifierA, revocations: true, wantGlobal: "0"},
		{name: "covered", copied: anonymous, global: created, shown: verifierA, wantGlobal: "1799999940000"},
		{name: "no lease", copied: anonymous, noLease: true, global: 5, shown: verifierA, revocations: true, wantGlobal: "5", clock: true},
		{name: "touch due when it runs", copied: seen(time.Minute - time.Second), shown: verifierA, wantGlobal: "0", clock: true},
		{name: "touch not due", copied: seen(time.Minute - 3*time.Second), shown: verifierA, wantGlobal: "0"},
		{name: "expired", copied: seen(time.Hour), shown: verifierA, wantGlobal: "0", clock: true},
		{name: "first use", copied: unused, shown: verifierA, wantGlobal: "0", clock: true},
		{name: "not shown", copied: unused, wantGlobal: "0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// The bubble's clock begins in the year 2000.
				time.Sleep(time.Until(started) + time.Hour)
				o := Options{Namespace: "plan", NearCache: 1 << 20, MaxAge: time.Minute, Lease: time.Minute, Timeout: 2 * time.Second}
				s := &Store{opt: o, near: newNearCache(&o), keys: newKeyspace("plan")}
				s.clock.set(at, time.Now(), time.Now())
				s.global.at.Store(c.global)
				id := driver.ID{Bucket: 7}
				if c.copied != nil {
					_, mark, _ := s.near.lookup(id)
					s.near.fill(id, c.copied, time.Now(), mark)
				}
				if !c.noLease {
					s.near.lease.renew(time.Now())
				}
				p := s.plan(id, c.shown)
				if got := len(p.keys) == 2; got != c.revocations || p.keys[0] != s.keys.record(id) {
					t.Errorf("the keys are %q, with revocations: %v", p.keys, c.revocations)
				}
				if p.global != c.wantGlobal || p.clock != c.clock {
					t.Errorf("global %q, clock %v, want %q, %v", p.global, p.clock, c.wantGlobal, c.clock)
				}
			})
		})
	}
}
