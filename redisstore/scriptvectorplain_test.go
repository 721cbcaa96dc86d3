package redisstore

import (
	"maps"
	"slices"

	"github.com/coatcheck-go/session/driver"
)

// endedAt is the "ended" marker of a session.
func endedAt(at, attempt string) keyContent {
	return keyContent{Hash: map[string]string{"@ended": at + "." + attempt}}
}

// replyOfLeave is the reply of move.lua to "leave", with the session's fields in the order of
// names.
func replyOfLeave(session keyContent, attempt string) []any {
	h := session.with("@moving", attempt+".<+10000>").Hash
	reply := replyOK()
	for _, name := range slices.Sorted(maps.Keys(h)) {
		reply = append(reply, name, h[name])
	}
	return reply
}

func (c *cases) create() {
	secret := vectorA.Hash["@id"]
	token := "0.0." + verifierA.String()
	args := []string{"3600000", day, secret, "3600000", "@v", "1", "@token", token, "@rev", "1", "@size", "2", "n", "1"}
	stored := keyContent{Hash: map[string]string{
		"@v": "1", "@id": secret, "@token": token, "@idle": "3600000", "@created": "<+0>", "@seen": "<+0>", "@deadline": "<+86400000>", "@rev": "1", "@size": "2", "n": "1",
	}}
	c.add("create.lua", "first", "an anonymous session, with the fields that the first request set", nil, []string{keyNew}, args, replyOK("1"), keyValues{keyNew: stored})
	short := slices.Clone(args)
	short[3] = "900000"
	c.add("create.lua", "first use", "the session lives for 15 minutes until it is used", nil, []string{keyNew}, short, replyOK("1"),
		keyValues{keyNew: stored.with("@seen", "<-2700000>")})
	c.add("create.lua", "again", "the reply was lost, and the call is repeated", keyValues{keyNew: stored}, []string{keyNew}, args, []any{"again"}, keyValues{keyNew: stored})
	other := keyValues{keyNew: vectorA.with("@id", nameA)}
	c.add("create.lua", "exists", "another session has the key", other, []string{keyNew}, args, []any{"exists"}, other)
	ended := keyValues{keyNew: endedAt("<-5000>", "")}
	c.add("create.lua", "ended", "the reply was lost, and the session ended: the repetition does not bring it back", ended,
		[]string{keyNew}, args, []any{"exists"}, ended)
}

func (c *cases) touch() {
	keys, presented := []string{keyA, keyRevoked}, []string{verifierA.String(), "0"}
	used := vectorA.with("@seen", "<-120000>")
	c.add("touch.lua", "due", "the session would live longer by two minutes", keyValues{keyA: used}, keys, presented, replyOK("8"),
		keyValues{keyA: used.with("@seen", "<+0>", "@rev", "8")})
	c.add("touch.lua", "not due", "the session would live longer by a second: nothing is written", keyValues{keyA: vectorA}, keys, presented, replyOK("7"), keyValues{keyA: vectorA})
	over := keyValues{keyA: vectorA.with("@seen", "<-3600001>")}
	c.add("touch.lua", "over", "the idle limit counts, whether or not the server has removed the key", over, keys, presented, []any{"gone"}, over)
	before := "AAAAAAAAAAAAAAAAAAAAAA"
	rotated := vectorA.with("@previous", "pending."+before+".30000")
	c.add("touch.lua", "first use", "the first use of a rotated token starts the grace period of the previous one", keyValues{keyA: rotated}, keys, presented, replyOK("8"),
		keyValues{keyA: rotated.with("@seen", "<+0>", "@rev", "8", "@previous", "grace."+before+".<+30000>")})
	unused := vectorA.with("@previous", "renewed."+before+".<+50000>")
	c.add("touch.lua", "first use of a renewed token", "the time until which the old token is remembered stays",
		keyValues{keyA: unused}, keys, presented, replyOK("8"),
		keyValues{keyA: unused.with("@seen", "<+0>", "@rev", "8", "@previous", "replaced."+before+".<+50000>")})
	c.add("touch.lua", "old token, the new one is unused", "a verifier that a renewal replaced is refused",
		keyValues{keyA: unused}, keys, []string{before, "0"}, []any{"moved"}, keyValues{keyA: unused})
	renewed := keyValues{keyA: vectorA.with("@previous", "replaced."+before+".<+60000>")}
	c.add("touch.lua", "replaced", "a verifier that a renewal replaced is refused", renewed, keys, []string{before, "0"}, []any{"moved"}, renewed)
}

func (c *cases) end() {
	attempt, another := driver.HashOf([]byte("attempt")).String(), driver.HashOf([]byte("another")).String()
	anonymous, marker := keyValues{keyA: vectorA.with("@principal", "")}, endedAt("<+0>", attempt)
	c.add("end.lua", "anonymous", "the session has no user; for a minute its key says that it ended", anonymous,
		[]string{keyA}, []string{"", attempt}, replyOK(1), keyValues{keyA: marker})
	c.add("end.lua", "no attempt", "the caller does not repeat the end", anonymous,
		[]string{keyA}, []string{"", ""}, replyOK(1), keyValues{keyA: endedAt("<+0>", "")})
	c.add("end.lua", "user's", "the session leaves the index in the same step", vectorTwo,
		[]string{keyA, keyIndex}, []string{nameA, attempt}, replyOK(1),
		keyValues{keyA: marker, keyB: vectorB, keyIndex: scoresOf(nameB, "<-30000>", "@rev", "7")})
	c.add("end.lua", "user's, without the index", "no marker: the index may still name the session", keyValues{keyA: vectorA},
		[]string{keyA}, []string{"", attempt}, replyOK(1), nil)
	before := keyValues{keyA: endedAt("<-5000>", attempt)}
	c.add("end.lua", "repeated", "the reply was lost: the same attempt gets the same reply", before,
		[]string{keyA, keyIndex}, []string{nameA, attempt}, replyOK(1), before)
	c.add("end.lua", "ended by another", "another attempt has ended the session", before,
		[]string{keyA, keyIndex}, []string{nameA, another}, replyOK(0), before)
	c.add("end.lua", "ended, and no attempt", "an end without an attempt repeats none", keyValues{keyA: endedAt("<-5000>", "")},
		[]string{keyA}, []string{"", ""}, replyOK(0), keyValues{keyA: endedAt("<-5000>", "")})
	c.add("end.lua", "unknown", "there is no session, and no marker is left", nil,
		[]string{keyA, keyIndex}, []string{nameA, attempt}, replyOK(0), nil)
	c.add("end.lua", "unknown, and written", "the script writes and removes something, so that WAIT has a write", nil,
		[]string{keyA}, []string{"", attempt, "write"}, replyOK(0), nil)
	moved := keyContent{Hash: map[string]string{"@moving": "moved"}}
	c.add("end.lua", "moved", "a sign-in replaced the session: the moved marker stays", keyValues{keyA: moved},
		[]string{keyA}, []string{"", attempt, "write"}, []any{"moved"}, keyValues{keyA: moved})

	four := []string{keyIndex, keyRevoked, keyA, keyB}
	c.add("clean.lua", "expired", "a session that does not exist leaves the index and is reported; one that exists stays", keyValues{keyB: vectorB, keyIndex: vectorIndex}, four,
		[]string{nameA, nameB}, replyOK(nameA), keyValues{keyB: vectorB, keyIndex: scoresOf(nameB, "<-30000>", "@rev", "7")})
	c.add("clean.lua", "moved", "a session that moved has not expired", keyValues{keyA: moved, keyB: vectorB, keyIndex: vectorIndex}, four, []string{nameA, nameB},
		replyOK(), keyValues{keyA: moved, keyB: vectorB, keyIndex: scoresOf(nameB, "<-30000>", "@rev", "7")})
	c.add("clean.lua", "reported", "another program removed the entry, and reported the expiry", keyValues{keyB: vectorB, keyIndex: scoresOf(nameB, "<-30000>")}, four, []string{nameA, nameB},
		replyOK(), keyValues{keyB: vectorB, keyIndex: scoresOf(nameB, "<-30000>")})
	revoked := revocationOf("<-20000>.<+86400000>")
	c.add("clean.lua", "revoked", "a revoked session has not expired", keyValues{keyIndex: vectorIndex, keyRevoked: revoked}, four, []string{nameA, nameB},
		replyOK(), keyValues{keyIndex: scoresOf("@rev", "7"), keyRevoked: revoked})
}

func (c *cases) publish() {
	const feed, markA, markB, markC = "vector:events", "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "cccccccccccccccc"
	first := []string{"1-0", "mark", markA, "before", "", "node", "node a", "n", "1", "event", "{}"}
	c.add("publish.lua", "first", "the first entry has no preceding entry", nil, []string{feed}, []string{"1000", "node a", markA, "1", "{}"}, []any{"ok"},
		keyValues{feed: {Stream: [][]string{first}}})
	c.add("publish.lua", "two", "numbers continue, and each entry has the mark of the preceding one; the last one says that events were lost", keyValues{feed: {Stream: [][]string{first}}},
		[]string{feed}, []string{"1000", "node b", markB, "7", "{}", markC, "9", ""}, []any{"ok"}, keyValues{feed: {Stream: [][]string{
			first,
			{"2-0", "mark", markB, "before", markA, "node", "node b", "n", "7", "event", "{}"},
			{"3-0", "mark", markC, "before", markB, "node", "node b", "n", "9", "event", ""},
		}}})
}
