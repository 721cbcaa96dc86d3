package redisstore

import (
	"maps"
	"strings"

	"github.com/coatcheck-go/session/driver"
)

// scriptCases are the vectors of scripts.json.
func scriptCases() []scriptVector {
	var c cases
	c.signIn()
	c.signInLimit()
	c.signInRefused()
	c.endUser()
	c.endUserRevokes()
	c.endUserMalformed()
	c.move()
	c.moveMalformed()
	c.writes()
	c.revoked()
	c.revokeAll()
	c.create()
	c.touch()
	c.end()
	c.clean()
	c.publish()
	c.join()
	return c.all
}

type cases struct{ all []scriptVector }

type keyValues = map[string]keyContent

func (c *cases) add(script, name, why string, before keyValues, k, args []string, reply []any, after keyValues) {
	if args == nil {
		args = []string{}
	}
	c.all = append(c.all, scriptVector{name, why, script, plus(keyValues{}, before), k, args, reply, plus(keyValues{}, after)})
}

// unchanged adds a call that writes nothing.
func (c *cases) unchanged(script, name, why string, before keyValues, k, args []string, reply ...any) {
	c.add(script, name, why, before, k, args, reply, before)
}

func plus(base, more keyValues) keyValues {
	sum := maps.Clone(base)
	maps.Copy(sum, more)
	return sum
}

// replyOK is the reply of a script that succeeded.
func replyOK(rest ...any) []any { return append([]any{"ok", "TIME"}, rest...) }

// listOf is a list in a reply.
func listOf(names ...string) []any {
	l := make([]any, len(names))
	for i, name := range names {
		l[i] = name
	}
	return l
}

// The user's two sessions and their index.
var (
	vectorA, vectorB = sessionOf("<-60000>"), sessionOf("<-30000>")
	vectorIndex      = scoresOf(nameA, "[-60000]", nameB, "[-30000]", "@rev", "7")
	vectorTwo        = keyValues{keyA: vectorA, keyB: vectorB, keyIndex: vectorIndex}
)

// signInCall has the arguments of signin.lua that the cases vary.
type signInCall struct {
	id, verifier, size, idle, lifetime, first, version, began, ago, most, refuse, global, old, user string
	fields                                                                                          []string
}

// newSignInCall has no limit and no old session.
func newSignInCall() signInCall {
	return signInCall{
		id: vectorSecret, verifier: verifierA.String(), size: "2", idle: "3600000", lifetime: "86400000", first: "3600000",
		began: "[-1000]", ago: "0", most: "0", refuse: "0", global: "0", user: vectorUserEnd,
		fields: []string{"@i", vectorInfo, "n", "1"},
	}
}

// limited is a sign-in that is confirmed later, at the version of the index.
func (s signInCall) limited(version, most string) signInCall {
	s.version, s.most, s.first = version, most, "60000"
	return s
}

func (s signInCall) args() []string {
	return append([]string{
		s.id, s.verifier, s.size, s.idle, s.lifetime, s.first, s.version, s.began, s.ago, s.most, s.refuse, s.global, s.old, s.user,
	}, s.fields...)
}

// signedIn is the session that a sign-in stores.
func signedIn(seen, authenticated string) keyContent {
	return keyContent{TTL: hour, Hash: map[string]string{
		"@s": stateOf(1, seen), "@l": lifeOf(vectorSecret, "<+0>"),
		"@u": vectorOwner.String() + authenticated + vectorUserEnd, "@i": vectorInfo, "n": "1",
	}}
}

var (
	signInFresh = []string{keyNew, keyIndex, keyRevoked}
	signInBoth  = []string{keyNew, keyIndex, keyRevoked, keyA, keyB}
	unconfirmed = signedIn("<-3540000>", "<+0>").lives(60_000)
)

func (c *cases) signIn() {
	call := newSignInCall()
	firstIndex := scoresOf(nameNew, "[+0]", "@rev", "1").lives(day)
	c.add("signin.lua", "first", "a user's first session makes the index; it has its full idle limit", nil, signInFresh, call.args(),
		replyOK(listOf(), listOf()), keyValues{keyNew: signedIn("<+0>", "<+0>"), keyIndex: firstIndex})
	ago := call
	ago.ago = "10800000"
	c.add("signin.lua", "authenticated before", "the user authenticated at an identity provider three hours before", nil, signInFresh, ago.args(),
		replyOK(listOf(), listOf()), keyValues{keyNew: signedIn("<+0>", "<-10800000>"), keyIndex: firstIndex})
	long := call
	long.user, long.fields = "631004a", []string{"@i", strings.Repeat("x", 64), "@i2", "0123456789", "a", "", "m:", ""}
	long.size = "3"
	session := signedIn("<+0>", "<+0>").with("@u", vectorOwner.String()+"<+0>"+long.user, "@s", strings.Replace(stateOf(1, "<+0>"), "00000002", "00000003", 1), "n", "")
	for i := 0; i < len(long.fields); i += 2 {
		session.Hash[long.fields[i]] = long.fields[i+1]
	}
	c.add("signin.lua", "long info", "an info of 74 bytes has two parts; level 99, persistent; a field and an entry are empty", nil, signInFresh, long.args(),
		replyOK(listOf(), listOf()), keyValues{keyNew: session, keyIndex: firstIndex})
	stored := keyValues{keyNew: signedIn("<+0>", "<+0>")}
	c.unchanged("signin.lua", "again", "the reply was lost, and the call is repeated", stored, signInFresh, call.args(), "again")
	other := keyValues{keyNew: vectorA.with("@l", lifeOf(nameA, "<-60000>"))}
	c.unchanged("signin.lua", "exists", "another session has the key", other, signInFresh, call.args(), "exists")
	c.unchanged("signin.lua", "repeated after the end", "the reply was lost, and the session ended: the repetition does not bring it back",
		keyValues{keyNew: endedAt("<-5000>", zeroHash)}, signInFresh, call.args(), "exists")
	c.unchanged("signin.lua", "repeated after a move", "another sign-in has replaced the session since",
		keyValues{keyNew: movedAt("<-5000>")}, signInFresh, call.args(), "exists")
	earlier := keyValues{keyRevoked: revocationOf("<-20000>" + "<+86400000>" + nameB + "<-30000>")}
	late := call
	late.began = "[-20001]"
	c.unchanged("signin.lua", "revoked", "an authentication that began before the user was revoked", plus(vectorTwo, earlier), signInBoth, late.args(), "revoked")
	everybody := call
	everybody.global = "[-999]"
	c.unchanged("signin.lua", "all users", "an authentication that began before all users were revoked", vectorTwo, signInBoth, everybody.args(), "revoked")
	same := call.limited("", "0")
	same.old = nameA
	marked := marked(vectorA, nameNew, "<+9000>")
	c.add("signin.lua", "same user", "an old session of the same user, which was marked for this sign-in, is replaced",
		plus(vectorTwo, keyValues{keyA: marked}), signInBoth[:4], same.args(), replyOK(listOf(), listOf()),
		keyValues{keyNew: unconfirmed, keyA: movedAt("<+0>").lives(60_000), keyB: vectorB, keyIndex: scoresOf(nameB, "[-30000]", nameNew, "[+0]", "@rev", "8")})
	c.add("signin.lua", "same user, claimed", "another sign-in has closed the old session meanwhile: it stays",
		plus(vectorTwo, keyValues{keyA: marked.with("@moving", nameB+"<+9000>")}), signInBoth[:4], same.args(), replyOK(listOf(), listOf()),
		keyValues{
			keyNew: unconfirmed, keyA: marked.with("@moving", nameB+"<+9000>"), keyB: vectorB,
			keyIndex: scoresOf(nameA, "[-60000]", nameB, "[-30000]", nameNew, "[+0]", "@rev", "8"),
		})
}

func (c *cases) signInLimit() {
	call := newSignInCall().limited("7", "2")
	refuse := call
	refuse.refuse = "1"
	a, b := vectorA, vectorB
	after := scoresOf(nameB, "[-30000]", nameNew, "[+0]", "@rev", "8")
	indexOf := vectorIndex.lives(1000)
	c.add("signin.lua", "limit", "at the limit the oldest ends; the new session lives for a minute until it is confirmed; the index lives longer",
		plus(vectorTwo, keyValues{keyIndex: indexOf}), signInBoth, call.args(), replyOK(listOf(nameA), listOf()),
		keyValues{keyNew: unconfirmed, keyA: endedAt("<+0>", zeroHash).lives(60_000), keyB: b, keyIndex: after.lives(day)})
	c.unchanged("signin.lua", "full", "or the sign-in is refused", vectorTwo, signInBoth, refuse.args(), "full")
	c.unchanged("signin.lua", "changed", "the index is not the one that was read", vectorTwo, signInBoth, newSignInCall().limited("6", "2").args(), "changed")
	c.add("signin.lua", "expired", "sessions that do not exist do not count, and leave the index", keyValues{keyB: b, keyIndex: vectorIndex}, signInBoth,
		refuse.args(), replyOK(listOf(), listOf(nameA)), keyValues{keyNew: unconfirmed, keyB: b, keyIndex: after})
	earlier := keyValues{keyRevoked: revocationOf("<-20000>" + "<+86400000>" + nameB + "<-30000>")}
	c.add("signin.lua", "left over", "a session that was revoked and is still stored does not count", plus(vectorTwo, earlier), signInBoth,
		refuse.args(), replyOK(listOf(), listOf()),
		plus(earlier, keyValues{keyNew: unconfirmed, keyA: endedAt("<-20000>", zeroHash).lives(40_000), keyB: b, keyIndex: after}))
	c.add("signin.lua", "revoked and gone", "nor has a session that was revoked expired", plus(earlier, keyValues{keyB: b, keyIndex: vectorIndex}), signInBoth,
		refuse.args(), replyOK(listOf(), listOf()), plus(earlier, keyValues{keyNew: unconfirmed, keyB: b, keyIndex: after}))
	// Malformed sessions of the user.
	short := a.with("@l", "short")
	c.unchanged("signin.lua", "full, malformed", "a malformed session counts", plus(vectorTwo, keyValues{keyA: short}), signInBoth, refuse.args(), "full")
	c.add("signin.lua", "limit, malformed", "and it ends like any other", plus(vectorTwo, keyValues{keyA: short}), signInBoth, call.args(),
		replyOK(listOf(nameA), listOf()),
		keyValues{keyNew: unconfirmed, keyA: endedAt("<+0>", zeroHash).lives(60_000), keyB: b, keyIndex: after})
	c.add("signin.lua", "limit, no hash", "a key that is no hash is deleted", plus(vectorTwo, keyValues{keyA: {Text: "text"}}), signInBoth, call.args(),
		replyOK(listOf(nameA), listOf()), keyValues{keyNew: unconfirmed, keyB: b, keyIndex: after})
}

func (c *cases) signInRefused() {
	for _, revocation := range []string{"short", "<-20000>", "<-20000>" + "<+86400000>" + "x", strings.Repeat("X", 24)} {
		before := keyValues{keyRevoked: revocationOf(revocation)}
		c.unchanged("signin.lua", "malformed revocation "+revocation, "nobody knows what it covers", before, signInFresh, newSignInCall().args(),
			"malformed", vectorOwner.String())
	}
	many := make([]string, 1001)
	for i := range many {
		many[i] = keyNew
	}
	c.unchanged("signin.lua", "too many keys", "a script takes 1,000 keys at most", nil, many, newSignInCall().args(), "invalid", "keys")
	for _, bad := range []struct {
		what, value string
		at          int
	}{
		{"id", "short", 0}, {"id", strings.Repeat("!", 22), 0}, {"id", strings.Repeat("B", 22), 0}, {"verifier", "", 1},
		{"size", "3", 2}, {"size", "-2", 2}, {"size", "02x", 2}, {"idle", "1e3", 3}, {"idle", "9223372036855", 3}, {"lifetime", "", 4},
		{"lifetime", "9999999999999999", 4}, {"first", "0x10", 5}, {"version", "a", 6}, {"began", " 1", 7}, {"ago", "1.5", 8}, {"max", "-1", 9},
		{"refuse", "", 10}, {"global", "nan", 11}, {"old", "short", 12}, {"user", "", 13}, {"user", "640000f", 13}, {"user", "002000f", 13},
		{"user", "000000e", 13}, {"user", "0000010", 13}, {"user", "000000F", 13}, {"user", "0000000", 13}, {"user", "0003001", 13}, {"fields", "", 14},
		{"fields", "@s", 14}, {"fields", "@i2", 14}, {"fields", "@i", 16},
	} {
		args := newSignInCall().args()
		args[bad.at] = bad.value
		c.unchanged("signin.lua", "invalid "+bad.what+" "+bad.value, "an argument that would damage a record", nil, signInFresh, args, "invalid", bad.what)
	}
	twice := newSignInCall()
	twice.fields, twice.size = append(twice.fields, "n", "2"), "4"
	c.unchanged("signin.lua", "a field twice", "the size would be wrong", nil, signInFresh, twice.args(), "invalid", "fields")
	c.unchanged("signin.lua", "no value", "a name without a value", nil, signInFresh, newSignInCall().args()[:17], "invalid", "fields")
}

func (c *cases) revoked() {
	a, b := vectorA, vectorB
	presented := verifierA.String()
	// A revoked session takes no change.
	revoked := keyValues{keyA: a, keyRevoked: revocationOf("<-20000>" + "<+86400000>" + nameB + "<-30000>")}
	change := func(global string) []string { return []string{presented, "65536", global, "100", "add", "n", "1", ""} }
	c.unchanged("apply.lua", "revoked", "the user's revocation is later than the session", revoked, []string{keyA, keyRevoked}, change("0"), "gone")
	c.unchanged("apply.lua", "all users revoked", "the revocation of all users is later than the session", keyValues{keyA: a}, []string{keyA, keyRevoked}, change("[-60000]"), "gone")
	kept := keyValues{keyB: b, keyRevoked: revoked[keyRevoked]}
	c.add("apply.lua", "kept", "an excepted session accepts the change", kept, []string{keyB, keyRevoked}, change("0"), replyOK(8, "2"),
		plus(kept, keyValues{keyB: b.with("n", "2", "@s", stateOf(8, "<-1000>"))}))
	c.unchanged("touch.lua", "revoked", "a use does not extend a revoked session", revoked, []string{keyA, keyRevoked}, []string{presented, "0", "0"}, "gone")
	c.unchanged("touch.lua", "all users revoked", "a use does not extend the session either", keyValues{keyA: a}, []string{keyA, keyRevoked}, []string{presented, "[-60000]", "0"}, "gone")
}

func (c *cases) revokeAll() {
	call := func(name, why, before, at, write, after string) {
		stored := keyValues{}
		if before != "" {
			stored[keyAll] = keyContent{Text: before}
		}
		c.add("revokeall.lua", name, why, stored, []string{keyAll}, []string{at, write},
			replyOK(strings.NewReplacer("<", "[", ">", "]").Replace(after)), keyValues{keyAll: {Text: after}})
	}
	call("first", "the server's time", "", "", "0", "<+0>")
	call("raised", "a later time replaces the stored one", "<-100000>", "[-50000]", "0", "<-50000>")
	call("not back", "an earlier time does not replace the stored one", "<-50000>", "[-100000]", "0", "<-50000>")
	call("written", "the script writes the stored time again, so that WAIT has a write", "<-50000>", "[-100000]", "1", "<-50000>")
	call("malformed", "a malformed time is replaced: until then, nobody can use a session", "[-100000]", "", "0", "<+0>")
	c.add("revokeall.lua", "no text", "so is a key that is no text", keyValues{keyAll: {Hash: map[string]string{"a": "b"}}}, []string{keyAll}, []string{"", "0"},
		replyOK("[+0]"), keyValues{keyAll: {Text: "<+0>"}})
	for _, bad := range [][]string{{"at", "x", "0"}, {"at", "-1", "0"}, {"at", "253402300800000", "0"}, {"write", "", ""}, {"write", ""}} {
		c.unchanged("revokeall.lua", "invalid "+strings.Join(bad, " "), "an argument of another form", nil, []string{keyAll}, bad[1:], "invalid", bad[0])
	}
}

var vectorAnother = driver.HashOf([]byte("another")).String()
