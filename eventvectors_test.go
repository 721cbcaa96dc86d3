package session

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/coatcheck-go/session/internal/ticket"
	"github.com/coatcheck-go/session/memstore"
)

// eventVector is an event of the feed, and what the field "event" of its entry has.
type eventVector struct {
	Key   string `json:"key,omitempty"`   // 32 bytes of Config.Keys in hex; none: in clear
	Nonce string `json:"nonce,omitempty"` // hex
	Plain string `json:"plain,omitempty"`
	Entry string `json:"entry"`         // hex
	Why   string `json:"why,omitempty"` // it is not believed
}

// TestEventVectors: events are sealed by hand as format/README.md has it, and opened by a Manager.
func TestEventVectors(t *testing.T) {
	bytesOf := must[[]byte](t)
	key, nonce := bytes.Repeat([]byte{7}, 32), []byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b")
	const (
		handle   = "beef-AAAAAAAAAAAAAAAAAAAAAA"
		before   = "0000-BBBBBBBBBBBBBBBBBBBBBB"
		signedIn = `{"kind":"signed in","session":"` + handle + `","user":"YWRh","before":"` + before + `","time":1800000000000}`
		all      = `{"kind":"revoked","time":1800000000000}`
	)
	own := bytesOf(hkdf.Key(sha256.New, key, nil, "coatcheck/1 event", 32))
	box := must[cipher.AEAD](t)(cipher.NewGCM(must[cipher.Block](t)(aes.NewCipher(own))))
	seal := func(plain string) []byte { return box.Seal(append([]byte{1}, nonce...), nonce, []byte(plain), nil) }
	flipped := seal(signedIn)
	flipped[20] ^= 1
	x := hex.EncodeToString
	vectors := []eventVector{
		{"", "", signedIn, x([]byte(signedIn)), ""},
		{"", "", all, x([]byte(all)), ""},
		{x(key), x(nonce), signedIn, x(seal(signedIn)), ""},
		{x(key), x(nonce), all, x(seal(all)), ""},
		{x(key), "", "", x(flipped), "it was altered"},
		{x(key), "", "", x([]byte(signedIn)), "in clear where there are keys"},
		{"", "", "", x(seal(signedIn)), "no key"},
		{"", "", "", x([]byte("{}")), "no kind"},
	}
	for _, v := range vectors {
		cfg := Config{}
		if v.Key != "" {
			cfg.Keys = [][]byte{key}
		}
		m := must[*Manager](t)(New(memstore.New(), cfg))
		e, err := m.openEvent(bytesOf(hex.DecodeString(v.Entry)))
		if v.Why != "" {
			if !errors.Is(err, ErrGap) {
				t.Errorf("%s: %+v, %v, want ErrGap", v.Why, e, err)
			}
			continue
		}
		want := Event{Kind: EventSignedIn, Handle: handle, User: "ada", Before: before, Time: time.UnixMilli(1_800_000_000_000)}
		if v.Plain == all {
			want = Event{Kind: EventRevoked, Time: want.Time}
		}
		if err != nil || e != want {
			t.Errorf("%s is read as %+v, %v", v.Plain, e, err)
		}
		m.keys = &ticket.Ring{}
		if text := m.sealEvent(e); string(text) != v.Plain {
			t.Errorf("%s is written as %s", v.Plain, text)
		}
	}
	sameVectors(t, "events.json", vectors)
}
