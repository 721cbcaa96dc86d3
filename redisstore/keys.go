package redisstore

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/coatcheck-go/session/driver"
)

// keyspace makes the keys of one namespace. A session's key is <ns>:{<bucket>}:s:<hash of
// selector>, that of user data <ns>:{<bucket>}:d:<owner>. All keys of one bucket share a Cluster
// slot.
type keyspace struct{ prefix string } // "<ns>:{"

const (
	sessionInfix      = "}:s:"
	userDataInfix     = "}:d:" // sessionPattern does not match it
	revocationsSuffix = "}:n"
)

func newKeyspace(namespace string) keyspace { return keyspace{namespace + ":{"} }

// record names the hash of a session or of user data.
func (k keyspace) record(id driver.ID) string {
	b := append(make([]byte, 0, 128), k.prefix...) // longer than a key, and so on the stack
	b = hex.AppendEncode(b, []byte{byte(id.Bucket >> 8), byte(id.Bucket)})
	if id.UserData {
		b = append(b, userDataInfix...)
	} else {
		b = append(b, sessionInfix...)
	}
	return string(base64.RawURLEncoding.AppendEncode(b, id.Selector[:]))
}

// parseRecord is the inverse of record.
func (k keyspace) parseRecord(key string) (driver.ID, bool) {
	if id, ok := k.parseSession(key); ok {
		return id, true
	}
	at := len(k.prefix) + 4
	if len(key) < at || !strings.HasPrefix(key[at:], userDataInfix) {
		return driver.ID{}, false
	}
	id, ok := k.parseSession(key[:at] + sessionInfix + key[at+len(userDataInfix):])
	id.UserData = ok
	return id, ok
}

// parseSession is the inverse of record for a session.
func (k keyspace) parseSession(key string) (driver.ID, bool) {
	rest, ok := strings.CutPrefix(key, k.prefix)
	if !ok || len(rest) < 4 || !strings.HasPrefix(rest[4:], sessionInfix) {
		return driver.ID{}, false
	}
	id, err := driver.ParseID(rest[:4] + "-" + rest[4+len(sessionInfix):])
	return id, err == nil
}

// sessionPattern matches the keys of all sessions, for SCAN.
func (k keyspace) sessionPattern() string { return k.prefix + "*" + sessionInfix + "*" }

// index names the sorted set of a user's sessions. It lies in the slot of these sessions.
func (k keyspace) index(owner driver.Hash) string {
	return k.prefix + hex.EncodeToString(owner[:2]) + "}:u:" + owner.String()
}

// revocations names the hash of a bucket with the revocations of its users: see enduser.lua.
func (k keyspace) revocations(bucket uint16) string {
	return fmt.Sprintf("%s%04x"+revocationsSuffix, k.prefix, bucket)
}

// revocationsOf is revocations for the bucket of a session's key.
func (k keyspace) revocationsOf(session string) string {
	return session[:len(k.prefix)+4] + revocationsSuffix
}

// parseRevocations is the inverse of revocations.
func (k keyspace) parseRevocations(key string) (bucket uint16, ok bool) {
	rest, ok := strings.CutPrefix(key, k.prefix)
	if !ok || len(rest) != 4+len(revocationsSuffix) || rest[4:] != revocationsSuffix {
		return 0, false
	}
	n, err := strconv.ParseUint(rest[:4], 16, 16)
	return uint16(n), err == nil
}

// replicaMarker names a key in the slot of a bucket: see bucketOnReplicas.
func (k keyspace) replicaMarker(bucket uint16) string {
	return fmt.Sprintf("%s%04x}:w", k.prefix, bucket)
}

// globalRevocation names the time at which all users were revoked.
func (k keyspace) globalRevocation() string { return strings.TrimSuffix(k.prefix, ":{") + ":revoked" }

// events names the feed.
func (k keyspace) events() string { return strings.TrimSuffix(k.prefix, ":{") + ":events" }
