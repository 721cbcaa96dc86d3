package redisstore

import (
	"strings"

	"github.com/coatcheck-go/session/driver"
)

// keyspace names the keys of one namespace: <ns>:{<bucket>}:s:<hash of selector>. Keys of one bucket share a Cluster slot.
type keyspace struct{ prefix string } // "<ns>:{"

const keyMiddle = "}:s:"

func newKeyspace(namespace string) keyspace { return keyspace{namespace + ":{"} }

func (k keyspace) session(id driver.ID) string {
	handle := id.String()
	return k.prefix + handle[:4] + keyMiddle + handle[5:]
}

// parse is the inverse of session.
func (k keyspace) parse(key string) (driver.ID, bool) {
	rest, ok := strings.CutPrefix(key, k.prefix)
	if !ok || len(rest) < 4 || !strings.HasPrefix(rest[4:], keyMiddle) {
		return driver.ID{}, false
	}
	id, err := driver.ParseID(rest[:4] + "-" + rest[4+len(keyMiddle):])
	return id, err == nil
}
