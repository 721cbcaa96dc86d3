package redisstore

import (
	"maps"
	"strings"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// scriptCases are the vectors of scripts.json.
func scriptCases() []scriptVector {
	var c cases
	c.signIn()
	c.endUser()
	c.move()
	c.revoked()
	c.create()
	c.touch()
	c.end()
	c.publish()
	return c.all
}

type cases struct{ all []scriptVector }

type keyValues = map[string]keyContent

func (c *cases) add(script, name, why string, before keyValues, k, args []string, reply []any, after keyValues) {
	c.all = append(c.all, scriptVector{name, why, script, before, k, args, reply, after})
}

func plus(base, more keyValues) keyValues {
	sum := maps.Clone(base)
	maps.Copy(sum, more)
	return sum
}

// replyOK is the reply of a script that succeeded.
func replyOK(rest ...any) []any { return append([]any{"ok", "SECONDS", "MICROSECONDS"}, rest...) }

// The user's two sessions and their index.
var (
	vectorA, vectorB = sessionOf("<-60000>"), sessionOf("<-30000>")
	vectorIndex      = scoresOf(nameA, "<-60000>", nameB, "<-30000>", "@rev", "7")
	vectorTwo        = keyValues{keyA: vectorA, keyB: vectorB, keyIndex: vectorIndex}
)

const day = "86400000"

func (c *cases) signIn() {
	a, b := vectorA, vectorB
	index, two := vectorIndex, vectorTwo
	now := time.UnixMilli(1_800_000_000_000)
	draft := base(field("n", "1"))(now)
	draft.Tokens.Generation, draft.Revision = 0, 1
	draft.Principal = &driver.Principal{User: "ada", Owner: vectorOwner, Authenticated: now}
	head, tail := driver.SplitPrincipal(draft.Principal)
	var rest []string
	stored := map[string]string{}
	for _, f := range driver.Encode(draft) {
		switch f.Key {
		case "@id", "@idle", "@created", "@seen", "@deadline", "@principal":
		default:
			rest = append(rest, string(f.Key), string(f.Value))
		}
		stored[string(f.Key)] = string(f.Value)
	}
	secret := stored["@id"]
	signedIn := keyContent{Hash: stored}.with("@created", "<+0>", "@seen", "<-3540000>", "@deadline", "<+86400000>", "@principal", head+"<+0>"+tail)
	signInAfter := func(ago, version, began, most, how, everybody string, names ...string) []string {
		n := "0"
		if len(names) > 0 {
			n = "2"
		}
		confirm := ""
		if most != "0" {
			confirm = "confirm"
		}
		args := []string{nameNew, "3600000", day, secret, version, began, most, how, "", head, tail, n, everybody, confirm}
		return append(append(append(args, names...), rest...), ago)
	}
	signIn := func(version, began, most, how, everybody string, names ...string) []string {
		return signInAfter("0", version, began, most, how, everybody, names...)
	}
	fresh, both := []string{keyNew, keyIndex, keyRevoked}, []string{keyNew, keyIndex, keyRevoked, keyA, keyB}
	c.add("signin.lua", "first", "a user's first session makes the index; it has its full idle limit", nil, fresh,
		signIn("", "<-1000>", "0", "", "0"), replyOK(0), keyValues{keyNew: signedIn.with("@seen", "<+0>"), keyIndex: scoresOf(nameNew, "<+0>", "@rev", "1")})
	c.add("signin.lua", "authenticated before", "the user authenticated at an identity provider three hours before", nil, fresh,
		signInAfter("10800000", "", "<-1000>", "0", "", "0"), replyOK(0),
		keyValues{keyNew: signedIn.with("@seen", "<+0>").with("@principal", head+"<-10800000>"+tail), keyIndex: scoresOf(nameNew, "<+0>", "@rev", "1")})
	c.add("signin.lua", "limit", "at the limit the oldest ends; the new session lives for a minute until it is confirmed", two, both, signIn("7", "<-1000>", "2", "", "0", nameA, nameB),
		replyOK(1, nameA), keyValues{keyNew: signedIn, keyA: endedAt("<+0>", ""), keyB: b, keyIndex: scoresOf(nameB, "<-30000>", nameNew, "<+0>", "@rev", "8")})
	c.add("signin.lua", "refused", "or the sign-in is refused", two, both, signIn("7", "<-1000>", "2", "refuse", "0", nameA, nameB), []any{"full"}, two)
	c.add("signin.lua", "changed", "the index is not the one that was read", two, both, signIn("6", "<-1000>", "2", "", "0", nameA, nameB), []any{"changed"}, two)
	c.add("signin.lua", "ended", "sessions that do not exist do not count, and leave the index", keyValues{keyB: b, keyIndex: index}, both,
		signIn("7", "<-1000>", "2", "refuse", "0", nameA, nameB), replyOK(0, nameA),
		keyValues{keyNew: signedIn, keyB: b, keyIndex: scoresOf(nameB, "<-30000>", nameNew, "<+0>", "@rev", "8")})
	earlier := keyValues{keyRevoked: revocationOf("<-20000>.<+86400000>." + nameB + ".<-30000>")}
	c.add("signin.lua", "revoked", "an authentication that began before the user was revoked", plus(two, earlier), both,
		signIn("7", "<-20001>", "0", "", "0", nameA, nameB), []any{"revoked"}, plus(two, earlier))
	c.add("signin.lua", "left over", "a session that was revoked and is still stored does not count", plus(two, earlier), both,
		signIn("7", "<-1000>", "2", "refuse", "0", nameA, nameB), replyOK(0),
		plus(earlier, keyValues{keyNew: signedIn, keyA: endedAt("<-20000>", ""), keyB: b, keyIndex: scoresOf(nameB, "<-30000>", nameNew, "<+0>", "@rev", "8")}))
	c.add("signin.lua", "all users", "an authentication that began before all users were revoked", two, both,
		signIn("7", "<-1000>", "0", "", "<-999>", nameA, nameB), []any{"revoked"}, two)
	c.add("signin.lua", "again", "the reply was lost, and the call is repeated", keyValues{keyNew: signedIn}, fresh, signIn("", "<-1000>", "0", "", "0"),
		[]any{"again"}, keyValues{keyNew: signedIn})
	c.add("signin.lua", "exists", "another session has the key", keyValues{keyNew: a.with("@id", nameA)}, fresh, signIn("", "<-1000>", "0", "", "0"),
		[]any{"exists"}, keyValues{keyNew: a.with("@id", nameA)})
	ended := keyValues{keyNew: endedAt("<-5000>", "")}
	c.add("signin.lua", "repeated after the end", "the reply was lost, and the session ended: the repetition does not bring it back", ended, fresh,
		signIn("", "<-1000>", "0", "", "0"), []any{"exists"}, ended)
}

func (c *cases) endUser() {
	a, b := vectorA, vectorB
	two, owner := vectorTwo, vectorOwner.String()
	user := []string{keyIndex, keyRevoked}
	named := []string{keyIndex, keyRevoked, keyA, keyB}
	c.add("enduser.lua", "only", "one of the user's sessions ends; nothing is revoked", two, named[:3], []string{owner, "only", "", "0", nameA},
		replyOK("", 1, 0, nameA), keyValues{keyA: endedAt("<+0>", ""), keyB: b, keyIndex: scoresOf(nameB, "<-30000>", "@rev", "8")})
	left := scoresOf(nameB, "<-30000>", "@rev", "7")
	theirs := a.with("@principal", strings.ReplaceAll(a.Hash["@principal"], owner, driver.HashOf([]byte("another")).String()))
	c.add("enduser.lua", "another's", "a session of another user stays", keyValues{keyA: theirs, keyB: b, keyIndex: left},
		named[:3], []string{owner, "only", "", "0", nameA}, replyOK("", 0, 0), keyValues{keyA: theirs, keyB: b, keyIndex: left})
	c.add("enduser.lua", "only, not listed", "a session of the user ends, although the index was lost", keyValues{keyA: a, keyB: b, keyIndex: left},
		named[:3], []string{owner, "only", "", "0", nameA}, replyOK("", 1, 0, nameA), keyValues{keyA: endedAt("<+0>", ""), keyB: b, keyIndex: scoresOf(nameB, "<-30000>", "@rev", "8")})
	revokedNow := "<+0>.<+86400000>"
	c.add("enduser.lua", "all", "all sessions are revoked and named; the next call removes them", two, user, []string{owner, "all", day, "0"},
		replyOK(revokedNow, 0, 0, nameA, nameB), plus(two, keyValues{keyRevoked: revocationOf(revokedNow)}))
	c.add("enduser.lua", "expired", "a session that the index names and that does not exist has expired", keyValues{keyB: b, keyIndex: vectorIndex}, named, []string{owner, "again", revokedNow, "0", nameA, nameB},
		replyOK(revokedNow, 1, 1, nameB, nameA), keyValues{keyB: endedAt("<+0>", ""), keyIndex: scoresOf("@rev", "8"), keyRevoked: revocationOf(revokedNow)})
	keptB := revokedNow + "." + nameB + ".<-30000>"
	c.add("enduser.lua", "all but one", "the excepted session is in the revocation, with its creation time", two, []string{keyIndex, keyRevoked, keyB},
		[]string{owner, "all", day, "0", nameB}, replyOK(keptB, 0, 0, nameA), plus(two, keyValues{keyRevoked: revocationOf(keptB)}))
	c.add("enduser.lua", "no index", "without an index the sessions are revoked all the same", keyValues{keyA: a}, user, []string{owner, "all", day, "0"},
		replyOK(revokedNow, 0, 0), keyValues{keyA: a, keyRevoked: revocationOf(revokedNow)})
	c.add("enduser.lua", "no longer excepted", "a later revocation cannot except a session that an earlier one has revoked", plus(two, keyValues{keyRevoked: revocationOf("<-40000>.<+86400000>")}),
		named, []string{owner, "all", day, "0", nameA, nameB}, replyOK(keptB, 0, 0, nameA), plus(two, keyValues{keyRevoked: revocationOf(keptB)}))
	c.add("enduser.lua", "again", "the second call removes the sessions that the first one named", plus(two, keyValues{keyRevoked: revocationOf(keptB)}), named[:3],
		[]string{owner, "again", keptB, "0", nameA}, replyOK(keptB, 1, 0, nameA),
		keyValues{keyA: endedAt("<+0>", ""), keyB: b, keyIndex: scoresOf(nameB, "<-30000>", "@rev", "8"), keyRevoked: revocationOf(keptB)})
	old := "<-60000>.<+86400000>"
	c.add("enduser.lua", "again, late", "the user was revoked more than a minute ago: no marker", plus(two, keyValues{keyRevoked: revocationOf(old)}), named[:3],
		[]string{owner, "again", old, "0", nameA}, replyOK(old, 1, 0, nameA),
		keyValues{keyB: b, keyIndex: scoresOf(nameB, "<-30000>", "@rev", "8"), keyRevoked: revocationOf(old)})
	c.add("enduser.lua", "restored", "a revocation that a failover lost is restored", keyValues{keyA: a}, user, []string{owner, "again", keptB, "0"},
		replyOK(keptB, 0, 0), keyValues{keyA: a, keyRevoked: revocationOf(keptB)})
	c.add("enduser.lua", "merged", "two revocations are merged so that both hold", keyValues{keyRevoked: revocationOf("<-10000>.<+1000000>." + nameA + ".<-60000>." + nameB + ".<-30000>")},
		user, []string{owner, "again", "<-40000>.<+2000000>", "0"}, replyOK("<-10000>.<+2000000>."+nameB+".<-30000>", 0, 0),
		keyValues{keyRevoked: revocationOf("<-10000>.<+2000000>." + nameB + ".<-30000>")})
	c.add("enduser.lua", "forgotten", "the next write removes revocations that may be forgotten",
		keyValues{keyRevoked: {Hash: map[string]string{nameA: "<-90000000>.<-10000>", nameB: "<-1000>.<+10000>"}}}, user, []string{owner, "all", day, "0"},
		replyOK(revokedNow, 0, 0), keyValues{keyRevoked: {Hash: map[string]string{nameB: "<-1000>.<+10000>", owner: revokedNow}}})
}

func (c *cases) move() {
	a := vectorA
	presented, attempt := verifierA.String(), nameNew
	leave := func(everybody string) []string { return []string{"leave", attempt, presented, everybody} }
	old := keyContent{Hash: map[string]string{"@token": "0." + presented, "@idle": "3600000", "@created": "<-60000>", "@seen": "<-1000>", "@deadline": "<+86400000>"}}
	marked := old.with("@moving", attempt+".<+10000>")
	moved := keyContent{Hash: map[string]string{"@moving": "moved"}}
	c.add("move.lua", "leave", "the session accepts no changes for ten seconds, and the reply has its fields", keyValues{keyA: a}, []string{keyA, keyRevoked},
		[]string{"leave", attempt, presented, "0"}, replyOfLeave(a, attempt), keyValues{keyA: a.with("@moving", attempt+".<+10000>")})
	c.add("move.lua", "leave, another", "another sign-in is under way", keyValues{keyA: old.with("@moving", nameB+".<+9000>")}, []string{keyA, keyRevoked}, leave("0"),
		[]any{"moved"}, keyValues{keyA: old.with("@moving", nameB+".<+9000>")})
	c.add("move.lua", "leave, revoked", "the old session was revoked", plus(keyValues{keyA: a}, keyValues{keyRevoked: revocationOf("<-20000>.<+86400000>")}),
		[]string{keyA, keyRevoked}, leave("0"), []any{"gone"}, keyValues{keyA: a, keyRevoked: revocationOf("<-20000>.<+86400000>")})
	c.add("move.lua", "leave, all users revoked", "all users were revoked", keyValues{keyA: old}, []string{keyA, keyRevoked}, leave("<-30000>"), []any{"gone"}, keyValues{keyA: old})
	c.add("move.lua", "left", "the new session is stored: the key tells late requests that the old one moved", keyValues{keyA: marked}, []string{keyA},
		[]string{"left", attempt, presented, "0"}, []any{"ok"}, keyValues{keyA: moved})
	c.add("move.lua", "left again", "repeating the step changes nothing", keyValues{keyA: moved}, []string{keyA}, []string{"left", attempt, presented, "0"}, []any{"ok"}, keyValues{keyA: moved})
	c.add("move.lua", "stay", "the new session was refused: the old one accepts changes again", keyValues{keyA: marked}, []string{keyA},
		[]string{"stay", attempt, presented, "0"}, []any{"ok"}, keyValues{keyA: old})
	c.add("move.lua", "again", "a failover brought the session back", keyValues{keyA: old}, []string{keyA}, []string{"again", "", "", "0"}, []any{"ok"}, keyValues{keyA: moved})
}

func (c *cases) revoked() {
	a, b := vectorA, vectorB
	presented := verifierA.String()
	// A revoked session takes no change.
	revoked := keyValues{keyA: a, keyRevoked: revocationOf("<-20000>.<+86400000>." + nameB + ".<-30000>")}
	change := func(everybody string) []string {
		return []string{presented, "65536", "", "0", "0", everybody, "0", "add", "n", "1", ""}
	}
	c.add("apply.lua", "revoked", "the user's revocation is later than the session", revoked, []string{keyA, keyRevoked}, change("0"), []any{"gone"}, revoked)
	c.add("apply.lua", "all users revoked", "the revocation of all users is later than the session", keyValues{keyA: a}, []string{keyA, keyRevoked}, change("<-60000>"), []any{"gone"}, keyValues{keyA: a})
	kept := keyValues{keyB: b, keyRevoked: revoked[keyRevoked]}
	c.add("apply.lua", "kept", "an excepted session accepts the change", kept, []string{keyB, keyRevoked}, change("0"), replyOK("8", "2"),
		plus(kept, keyValues{keyB: b.with("n", "2", "@rev", "8")}))
	c.add("touch.lua", "revoked", "a use does not extend a revoked session", revoked, []string{keyA, keyRevoked}, []string{presented, "0"}, []any{"gone"}, revoked)
	c.add("touch.lua", "all users revoked", "a use does not extend the session either", keyValues{keyA: a}, []string{keyA, keyRevoked}, []string{presented, "<-60000>"}, []any{"gone"}, keyValues{keyA: a})

	// revokeall.lua
	c.add("revokeall.lua", "first", "the server's time", nil, []string{keyAll}, []string{""}, replyOK("<+0>"), keyValues{keyAll: {Text: "<+0>"}})
	c.add("revokeall.lua", "raised", "a later time replaces the stored one", keyValues{keyAll: {Text: "<-100000>"}}, []string{keyAll}, []string{"<-50000>"}, replyOK("<-50000>"), keyValues{keyAll: {Text: "<-50000>"}})
	c.add("revokeall.lua", "not back", "an earlier time does not replace the stored one", keyValues{keyAll: {Text: "<-50000>"}}, []string{keyAll}, []string{"<-100000>"}, replyOK("<-50000>"), keyValues{keyAll: {Text: "<-50000>"}})
}
