package ticket

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// mustRing returns a ring with a key of 32 equal bytes for each of n.
func mustRing(t testing.TB, n ...byte) *Ring {
	t.Helper()
	var keys [][]byte
	for _, b := range n {
		keys = append(keys, bytes.Repeat([]byte{b}, 32))
	}
	r, err := NewRing(keys, time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// layoutMAC is the MAC of the token in TestTokenLayout, as Python's hmac computes it: HMAC-SHA256
// of the token's bytes, cut to 18 bytes. The key is HKDF-SHA256 of 32 bytes 0x01, with no salt and
// the info "coatcheck/1 token".
const layoutMAC = "pLswNWvN8annzkWU70_cZQk0"

// TestTokenLayout checks the format of tokens. Other languages and releases read it, so it must not
// change.
func TestTokenLayout(t *testing.T) {
	tok := Token{Bucket: 0x1234, Generation: 0x01020304}
	for i := range tok.selector {
		tok.selector[i], tok.verifier[i] = byte(0xa0+i), byte(0xc0+i)
	}
	const want = "01" + "1234" + "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf" + "01020304" + "c0c1c2c3c4c5c6c7c8c9cacbcccdcecf"
	none := mustRing(t)
	b, err := tokenEncoding.DecodeString(tok.Text(none))
	if err != nil || hex.EncodeToString(b) != want {
		t.Errorf("the token's bytes are %x, %v; want %s", b, err, want)
	}
	signed := tok.Text(mustRing(t, 1))
	if len(tok.Text(none)) != 52 || len(signed) != 76 || signed[:52] != tok.Text(none) {
		t.Errorf("the tokens are %q and signed %q; want 52 and 76 characters, with the same beginning",
			tok.Text(none), signed)
	}
	if mac := signed[52:]; mac != layoutMAC {
		t.Errorf("the MAC is %s, want %s", mac, layoutMAC)
	}
}

func TestParseToken(t *testing.T) {
	none, one, two, both := mustRing(t), mustRing(t, 1), mustRing(t, 2), mustRing(t, 2, 1)
	soon := mustRing(t, 1)
	soon.unsignedUntil = time.Now().Add(time.Hour)
	tok := New()
	plain, signed := tok.Text(none), tok.Text(one)
	for _, tt := range []struct {
		name string
		text string
		keys *Ring
		err  error
	}{
		{"plain", plain, none, nil},
		{"signed", signed, one, nil},
		{"signed, keys dropped", signed, none, nil},
		{"signed, key rotated", signed, both, nil},
		{"signed with another key", signed, two, ErrForged},
		{"plain, keys added", plain, one, ErrForged},
		{"plain, keys added a while ago", plain, soon, nil},
		{"empty", "", none, ErrMalformed},
		{"truncated", plain[:51], none, ErrMalformed},
		{"truncated signature", signed[:75], one, ErrMalformed},
		{"too long", plain + "A", none, ErrMalformed},
		{"oversized", strings.Repeat("A", 1<<20), none, ErrMalformed},
		{"another alphabet", "+" + plain[1:], none, ErrMalformed},
		{"padding", plain[:51] + "=", none, ErrMalformed},
		{"newline inside", plain[:20] + "\n" + plain[21:], none, ErrMalformed},
		{"newlines at the end", plain[:50] + "\r\n", none, ErrMalformed},
		{"version 0", "AA" + plain[2:], none, ErrVersion},
		{"version 2", "Ag" + plain[2:], none, ErrVersion},
	} {
		got, err := Parse([]byte(tt.text), tt.keys)
		if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.err)
		}
		if err == nil && got != tok || err != nil && got != (Token{}) {
			t.Errorf("%s: parsed as %+v, want %+v, or the zero Token with an error", tt.name, got, tok)
		}
		if err != nil && len(err.Error()) > 100 {
			t.Errorf("%s: the error has %d bytes, want at most 100", tt.name, len(err.Error()))
		}
	}
}

func TestTokensAreRandom(t *testing.T) {
	const many = 2000
	texts, buckets := map[string]bool{}, map[uint16]bool{}
	for range many {
		a := New()
		b := a.Renewed()
		if a.ID() != b.ID() || b.Generation != a.Generation+1 || a.VerifierHash() == b.VerifierHash() {
			t.Fatalf("%+v is renewed to %+v; want the same ID, the next generation and another verifier", a, b)
		}
		texts[a.Text(&Ring{})], texts[b.Text(&Ring{})] = true, true
		buckets[a.Bucket] = true
	}
	if len(texts) != 2*many || len(buckets) < many*9/10 {
		t.Errorf("%d tokens have %d texts, want as many; %d sessions have %d buckets, want at least 9 of 10",
			2*many, len(texts), many, len(buckets))
	}
}

// TestTheStoreSeesNoToken: what the store gets is hashed, so the token cannot be derived from it.
func TestTheStoreSeesNoToken(t *testing.T) {
	tok := New()
	if id := tok.ID(); bytes.Contains(tok.selector[:], id.Selector[:]) || tok.VerifierHash() == tok.verifier {
		t.Error("the selector or the verifier is not hashed")
	}
	if strings.Contains(tok.Text(&Ring{}), tok.ID().String()[5:]) {
		t.Error("the handle is part of the token")
	}
}

// FuzzParseToken: a text that Parse accepts is the text of the token that Parse returns.
func FuzzParseToken(f *testing.F) {
	none, one := mustRing(f), mustRing(f, 1)
	tok := Token{Bucket: 7, selector: [16]byte{1, 2, 3}, Generation: 9, verifier: [16]byte{4, 5, 6}}
	for _, s := range []string{"", "A", tok.Text(none), tok.Text(one), tok.Text(none)[:50] + "\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		given := string(b)
		if tok, err := Parse(b, one); err == nil && tok.Text(one) != given {
			t.Errorf("%q is accepted, but its token's text is %q", given, tok.Text(one))
		}
		tok, err := Parse(b, none)
		if string(b) != given {
			t.Errorf("Parse changed its input from %q to %q", given, b)
		}
		if err != nil {
			if tok != (Token{}) || !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrVersion) {
				t.Errorf("Parse returns %+v, %v; want the zero Token and ErrMalformed or ErrVersion", tok, err)
			}
			return
		}
		// Without keys a signature is ignored.
		if text := tok.Text(none); text != given && !(len(given) == 76 && text == given[:52]) {
			t.Errorf("%q is accepted, but its token's text is %q", given, text)
		}
	})
}

// TestParseTokenCorpus: a fuzz target without a corpus tests nothing.
func TestParseTokenCorpus(t *testing.T) {
	files, err := os.ReadDir("testdata/fuzz/FuzzParseToken")
	if err != nil || len(files) < 10 {
		t.Errorf("%d seeds, %v; want 10 or more", len(files), err)
	}
}
