package driver_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/coatcheck-go/session/driver"
)

func TestHash(t *testing.T) {
	// The first 128 bits of SHA-256("abc").
	h := driver.HashOf([]byte("abc"))
	if got := h.String(); got != "ungWv48Bz-pBQUDeXa4iIw" {
		t.Errorf("the hash of abc is %s", got)
	}
	if got, err := driver.ParseHash(h.String()); err != nil || got != h {
		t.Errorf("parsed back: %v, %v", got, err)
	}
	if other := hash("abd"); h.Equal(other) || !h.Equal(hash("abc")) {
		t.Error("Equal is wrong")
	}
	last := h
	last[15]++
	if h.Equal(last) {
		t.Error("Equal does not compare the last byte")
	}
}

func TestID(t *testing.T) {
	id := driver.ID{Bucket: 0x1a2b, Selector: hash("abc")}
	if got := id.String(); got != "1a2b-ungWv48Bz-pBQUDeXa4iIw" {
		t.Errorf("the handle is %s", got)
	}
	for _, bad := range []string{
		"", "-", "1a2b", "1a2b-", "1a2b_ungWv48Bz-pBQUDeXa4iIw", "1A2B-ungWv48Bz-pBQUDeXa4iIw", "1a2g-ungWv48Bz-pBQUDeXa4iIw",
		"1a2b-ungWv48Bz-pBQUDeXa4iIx", "1a2b-ungWv48Bz+pBQUDeXa4iIw", "1a2b-ungWv48Bz-pBQUDeXa4iI", "1a2b-ungWv48Bz-pBQUDeXa4iIw=",
		" 1a2b-ungWv48Bz-pBQUDeXa4iIw", "1a2b-ungWv48Bz-pBQUDeXa4iIw\n", "1a2b-ungWv48Bz\npBQUDeXa4iIw", "1a2b-\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n",
	} {
		if got, err := driver.ParseID(bad); !errors.Is(err, driver.ErrFormat) || got != (driver.ID{}) {
			t.Errorf("ParseID(%q): %v, %v, want ErrFormat", bad, got, err)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("1a2b-ungWv48Bz-pBQUDeXa4iIw")
	f.Add("0000-AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("ffff-_____________________w")
	f.Add("FFFF-AAAAAAAAAAAAAAAAAAAAAB")
	f.Add("")
	f.Fuzz(func(t *testing.T, handle string) {
		id, err := driver.ParseID(handle)
		if err != nil {
			if !errors.Is(err, driver.ErrFormat) || id != (driver.ID{}) {
				t.Fatalf("%v, %v, want ErrFormat and no id", id, err)
			}
		} else if id.String() != handle {
			t.Fatalf("%q was accepted and is %q", handle, id)
		}
	})
}

func FuzzParseHash(f *testing.F) {
	f.Add("ungWv48Bz-pBQUDeXa4iIw")
	f.Add("AAAAAAAAAAAAAAAAAAAAAB")
	f.Add("\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := driver.ParseHash(s)
		if err != nil && !errors.Is(err, driver.ErrFormat) {
			t.Fatalf("%v, want ErrFormat", err)
		}
		if err == nil && h.String() != s {
			t.Fatalf("%q was accepted and is %q", s, h)
		}
	})
}

func TestKey(t *testing.T) {
	long, longEntry := strings.Repeat("x", driver.MaxName), strings.Repeat("y", driver.MaxEntry)
	for _, test := range []struct {
		key          driver.Key
		field, entry string
		isEntry, ok  bool
	}{
		{"a", "a", "", false, true},
		{"cart.items_2-B", "cart.items_2-B", "", false, true},
		{"a:", "a", "", true, true},
		{"a:b", "a", "b", true, true},
		{"a:b:c", "a", "b:c", true, true},
		{"a:\x00", "a", "\x00", true, true},
		{driver.EntryKey("a", "@é"), "a", "@é", true, true},
		{driver.Key(long), long, "", false, true},
		{driver.Key(long + "x"), long + "x", "", false, false},
		{driver.EntryKey(long, longEntry), long, longEntry, true, true},
		{driver.EntryKey("a", longEntry+"y"), "a", longEntry + "y", true, false},
		{"", "", "", false, false},
		{":", "", "", true, false},
		{":a", "", "a", true, false},
		{"@s", "@s", "", false, false},
		{"a b", "a b", "", false, false},
		{"é", "é", "", false, false},
		{"a\x00", "a\x00", "", false, false},
		{"a:\xff", "a", "\xff", true, false},
		{"a:\xed\xa0\x80", "a", "\xed\xa0\x80", true, false},
	} {
		field, entry, isEntry := test.key.Split()
		if field != test.field || entry != test.entry || isEntry != test.isEntry {
			t.Errorf("Split(%.20q): %.20q, %.20q, %v", test.key, field, entry, isEntry)
		}
		if err := test.key.Check(); (err == nil) != test.ok || err != nil && !errors.Is(err, driver.ErrName) {
			t.Errorf("Check(%.20q): %v, want valid: %v", test.key, err, test.ok)
		}
	}
}

// A key that Check accepts can be split and joined again, and is valid UTF-8.
func FuzzKey(f *testing.F) {
	for _, seed := range []string{"a", "a:b", "a::", "@v", ":", "cart.items:é", "a:\xff", strings.Repeat("x", 65)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k := driver.Key(s)
		if err := k.Check(); err != nil {
			if !errors.Is(err, driver.ErrName) || !utf8.ValidString(err.Error()) {
				t.Fatalf("%v, want ErrName in readable text", err)
			}
			return
		}
		field, entry, isEntry := k.Split()
		if again := driver.EntryKey(field, entry); isEntry && again != k || !isEntry && driver.Key(field) != k {
			t.Fatalf("%q splits into %q and %q", k, field, entry)
		}
		if !utf8.ValidString(s) || s[0] == '@' || len(s) > driver.MaxName+1+driver.MaxEntry {
			t.Fatalf("%q was accepted", s)
		}
		if err := driver.Key(field).Check(); err != nil {
			t.Fatalf("the field of %q: %v", k, err)
		}
	})
}

func TestParseInt(t *testing.T) {
	for s, want := range map[string]int64{"0": 0, "-1": -1, "9223372036854775807": 1<<63 - 1, "-9223372036854775808": -1 << 63} {
		if got, ok := driver.ParseInt([]byte(s)); !ok || got != want {
			t.Errorf("ParseInt(%s): %d, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "-", "-0", "00", "01", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "1_0", "9223372036854775808", "\"1\"", "١"} {
		if got, ok := driver.ParseInt([]byte(s)); ok {
			t.Errorf("ParseInt(%q): %d, want none", s, got)
		}
	}
}
