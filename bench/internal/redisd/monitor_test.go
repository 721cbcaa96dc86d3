package redisd

import "testing"

func TestCommandOfSkipsScripts(t *testing.T) {
	for _, tt := range []struct {
		line, command string
		sent          bool
	}{
		{"+1700000000.000000 [0 127.0.0.1:40000] \"hget\" \"a ] key\" \"field\"\r\n", "HGET", true},
		{"+1700000000.000000 [0 127.0.0.1:40000] \"PING\"\r\n", "PING", true},
		{"+1700000000.000000 [0 lua] \"hget\" \"key\"\r\n", "", false},
		{"+OK\r\n", "", false},
	} {
		if command, sent := commandOf(tt.line); command != tt.command || sent != tt.sent {
			t.Errorf("commandOf(%q) = %q, %v, want %q, %v", tt.line, command, sent, tt.command, tt.sent)
		}
	}
}
