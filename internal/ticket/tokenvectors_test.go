package ticket

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"testing"
	"time"
)

// tokenVector is a token, and everything that a program in another language must read from it.
type tokenVector struct {
	Token        string `json:"token"`
	Key          string `json:"key,omitempty"` // a key of Config.Keys in hex; it signs the token
	Valid        bool   `json:"valid"`
	Why          string `json:"why,omitempty"` // why the token is not valid
	Bucket       uint16 `json:"bucket,omitempty"`
	Selector     string `json:"selector,omitempty"` // hex
	Generation   uint32 `json:"generation,omitempty"`
	Verifier     string `json:"verifier,omitempty"`      // hex
	VerifierHash string `json:"verifier_hash,omitempty"` // as in "@s"
	Handle       string `json:"handle,omitempty"`
	RedisKey     string `json:"redis_key,omitempty"` // in the namespace "coatcheck"
}

func tokenVectors(t *testing.T) []tokenVector {
	t.Helper()
	key := bytes.Repeat([]byte{7}, 32)
	signing, err := NewRing([][]byte{key}, time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []tokenVector
	sample := Token{Bucket: 0xbeef, Generation: 1<<24 + 5}
	for i := range sample.selector {
		sample.selector[i], sample.verifier[i] = byte(i), byte(0xf0+i)
	}
	highest := Token{Bucket: 65535, Generation: 1<<32 - 1, selector: sample.verifier, verifier: sample.selector}
	for _, tok := range []Token{{}, sample, highest} {
		for _, keys := range []*Ring{{}, signing} {
			id := tok.ID()
			handle := id.String()
			v := tokenVector{
				Token: tok.Text(keys), Valid: true,
				Bucket: tok.Bucket, Selector: hex.EncodeToString(tok.selector[:]), Generation: tok.Generation,
				Verifier: hex.EncodeToString(tok.verifier[:]), VerifierHash: tok.VerifierHash().String(),
				Handle: handle, RedisKey: "coatcheck:{" + handle[:4] + "}:s:" + handle[5:],
			}
			if keys.signs() {
				v.Key = hex.EncodeToString(key)
			}
			out = append(out, v)
		}
	}
	plain, signed := out[2].Token, out[3].Token
	flip := func(s string, i int) string { return s[:i] + string("AB"[b2i(s[i] == 'A')]) + s[i+1:] }
	for _, bad := range []struct{ text, key, why string }{
		{"", "", "empty"},
		{plain[:51], "", "one character short"},
		{plain + "A", "", "one character long"},
		{plain + "=", "", "padding"},
		{plain[:10] + "+" + plain[11:], "", "not the URL-safe alphabet"},
		{plain[:10] + "\n" + plain[11:], "", "a line break"},
		{"Ag" + plain[2:], "", "version 2"},
		{flip(signed, 75), hex.EncodeToString(key), "a wrong signature"},
		{flip(signed, 20), hex.EncodeToString(key), "another token's signature"},
		{plain, hex.EncodeToString(key), "no signature where there are keys"},
	} {
		out = append(out, tokenVector{Token: bad.text, Key: bad.key, Why: bad.why})
	}
	return out
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestTokenVectors(t *testing.T) {
	got := sameVectors(t, "tokens.json", tokenVectors(t))
	var vectors []tokenVector
	if err := json.Unmarshal(got, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		keys := &Ring{}
		if v.Key != "" {
			key, err := hex.DecodeString(v.Key)
			if err == nil {
				keys, err = NewRing([][]byte{key}, time.Time{}, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		tok, err := Parse([]byte(v.Token), keys)
		if (err == nil) != v.Valid {
			t.Errorf("%q (%s): error %v, want valid: %v", v.Token, v.Why, err, v.Valid)
			continue
		}
		if !v.Valid {
			continue
		}
		if tok.Text(keys) != v.Token || tok.ID().String() != v.Handle || tok.VerifierHash().String() != v.VerifierHash {
			t.Errorf("%q is parsed as %+v, want %+v", v.Token, tok, v)
		}
	}
}
