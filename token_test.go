package session

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/memstore"
)

func testKeyring(t testing.TB, n ...byte) *keyring {
	t.Helper()
	var keys [][]byte
	for _, b := range n {
		keys = append(keys, bytes.Repeat([]byte{b}, 32))
	}
	r, err := newKeyring(keys, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return &r
}

// layoutMAC was computed by another program (Python's hmac).
const layoutMAC = "pLswNWvN8annzkWU70_cZQk0"

// TestTokenLayout is final: other languages and releases read it.
func TestTokenLayout(t *testing.T) {
	tok := token{bucket: 0x1234, generation: 0x01020304}
	for i := range tok.selector {
		tok.selector[i], tok.verifier[i] = byte(0xa0+i), byte(0xc0+i)
	}
	const want = "01" + "1234" + "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf" + "01020304" + "c0c1c2c3c4c5c6c7c8c9cacbcccdcecf"
	none := testKeyring(t)
	b, err := tokenEncoding.DecodeString(tok.text(none))
	if err != nil || hex.EncodeToString(b) != want {
		t.Errorf("%x, %v, want %s", b, err, want)
	}
	// HKDF-SHA256 of 32 bytes 0x01, no salt, info "coatcheck/1 token"; HMAC-SHA256 of the bytes above, 18 of 32.
	signed := tok.text(testKeyring(t, 1))
	if len(tok.text(none)) != 52 || len(signed) != 76 || signed[:52] != tok.text(none) {
		t.Errorf("lengths %d and %d", len(tok.text(none)), len(signed))
	}
	if mac := signed[52:]; mac != layoutMAC {
		t.Errorf("MAC %s, want %s", mac, layoutMAC)
	}
}

func TestParseToken(t *testing.T) {
	none, one, two, both := testKeyring(t), testKeyring(t, 1), testKeyring(t, 2), testKeyring(t, 2, 1)
	soon := testKeyring(t, 1)
	soon.unsignedUntil = time.Now().Add(time.Hour)
	tok := newToken()
	plain, signed := tok.text(none), tok.text(one)
	for _, tt := range []struct {
		name string
		text string
		keys *keyring
		err  error
	}{
		{"plain", plain, none, nil},
		{"signed", signed, one, nil},
		{"signed, keys dropped", signed, none, nil},
		{"signed, key rotated", signed, both, nil},
		{"signed with another key", signed, two, errForged},
		{"plain, keys added", plain, one, errForged},
		{"plain, keys added a while ago", plain, soon, nil},
		{"empty", "", none, errMalformed},
		{"truncated", plain[:51], none, errMalformed},
		{"truncated signature", signed[:75], one, errMalformed},
		{"too long", plain + "A", none, errMalformed},
		{"oversized", strings.Repeat("A", 1<<20), none, errMalformed},
		{"another alphabet", "+" + plain[1:], none, errMalformed},
		{"padding", plain[:51] + "=", none, errMalformed},
		{"newline inside", plain[:20] + "\n" + plain[21:], none, errMalformed},
		{"newlines at the end", plain[:50] + "\r\n", none, errMalformed},
		{"version 0", "AA" + plain[2:], none, errVersion},
		{"version 2", "Ag" + plain[2:], none, errVersion},
	} {
		got, err := parseToken([]byte(tt.text), tt.keys)
		if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.err)
		}
		if err == nil && got != tok || err != nil && got != (token{}) {
			t.Errorf("%s: %+v", tt.name, got)
		}
		if err != nil && len(err.Error()) > 100 {
			t.Errorf("%s: an error of %d bytes", tt.name, len(err.Error()))
		}
	}
}

func TestTokensAreRandom(t *testing.T) {
	const many = 2000
	texts, buckets := map[string]bool{}, map[uint16]bool{}
	for range many {
		a := newToken()
		b := a.renewed()
		if a.id() != b.id() || b.generation != a.generation+1 || a.verifierHash() == b.verifierHash() {
			t.Fatalf("renewed %+v is %+v", a, b)
		}
		texts[a.text(&keyring{})], texts[b.text(&keyring{})] = true, true
		buckets[a.bucket] = true
	}
	if len(texts) != 2*many || len(buckets) < many*9/10 {
		t.Errorf("%d texts of %d, %d buckets", len(texts), 2*many, len(buckets))
	}
}

// TestTheStoreSeesNoToken: hashes, of which the token cannot be made.
func TestTheStoreSeesNoToken(t *testing.T) {
	tok := newToken()
	if id := tok.id(); bytes.Contains(tok.selector[:], id.Selector[:]) || tok.verifierHash() == tok.verifier {
		t.Error("not hashed")
	}
	if strings.Contains(tok.text(&keyring{}), tok.id().String()[5:]) {
		t.Error("the handle is part of the token")
	}
}

// FuzzParseToken: what is accepted re-encodes to itself.
func FuzzParseToken(f *testing.F) {
	none, one := testKeyring(f), testKeyring(f, 1)
	tok := token{bucket: 7, selector: [16]byte{1, 2, 3}, generation: 9, verifier: [16]byte{4, 5, 6}}
	for _, s := range []string{"", "A", tok.text(none), tok.text(one), tok.text(none)[:50] + "\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		given := string(b)
		if tok, err := parseToken(b, one); err == nil && tok.text(one) != given {
			t.Errorf("%q is accepted and is %q", given, tok.text(one))
		}
		tok, err := parseToken(b, none)
		if string(b) != given {
			t.Errorf("the input was changed to %q", b)
		}
		if err != nil {
			if tok != (token{}) || !errors.Is(err, errMalformed) && !errors.Is(err, errVersion) {
				t.Errorf("%+v, %v", tok, err)
			}
			return
		}
		if text := tok.text(none); text != given && !(len(given) == 76 && text == given[:52]) { // a signature is passed over
			t.Errorf("%q is accepted and is %q", given, text)
		}
	})
}

// FuzzCredentials: a token that is taken from a header stands in it, whole and between delimiters.
func FuzzCredentials(f *testing.F) {
	tok, other := token{bucket: 7, verifier: [16]byte{4}}, token{bucket: 8}
	a, b := tok.text(&keyring{}), other.text(&keyring{})
	for _, s := range [][2]string{
		{"", ""}, {"__Host-session=" + a, ""}, {"x=1; __Host-session=\"" + a + "\" ;y", "Bearer " + a},
		{"__Host-session=" + a + ";__Host-session=" + b, "Basic x"}, {"__Host-session=evil;;=;__Host-session=" + b, "bearer  " + b + " "},
	} {
		f.Add(s[0], s[1])
	}
	m, err := New(memstore.New(), Config{Bearer: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, cookie, authorization string) {
		c := m.read(http.Header{"Cookie": {cookie}, "Authorization": {authorization}})
		if !c.found {
			if c.token != (token{}) || c.ambiguous {
				t.Errorf("none found, but %+v", c)
			}
			return
		}
		text, where := c.token.text(m.keys), cookie
		if c.inHeader {
			where = authorization
		}
		i := strings.Index(where, text)
		if i <= 0 || strings.IndexByte("= \"", where[i-1]) < 0 {
			t.Errorf("%q is not in %q", text, where)
		}
		if !c.inHeader && !c.hasCookie {
			t.Error("a token from nowhere")
		}
	})
}

// TestFuzzCorpora: a target with no corpus tests nothing.
func TestFuzzCorpora(t *testing.T) {
	for _, target := range []string{"FuzzParseToken", "FuzzCredentials"} {
		files, err := os.ReadDir("testdata/fuzz/" + target)
		if err != nil || len(files) < 10 {
			t.Errorf("%s: %d seeds, %v", target, len(files), err)
		}
	}
}
