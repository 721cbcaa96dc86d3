package ticket

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// sealedVector is a sealed value, and all that another language must make of it.
type sealedVector struct {
	Key    string `json:"key"`              // 32 bytes of Config.Keys in hex
	ID     string `json:"id"`               // "@id"
	Name   string `json:"name"`             // of the value in the hash
	Nonce  string `json:"nonce,omitempty"`  // hex
	Plain  string `json:"plain,omitempty"`  // the value
	Sealed string `json:"sealed"`           // what the store has
	Why    string `json:"why,omitempty"`    // it does not open
	SealID string `json:"key_id,omitempty"` // of the key
}

// sealByHand is sealing as format/README.md has it, and not as seal.go has it.
func sealByHand(t *testing.T, v *sealedVector) {
	t.Helper()
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ring, nonce := must(hex.DecodeString(v.Key)), must(hex.DecodeString(v.Nonce))
	id := must(base64.RawURLEncoding.DecodeString(v.ID))
	key := must(hkdf.Key(sha256.New, ring, nil, "coatcheck/1 seal "+v.ID, 32))
	keyID := must(hkdf.Key(sha256.New, ring, nil, "coatcheck/1 seal id", 3))
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	box := gcm.Seal(nil, nonce, []byte(v.Plain), []byte(string(id)+v.Name))
	v.SealID = base64.RawURLEncoding.EncodeToString(keyID)
	v.Sealed = "~1" + base64.RawURLEncoding.EncodeToString(append(append(keyID, nonce...), box...))
}

func sealedVectors(t *testing.T) []sealedVector {
	t.Helper()
	key, id := hex.EncodeToString(bytes.Repeat([]byte{7}, 32)), driver.Hash(bytes.Repeat([]byte{0xa5}, 16)).String()
	nonce := "000102030405060708090a0b"
	all := []sealedVector{
		{Name: "theme", Plain: `"dark"`},
		{Name: "theme", Plain: `12`},
		{Name: "theme", Plain: `{"a":"é😀"}`},
		{Name: "theme:", Plain: `"dark"`}, // the entry whose key is empty
		{Name: "gifts:a:b", Plain: `"dark"`},
		{Name: "@principal", Plain: `{"user":"YWRh","device":"Firefox on Linux","agent":"Mozilla/5.0","address":"2001:db8::7"}`},
		{Name: "@principal", Plain: `{"user":"/w=="}`},
	}
	for i := range all {
		all[i].Key, all[i].ID, all[i].Nonce = key, id, nonce
		sealByHand(t, &all[i])
	}
	dark := all[0]
	for _, bad := range []struct {
		why   string
		spoil func(v *sealedVector)
	}{
		{"another field", func(v *sealedVector) { v.Name = "colour" }},
		{"an entry with an empty key is not the field", func(v *sealedVector) { v.Name = "theme:" }},
		{"another session", func(v *sealedVector) { v.ID = driver.Hash{}.String() }},
		{"another key, which its id says", func(v *sealedVector) { v.Key = hex.EncodeToString(bytes.Repeat([]byte{8}, 32)) }},
		{"another version", func(v *sealedVector) { v.Sealed = "~2" + v.Sealed[2:] }},
		{"a bit of the nonce", func(v *sealedVector) { v.Sealed = v.Sealed[:6] + "B" + v.Sealed[7:] }},
		{"the tag is cut", func(v *sealedVector) { v.Sealed = v.Sealed[:len(v.Sealed)-4] }},
		{"nothing but the key", func(v *sealedVector) { v.Sealed = v.Sealed[:6] }},
		{"padding", func(v *sealedVector) { v.Sealed += "=" }},
		{"a line break", func(v *sealedVector) { v.Sealed += "\n" }},
		{"not the URL-safe alphabet", func(v *sealedVector) { v.Sealed = v.Sealed[:9] + "+" + v.Sealed[10:] }},
	} {
		v := dark
		bad.spoil(&v)
		all = append(all, sealedVector{Key: v.Key, ID: v.ID, Name: v.Name, Sealed: v.Sealed, Why: bad.why})
	}
	one := sealedVector{Key: key, ID: id, Nonce: nonce, Name: "theme", Plain: "1"} // 32 bytes: two bits of the last character mean nothing
	sealByHand(t, &one)
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	end := len(one.Sealed) - 1
	other := digits[strings.IndexByte(digits, one.Sealed[end])+1]
	return append(all, one, sealedVector{Key: key, ID: id, Name: one.Name, Sealed: one.Sealed[:end] + string(other), Why: "bits that mean nothing"})
}

func TestSealedVectors(t *testing.T) {
	got := sameVectors(t, "sealed.json", sealedVectors(t))
	var vectors []sealedVector
	if err := json.Unmarshal(got, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		box := sealerOf(t, v.Key, v.ID)
		plain, err := box.Open(driver.Key(v.Name), []byte(v.Sealed))
		if v.Why != "" {
			if plain != nil || !errors.Is(err, ErrSealed) {
				t.Errorf("%s: %q opens to %q, %v; want ErrSealed", v.Why, v.Sealed, plain, err)
			}
			continue
		}
		if string(plain) != v.Plain || err != nil {
			t.Errorf("%q opens to %q, %v", v.Sealed, plain, err)
		}
		if v.Name != "@principal" {
			continue
		}
		p, err := box.OpenPrincipal(&driver.Principal{Level: 2, Sealed: v.Sealed})
		if err != nil || p.User == "" || p.Level != 2 || p.Sealed != "" {
			t.Errorf("%q is the principal %+v, %v", v.Sealed, p, err)
		}
	}
}

func sealerOf(t testing.TB, key, id string) *Sealer {
	t.Helper()
	k, err := hex.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := NewRing([][]byte{bytes.Repeat([]byte{1}, 32), k}, time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := driver.ParseHash(id)
	if err != nil {
		t.Fatal(err)
	}
	return ring.Sealer(driver.Secret(secret))
}

// TestSealsDiffer: the same value twice is two texts, and neither has the value.
func TestSealsDiffer(t *testing.T) {
	box, seen := sealerOf(t, strings.Repeat("07", 32), driver.Hash{}.String()), map[string]bool{}
	for range 100 {
		text, err := box.Seal("theme", []byte(`"dark"`))
		if err != nil || seen[string(text)] || bytes.Contains(text, []byte("dark")) {
			t.Fatalf("%q, %v", text, err)
		}
		seen[string(text)] = true
		if json.Valid(text) {
			t.Errorf("%q is JSON, and could be a value in clear", text)
		}
	}
}

// TestPrincipalsThatOpenAndAreNone: whoever has the key can seal nonsense; it makes nobody signed in.
func TestPrincipalsThatOpenAndAreNone(t *testing.T) {
	box := sealerOf(t, strings.Repeat("07", 32), driver.Hash{}.String())
	for _, plain := range []string{
		``, `null`, `{}`, `{"user":""}`, `[]`, `"ada"`, `{"user":"YWRh","role":"admin"}`, `{"user":"YWRh"} {}`, `{"user":"?"}`,
		`{"user":"YWRh","device":"` + strings.Repeat("d", driver.MaxDevice+1) + `"}`,
	} {
		text, err := box.Seal(principalKey, []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		if p, err := box.OpenPrincipal(&driver.Principal{Sealed: string(text)}); p != nil || !errors.Is(err, ErrSealed) {
			t.Errorf("%s is %+v, %v; want ErrSealed", plain, p, err)
		}
	}
	if p, err := box.OpenPrincipal(&driver.Principal{Sealed: `{"user":"YWRh"}`}); p != nil || !errors.Is(err, ErrSealed) {
		t.Errorf("in clear in the place of sealed: %+v, %v; want ErrSealed", p, err)
	}
}

// FuzzOpen: what is sealed opens to itself, and no other text opens.
func FuzzOpen(f *testing.F) {
	f.Fuzz(func(t *testing.T, name, text, plain string) {
		box := sealerOf(t, strings.Repeat("07", 32), driver.Hash{}.String())
		sealed, err := box.Seal(driver.Key(name), []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := box.Open(driver.Key(name), sealed); err != nil || string(got) != plain {
			t.Fatalf("%q is sealed as %q, and that opens to %q, %v", plain, sealed, got, err)
		}
		got, err := box.Open(driver.Key(name), []byte(text))
		switch {
		case !IsSealed([]byte(text)):
			if err != nil || string(got) != text {
				t.Errorf("%q, in clear, opens to %q, %v", text, got, err)
			}
		case got != nil || !errors.Is(err, ErrSealed): // the corpus has none of this name and key
			t.Errorf("%q opens to %q, %v", text, got, err)
		}
		if _, err := box.OpenPrincipal(&driver.Principal{Sealed: text}); text != "" && !errors.Is(err, ErrSealed) {
			t.Errorf("%q is a principal: %v", text, err)
		}
	})
}
