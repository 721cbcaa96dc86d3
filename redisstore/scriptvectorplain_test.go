package redisstore

import (
	"strings"

	"github.com/coatcheck-go/session/driver"
)

func (c *cases) create() {
	args := []string{vectorSecret, verifierA.String(), "2", "3600000", "86400000", "3600000", "0", "n", "1"}
	first := func(ms string) []string {
		changed := append([]string{}, args...)
		changed[5] = ms
		return changed
	}
	stored := keyContent{TTL: hour, Hash: map[string]string{
		"@s": stateOf(1, "<+0>"), "@l": lifeOf(vectorSecret, "<+0>"), "n": "1",
	}}
	c.add("create.lua", "first", "an anonymous session, with the fields that the first request set", nil, []string{keyNew}, args, replyOK(1), keyValues{keyNew: stored})
	c.add("create.lua", "a minute until the first use", "the last use is set back, so that the session lives for a minute", nil, []string{keyNew}, first("60000"), replyOK(1),
		keyValues{keyNew: stored.with("@s", stateOf(1, "<-3540000>")).lives(60_000)})
	c.unchanged("create.lua", "again", "the reply was lost, and the call is repeated", keyValues{keyNew: stored}, []string{keyNew}, args, "again")
	other := keyValues{keyNew: vectorA.with("@l", lifeOf(nameA, "<-60000>"))}
	c.unchanged("create.lua", "exists", "another session has the key", other, []string{keyNew}, args, "exists")
	c.unchanged("create.lua", "ended", "the reply was lost, and the session ended: the repetition does not bring it back",
		keyValues{keyNew: endedAt("<-5000>", zeroHash)}, []string{keyNew}, args, "exists")
}

func (c *cases) touch() {
	keys, presented := []string{keyA, keyRevoked}, []string{verifierA.String(), "0", "0"}
	used := vectorA.with("@s", stateOf(7, "<-120000>"))
	now := stateOf(8, "<+0>")
	c.add("touch.lua", "due", "the session would live longer by two minutes", keyValues{keyA: used}, keys, presented, replyOK(8),
		keyValues{keyA: used.with("@s", now).lives(hour)})
	c.unchanged("touch.lua", "not due", "the session would live longer by a second: nothing is written", keyValues{keyA: vectorA}, keys, presented, replyOK(7)...)
	c.unchanged("touch.lua", "over", "the idle limit counts, whether or not the server has removed the key",
		keyValues{keyA: vectorA.with("@s", stateOf(7, "<-3600001>"))}, keys, presented, "gone")
	before := zeroHash[:21] + "Q"
	old := []string{before, "0", "0"}
	rotated := vectorA.with("@s", withFlags("1", vectorState), "@previous", previousOf("a", before, "000000007530"))
	c.add("touch.lua", "first use", "the first use of a rotated token starts the grace period of the previous one", keyValues{keyA: rotated}, keys, presented, replyOK(8),
		keyValues{keyA: rotated.with("@s", now, "@previous", previousOf("a", before, "<+30000>")).lives(hour)})
	unused := vectorA.with("@s", withFlags("1", vectorState), "@previous", previousOf("r", before, "<+50000>"))
	c.add("touch.lua", "first use of a renewed token", "the time until which the old token is remembered stays",
		keyValues{keyA: unused}, keys, presented, replyOK(8), keyValues{keyA: unused.with("@s", now).lives(hour)})
	c.unchanged("touch.lua", "old token, the new one is unused", "a verifier that a renewal replaced is refused", keyValues{keyA: unused}, keys, old, "moved")
	c.unchanged("touch.lua", "replaced", "a verifier that a renewal replaced is refused",
		keyValues{keyA: vectorA.with("@previous", previousOf("r", before, "<+60000>"))}, keys, old, "moved")
}

func (c *cases) end() {
	attempt := driver.HashOf([]byte("attempt")).String()
	index, key := []string{keyA, keyIndex}, []string{keyA}
	call, none, write := []string{attempt, "0"}, []string{zeroHash, "0"}, []string{attempt, "1"}
	anonymous, marker := keyValues{keyA: vectorA.with("@u", "", "@i", "")}, endedAt("<+0>", attempt).lives(60_000)
	c.add("end.lua", "anonymous", "the session has no user; for a minute its key says that it ended", anonymous, key, call, replyOK(1), keyValues{keyA: marker})
	c.add("end.lua", "no attempt", "the caller does not repeat the end", anonymous, key, none, replyOK(1), keyValues{keyA: endedAt("<+0>", zeroHash).lives(60_000)})
	left := scoresOf(nameB, "[-30000]", "@rev", "7")
	c.add("end.lua", "user's", "the session leaves the index in the same step", vectorTwo, index, call, replyOK(1), keyValues{keyA: marker, keyB: vectorB, keyIndex: left})
	c.add("end.lua", "user's, without the index", "no marker: the index may still name the session", keyValues{keyA: vectorA}, key, call, replyOK(1), nil)
	before := keyValues{keyA: endedAt("<-5000>", attempt).lives(20_000)}
	c.unchanged("end.lua", "repeated", "the reply was lost: the same attempt gets the same reply", before, index, call, replyOK(1)...)
	c.add("end.lua", "repeated, and written", "the script writes the expiry of the marker again, so that WAIT has a write", before, index, write, replyOK(1), before)
	c.unchanged("end.lua", "ended by another", "another attempt has ended the session", before, index, []string{vectorAnother, "0"}, replyOK(0)...)
	c.unchanged("end.lua", "ended, and no attempt", "an end without an attempt repeats none", keyValues{keyA: endedAt("<-5000>", zeroHash)}, key, none, replyOK(0)...)
	c.unchanged("end.lua", "unknown", "there is no session, and no marker is left", nil, index, call, replyOK(0)...)
	c.unchanged("end.lua", "unknown, and written", "the script writes and removes something, so that WAIT has a write", nil, key, write, replyOK(0)...)
	c.unchanged("end.lua", "moved", "a sign-in replaced the session: the moved marker stays", keyValues{keyA: movedAt("<-5000>").lives(20_000)}, key, write, "moved")
	// Malformed sessions end, too.
	short := vectorA.with("@s", "short", "@l", "")
	c.add("end.lua", "malformed", "a malformed session ends like any other", plus(vectorTwo, keyValues{keyA: short}), index, call, replyOK(1),
		keyValues{keyA: marker, keyB: vectorB, keyIndex: left})
	c.add("end.lua", "without @s", "what has no state is deleted", plus(vectorTwo, keyValues{keyA: vectorA.with("@s", "")}), index, call, replyOK(1),
		keyValues{keyB: vectorB, keyIndex: left})
	c.add("end.lua", "no hash", "so is a key that is no hash", keyValues{keyA: {Text: "text"}}, key, call, replyOK(1), nil)
	c.add("end.lua", "index is no set", "a malformed index does not stop the end", plus(vectorTwo, keyValues{keyIndex: {Text: "text"}}), index, call, replyOK(1),
		keyValues{keyA: marker, keyB: vectorB, keyIndex: {Text: "text"}})
	for _, bad := range [][]string{{"attempt"}, {"attempt", "", "0"}, {"attempt", strings.Repeat("!", 22), "0"}, {"write", attempt}, {"write", attempt, "yes"}} {
		c.unchanged("end.lua", "invalid "+strings.Join(bad, " "), "an argument of another form", vectorTwo, index, bad[1:], "invalid", bad[0])
	}
}

func (c *cases) clean() {
	four := []string{keyIndex, keyRevoked, keyA, keyB}
	left := scoresOf(nameB, "[-30000]", "@rev", "7")
	gone := keyValues{keyB: vectorB, keyIndex: vectorIndex}
	c.add("clean.lua", "expired", "a session that does not exist leaves the index and is reported; one that exists stays", gone, four, nil,
		replyOK(listOf(nameA)), keyValues{keyB: vectorB, keyIndex: left})
	moved := keyValues{keyA: movedAt("<-5000>"), keyB: vectorB}
	c.add("clean.lua", "moved", "a session that moved has not expired", plus(moved, keyValues{keyIndex: vectorIndex}), four, nil,
		replyOK(listOf()), plus(moved, keyValues{keyIndex: left}))
	c.unchanged("clean.lua", "reported", "another program removed the entry, and reported the expiry", keyValues{keyB: vectorB, keyIndex: left}, four, nil, replyOK(listOf())...)
	revoked := revocationOf("<-40000>" + "<+86400000>")
	c.add("clean.lua", "revoked", "a revoked session has not expired, a later one has", keyValues{keyIndex: vectorIndex, keyRevoked: revoked}, four, nil,
		replyOK(listOf(nameB)), keyValues{keyIndex: scoresOf("@rev", "7"), keyRevoked: revoked})
	excepted := revocationOf("<-20000>" + "<+86400000>" + nameB + "<-30000>")
	c.add("clean.lua", "excepted", "nor has it ended if it is an exception", keyValues{keyIndex: vectorIndex, keyRevoked: excepted}, four, nil,
		replyOK(listOf(nameB)), keyValues{keyIndex: scoresOf("@rev", "7"), keyRevoked: excepted})
	c.unchanged("clean.lua", "malformed", "malformed sessions exist",
		keyValues{keyA: {Text: "text"}, keyB: vectorB.with("@s", ""), keyIndex: vectorIndex}, four, nil, replyOK(listOf())...)
	c.unchanged("clean.lua", "malformed revocation", "nobody knows what it covers", plus(gone, keyValues{keyRevoked: revocationOf("text")}), four, nil,
		"malformed", vectorOwner.String())
	many := make([]string, 1001)
	for i := range many {
		many[i] = keyA
	}
	c.unchanged("clean.lua", "too many keys", "a script takes 1,000 keys at most", nil, many, nil, "invalid", "keys")
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
