package redisstore

import (
	"strconv"
	"strings"
)

// malformed is vectorA with one fault.
type malformed struct {
	fault   string
	value   string // the name that the scripts report
	session keyContent
}

// malformedSessions have the faults that apply.lua and touch.lua find, whatever they are called
// with.
func malformedSessions() (all []malformed) {
	a := vectorA.with("@previous", previousOf("r", nameB, "<+50000>"))
	add := func(value, fault, text string) { all = append(all, malformed{fault, value, a.with(value, text)}) }
	for _, name := range []string{"@s", "@l"} {
		add(name, name+" is missing", "")
	}
	for _, name := range []string{"@s", "@l", "@previous"} {
		add(name, name+" is too short", a.Hash[name][1:])
		add(name, name+" is too long", a.Hash[name]+"0")
	}
	presented := "10" + verifierA.String()
	add("@s", "another version", "20"+vectorState[2:])
	add("@s", "unknown flag", withFlags("4", vectorState))
	add("@s", "revision with a prefix", presented+"0x0000000007"+"00000002"+"<-1000>")
	add("@s", "last revision", presented+"ffffffffffff"+"00000002"+"<-1000>")
	add("@s", "size with a space", presented+"000000000007"+" 0000002"+"<-1000>")
	add("@s", "seen in upper case", presented+"000000000007"+"00000002"+"0197A1E3D800")
	add("@l", "created at no number", vectorSecret+"00000000000g"+"<+86400000>"+hourHex)
	add("@l", "idle limit is no number", vectorSecret+"<-60000>"+"<+86400000>"+"+0000036ee80")
	add("@previous", "state of the previous verifier", previousOf("x", nameB, "<+50000>"))
	add("@previous", "time of the previous verifier", previousOf("r", nameB, "-00000000001"))
	add("@previous", "generation in upper case", "r"+nameB+"<+50000>"+"0000000A"+"<-50000>")
	add("@previous", "signed generation", "r"+nameB+"<+50000>"+"-0000003"+"<-50000>")
	add("@previous", "issued at no number", "r"+nameB+"<+50000>"+"00000003"+"            ")
	marked := a.with("@s", withFlags("2", vectorState))
	all = append(all,
		malformed{"unused, and no previous verifier", "@previous", a.with("@s", withFlags("1", vectorState), "@previous", "")},
		malformed{"a lease without the flag", "@s", a.with("@moving", nameNew+"<+5000>")},
		malformed{"the flag without a lease", "@moving", marked},
		malformed{"a lease that is too short", "@moving", marked.with("@moving", nameNew)},
		malformed{"a lease that is no number", "@moving", marked.with("@moving", nameNew+"            ")},
	)
	return all
}

// writes adds vectors of calls that apply.lua and touch.lua refuse.
func (c *cases) writes() {
	keys := []string{keyA, keyRevoked}
	presented := verifierA.String()
	for _, m := range malformedSessions() {
		before := keyValues{keyA: m.session}
		c.unchanged("touch.lua", m.fault, "the stored value is malformed", before, keys, []string{presented, "0", "0"}, "malformed", m.value)
		c.unchanged("apply.lua", m.fault, "the stored value is malformed", before, keys, applyCall("100", "unset", "n", "", ""), "malformed", m.value)
		// This call does not look at @moving.
		if m.value == "@s" && m.session.Hash["@moving"] == "" {
			c.unchanged("apply.lua", m.fault+", known", "the stored value is malformed", before, keys, applyCall("000", "add", "n", "1", ""), "malformed", m.value)
		}
		if m.value == "@l" {
			c.unchanged("apply.lua", m.fault+", add", "the stored value is malformed", before, keys, applyCall("100", "add", "n", "1", ""), "malformed", m.value)
		}
	}
	c.writesMalformed()
	c.writesMoving()
	c.invalidChanges()
	c.invalidCalls()
}

// applyCall returns arguments of apply.lua.
func applyCall(flags string, operations ...string) []string {
	return append([]string{verifierA.String(), "65536", "0", flags}, operations...)
}

// writesMalformed has the faults that depend on the call.
func (c *cases) writesMalformed() {
	keys, owner := []string{keyA, keyRevoked}, vectorOwner.String()
	touch, add := []string{verifierA.String(), "0", "0"}, applyCall("000", "add", "n", "1", "")
	for _, v := range []struct{ fault, text string }{
		{"a revocation that is too short", "<-20000>"},
		{"a revocation with half of a session", "<-20000>" + "<+86400000>" + nameB},
		{"a revocation since a time in capitals", "0197A1E3D800" + "<+86400000>"},
	} {
		before := keyValues{keyA: vectorA, keyRevoked: revocationOf(v.text)}
		c.unchanged("apply.lua", v.fault, "the name is that of the user", before, keys, add, "malformed", owner)
		c.unchanged("touch.lua", v.fault, "the name is that of the user", before, keys, touch, "malformed", owner)
	}
	short := keyValues{keyA: vectorA.with("@u", owner), keyRevoked: revocationOf("<-80000>" + "<+86400000>")}
	c.unchanged("apply.lua", "@u is too short", "it names the user, whose revocation is stored", short, keys, add, "malformed", "@u")
	c.unchanged("touch.lua", "@u is too short", "it names the user, whose revocation is stored", short, keys, touch, "malformed", "@u")
	one := strings.Replace(vectorState, "00000002", "00000001", 1)
	small := keyValues{keyA: vectorA.with("@s", one)}
	c.unchanged("apply.lua", "the size is too small", "it would be negative", small, keys, applyCall("000", "unset", "n", "", ""), "malformed", "@s")
	c.unchanged("apply.lua", "the size is too small for a shorter value", "it would be negative",
		keyValues{keyA: vectorA.with("@s", one, "n", "10000")}, keys, applyCall("000", "set", "n", "1", ""), "malformed", "@s")
	overtaken := keyValues{keyA: vectorA.with("@overtaken", "00000003")}
	c.unchanged("apply.lua", "@overtaken is too short", "a renewal needs it", overtaken, keys, applyCall("100", "renew", nameA, "", ""), "malformed", "@overtaken")
}

// writesMoving has a sign-in under way.
func (c *cases) writesMoving() {
	keys := []string{keyA, keyRevoked}
	touch := []string{verifierA.String(), "0", "0"}
	leaving := vectorA.with("@s", withFlags("2", vectorState), "@moving", nameNew+"<+9000>")
	c.unchanged("apply.lua", "a sign-in is under way", "the session accepts no changes for ten seconds", keyValues{keyA: leaving}, keys,
		applyCall("100", "add", "n", "1", ""), "moved")
	c.unchanged("apply.lua", "a sign-in is under way, known", "the session accepts no changes for ten seconds", keyValues{keyA: leaving}, keys,
		applyCall("000", "add", "n", "1", ""), "moved")
	c.unchanged("touch.lua", "a sign-in is under way", "the session accepts no changes for ten seconds", keyValues{keyA: leaving}, keys, touch, "moved")
	over := vectorA.with("@s", withFlags("2", vectorState), "@moving", nameNew+"<-1>")
	c.add("apply.lua", "a sign-in that was given up", "the session accepts changes again; the flag stays", keyValues{keyA: over}, keys,
		applyCall("000", "add", "n", "1", ""), replyOK(8, "2"), keyValues{keyA: over.with("@s", withFlags("2", stateOf(8, "<-1000>")), "n", "2")})
	unused := over.with("@s", withFlags("3", vectorState), "@previous", previousOf("r", nameB, "<+50000>"))
	used := keyValues{keyA: unused.with("@s", withFlags("2", stateOf(8, "<+0>"))).lives(hour)}
	c.add("apply.lua", "first use after a sign-in that was given up", "one flag stays, the other goes", keyValues{keyA: unused}, keys,
		applyCall("000"), replyOK(8), used)
	c.add("apply.lua", "renewal after a sign-in that was given up", "the flag stays", keyValues{keyA: over}, keys,
		applyCall("000", "renew", nameA, "", ""), replyOK(8, 1), keyValues{keyA: over.with(
			"@s", withVerifier(nameA, withFlags("3", stateOf(8, "<-1000>"))),
			"@previous", "r"+verifierA.String()+"<+60000>"+"00000001"+"<+0>")})
	c.add("touch.lua", "first use after a sign-in that was given up", "one flag stays, the other goes", keyValues{keyA: unused}, keys,
		touch, replyOK(8), used)
	moved := keyValues{keyA: movedAt("<-5000>")}
	c.unchanged("apply.lua", "moved", "another session took its place", moved, keys, applyCall("000", "add", "n", "1", ""), "moved")
	c.unchanged("touch.lua", "moved", "another session took its place", moved, keys, touch, "moved")
	ended := keyValues{keyA: endedAt("<-5000>", zeroHash)}
	c.unchanged("apply.lua", "ended", "the session ended", ended, keys, applyCall("000", "add", "n", "1", ""), "gone")
	c.unchanged("touch.lua", "ended", "the session ended", ended, keys, touch, "gone")
	c.unchanged("touch.lua", "no session", "there is none", nil, keys, touch, "gone")
}

// invalidChanges are operations that every session refuses.
func (c *cases) invalidChanges() {
	for _, v := range []struct {
		name, argument string
		operations     []string
	}{
		{"a key of metadata", "key", []string{"set", "@s", "1", ""}},
		{"a new key of metadata", "key", []string{"add", "@n", "1", ""}},
		{"no key", "key", []string{"set", "", "1", ""}},
		{"all entries of metadata", "key", []string{"unset-entries", "@s", "", ""}},
		{"unknown kind", "kind", []string{"append", "n", "1", ""}},
		{"renewal as the second operation", "kind", []string{"set", "n", "2", "", "renew", nameA, "", ""}},
		{"no integer", "delta", []string{"add", "n", "1.5", ""}},
		{"no integer, and no counter", "delta", []string{"add", "new", "0x10", ""}},
		{"integer that is not canonical", "delta", []string{"add", "n", "+1", ""}},
		{"integer of more than 64 bits", "delta", []string{"add", "n", "9223372036854775808", ""}},
		{"half of a range", "range", []string{"add", "n", "1", "0"}},
		{"range of no integers", "range", []string{"add", "n", "1", "0 many"}},
		{"old value without =", "old", []string{"swap", "n", "1", "=2"}},
		{"new value without =", "new", []string{"swap", "n", "=1", "2"}},
		{"limit without a number", "most", []string{"set", "m:a", "1", "", "limit", "m", "", ""}},
		{"negative limit", "most", []string{"limit", "m", "-1", ""}},
		{"limit of metadata", "key", []string{"limit", "@s", "1", ""}},
		{"half of an operation", "operations", []string{"set", "n"}},
		{"renewal without a verifier", "verifier", []string{"renew", "", "", ""}},
		{"renewal with no hash", "verifier", []string{"renew", strings.Repeat("A", 21) + "B", "", ""}},
		{"rotation without a grace period", "grace", []string{"rotate", nameA, "0", "0"}},
		{"rotation with a negative grace period", "grace", []string{"rotate", nameA, "-1", "0"}},
		{"rotation without a minimum age", "min age", []string{"rotate", nameA, "30000", ""}},
	} {
		c.unchanged("apply.lua", v.name, "the argument is invalid: nothing is written", keyValues{keyA: vectorA}, []string{keyA},
			applyCall("000", v.operations...), "invalid", v.argument)
	}
	c.unchanged("apply.lua", "the second operation is invalid", "the first one is not done", keyValues{keyA: vectorA}, []string{keyA},
		applyCall("000", "set", "n", "2", "", "set", "@l", "", ""), "invalid", "key")
}

// invalidCalls have other arguments that are refused.
func (c *cases) invalidCalls() {
	replace := func(args []string, i int, text string) []string {
		args = append([]string{}, args...)
		args[i] = text
		return args
	}
	add := applyCall("100", "set", "new", "1", "")
	for _, v := range []struct {
		argument, text string
		i              int
	}{{"verifier", "short", 0}, {"limit", "64k", 1}, {"limit", "4294967296", 1}, {"global", "", 2}, {"global", "-1", 2}, {"flags", "1", 3}, {"flags", "0020", 3}} {
		c.unchanged("apply.lua", "invalid "+v.argument+" "+strconv.Quote(v.text), "the argument is invalid: nothing is written",
			keyValues{keyA: vectorA}, []string{keyA}, replace(add, v.i, v.text), "invalid", v.argument)
	}
	touch := []string{verifierA.String(), "0", "0"}
	for i, argument := range []string{"verifier", "global", "tracked"} {
		c.unchanged("touch.lua", "invalid "+argument, "the argument is invalid: nothing is written",
			keyValues{keyA: vectorA}, []string{keyA}, replace(touch, i, "-1"), "invalid", argument)
	}
	create := []string{vectorSecret, verifierA.String(), "2", "3600000", "86400000", "3600000", "0", "n", "1"}
	signedIn := keyContent{TTL: hour, Hash: map[string]string{
		"@s": stateOf(1, "<+0>"), "@l": lifeOf(vectorSecret, "<+0>"), "n": "1",
		"@u": vectorA.Hash["@u"], "@i": vectorInfo,
	}}
	c.add("create.lua", "signed in", "the user's index does not name the session", nil, []string{keyNew},
		append(replace(create, 7, "n"), "@u", vectorA.Hash["@u"], "@i", vectorInfo), replyOK(1), keyValues{keyNew: signedIn})
	for i, argument := range []string{"id", "verifier", "size", "idle", "lifetime", "first", "tracked"} {
		c.unchanged("create.lua", "invalid "+argument, "the argument is invalid: nothing is written",
			nil, []string{keyNew}, replace(create, i, "-1"), "invalid", argument)
	}
	for _, v := range []struct {
		name, argument string
		args           []string
	}{
		{"wrong size", "size", replace(create, 2, "3")},
		{"lifetime of more than 292 years", "lifetime", replace(create, 4, "9223372036855")},
		{"metadata among the fields", "fields", replace(create, 7, "@s")},
		{"a user without an info", "fields", append(replace(create, 7, "n"), "@u", vectorA.Hash["@u"])},
		{"an info without a user", "fields", append(replace(create, 7, "n"), "@i", vectorInfo)},
		{"a field twice", "fields", append(replace(create, 2, "4"), "n", "2")},
		{"a field without a value", "fields", append(create[:len(create):len(create)], "m")},
	} {
		c.unchanged("create.lua", v.name, "the argument is invalid: nothing is written", nil, []string{keyNew}, v.args, "invalid", v.argument)
	}
}
