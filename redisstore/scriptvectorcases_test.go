package redisstore

import (
	"maps"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// scriptCases are the vectors of scripts.json.
func scriptCases() []scriptVector {
	type keys = map[string]keyOfV
	a, b := sessionOf("<-60000>"), sessionOf("<-30000>")
	index := scoresOf(nameA, "<-60000>", nameB, "<-30000>", "@rev", "7")
	two := keys{keyA: a, keyB: b, keyIndex: index}
	plus := func(base keys, more keys) keys {
		sum := maps.Clone(base)
		maps.Copy(sum, more)
		return sum
	}
	ok := func(rest ...any) []any { return append([]any{"ok", "SECONDS", "MICROSECONDS"}, rest...) }
	owner := vectorOwner.String()
	day := "86400000"
	var all []scriptVector
	add := func(script, name, why string, before keys, k, args []string, reply []any, after keys) {
		all = append(all, scriptVector{name, why, script, before, k, args, reply, after})
	}

	// signin.lua
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
	signedIn := keyOfV{Hash: stored}.with("@created", "<+0>", "@seen", "<-3540000>", "@deadline", "<+86400000>", "@principal", head+"<+0>"+tail)
	signIn := func(version, began, most, how, everybody string, names ...string) []string {
		n := "0"
		if len(names) > 0 {
			n = "2"
		}
		args := []string{nameNew, "3600000", day, secret, version, began, most, how, "", head, tail, n, everybody}
		return append(append(args, names...), rest...)
	}
	fresh, both := []string{keyNew, keyIndex, keyRevoked}, []string{keyNew, keyIndex, keyRevoked, keyA, keyB}
	add("signin.lua", "first", "a user's first session makes the index; it lives for a minute until its first use", nil, fresh,
		signIn("", "<-1000>", "0", "", "0"), ok(), keys{keyNew: signedIn, keyIndex: scoresOf(nameNew, "<+0>", "@rev", "1")})
	add("signin.lua", "limit", "at the limit the oldest ends", two, both, signIn("7", "<-1000>", "2", "", "0", nameA, nameB),
		ok(nameA), keys{keyNew: signedIn, keyB: b, keyIndex: scoresOf(nameB, "<-30000>", nameNew, "<+0>", "@rev", "8")})
	add("signin.lua", "refused", "or the sign-in is refused", two, both, signIn("7", "<-1000>", "2", "refuse", "0", nameA, nameB), []any{"full"}, two)
	add("signin.lua", "changed", "the index is not the one that was read", two, both, signIn("6", "<-1000>", "2", "", "0", nameA, nameB), []any{"changed"}, two)
	add("signin.lua", "gone", "sessions that are gone do not count, and leave the index", keys{keyB: b, keyIndex: index}, both,
		signIn("7", "<-1000>", "2", "refuse", "0", nameA, nameB), ok(),
		keys{keyNew: signedIn, keyB: b, keyIndex: scoresOf(nameB, "<-30000>", nameNew, "<+0>", "@rev", "8")})
	earlier := keys{keyRevoked: revocationOf("<-20000>.<+86400000>." + nameB + ".<-30000>")}
	add("signin.lua", "revoked", "an authentication that began before the user was revoked", plus(two, earlier), both,
		signIn("7", "<-20001>", "0", "", "0", nameA, nameB), []any{"revoked"}, plus(two, earlier))
	add("signin.lua", "left over", "a session that was revoked, and not removed, does not count", plus(two, earlier), both,
		signIn("7", "<-1000>", "2", "refuse", "0", nameA, nameB), ok(),
		plus(earlier, keys{keyNew: signedIn, keyB: b, keyIndex: scoresOf(nameB, "<-30000>", nameNew, "<+0>", "@rev", "8")}))
	add("signin.lua", "everybody", "an authentication that began before everybody was revoked", two, both,
		signIn("7", "<-1000>", "0", "", "<-999>", nameA, nameB), []any{"revoked"}, two)
	add("signin.lua", "again", "the answer was lost, and it is repeated", keys{keyNew: signedIn}, fresh, signIn("", "<-1000>", "0", "", "0"),
		[]any{"again"}, keys{keyNew: signedIn})
	add("signin.lua", "exists", "another session has the key", keys{keyNew: a.with("@id", nameA)}, fresh, signIn("", "<-1000>", "0", "", "0"),
		[]any{"exists"}, keys{keyNew: a.with("@id", nameA)})

	// enduser.lua
	user := []string{keyIndex, keyRevoked}
	named := []string{keyIndex, keyRevoked, keyA, keyB}
	add("enduser.lua", "only", "one of the user's sessions ends; nothing is revoked", two, named[:3], []string{owner, "only", "", "1", nameA},
		ok("", 1, nameA), keys{keyB: b, keyIndex: scoresOf(nameB, "<-30000>", "@rev", "8")})
	add("enduser.lua", "another's", "a session that the index does not have is not touched", keys{keyA: a, keyB: b, keyIndex: scoresOf(nameB, "<-30000>", "@rev", "7")},
		named[:3], []string{owner, "only", "", "1", nameA}, ok("", 0), keys{keyA: a, keyB: b, keyIndex: scoresOf(nameB, "<-30000>", "@rev", "7")})
	revokedNow := "<+0>.<+86400000>"
	add("enduser.lua", "all", "all are revoked, and named; the caller ends them with the next call", two, user, []string{owner, "all", day, "0"},
		ok(revokedNow, 0, nameA, nameB), plus(two, keys{keyRevoked: revocationOf(revokedNow)}))
	add("enduser.lua", "all, named", "those that the caller names end at once", two, named, []string{owner, "all", day, "2", nameA, nameB},
		ok(revokedNow, 2, nameA, nameB), keys{keyIndex: scoresOf("@rev", "8"), keyRevoked: revocationOf(revokedNow)})
	keptB := revokedNow + "." + nameB + ".<-30000>"
	add("enduser.lua", "all but one", "the one to keep is in the revocation, with its creation", two, []string{keyIndex, keyRevoked, keyB},
		[]string{owner, "all", day, "0", nameB}, ok(keptB, 0, nameA), plus(two, keys{keyRevoked: revocationOf(keptB)}))
	add("enduser.lua", "no index", "without an index they are revoked all the same", keys{keyA: a}, user, []string{owner, "all", day, "0"},
		ok(revokedNow, 0), keys{keyA: a, keyRevoked: revocationOf(revokedNow)})
	add("enduser.lua", "kept no more", "who was revoked once is not kept by a later revocation", plus(two, keys{keyRevoked: revocationOf("<-40000>.<+86400000>")}),
		named, []string{owner, "all", day, "0", nameA, nameB}, ok(keptB, 0, nameA), plus(two, keys{keyRevoked: revocationOf(keptB)}))
	add("enduser.lua", "again", "the second call ends those that the first one named", plus(two, keys{keyRevoked: revocationOf(keptB)}), named[:3],
		[]string{owner, "again", keptB, "1", nameA}, ok(keptB, 1, nameA),
		keys{keyB: b, keyIndex: scoresOf(nameB, "<-30000>", "@rev", "8"), keyRevoked: revocationOf(keptB)})
	add("enduser.lua", "put back", "a revocation that a failover lost is put back", keys{keyA: a}, user, []string{owner, "again", keptB, "0"},
		ok(keptB, 0), keys{keyA: a, keyRevoked: revocationOf(keptB)})
	add("enduser.lua", "put together", "of two revocations both hold", keys{keyRevoked: revocationOf("<-10000>.<+1000000>." + nameA + ".<-60000>." + nameB + ".<-30000>")},
		user, []string{owner, "again", "<-40000>.<+2000000>", "0"}, ok("<-10000>.<+2000000>."+nameB+".<-30000>", 0),
		keys{keyRevoked: revocationOf("<-10000>.<+2000000>." + nameB + ".<-30000>")})
	add("enduser.lua", "forgotten", "what was remembered long enough goes with the next write",
		keys{keyRevoked: {Hash: map[string]string{nameA: "<-90000000>.<-10000>", nameB: "<-1000>.<+10000>"}}}, user, []string{owner, "all", day, "0"},
		ok(revokedNow, 0), keys{keyRevoked: {Hash: map[string]string{nameB: "<-1000>.<+10000>", owner: revokedNow}}})

	// move.lua
	presented, attempt := verifierA.String(), nameNew
	leave := func(everybody string) []string { return []string{"leave", attempt, presented, everybody} }
	old := keyOfV{Hash: map[string]string{"@token": "0." + presented, "@idle": "3600000", "@created": "<-60000>", "@seen": "<-1000>", "@deadline": "<+86400000>"}}
	marked := old.with("@moving", attempt+".<+10000>")
	moved := keyOfV{Hash: map[string]string{"@moving": "moved"}}
	add("move.lua", "leave, another", "another sign-in is under way", keys{keyA: old.with("@moving", nameB+".<+9000>")}, []string{keyA, keyRevoked}, leave("0"),
		[]any{"moved"}, keys{keyA: old.with("@moving", nameB+".<+9000>")})
	add("move.lua", "leave, revoked", "the session before was revoked", plus(keys{keyA: a}, keys{keyRevoked: revocationOf("<-20000>.<+86400000>")}),
		[]string{keyA, keyRevoked}, leave("0"), []any{"gone"}, keys{keyA: a, keyRevoked: revocationOf("<-20000>.<+86400000>")})
	add("move.lua", "leave, everybody revoked", "or everybody was", keys{keyA: old}, []string{keyA, keyRevoked}, leave("<-30000>"), []any{"gone"}, keys{keyA: old})
	add("move.lua", "left", "the new session stands: the key tells late requests that this one moved", keys{keyA: marked}, []string{keyA},
		[]string{"left", attempt, presented, "0"}, []any{"ok"}, keys{keyA: moved})
	add("move.lua", "left again", "repeating it changes nothing", keys{keyA: moved}, []string{keyA}, []string{"left", attempt, presented, "0"}, []any{"ok"}, keys{keyA: moved})
	add("move.lua", "stay", "the new session was refused: this one is as before", keys{keyA: marked}, []string{keyA},
		[]string{"stay", attempt, presented, "0"}, []any{"ok"}, keys{keyA: old})
	add("move.lua", "again", "a failover brought the session back", keys{keyA: old}, []string{keyA}, []string{"again", "", "", "0"}, []any{"ok"}, keys{keyA: moved})

	// What was revoked takes no change.
	revoked := keys{keyA: a, keyRevoked: revocationOf("<-20000>.<+86400000>." + nameB + ".<-30000>")}
	change := func(everybody string) []string {
		return []string{presented, "65536", "", "0", everybody, "add", "n", "1", ""}
	}
	add("apply.lua", "revoked", "the user's revocation is later than the session", revoked, []string{keyA, keyRevoked}, change("0"), []any{"gone"}, revoked)
	add("apply.lua", "everybody revoked", "everybody's is", keys{keyA: a}, []string{keyA, keyRevoked}, change("<-60000>"), []any{"gone"}, keys{keyA: a})
	kept := keys{keyB: b, keyRevoked: revoked[keyRevoked]}
	add("apply.lua", "kept", "the session that was to stay takes it", kept, []string{keyB, keyRevoked}, change("0"), ok("8", "2"),
		plus(kept, keys{keyB: b.with("n", "2", "@rev", "8")}))
	add("touch.lua", "revoked", "nor does a revoked session live on by being used", revoked, []string{keyA, keyRevoked}, []string{presented, "0"}, []any{"gone"}, revoked)
	add("touch.lua", "everybody revoked", "as with changes", keys{keyA: a}, []string{keyA, keyRevoked}, []string{presented, "<-60000>"}, []any{"gone"}, keys{keyA: a})

	// revokeall.lua
	add("revokeall.lua", "first", "the server's time", nil, []string{keyAll}, []string{""}, ok("<+0>"), keys{keyAll: {Text: "<+0>"}})
	add("revokeall.lua", "raised", "a later one", keys{keyAll: {Text: "<-100000>"}}, []string{keyAll}, []string{"<-50000>"}, ok("<-50000>"), keys{keyAll: {Text: "<-50000>"}})
	add("revokeall.lua", "not back", "never an earlier one", keys{keyAll: {Text: "<-50000>"}}, []string{keyAll}, []string{"<-100000>"}, ok("<-50000>"), keys{keyAll: {Text: "<-50000>"}})
	return all
}
