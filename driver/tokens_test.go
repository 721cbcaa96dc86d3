package driver_test

import (
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// TestStolen: which refused tokens count as stolen.
func TestStolen(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	tokens := driver.Tokens{
		Current: hash("c"), Generation: 5, Issued: now.Add(-time.Hour), Previous: hash("b"), PreviousAccepted: true,
	}
	grace, over, replaced, forgotten := tokens, tokens, tokens, tokens
	grace.PreviousUntil, over.PreviousUntil = now.Add(1), now
	replaced.PreviousAccepted, replaced.Issued, replaced.PreviousUntil = false, now.Add(1-time.Minute), now.Add(1)
	forgotten.PreviousAccepted, forgotten.Issued, forgotten.PreviousUntil = false, now.Add(-time.Minute), now
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
		{"a token of a session that has had only one", driver.Tokens{Current: hash("c")}, "a", 0, now, false},
	} {
		if got := tt.tokens.Stolen(hash(tt.verifier), tt.generation, tt.at); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
