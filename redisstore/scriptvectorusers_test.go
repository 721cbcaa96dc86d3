package redisstore

import (
	"maps"
	"slices"
	"strings"
)

var (
	endUserKeys  = []string{keyIndex, keyRevoked}
	endUserNamed = []string{keyIndex, keyRevoked, keyA, keyB}
	endUserOnly  = []string{"only", "", "0"}
	endUserAll   = []string{"all", "86400000", "0"}
	markerA      = endedAt("<+0>", zeroHash).lives(60_000)
	indexOfB     = scoresOf(nameB, "[-30000]", "@rev", "8")
)

// revokedNow is the revocation of a call of "all".
const revokedNow = "<+0>" + "<+86400000>"

// keptB is that revocation with an exception.
var keptB = revokedNow + nameB + "<-30000>"

// replyOfEndUser is the reply of enduser.lua: the revocation, the sessions that ended, those that
// expired, and those to remove.
func replyOfEndUser(revocation string, ended, expired, remove []any) []any {
	return replyOK(revocation, ended, expired, remove)
}

func (c *cases) endUser() {
	a, b, none := vectorA, vectorB, listOf()
	two := vectorTwo
	ended := replyOfEndUser("", listOf(nameA), none, none)
	onlyB := keyValues{keyA: markerA, keyB: b, keyIndex: indexOfB}
	c.add("enduser.lua", "only", "one of the user's sessions ends; nothing is revoked", two, endUserNamed[:3], endUserOnly, ended, onlyB)
	left := scoresOf(nameB, "[-30000]", "@rev", "7")
	theirs := a.with("@u", strings.ReplaceAll(a.Hash["@u"], vectorOwner.String(), vectorAnother))
	c.unchanged("enduser.lua", "another's", "a session of another user stays", keyValues{keyA: theirs, keyB: b, keyIndex: left},
		endUserNamed[:3], endUserOnly, replyOfEndUser("", none, none, none)...)
	c.add("enduser.lua", "only, not listed", "a session of the user ends, although the index was lost", keyValues{keyA: a, keyB: b, keyIndex: left},
		endUserNamed[:3], endUserOnly, ended, onlyB)
	c.add("enduser.lua", "only, expired", "a session that the index names and that does not exist has expired", keyValues{keyB: b, keyIndex: vectorIndex},
		endUserNamed[:3], endUserOnly, replyOfEndUser("", none, listOf(nameA), none), keyValues{keyB: b, keyIndex: indexOfB})
	c.add("enduser.lua", "only, all users revoked", "but not if it ended with the sessions of all users", keyValues{keyB: b, keyIndex: vectorIndex},
		endUserNamed[:3], []string{"only", "", "[-60000]"}, replyOfEndUser("", none, none, none), keyValues{keyB: b, keyIndex: indexOfB})
	moved := keyValues{keyA: movedAt("<-5000>"), keyIndex: vectorIndex}
	c.add("enduser.lua", "only, moved", "nor if a sign-in replaced it: its marker stays", moved,
		endUserNamed, endUserOnly, replyOfEndUser("", none, listOf(nameB), none), keyValues{keyA: movedAt("<-5000>"), keyIndex: scoresOf("@rev", "8")})
	c.add("enduser.lua", "again", "the second call removes the sessions that the first one named", plus(two, keyValues{keyRevoked: revocationOf(keptB).lives(day)}), endUserNamed[:3],
		[]string{"again", keptB, "0"}, replyOfEndUser(keptB, listOf(nameA), none, none),
		keyValues{keyA: markerA, keyB: b, keyIndex: indexOfB, keyRevoked: revocationOf(keptB).lives(day)})
	c.add("enduser.lua", "expired", "a revocation that covers two sessions, of which one has expired", keyValues{keyB: b, keyIndex: vectorIndex}, endUserNamed,
		[]string{"again", revokedNow, "0"}, replyOfEndUser(revokedNow, listOf(nameB), listOf(nameA), none),
		keyValues{keyB: markerA, keyIndex: scoresOf("@rev", "8"), keyRevoked: revocationOf(revokedNow).lives(day)})
	old := "<-60000>" + "<+86400000>"
	c.add("enduser.lua", "again, late", "the user was revoked more than a minute ago: no marker", plus(two, keyValues{keyRevoked: revocationOf(old)}), endUserNamed[:3],
		[]string{"again", old, "0"}, replyOfEndUser(old, listOf(nameA), none, none),
		keyValues{keyB: b, keyIndex: indexOfB, keyRevoked: revocationOf(old)})
	many := make([]string, 1001)
	for i := range many {
		many[i] = keyA
	}
	c.unchanged("enduser.lua", "too many keys", "a script takes 1,000 keys at most", nil, many, endUserOnly, "invalid", "keys")
	for _, bad := range [][]string{
		{"keys"}, {"action", "", "", "0"}, {"action", "some", "", "0"}, {"remember", "all", "", "0"}, {"remember", "all", "-1", "0"},
		{"remember", "all", "1x", "0"}, {"revocation", "again", "", "0"}, {"revocation", "again", "<+0>", "0"}, {"revocation", "again", "<+0><+0>x", "0"},
		{"revocation", "again", "<+0><+0>" + nameA + "short", "0"}, {"revocation", "again", strings.Repeat("F", 24), "0"},
		{"global", "only", "", ""}, {"global", "only", "", "x"},
	} {
		keys, args := endUserKeys, bad[1:]
		if bad[0] == "keys" {
			keys, args = keys[:1], endUserOnly
		}
		c.unchanged("enduser.lua", "invalid "+strings.Join(bad, " "), "an argument of another form", two, keys, args, "invalid", bad[0])
	}
}

func (c *cases) endUserRevokes() {
	a, none, two := vectorA, listOf(), vectorTwo
	stored := func(text string) keyValues { return keyValues{keyRevoked: revocationOf(text).lives(day)} }
	c.add("enduser.lua", "all", "all sessions are revoked and named; the next call removes them", two, endUserKeys, endUserAll,
		replyOfEndUser(revokedNow, none, none, listOf(nameA, nameB)), plus(two, stored(revokedNow)))
	c.add("enduser.lua", "all but one", "the excepted session is in the revocation, with its time of creation", two, []string{keyIndex, keyRevoked, keyB}, endUserAll,
		replyOfEndUser(keptB, none, none, listOf(nameA)), plus(two, stored(keptB)))
	c.add("enduser.lua", "all, newer session", "a session whose server's clock was ahead is revoked, too", keyValues{keyIndex: scoresOf(nameA, "[+4000]", "@rev", "7")},
		endUserKeys, endUserAll, replyOfEndUser("<+4000>"+"<+86404000>", none, none, listOf(nameA)),
		keyValues{keyIndex: scoresOf(nameA, "[+4000]", "@rev", "7"), keyRevoked: revocationOf("<+4000>" + "<+86404000>").lives(day + 4000)})
	c.add("enduser.lua", "no index", "without an index the sessions are revoked all the same", keyValues{keyA: a}, endUserKeys, endUserAll,
		replyOfEndUser(revokedNow, none, none, none), plus(keyValues{keyA: a}, stored(revokedNow)))
	c.add("enduser.lua", "no longer excepted", "a later revocation cannot except a session that an earlier one has revoked",
		plus(two, keyValues{keyRevoked: revocationOf("<-40000>" + "<+86400000>")}), endUserNamed, endUserAll,
		replyOfEndUser(keptB, none, none, listOf(nameA)), plus(two, stored(keptB)))
	c.add("enduser.lua", "forever", "a revocation is remembered until the end of the year 9999 at most", nil, endUserKeys, []string{"all", "253402300799999", "0"},
		replyOfEndUser("<+0>"+"e677d21fdbff", none, none, none), keyValues{keyRevoked: revocationOf("<+0>" + "e677d21fdbff").lives(-1)})
	c.add("enduser.lua", "restored", "a revocation that a failover lost is restored", keyValues{keyA: a}, endUserKeys, []string{"again", keptB, "0"},
		replyOfEndUser(keptB, none, none, none), plus(keyValues{keyA: a}, stored(keptB)))
	first, second := nameA+"<-60000>", nameB+"<-30000>"
	if nameB < nameA {
		first, second = second, first
	}
	merged := "<-10000>" + "<+2000000>" + nameB + "<-30000>"
	c.add("enduser.lua", "merged", "two revocations are merged so that both hold", keyValues{keyRevoked: revocationOf("<-10000>" + "<+1000000>" + first + second)},
		endUserKeys, []string{"again", "<-40000>" + "<+2000000>", "0"}, replyOfEndUser(merged, none, none, none),
		keyValues{keyRevoked: revocationOf(merged).lives(2_000_000)})
	c.add("enduser.lua", "forgotten", "the next write removes revocations that may be forgotten",
		keyValues{keyRevoked: {Hash: map[string]string{nameA: "<-90000000>" + "<-10000>", nameB: "<-1000>" + "<+10000>"}}}, endUserKeys, endUserAll,
		replyOfEndUser(revokedNow, none, none, none),
		keyValues{keyRevoked: {Hash: map[string]string{nameB: "<-1000>" + "<+10000>", vectorOwner.String(): revokedNow}, TTL: day}})
}

func (c *cases) endUserMalformed() {
	none := listOf()
	short := vectorA.with("@l", "short", "@s", "")
	before := plus(vectorTwo, keyValues{keyA: short})
	ended := replyOfEndUser("", listOf(nameA), none, none)
	onlyB := keyValues{keyA: markerA, keyB: vectorB, keyIndex: indexOfB}
	c.add("enduser.lua", "only, malformed", "a malformed session ends", before, endUserNamed[:3], endUserOnly, ended, onlyB)
	c.add("enduser.lua", "only, malformed, not listed", "also if the index was lost: it has the user", plus(before, keyValues{keyIndex: scoresOf(nameB, "[-30000]", "@rev", "7")}),
		endUserNamed[:3], endUserOnly, ended, onlyB)
	c.add("enduser.lua", "only, no hash", "a key that is no hash is deleted", plus(vectorTwo, keyValues{keyA: {Text: "text"}}), endUserNamed[:3], endUserOnly,
		ended, keyValues{keyB: vectorB, keyIndex: indexOfB})
	c.add("enduser.lua", "all but one, malformed", "a malformed session is not excepted", before, endUserNamed, endUserAll,
		replyOfEndUser(keptB, none, none, listOf(nameA)), plus(before, keyValues{keyRevoked: revocationOf(keptB).lives(day)}))
	for _, malformed := range []string{"text", "<-40000>", "<-40000>" + "<+86400000>" + nameB} {
		c.add("enduser.lua", "all but one, malformed revocation "+malformed, "nobody knows what it covered: it counts as one of this moment, and excepts nothing",
			plus(vectorTwo, keyValues{keyRevoked: revocationOf(malformed)}), []string{keyIndex, keyRevoked, keyB}, endUserAll,
			replyOfEndUser(revokedNow, none, none, listOf(nameA, nameB)), plus(vectorTwo, keyValues{keyRevoked: revocationOf(revokedNow).lives(day)}))
	}
	c.add("enduser.lua", "all, another's malformed revocation", "it is kept for as long as it would have been",
		keyValues{keyRevoked: keyContent{Hash: map[string]string{vectorAnother: "text"}}.lives(2 * day)}, endUserKeys, endUserAll,
		replyOfEndUser(revokedNow, none, none, none),
		keyValues{keyRevoked: keyContent{Hash: map[string]string{vectorAnother: "text", vectorOwner.String(): revokedNow}}.lives(2 * day)})
}

// leave is a call of move.lua, and replyOfLeave its reply: the hash in the order of names.
func leave(global string) []string { return []string{"leave", nameNew, verifierA.String(), global} }

func replyOfLeave(left keyContent) []any {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(left.Hash)) {
		pairs = append(pairs, name, left.Hash[name])
	}
	return replyOK(listOf(pairs...))
}

// marked returns a session that a sign-in has closed until a time.
func marked(session keyContent, attempt, until string) keyContent {
	state := session.Hash["@s"]
	return session.with("@s", withFlags(string(state[1]+2), state), "@moving", attempt+until)
}

func (c *cases) move() {
	a := vectorA
	both := []string{keyA, keyRevoked}
	left := func(name, why string, before keyContent, session keyContent) {
		c.add("move.lua", name, why, keyValues{keyA: before}, both, leave("0"), replyOfLeave(session), keyValues{keyA: session})
	}
	left("leave", "the session accepts no changes for ten seconds, and the reply has its hash", a, marked(a, nameNew, "<+10000>"))
	left("leave again", "the reply was lost, and the call is repeated", marked(a, nameNew, "<+1000>"), marked(a, nameNew, "<+10000>"))
	left("leave, lease over", "another sign-in did not go on", marked(a, nameB, "<-1>"), marked(a, nameNew, "<+10000>"))
	before := zeroHash[:21] + "Q"
	newer := withVerifier(before, vectorState)
	unused := a.with("@s", withFlags("1", newer), "@previous", previousOf("a", verifierA.String(), "000000007530"))
	left("leave, new verifier unused", "the previous verifier is accepted until the current one is used", unused, marked(unused, nameNew, "<+10000>"))
	grace := a.with("@s", newer, "@previous", previousOf("a", verifierA.String(), "<+7000>"))
	left("leave, grace", "and for the grace period", grace, marked(grace, nameNew, "<+10000>"))
	refused := func(name, why string, session keyContent, reply string) {
		c.unchanged("move.lua", name, why, keyValues{keyA: session}, both, leave("0"), reply)
	}
	refused("leave, grace over", "but not after it", grace.with("@previous", previousOf("a", verifierA.String(), "<-1>")), "moved")
	refused("leave, renewed", "nor if a renewal replaced it", unused.with("@previous", previousOf("r", verifierA.String(), "<+50000>")), "moved")
	refused("leave, unknown verifier", "a name alone leaves no session", a.with("@s", newer), "moved")
	refused("leave, another", "another sign-in is under way", marked(a, nameB, "<+9000>"), "moved")
	refused("leave, moved", "another sign-in has replaced the session", movedAt("<-1000>"), "moved")
	refused("leave, ended", "the session has ended", endedAt("<-1000>", zeroHash), "gone")
	refused("leave, idle", "the idle limit counts, whether or not the server has removed the key", a.with("@s", stateOf(7, "<-3600001>")), "gone")
	refused("leave, deadline", "so does the deadline", a.with("@l", vectorSecret+"<-60000>"+"<-1>"+hourHex), "gone")
	revoked := keyValues{keyA: a, keyRevoked: revocationOf("<-20000>" + "<+86400000>")}
	c.unchanged("move.lua", "leave, revoked", "the old session was revoked", revoked, both, leave("0"), "gone")
	excepted := revocationOf("<-20000>" + "<+86400000>" + nameA + "<-60000>")
	c.add("move.lua", "leave, excepted", "or it is an exception", keyValues{keyA: a, keyRevoked: excepted}, both, leave("0"),
		replyOfLeave(marked(a, nameNew, "<+10000>")), keyValues{keyA: marked(a, nameNew, "<+10000>"), keyRevoked: excepted})
	c.unchanged("move.lua", "leave, all users revoked", "all users were revoked", keyValues{keyA: a}, both, leave("[-30000]"), "gone")
	c.unchanged("move.lua", "leave, nothing", "there is no session", nil, both, leave("0"), "gone")

	closed, moved := keyValues{keyA: marked(a, nameNew, "<+10000>")}, keyValues{keyA: movedAt("<+0>").lives(60_000)}
	step := func(action string) []string { return []string{action, nameNew} }
	c.add("move.lua", "left", "the new session is stored: the key tells late requests that the old one moved", closed, both[:1], step("left"), []any{"ok"}, moved)
	c.add("move.lua", "left, user's", "a session of another user leaves that user's index", plus(vectorTwo, closed), []string{keyA, keyIndex}, step("left"),
		[]any{"ok"}, plus(moved, keyValues{keyB: vectorB, keyIndex: scoresOf(nameB, "[-30000]", "@rev", "7")}))
	c.unchanged("move.lua", "left again", "repeating the step changes nothing", moved, both[:1], step("left"), "ok")
	another := keyValues{keyA: marked(a, nameB, "<+10000>")}
	c.unchanged("move.lua", "left, another", "another sign-in has closed the session since", another, both[:1], step("left"), "gone")
	c.add("move.lua", "stay", "the new session was refused: the old one accepts changes again", closed, both[:1], step("stay"), []any{"ok"}, keyValues{keyA: a})
	c.unchanged("move.lua", "stay, another", "another sign-in has closed the session since", another, both[:1], step("stay"), "gone")
	c.add("move.lua", "again", "a failover brought the session back", keyValues{keyA: a}, both[:1], []string{"again"}, []any{"ok"}, moved)
	c.unchanged("move.lua", "again, nothing", "there is no session, and no marker is left", nil, both[:1], []string{"again"}, "ok")
	for _, bad := range [][]string{
		{"action", "go", nameNew}, {"attempt", "leave"}, {"attempt", "left", "short"}, {"attempt", "stay", ""}, {"verifier", "leave", nameNew, "", "0"},
		{"global", "leave", nameNew, nameB}, {"global", "leave", nameNew, nameB, "-1"},
	} {
		c.unchanged("move.lua", "invalid "+strings.Join(bad, " "), "an argument of another form", keyValues{keyA: a}, both[:1], bad[1:], "invalid", bad[0])
	}
}

func (c *cases) moveMalformed() {
	a, both := vectorA, []string{keyA, keyRevoked}
	refused := func(name, what string, session keyContent) {
		c.unchanged("move.lua", "leave, malformed "+what+", "+name, "a malformed session is not left", keyValues{keyA: session}, both, leave("0"), "malformed", what)
	}
	refused("missing", "@s", a.with("@s", ""))
	refused("no hash", "@s", keyContent{Text: "text"})
	refused("version 2", "@s", a.with("@s", "2"+vectorState[1:]))
	refused("flag", "@s", a.with("@s", withFlags("4", vectorState)))
	refused("short", "@s", a.with("@s", strings.Replace(vectorState, "00000002", "0000002", 1)))
	refused("long", "@s", a.with("@s", vectorState+"0"))
	refused("not marked", "@s", a.with("@moving", nameB+"<+9000>"))
	refused("missing", "@moving", a.with("@s", withFlags("2", vectorState)))
	refused("short", "@moving", a.with("@s", withFlags("2", vectorState), "@moving", nameB))
	refused("missing", "@l", a.with("@l", ""))
	refused("upper case", "@l", a.with("@l", vectorSecret+"<-60000>"+"<+86400000>"+"00000036EE80"))
	refused("missing", "@previous", a.with("@s", withFlags("1", vectorState)))
	refused("state", "@previous", a.with("@previous", previousOf("x", nameB, "<+9000>")))
	refused("short", "@previous", a.with("@previous", previousOf("a", nameB, "<+9000>")[1:]))
	c.unchanged("move.lua", "leave, malformed @u", "the user decides which revocation counts",
		keyValues{keyA: a.with("@u", "short"), keyRevoked: revocationOf("<-20000>" + "<+86400000>")}, both, leave("0"), "malformed", "@u")
	c.unchanged("move.lua", "leave, malformed revocation", "nobody knows what it covers",
		keyValues{keyA: a, keyRevoked: revocationOf("<-20000>" + "<+86400000>" + " ")}, both, leave("0"), "malformed", vectorOwner.String())
	short := keyValues{keyA: marked(a, nameNew, "<+9000>").with("@l", "short")}
	c.add("move.lua", "left, malformed", "it is replaced all the same", short, both[:1], []string{"left", nameNew}, []any{"ok"},
		keyValues{keyA: movedAt("<+0>").lives(60_000)})
}
