package redisstore

import "fmt"

// join adds vectors of join.lua. The session has n and note, and the user data has n.
func (c *cases) join() {
	owner := vectorOwner.String()
	keyData := "vector:{0000}:d:" + owner
	stateWith := func(verifier string, revision, size int, seen string) string {
		return "10" + verifier + fmt.Sprintf("%012x%08x", revision, size) + seen
	}
	session := vectorA.with("n", "2", "note", "3", "@s", stateWith(verifierA.String(), 7, 7, "<-1000>"))
	data := keyContent{Hash: map[string]string{
		"@s": stateWith(owner, 4, 6, "<-1000>"), "@l": lifeOf(nameB, "<-60000>"), "n": "40", "a": "10",
	}}
	both := keyValues{keyA: session, keyData: data}
	keys := []string{keyA, keyData, keyRevoked}
	head := []string{verifierA.String(), "65536", "0", "0"}
	args := func(takes string, rest ...string) []string {
		return append(append(append([]string{}, head...), takes), rest...)
	}
	moved := args("2", "n", "2", "note", "3", "n", "=40", "42", "note", "", "3")
	taken := session.with("n", "", "note", "", "@s", stateWith(verifierA.String(), 8, 0, "<-1000>"))
	put := data.with("n", "42", "note", "3", "@s", stateWith(owner, 5, 11, "<-1000>"))
	c.add("join.lua", "moves", "the caller has computed the sum; the script compares and sets", both, keys, moved, replyOK(8, 5), keyValues{keyA: taken, keyData: put})
	c.add("join.lua", "one of two", "what is not named stays", both, keys, args("1", "n", "2", "n", "=40", "42"), replyOK(8, 5), keyValues{
		keyA: session.with("n", "", "@s", stateWith(verifierA.String(), 8, 5, "<-1000>")), keyData: data.with("n", "42", "@s", stateWith(owner, 5, 6, "<-1000>"))})
	old := session.with("@s", stateWith(verifierA.String(), 7, 7, "<-120000>"))
	oldData := data.with("@s", stateWith(owner, 4, 6, "<-120000>"))
	c.add("join.lua", "uses are due", "it is a use of both", keyValues{keyA: old, keyData: oldData}, keys, moved, replyOK(8, 5), keyValues{
		keyA:    taken.with("@s", stateWith(verifierA.String(), 8, 0, "<+0>")).lives(hour),
		keyData: put.with("@s", stateWith(owner, 5, 11, "<+0>")).lives(hour)})
	refuse := func(name, why string, before keyValues, args []string, reply ...any) {
		c.unchanged("join.lua", name, why, before, keys, args, reply...)
	}
	refuse("repeated", "the reply was lost, and the call is repeated: nothing is moved twice", keyValues{keyA: taken, keyData: put}, moved,
		"refused", "session", 0, "conflict", nil)
	refuse("the session has changed", "the value is not the one that the caller has read", both, args("1", "n", "9", "n", "=40", "49"), "refused", "session", 0, "conflict", "2")
	refuse("the data has changed", "another device has added to the counter", both, args("2", "n", "2", "note", "3", "note", "", "3", "n", "=39", "41"),
		"refused", "data", 1, "conflict", "40")
	refuse("the data has the field already", "another device has stored it", both, args("1", "n", "2", "n", "", "2"), "refused", "data", 0, "conflict", "40")
	refuse("the data lacks the field", "another device has removed it", both, args("1", "note", "3", "note", "=1", "4"), "refused", "data", 0, "conflict", nil)
	large := args("2", "n", "2", "note", "3", "n", "=40", "42", "note", "", "3")
	large[1] = "10"
	refuse("too large", "the limit counts names and values of the data", both, large, "refused", "data", 1, "large")
	refuse("no data", "the caller creates it first", keyValues{keyA: session}, moved, "none")
	refuse("expired data", "it is created anew", keyValues{keyA: session, keyData: data.with("@s", stateWith(owner, 4, 6, "<-3600001>"))}, moved, "none")
	refuse("no session", "it has ended", keyValues{keyData: data}, moved, "gone")
	refuse("expired session", "the idle limit counts", plus(both, keyValues{keyA: session.with("@s", stateWith(verifierA.String(), 7, 7, "<-3600001>"))}), moved, "gone")
	refuse("revoked", "the user's sessions were revoked", plus(both, keyValues{keyRevoked: revocationOf("<-40000>" + "<+86400000>")}), moved, "gone")
	all := append([]string{}, moved...)
	all[2] = "[-60000]"
	refuse("all users revoked", "the data stays, and the session joins nothing", both, all, "gone")
	excepted := plus(both, keyValues{keyRevoked: revocationOf("<-40000>" + "<+86400000>" + nameA + "<-60000>")})
	c.add("join.lua", "excepted", "this session was not revoked", excepted, keys, moved, replyOK(8, 5), plus(excepted, keyValues{keyA: taken, keyData: put}))
	refuse("moved", "a sign-in has replaced the session", plus(both, keyValues{keyA: movedAt("<-5000>").lives(20_000)}), moved, "moved")
	wrong := append([]string{verifierB.String()}, moved[1:]...)
	refuse("another verifier", "it may be in its grace period", both, wrong, "busy")
	refuse("unused verifier", "its first use has to be noted first", plus(both, keyValues{keyA: session.with(
		"@s", withFlags("1", session.Hash["@s"]), "@previous", previousOf("a", verifierB.String(), "000000007530"))}), moved, "busy")
	leaving := session.with("@s", withFlags("2", session.Hash["@s"]), "@moving", nameNew+"<+5000>")
	refuse("a sign-in is under way", "the session accepts no changes", plus(both, keyValues{keyA: leaving}), moved, "busy")
	left := session.with("@s", withFlags("2", session.Hash["@s"]), "@moving", nameNew+"<-5000>")
	c.add("join.lua", "a sign-in was given up", "its ten seconds are over", plus(both, keyValues{keyA: left}), keys, moved, replyOK(8, 5), keyValues{
		keyA: left.with("n", "", "note", "", "@s", withFlags("2", taken.Hash["@s"])), keyData: put})
	for _, m := range []struct{ fault, key, name, value, reply string }{
		{"short @s", keyA, "@s", "short", "@s"}, {"no @l", keyA, "@l", "", "@l"}, {"no @u", keyA, "@u", "", "@u"},
		{"short @s of the data", keyData, "@s", "short", "@s"}, {"@l of another form in the data", keyData, "@l", nameB, "@l"},
		{"another verifier of the data", keyData, "@s", stateWith(verifierA.String(), 4, 6, "<-1000>"), "@s"},
		{"flag 2 without @moving", keyA, "@s", withFlags("2", session.Hash["@s"]), "@s"},
	} {
		hash := both[m.key].with(m.name, m.value)
		refuse("malformed: "+m.fault, "the stored value is malformed", plus(both, keyValues{m.key: hash}), moved, "malformed", m.reply)
	}
	refuse("malformed revocation", "nobody knows what it covers", plus(both, keyValues{keyRevoked: revocationOf("text")}), moved, "malformed", owner)
	for _, bad := range [][]string{
		{"number", "3", "n", "2"}, {"number", "x"}, {"number", "1", "n", "2", "n"}, {"name", "1", "@u", "2"}, {"name", "1", "", "2"},
		{"name", "2", "n", "2", "n", "2"}, {"name", "0", "@s", "", "x"},
	} {
		refuse(fmt.Sprint("invalid ", bad), "an argument of another form", both, args(bad[1], bad[2:]...), "invalid", bad[0])
	}
	c.unchanged("join.lua", "another user", "the session belongs to another user", both, []string{keyA, "vector:{0000}:d:" + nameB, keyRevoked}, moved, "invalid", "keys")
}
