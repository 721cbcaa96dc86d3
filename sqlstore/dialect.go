package sqlstore

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
)

// Dialect is a kind of database.
type Dialect int

// The zero Dialect is invalid.
const (
	PostgreSQL Dialect = iota + 1
	SQLite
)

// String returns the name of the database.
func (d Dialect) String() string {
	switch d {
	case PostgreSQL:
		return "PostgreSQL"
	case SQLite:
		return "SQLite"
	}
	return fmt.Sprintf("dialect(%d)", int(d))
}

// statements are the SQL of a store. All times in them are microseconds since 1970.
//
// Locks. A sign-in and EndUser hold a lock of the owner, so that nobody else adds sessions of the
// owner meanwhile. Both share one lock of the store, which EndAll takes alone. After these they
// lock rows, in the order of their ids. Join does, too, and a session's id is before that of user
// data of the same bucket. All other operations lock at most one row. So there is no deadlock.
// SQLite has one writer: each transaction begins with lockStore.
type statements struct {
	lockAll   string // EndAll
	lockOwner string // $1: key of the owner
	lockRow   string // the other operations, before they read; empty: reading locks

	load      string // a row and the state, without a lock. $1: id
	loadLock  string // the same, locks the row
	loadOwner string // rows, locked. $1, $2: ids; $3: owner or NULL
	state     string // the state. $1: owner
	list      string // a page of an owner's rows
	insert    string // affects no row if another transaction has inserted the id
	update    string // replaces the row with the id
	mark      string // replaces rows by markers. $1: ids, joined with commas
	revoke    string // $1: owner, $2: time
	revokeAll string // $1: epoch, $2: time
	clean     string // removes a batch of expired rows and returns them. $1: epoch, $2: time
	cleanData string // removes a batch of expired user data. $1: its epoch, $2: time
	forget    string // removes a batch of old revocations. $1: time
	version   string // the version of the schema
}

// cleanBatch is how many rows one transaction removes.
const cleanBatch = 500

func newStatements(d Dialect, o *Options) statements {
	names := []string{
		"{sessions}", o.table("sessions"), "{revocations}", o.table("revocations"), "{meta}", o.table("meta"),
		"{batch}", fmt.Sprint(cleanBatch),
	}
	var q statements
	if d == PostgreSQL {
		names = append(names,
			"{now}", "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000000) AS bigint)",
			"{lock}", "FOR UPDATE",
			"{skip locked}", "FOR UPDATE SKIP LOCKED",
			"{ids}", "SELECT unnest(string_to_array($1, ','))",
		)
		all := lockKey(o, "")
		q.lockAll = fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", all)
		q.lockOwner = fmt.Sprintf("SELECT pg_advisory_xact_lock_shared(%d), pg_advisory_xact_lock($1)", all)
	} else {
		names = append(names,
			"{now}", "0", // the store takes this process's time
			"{lock}", "",
			"{skip locked}", "",
			"{ids}", `SELECT value FROM json_each('["' || replace($1, ',', '","') || '"]')`,
		)
		// This statement takes the write lock, and writes nothing.
		q.lockRow = "UPDATE {meta} SET epoch = epoch WHERE 1 = 0"
		q.lockAll, q.lockOwner = q.lockRow, q.lockRow+" AND epoch = $1"
	}
	// PostgreSQL evaluates the outer columns after the inner SELECT has its lock. So {now} is never
	// earlier than the version of the row that it comes with.
	load := `SELECT m.epoch, m.revoked, {now}, s.epoch, s.moved, s.ended, s.attempt, s.expires, s.metadata, s.fields
FROM {meta} m LEFT JOIN (SELECT * FROM {sessions} WHERE id = $1 `
	q.load, q.loadLock = load+`) s ON 1 = 1`, load+`{lock}) s ON 1 = 1`
	q.loadOwner = `SELECT id, epoch, owner, created, expires,
	CASE WHEN id IN ($1, $2) THEN metadata END, CASE WHEN id IN ($1, $2) THEN fields END
FROM {sessions} WHERE id IN ($1, $2) OR owner = $3 ORDER BY id {lock}`
	q.state = `SELECT m.epoch, m.revoked, {now}, (SELECT revoked FROM {revocations} WHERE owner = $1) FROM {meta} m`
	q.list = `SELECT id, metadata FROM {sessions}
WHERE owner = $1 AND epoch = $2 AND expires > $3 AND (created, id) < ($4, $5) ORDER BY created DESC, id DESC LIMIT $6`
	q.insert = `INSERT INTO {sessions} (id, epoch, owner, created, expires, metadata, fields)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING`
	q.update = `UPDATE {sessions} SET epoch = $2, owner = $3, created = $4, expires = $5, metadata = $6, fields = $7,
	moved = NULL, ended = NULL, attempt = NULL WHERE id = $1`
	q.mark = `UPDATE {sessions} SET owner = NULL, metadata = NULL, fields = NULL,
	expires = $2, moved = $3, ended = $4, attempt = $5 WHERE id IN ({ids})`
	q.revoke = `INSERT INTO {revocations} AS r (owner, revoked) VALUES ($1, $2)
ON CONFLICT (owner) DO UPDATE SET revoked = excluded.revoked WHERE excluded.revoked > r.revoked`
	q.revokeAll = `UPDATE {meta} SET epoch = $1, revoked = $2`
	// A marker counts until it expires, also after an EndAll.
	q.clean = `DELETE FROM {sessions} WHERE id IN (SELECT id FROM {sessions} WHERE (epoch, expires) <= ($1, $2)
	AND (metadata IS NOT NULL OR expires <= $2) ORDER BY epoch, expires LIMIT {batch} {skip locked}) RETURNING id, epoch, owner, expires, metadata`
	q.cleanData = `DELETE FROM {sessions} WHERE id IN (SELECT id FROM {sessions} WHERE epoch = $1 AND expires <= $2 LIMIT {batch} {skip locked})`
	q.forget = `DELETE FROM {revocations} WHERE owner IN (SELECT owner FROM {revocations} WHERE revoked < $1 LIMIT {batch} {skip locked})`
	q.version = `SELECT version FROM {meta}`
	r := strings.NewReplacer(names...)
	for _, text := range []*string{&q.lockAll, &q.lockOwner, &q.lockRow, &q.load, &q.loadLock, &q.loadOwner, &q.state,
		&q.list, &q.insert, &q.update, &q.mark, &q.revoke, &q.revokeAll, &q.clean, &q.cleanData, &q.forget, &q.version} {
		*text = r.Replace(*text)
	}
	return q
}

// table returns the quoted name of a table.
func (o *Options) table(name string) string {
	quoted := `"` + o.Prefix + name + `"`
	if o.Schema != "" {
		return `"` + o.Schema + `".` + quoted
	}
	return quoted
}

// lockKey returns the key of an advisory lock: of an owner, or of the store. Two owners with the
// same key wait for each other, and nothing worse happens.
func lockKey(o *Options, owner string) int64 {
	sum := sha256.Sum256([]byte("coatcheck " + o.table("sessions") + " " + owner))
	return int64(binary.BigEndian.Uint64(sum[:]))
}
