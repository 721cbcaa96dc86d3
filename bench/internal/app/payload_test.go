package app

import (
	"encoding/json"
	"testing"
)

func TestPayloadSize(t *testing.T) {
	text, err := json.Marshal(Payload)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) != PayloadSize {
		t.Errorf("Payload is %d bytes of JSON, want %d", len(text), PayloadSize)
	}
}
