package redisd

import (
	"testing"
	"time"
)

func TestCallsAreParsed(t *testing.T) {
	got, err := parseCalls("calls=3,usec=22,usec_per_call=7.33,rejected_calls=0,failed_calls=0")
	if want := (Calls{3, 22 * time.Microsecond}); err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if got, err := parseCalls(""); err != nil || got != (Calls{}) {
		t.Errorf("a command that was never called: got %v, %v, want zero", got, err)
	}
	if _, err := parseCalls("calls=x"); err == nil {
		t.Error("a malformed line was accepted")
	}
}
