package driver_test

import (
	"math"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// TestStolen: which refused tokens count as stolen.
func TestStolen(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	tokens := driver.Tokens{
		Current: hash("c"), Generation: 5, Issued: now.Add(-time.Hour), Previous: hash("b"), PreviousAccepted: true, Unused: true,
	}
	grace, over, replaced, forgotten := tokens, tokens, tokens, tokens
	grace.Unused, over.Unused, replaced.Unused, forgotten.Unused = false, false, false, false
	grace.PreviousUntil, over.PreviousUntil = now.Add(1), now
	replaced.PreviousAccepted, replaced.Issued, replaced.PreviousUntil = false, now.Add(1-time.Minute), now.Add(1)
	forgotten.PreviousAccepted, forgotten.Issued, forgotten.PreviousUntil = false, now.Add(-time.Minute), now
	lost := forgotten // the response with the renewed token may be lost
	lost.Unused = true
	unknown, overtaken, unused := forgotten, forgotten, forgotten
	unknown.Overtaken = &driver.Overtaken{Generation: 5}
	overtaken.Overtaken = &driver.Overtaken{Generation: 3, Used: hash("a")}
	unused.Unused, unused.Overtaken = true, &driver.Overtaken{Generation: 4, Used: hash("b")}
	for _, tt := range []struct {
		name       string
		tokens     driver.Tokens
		verifier   string
		generation uint32
		at         time.Time
		want       bool
	}{
		{"the current token", tokens, "c", 5, now, false},
		{"the current token, with a generation that a failover lost", tokens, "c", 3, now, false},
		{"the previous token, before the first use of the current one", tokens, "b", 4, now, false},
		{"the previous token, in its grace period", grace, "b", 4, now, false},
		{"the previous token, after its grace period", over, "b", 4, now, true},
		{"the previous token, in a request that began in its grace period", over, "b", 4, now.Add(-1), false},
		{"an older token", tokens, "a", 3, now, true},
		{"an older token, in a request that began before the current one", tokens, "a", 3, now.Add(-time.Hour - 1), false},
		{"an older token, in a request that began with the current one", tokens, "a", 3, now.Add(-time.Hour), true},
		{"another token of the same generation", tokens, "a", 5, now, false},
		{"a token of a later generation", tokens, "a", 6, now, false},
		{"a token that was renewed a moment ago", replaced, "b", 4, now, false},
		{"an older token, while a renewal is remembered", replaced, "a", 3, now, false},
		{"a token that was renewed long ago", forgotten, "b", 4, now, true},
		{"an older token, after a renewal", forgotten, "a", 3, now, true},
		{"a token whose successor was never used", lost, "b", 4, now, false},
		{"an older token, while the current one was never used", lost, "a", 3, now, true},
		{"an older token, while a rotated one is pending", tokens, "a", 3, now, true},
		{"an unused token of the record's own generation", unknown, "x", 5, now, false},
		{"the token before the record's generation, which has unused ones", unknown, "b", 4, now, true},
		{"an unused token of an overtaken generation", overtaken, "x", 3, now, false},
		{"the used token of an overtaken generation", overtaken, "a", 3, now, true},
		{"a token of the generation after an overtaken one", overtaken, "b", 4, now, true},
		{"a token of the generation before an overtaken one", overtaken, "x", 2, now, true},
		{"the used token of an overtaken generation, whose successor was never used", unused, "b", 4, now, false},
		{"a token of the last generation", driver.Tokens{Current: hash("c"), Generation: math.MaxUint32}, "a", math.MaxUint32, now, false},
		{"a token of a session that has had only one", driver.Tokens{Current: hash("c")}, "a", 0, now, false},
	} {
		if got := tt.tokens.Stolen(hash(tt.verifier), tt.generation, tt.at); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestOverlaps: which requests were under way when the token changed.
func TestOverlaps(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	renewed := driver.Tokens{
		Current: hash("c"), Generation: 5, Issued: now.Add(-time.Minute), Previous: hash("b"), PreviousUntil: now, Unused: true,
	}
	rotated := driver.Tokens{
		Current: hash("c"), Generation: 5, Issued: now.Add(-time.Hour), Previous: hash("b"), PreviousAccepted: true, PreviousUntil: now,
	}
	for _, tt := range []struct {
		name     string
		tokens   driver.Tokens
		verifier string
		at       time.Time
		want     bool
	}{
		{"a request that began before the renewal", renewed, "a", now.Add(-time.Minute - 1), true},
		{"any token while the renewal is remembered", renewed, "a", now.Add(-1), true},
		{"any token after that", renewed, "a", now, false},
		{"the previous token after that", renewed, "b", now, false},
		{"the previous token in its grace period", rotated, "b", now.Add(-1), true},
		{"the previous token after its grace period", rotated, "b", now, false},
		{"an older token in the grace period", rotated, "a", now.Add(-1), false},
	} {
		if got := tt.tokens.Overlaps(hash(tt.verifier), tt.at); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
