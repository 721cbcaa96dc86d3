package ticket

import (
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/coatcheck-go/session/driver"
)

// csrfVector is a CSRF token, and everything that a program in another language must read from it.
type csrfVector struct {
	ID    string `json:"id"`            // "@id": 16 bytes in hex
	Pad   string `json:"pad,omitempty"` // hex
	Token string `json:"token"`
	Valid bool   `json:"valid"`
	Why   string `json:"why,omitempty"` // why the token is not valid
}

func csrfVectors() (out []csrfVector) {
	var id driver.Secret
	var pad [csrfSize]byte
	for i := range id {
		id[i] = byte(0xa0 + i)
	}
	for i := range pad {
		pad[i] = byte(i * 15)
	}
	for _, s := range []driver.Secret{{}, id} {
		for _, p := range [][csrfSize]byte{{}, pad} {
			out = append(out, csrfVector{
				ID: hex.EncodeToString(s[:]), Pad: hex.EncodeToString(p[:]), Token: csrfText(s, p), Valid: true,
			})
		}
	}
	mine, good := hex.EncodeToString(id[:]), out[3].Token
	for _, bad := range [][2]string{
		{"", "empty"},
		{good[:47], "one character short"},
		{good + "A", "one character long"},
		{good[:44] + "====", "padding"},
		{"+" + good[1:], "not the URL-safe alphabet"},
		{good[:10] + "\n" + good[11:], "a line break"},
		{out[1].Token, "another session's"},
	} {
		out = append(out, csrfVector{ID: mine, Token: bad[0], Why: bad[1]})
	}
	return out
}

func TestCSRFVectors(t *testing.T) {
	got := sameVectors(t, "csrf.json", csrfVectors())
	var vectors []csrfVector
	if err := json.Unmarshal(got, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		var id driver.Secret
		if _, err := hex.Decode(id[:], []byte(v.ID)); err != nil {
			t.Fatal(err)
		}
		if err := CheckCSRF(id, v.Token); (err == nil) != v.Valid {
			t.Errorf("%q of %s (%s): error %v, want valid: %v", v.Token, v.ID, v.Why, err, v.Valid)
		}
	}
}
