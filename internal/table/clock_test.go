package table

import (
	"testing"
	"time"
)

// The clock follows the system's clock, which people and NTP set, and never goes back.
func TestClock(t *testing.T) {
	at := func(d time.Duration) time.Time { return time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC).Add(d) }
	type reading struct{ wall, mono, want time.Duration }
	for _, test := range []struct {
		name     string
		readings []reading
	}{
		{"in step", []reading{{0, 0, 0}, {time.Second, time.Second, time.Second}}},
		{"set forward", []reading{{0, 0, 0}, {time.Hour, time.Second, time.Hour},
			{time.Hour + time.Second, 2 * time.Second, time.Hour + time.Second}}},
		{"set back", []reading{{0, 0, 0}, {-time.Hour, time.Second, time.Second},
			{-time.Hour + time.Minute, time.Minute + time.Second, time.Minute + time.Second}}},
		{"set back and right again", []reading{{0, 0, 0}, {-time.Hour, time.Second, time.Second},
			{time.Minute, time.Minute, time.Minute}}},
		{"set forward and right again", []reading{{0, 0, 0}, {time.Hour, time.Second, time.Hour},
			{2 * time.Second, 2 * time.Second, time.Hour + time.Second},
			{2 * time.Hour, 2 * time.Hour, 3*time.Hour - time.Second}}},
		{"asleep, the monotonic clock stops", []reading{{0, 0, 0}, {time.Hour, 0, time.Hour}}},
		{"readings that overtake each other", []reading{{time.Second, time.Second, time.Second},
			{0, 0, time.Second}, {2 * time.Second, 2 * time.Second, 2 * time.Second}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var c clock
			for i, r := range test.readings {
				if got := c.read(at(r.wall), r.mono); !got.Equal(at(r.want)) {
					t.Errorf("reading %d: %v, want %v", i, got.Sub(at(0)), r.want)
				}
			}
		})
	}
}

// After a restart with a clock that was set back, time continues from the last written time.
func TestClockNotBefore(t *testing.T) {
	later := time.Now().Add(time.Hour)
	if got := New(nil, later).Now(); got.Before(later) || got.After(later.Add(time.Minute)) {
		t.Errorf("the time is %v, want %v", got, later)
	}
}
