package app

import (
	"encoding/json"
	"testing"
)

func TestPayloadHasTheStatedSize(t *testing.T) {
	text, err := json.Marshal(Payload)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) != PayloadSize {
		t.Errorf("Payload has %d bytes as JSON, want %d", len(text), PayloadSize)
	}
}
