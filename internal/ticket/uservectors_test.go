package ticket

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// userVector is a user's id, and where the user's sessions are stored.
type userVector struct {
	Key    string `json:"key,omitempty"` // Config.UserKey in hex; without it, 32 zeros
	User   string `json:"user"`          // hex
	Owner  string `json:"owner"`         // as in "@u"
	Bucket string `json:"bucket"`
	Index  string `json:"index"`       // in the namespace "coatcheck"
	N      string `json:"revocations"` // the key of the bucket's revocations
}

// TestUserVectors computes owners as format/README.md specifies, and compares them with those of
// the Ring.
func TestUserVectors(t *testing.T) {
	bytesOf := must[[]byte](t)
	var vectors []userVector
	for _, key := range [][]byte{nil, bytes.Repeat([]byte{9}, 32)} {
		ring := must[*Ring](t)(NewRing(nil, time.Time{}, key))
		given := key
		if key == nil {
			given = make([]byte, 32)
		}
		for _, user := range []string{"ada", "Ada", "\x00\xff", "é", strings.Repeat("\xfe", 256)} {
			h := hmac.New(sha256.New, bytesOf(hkdf.Key(sha256.New, given, nil, "coatcheck/1 user", 32)))
			h.Write([]byte(user))
			owner := h.Sum(nil)[:16]
			text := base64.RawURLEncoding.EncodeToString(owner)
			bucket := fmt.Sprintf("%04x", driver.BucketOf(ring.Owner(user)))
			if ring.Owner(user).String() != text || bucket != hex.EncodeToString(owner[:2]) {
				t.Errorf("%q: owner %s in bucket %s, want owner %s", user, ring.Owner(user), bucket, text)
			}
			vectors = append(vectors, userVector{
				hex.EncodeToString(key), hex.EncodeToString([]byte(user)), text, bucket,
				"coatcheck:{" + bucket + "}:u:" + text, "coatcheck:{" + bucket + "}:n",
			})
		}
	}
	sameVectors(t, "users.json", vectors)
}
