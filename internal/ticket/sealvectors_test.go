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

// sealedVector is a sealed value, and everything that a program in another language must read from
// it.
type sealedVector struct {
	Key    string `json:"key"`              // of Config.Keys, in hex
	ID     string `json:"id"`               // "@id"
	Name   string `json:"name"`             // under which the value is stored
	Nonce  string `json:"nonce,omitempty"`  // hex
	Plain  string `json:"plain,omitempty"`  // the value
	Sealed string `json:"sealed"`           // the stored form
	Why    string `json:"why,omitempty"`    // why it does not open
	SealID string `json:"key_id,omitempty"` // the id of the key
}

// sealByHand seals as format/README.md specifies, without the code of this package.
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
		{Name: "@i", Plain: `{"user":"YWRh","methods":["pwd"],"device":"Firefox on Linux","agent":"Mozilla/5.0",` +
			`"address":"2001:db8::7"}`},
		{Name: "@i", Plain: `{"user":"_w"}`},
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
		{"another key, which its id says", func(v *sealedVector) { v.Key = strings.Repeat("08", 32) }},
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
	// Its 32 bytes leave two bits of the last character unused.
	one := sealedVector{Key: key, ID: id, Nonce: nonce, Name: "theme", Plain: "1"}
	sealByHand(t, &one)
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	end := len(one.Sealed) - 1
	other := digits[strings.IndexByte(digits, one.Sealed[end])+1]
	return append(all, one, sealedVector{
		Key: key, ID: id, Name: one.Name, Sealed: one.Sealed[:end] + string(other), Why: "bits that mean nothing",
	})
}

func TestSealedVectors(t *testing.T) {
	got := sameVectors(t, "sealed.json", sealedVectors(t))
	var vectors []sealedVector
	if err := json.Unmarshal(got, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		box := mustSealer(t, v.Key, v.ID)
		plain, err := box.Open(driver.Key(v.Name), []byte(v.Sealed))
		if v.Why != "" {
			if plain != nil || !errors.Is(err, ErrSealed) {
				t.Errorf("%s: %q opens to %q, %v; want ErrSealed", v.Why, v.Sealed, plain, err)
			}
			continue
		}
		if string(plain) != v.Plain || err != nil {
			t.Errorf("%q opens to %q, %v; want %q", v.Sealed, plain, err, v.Plain)
		}
		if v.Name != "@i" {
			continue
		}
		p, err := box.OpenPrincipal(&driver.Principal{Level: 2, Sealed: v.Sealed})
		if err != nil || p.User == "" || p.Level != 2 || p.Sealed != "" {
			t.Errorf("%q opens to the principal %+v, %v; want a user at level 2", v.Sealed, p, err)
		}
	}
}

// mustSealer returns the Sealer of a session, of a ring in which key is the second key.
func mustSealer(t testing.TB, key, id string) *Sealer {
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

// TestSealsDiffer: sealing a value twice gives two texts, and neither contains the value.
func TestSealsDiffer(t *testing.T) {
	box, seen := mustSealer(t, strings.Repeat("07", 32), driver.Hash{}.String()), map[string]bool{}
	for range 100 {
		text, err := box.Seal("theme", []byte(`"dark"`))
		if err != nil || seen[string(text)] || bytes.Contains(text, []byte("dark")) {
			t.Fatalf("the sealed form is %q, %v; want a new one that does not contain the value", text, err)
		}
		seen[string(text)] = true
		if json.Valid(text) {
			t.Errorf("the sealed form %q is JSON, so it could be taken for a plain value", text)
		}
	}
}

// TestSealedNonsenseIsNoPrincipal: a sealed value that opens signs nobody in unless it is a valid
// principal.
func TestSealedNonsenseIsNoPrincipal(t *testing.T) {
	box := mustSealer(t, strings.Repeat("07", 32), driver.Hash{}.String())
	for _, plain := range []string{
		``, `null`, `{}`, `{"user":""}`, `[]`, `"ada"`, `{"user":"YWRh","role":"admin"}`, `{"user":"YWRh"} {}`,
		`{"user":"?"}`, `{"user":"YQ=="}`,
		`{"user":"YWRh","device":"` + strings.Repeat("d", driver.MaxDevice+1) + `"}`,
	} {
		text, err := box.Seal(infoKey, []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		p, err := box.OpenPrincipal(&driver.Principal{Sealed: string(text)})
		if p != nil || !errors.Is(err, ErrSealed) {
			t.Errorf("%s opens to the principal %+v, %v; want ErrSealed", plain, p, err)
		}
	}
	p, err := box.OpenPrincipal(&driver.Principal{Sealed: `{"user":"YWRh"}`})
	if p != nil || !errors.Is(err, ErrSealed) {
		t.Errorf("a plain principal in place of a sealed one: %+v, %v; want ErrSealed", p, err)
	}
}

// FuzzOpen: a sealed value opens to the value that was sealed, and no other text opens.
func FuzzOpen(f *testing.F) {
	f.Fuzz(func(t *testing.T, name, text, plain string) {
		box := mustSealer(t, strings.Repeat("07", 32), driver.Hash{}.String())
		sealed, err := box.Seal(driver.Key(name), []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := box.Open(driver.Key(name), sealed); err != nil || string(got) != plain {
			t.Fatalf("%q is sealed as %q, which opens to %q, %v", plain, sealed, got, err)
		}
		got, err := box.Open(driver.Key(name), []byte(text))
		switch {
		case !IsSealed([]byte(text)):
			if err != nil || string(got) != text {
				t.Errorf("the plain value %q opens to %q, %v; want the value itself", text, got, err)
			}
		// No text of the corpus is sealed for this session.
		case got != nil || !errors.Is(err, ErrSealed):
			t.Errorf("%q opens to %q, %v; want ErrSealed", text, got, err)
		}
		if _, err := box.OpenPrincipal(&driver.Principal{Sealed: text}); text != "" && !errors.Is(err, ErrSealed) {
			t.Errorf("%q opens as a principal: %v; want ErrSealed", text, err)
		}
	})
}
