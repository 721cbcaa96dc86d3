package ticket

import (
	"strings"
	"testing"
)

// TestOpenEvent: with keys only sealed events are accepted, of any key; without keys only plain
// ones.
func TestOpenEvent(t *testing.T) {
	none, one, both, other := mustRing(t), mustRing(t, 1), mustRing(t, 2, 1), mustRing(t, 3)
	const event = `{"kind":"renewed"}`
	sealed := one.SealEvent([]byte(event))
	if strings.Contains(string(sealed), "renewed") {
		t.Errorf("the sealed event %q is readable", sealed)
	}
	for _, tt := range []struct {
		name string
		ring *Ring
		sent []byte
		ok   bool
	}{
		{"sealed", one, sealed, true},
		{"sealed with the second key", both, sealed, true},
		{"sealed with a key that is missing", other, sealed, false},
		{"sealed, without keys", none, sealed, false},
		{"plain, without keys", none, none.SealEvent([]byte(event)), true},
		{"plain, with keys", one, []byte(event), false},
		{"cut off", one, sealed[:len(sealed)-1], false},
		{"empty, with keys", one, nil, false},
	} {
		got, err := tt.ring.OpenEvent(tt.sent)
		if (err == nil) != tt.ok || tt.ok && string(got) != event {
			t.Errorf("%s: %q, %v; want accepted: %v", tt.name, got, err, tt.ok)
		}
	}
}
