package cli

import "testing"

func TestPrintableQuotesWhatDisturbsATerminal(t *testing.T) {
	for text, want := range map[string]string{
		`"Zoë 🎩"`:             `"Zoë 🎩"`,
		"a\tb\n":              `"a\tb\n"`,
		"\x1b[2J":             `"\x1b[2J"`,
		"\u009b2J":            `"\u009b2J"`,
		"\xff":                `"\xff"`,
		"user\u202eresu":      `"user\u202eresu"`,
		"ad\u200bmin":         `"ad\u200bmin"`,
		"line\u2028separator": `"line\u2028separator"`,
	} {
		if got := printable(text); got != want {
			t.Errorf("printable(%q) = %s, want %s", text, got, want)
		}
	}
}
