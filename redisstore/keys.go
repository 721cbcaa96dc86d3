package redisstore

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/coatcheck-go/session/driver"
)

// keyspace names the keys of one namespace: <ns>:{<bucket>}:s:<hash of selector>. Keys of one bucket share a Cluster slot.
type keyspace struct{ prefix string } // "<ns>:{"

const (
	keyMiddle      = "}:s:"
	keyRevocations = "}:n"
)

func newKeyspace(namespace string) keyspace { return keyspace{namespace + ":{"} }

func (k keyspace) session(id driver.ID) string {
	handle := id.String()
	return k.prefix + handle[:4] + keyMiddle + handle[5:]
}

// index names the sorted set of a user's sessions, in the slot of the sessions themselves.
func (k keyspace) index(owner driver.Hash) string {
	return k.prefix + hex.EncodeToString(owner[:2]) + "}:u:" + owner.String()
}

// revocations names the hash of a bucket that says whose sessions were ended, and when: see enduser.lua.
func (k keyspace) revocations(bucket uint16) string {
	return fmt.Sprintf("%s%04x"+keyRevocations, k.prefix, bucket)
}

// revocationsOf is revocations for the key of a session.
func (k keyspace) revocationsOf(session string) string {
	return session[:len(k.prefix)+4] + keyRevocations
}

// parseRevocations is the inverse of revocations.
func (k keyspace) parseRevocations(key string) (bucket uint16, ok bool) {
	rest, ok := strings.CutPrefix(key, k.prefix)
	if !ok || len(rest) != 4+len(keyRevocations) || rest[4:] != keyRevocations {
		return 0, false
	}
	n, err := strconv.ParseUint(rest[:4], 16, 16)
	return uint16(n), err == nil
}

// mark names a key in the slot of a bucket that is written and removed for the replicas' sake.
func (k keyspace) mark(bucket uint16) string { return fmt.Sprintf("%s%04x}:w", k.prefix, bucket) }

// all names the time at which everybody's sessions were ended.
func (k keyspace) all() string { return strings.TrimSuffix(k.prefix, ":{") + ":revoked" }

// events names the feed.
func (k keyspace) events() string { return strings.TrimSuffix(k.prefix, ":{") + ":events" }

// parse is the inverse of session.
func (k keyspace) parse(key string) (driver.ID, bool) {
	rest, ok := strings.CutPrefix(key, k.prefix)
	if !ok || len(rest) < 4 || !strings.HasPrefix(rest[4:], keyMiddle) {
		return driver.ID{}, false
	}
	id, err := driver.ParseID(rest[:4] + "-" + rest[4+len(keyMiddle):])
	return id, err == nil
}
