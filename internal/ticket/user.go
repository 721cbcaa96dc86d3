package ticket

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"

	"github.com/coatcheck-go/session/driver"
)

// Owner returns the hash that names a user to the store.
func (r *Ring) Owner(user string) driver.Hash {
	h := hmac.New(sha256.New, r.userKey)
	h.Write([]byte(user))
	return driver.Hash(h.Sum(nil)[:16])
}

// newUserKey derives the key of Owner. Without a key of the application everybody can derive it.
func newUserKey(key []byte) ([]byte, error) {
	if key == nil {
		key = make([]byte, keySize)
	}
	return hkdf.Key(sha256.New, key, nil, "coatcheck/1 user", keySize)
}
