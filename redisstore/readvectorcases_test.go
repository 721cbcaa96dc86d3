package redisstore

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/coatcheck-go/session/driver"
)

const minute = 60_000

// readRecord returns a session of generation 5, used half a minute ago. Its token was renewed half
// an hour ago.
func readRecord(change ...func(*driver.Record)) *driver.Record {
	now := time.UnixMilli(vectorNow)
	r := &driver.Record{
		Secret: driver.Secret(hashOf("secret")), Tokens: driver.Tokens{
			Current: hashOf(current), Generation: 5, Issued: now.Add(-30 * time.Minute),
			Previous: hashOf(previous), PreviousUntil: now.Add(-29 * time.Minute),
		},
		Idle: time.Hour, Created: now.Add(-time.Hour), Seen: now.Add(-30 * time.Second), Deadline: now.Add(24 * time.Hour),
		Revision: 7, Fields: driver.Fields{field("n", "1")}, Size: 2,
	}
	for _, f := range change {
		f(r)
	}
	return r
}

// first makes the token the session's first one.
func first(r *driver.Record) { r.Tokens = driver.Tokens{Current: hashOf(current)} }

// asUser signs the user in.
func asUser(r *driver.Record) {
	r.Principal = &driver.Principal{User: "ada", Owner: readOwner, Authenticated: r.Created, Methods: []string{"pwd"}, Level: 1}
}

// msFromNow returns a time, in milliseconds from the vectors' now.
func msFromNow(ms int64) time.Time { return time.UnixMilli(vectorNow + ms) }

// hashOfRecord returns what a session's key holds, with changed values. "" removes a value.
func hashOfRecord(r *driver.Record, namesAndValues ...string) map[string]string {
	return keyContent{Hash: encoded(r)}.with(namesAndValues...).Hash
}

// reads collects vectors. The fields are those of the next vectors.
type reads struct {
	all         []readVector
	revocations map[string]string
	revoked     string // "": there is no such key
	began       int64  // in milliseconds from now
}

// add adds a read of a hash. nil stands for no key.
func (c *reads) add(name, why string, hash map[string]string, verifier string, generation uint32, outcome string) *readVector {
	v := readVector{
		Name: name, Why: why, Token: readToken{generation, hashOf(verifier).String()},
		RequestBeganMS: vectorNow + c.began, Outcome: outcome,
		Stored: readStored{hashKey(hash), hashKey(c.revocations), textKey("string", c.revoked)},
	}
	if v.usesSession() {
		r, err := decodeHash(maps.Clone(hash))
		if err != nil {
			panic(err)
		}
		v.ExpiresMS = r.Expires().UnixMilli()
	}
	c.all = append(c.all, v)
	return &c.all[len(c.all)-1]
}

// touched says that a touch is due.
func (v *readVector) touched() { v.TouchDue = true }

func hashKey(hash map[string]string) storedKey {
	if len(hash) == 0 {
		return storedKey{"none", map[string]string{}, ""}
	}
	return storedKey{"hash", hash, ""}
}

func textKey(kind, text string) storedKey {
	if text == "" {
		kind = "none"
	}
	return storedKey{kind, map[string]string{}, text}
}

func readCases() []readVector {
	var c reads
	c.tokens()
	c.thefts()
	c.expiries()
	c.touches()
	c.userRevocations()
	c.globalRevocations()
	c.markers()
	c.malformed()
	c.malformedInfo()
	c.malformedKeys()
	return c.all
}

// tokens presents each kind of token to each state of the previous verifier.
func (c *reads) tokens() {
	previousIs := func(accepted, unused bool, until int64) func(*driver.Record) {
		return func(r *driver.Record) {
			t := &r.Tokens
			t.Previous, t.PreviousAccepted, t.Unused, t.PreviousUntil = hashOf(previous), accepted, unused, msFromNow(until)
			if t.Issued = msFromNow(-10_000); until < 0 {
				t.Issued = msFromNow(-10 * minute)
			}
			if accepted && unused {
				t.PreviousUntil, t.Grace = time.Time{}, 30*time.Second
			}
		}
	}
	const unknown, theft, superseded = "unknown", "theft", "superseded"
	for _, s := range []struct {
		state, why string
		set        func(*driver.Record)
		touch      bool
		// Of the previous verifier, and of another one with the generations 4, 3, 5 and 6.
		outcomes [5]string
	}{
		{"pending", "the new token may be on its way", previousIs(true, true, 0), true, [5]string{"grace", unknown, theft, unknown, unknown}},
		{"grace", "the new token was used 10 s ago", previousIs(true, false, 20_000), false, [5]string{"grace", theft, theft, unknown, unknown}},
		{"grace is over", "only the current verifier is left", previousIs(true, false, -5*minute), false,
			[5]string{theft, theft, theft, unknown, unknown}},
		{"renewed", "the new token may be on its way", previousIs(false, true, 50_000), true,
			[5]string{superseded, superseded, superseded, unknown, unknown}},
		{"replaced", "the previous verifier is remembered", previousIs(false, false, 50_000), false,
			[5]string{superseded, superseded, superseded, unknown, unknown}},
		{"renewed long ago", "the new token was never used", previousIs(false, true, -5*minute), true,
			[5]string{unknown, unknown, theft, unknown, unknown}},
		{"replaced long ago", "only the current verifier is left", previousIs(false, false, -5*minute), false,
			[5]string{theft, theft, theft, unknown, unknown}},
	} {
		h := hashOfRecord(readRecord(s.set))
		c.add(s.state+": current verifier", s.why, h, current, 5, "current").TouchDue = s.touch
		c.add(s.state+": previous verifier", s.why, h, previous, 4, s.outcomes[0])
		c.add(s.state+": another verifier, one generation lower", s.why, h, another, 4, s.outcomes[1])
		c.add(s.state+": another verifier, two generations lower", s.why, h, another, 3, s.outcomes[2])
		c.add(s.state+": another verifier, same generation", "this is never theft", h, another, 5, s.outcomes[3])
		c.add(s.state+": another verifier, higher generation", "a failover lost the newer token", h, another, 6, s.outcomes[4])
	}
	c.add("no previous verifier: current verifier", "the token of a new session", hashOfRecord(readRecord(first)), current, 0, "current")
	c.add("no previous verifier: another verifier", "nobody issued it", hashOfRecord(readRecord(first)), another, 0, unknown)
	c.add("no previous verifier: higher generation", "a failover lost the newer token", hashOfRecord(readRecord(first)), another, 1, unknown)
	inGrace := hashOfRecord(readRecord(previousIs(true, false, 20_000)))
	c.add("current verifier, other generation", "generations are compared for unknown verifiers only", inGrace, current, 2, "current")
	c.add("previous verifier, other generation", "as above", inGrace, previous, 9, "grace")
	c.add("grace ends in 1 ms", "its time is in the future", hashOfRecord(readRecord(previousIs(true, false, 1))), previous, 4, "grace")
	c.add("remembered for 1 ms", "its time is in the future", hashOfRecord(readRecord(previousIs(false, false, 1))), previous, 4, superseded)
	c.add("a sign-in is under way", "a reader ignores @moving",
		leavingUntil(5000, encoded(readRecord(asUser, first))), current, 0, "current")
	c.add("a sign-in was under way, pending", "the flags are a sum; @moving stays after its time",
		leavingUntil(-5000, encoded(readRecord(previousIs(true, true, 0)))), current, 5, "current").touched()
}

// thefts has the exceptions from theft. All tokens are of a lower generation and unknown.
func (c *reads) thefts() {
	replaced := func(issued, until int64, accepted bool, more ...func(*driver.Record)) map[string]string {
		return hashOfRecord(readRecord(append(more, func(r *driver.Record) {
			r.Tokens.Issued, r.Tokens.Previous, r.Tokens.PreviousAccepted = msFromNow(issued), hashOf(previous), accepted
			r.Tokens.PreviousUntil = msFromNow(until)
		})...))
	}
	overtaken := func(generation uint32, used driver.Hash) func(*driver.Record) {
		return func(r *driver.Record) { r.Tokens.Overtaken = &driver.Overtaken{Generation: generation, Used: used} }
	}
	old := func(f func(*driver.Record)) map[string]string { return replaced(-10*minute, -9*minute, true, f) }
	c.add("overtaken: another verifier of that generation", "it was never used: its response arrived late",
		old(overtaken(3, hashOf(previous))), another, 3, "unknown")
	c.add("overtaken: the verifier that was used", "its successor was used, too", old(overtaken(3, hashOf(another))), another, 3, "theft")
	c.add("overtaken: the session still has that generation", "it says nothing about lower ones", old(overtaken(5, driver.Hash{})), another, 4, "theft")
	c.add("overtaken: another generation", "only one such generation is remembered", old(overtaken(3, hashOf(previous))), another, 2, "theft")

	c.began = -5000
	c.add("request 1 ms before the issue", "the current verifier was issued while the request was under way",
		replaced(-4999, -1000, true), another, 4, "superseded")
	c.add("request at the issue", "the request began later", replaced(-5000, -6000, true), another, 4, "theft")
	c.add("request 1 ms before the end of the grace period", "its verifier was in grace",
		replaced(-minute, -4999, true), previous, 4, "superseded")
	c.add("request at the end of the grace period", "its verifier was in grace no longer", replaced(-minute, -5000, true), previous, 4, "theft")
	c.add("request in the grace period, another verifier", "the grace period is that of the previous verifier only",
		replaced(-minute, -1000, true), another, 4, "theft")
	c.add("request 1 ms before a renewal is forgotten", "the renewal may have cut a grace period short",
		replaced(-minute, -4999, false), another, 3, "superseded")
	c.add("request when a renewal is forgotten", "the request began later", replaced(-minute, -5000, false), another, 3, "theft")
	c.add("overlap, same generation", "only a lower generation can have overlapped", replaced(-4000, -1000, true), another, 5, "unknown")
	pending := hashOfRecord(readRecord(func(r *driver.Record) {
		r.Tokens.Issued, r.Tokens.Previous, r.Tokens.PreviousAccepted = msFromNow(-4000), hashOf(previous), true
		r.Tokens.Unused, r.Tokens.Grace = true, 30*time.Second
	}))
	c.add("overlap, pending", "not stolen, and under way when the token changed", pending, another, 4, "superseded")
	c.add("overlap, overtaken", "not stolen, and under way when the token changed",
		replaced(-4000, -1000, true, overtaken(3, hashOf(previous))), another, 3, "superseded")
	c.began = 0
}

func (c *reads) expiries() {
	limits := func(seen, deadline int64) map[string]string {
		return hashOfRecord(readRecord(func(r *driver.Record) { r.Seen, r.Deadline = msFromNow(seen), msFromNow(deadline) }))
	}
	c.add("idle limit ends in 1 ms", "the last use plus the idle limit is in the future", limits(-hour+1, day), current, 5, "current").touched()
	c.add("idle limit ended now", "the key may still be there", limits(-hour, day), current, 5, "none")
	c.add("idle limit ended", "the key may still be there", limits(-hour-minute, day), current, 5, "none")
	c.add("deadline in 1 ms", "it is in the future; a use prolongs nothing", limits(-1000, 1), current, 5, "current")
	c.add("deadline now", "a use does not prolong it", limits(-1000, 0), current, 5, "none")
	c.add("deadline passed", "a use does not prolong it", limits(-1000, -minute), current, 5, "none")
	c.add("expired, unknown verifier", "an expired session has no thefts", limits(-1000, -minute), another, 4, "none")
	c.add("no key", "nobody has such a session", nil, current, 5, "none")
	c.began = -minute + 1
	c.add("no key, request of nearly a minute", "a marker would be there still", nil, current, 5, "none")
	c.began = -minute
	c.add("no key, request of a minute", "a marker may have expired since the request began", nil, current, 5, "superseded")
	c.add("expired, request of a minute", "as above", limits(-1000, -1), current, 5, "superseded")
	c.began = 0
}

func (c *reads) touches() {
	used := func(seen int64, idle time.Duration, deadline int64) map[string]string {
		return hashOfRecord(readRecord(func(r *driver.Record) {
			r.Seen, r.Idle, r.Deadline = msFromNow(seen), idle, msFromNow(deadline)
		}))
	}
	c.add("used a touch interval ago", "a minute is the longest interval", used(-minute, time.Hour, day), current, 5, "current")
	c.add("used more than a touch interval ago", "1 ms more", used(-minute-1, time.Hour, day), current, 5, "current").touched()
	c.add("used 10 minutes ago", "the interval is over by far", used(-10*minute, time.Hour, day), current, 5, "current").touched()
	c.add("short limit, used a touch interval ago", "a twentieth of 10 minutes", used(-30_000, 10*time.Minute, day), current, 5, "current")
	c.add("short limit, used more than that ago", "1 ms more", used(-30_001, 10*time.Minute, day), current, 5, "current").touched()
	c.add("the deadline is before the idle limit", "a use prolongs nothing", used(-20*minute, time.Hour, 30*minute), current, 5, "current")
	c.add("a use prolongs until the deadline, by an interval", "that is not more", used(-20*minute, time.Hour, 41*minute), current, 5, "current")
	c.add("a use prolongs until the deadline, by more", "1 ms more", used(-20*minute, time.Hour, 41*minute+1), current, 5, "current").touched()
	inGrace := hashOfRecord(readRecord(func(r *driver.Record) {
		r.Tokens.Previous, r.Tokens.PreviousAccepted, r.Tokens.Unused, r.Tokens.Grace = hashOf(previous), true, true, 30*time.Second
		r.Seen = msFromNow(-10 * minute)
	}))
	c.add("pending, used long ago", "a verifier in grace touches the session, too", inGrace, previous, 4, "grace").touched()
	first := hashOfRecord(readRecord(func(r *driver.Record) {
		r.Tokens = driver.Tokens{Current: hashOf(current)}
		r.Created = msFromNow(-5000)
		r.Seen = r.Created.Add(15*time.Minute - r.Idle)
	}))
	c.add("first use of a session", "its last use is before its creation: it had 15 minutes to be used", first, current, 0, "current").touched()
}

func (c *reads) userRevocations() {
	created := func(ms int64, change ...func(*driver.Record)) map[string]string {
		return hashOfRecord(readRecord(append(change, func(r *driver.Record) { r.Created = msFromNow(ms) })...))
	}
	name := readID.Selector.String()
	const since = -10_000
	revoke := func(owner driver.Hash, until int64, kept string) {
		c.revocations = map[string]string{owner.String(): at(since) + at(until) + kept}
	}
	const before, during, after = "ended before the request", "ended during the request", "current"
	revoke(readOwner, day, "")
	c.add("revoked: created before", "the user was signed out everywhere", created(since-1, asUser), current, 5, before)
	c.add("revoked: created at that time", "the revocation covers it", created(since, asUser), current, 5, before)
	c.add("revoked: created after", "the user signed in again", created(since+1, asUser), current, 5, after)
	c.add("revoked: nobody signed in", "a revocation of a user covers sessions of users only", created(since-1), current, 5, after)
	c.add("revoked: unknown verifier", "the session has ended, so no token is compared", created(since-1, asUser), another, 4, before)
	c.began = since - 100
	c.add("revoked: request began before", "it was under way", created(since-1, asUser), current, 5, during)
	c.began = since
	c.add("revoked: request began at that time", "it counts as later", created(since-1, asUser), current, 5, before)
	c.began = 0
	revoke(readOwner, day, name+at(since-1))
	c.add("revoked, but for this session", "the exception has its name", created(since-1, asUser), current, 5, after)
	revoke(readOwner, day, name+at(since-2))
	c.add("revoked, but for this session, other time", "only names are compared", created(since-1, asUser), current, 5, after)
	revoke(readOwner, day, nameA+at(since-1))
	c.add("revoked, but for another session", "this one is not excepted", created(since-1, asUser), current, 5, before)
	revoke(readOwner, day, nameA+at(since-1)+name+at(since-1))
	c.add("revoked, but for two sessions", "this one is the second", created(since-1, asUser), current, 5, after)
	revoke(readOwner, -1000, "")
	c.add("revoked, to be forgotten", "a revocation holds as long as it is stored", created(since-1, asUser), current, 5, before)
	revoke(vectorOwner, day, "")
	c.add("another user is revoked", "users share the hash of a bucket", created(since-1, asUser), current, 5, after)
	c.revocations = map[string]string{readOwner.String(): at(-minute) + at(day)}
	c.add("revoked a minute ago", "the end is as old as a marker may be", created(-minute-1, asUser), current, 5, "none")
	c.revocations = map[string]string{readOwner.String(): at(-minute+1) + at(day)}
	c.add("revoked nearly a minute ago", "1 ms less", created(-minute-1, asUser), current, 5, before)
	c.revocations = map[string]string{readOwner.String(): at(since) + at(day)[1:]}
	c.wrong("revocation is too short", "its parts have fixed widths", readOwner.String(), created(since-1, asUser))
	c.revocations = map[string]string{readOwner.String(): at(since) + at(day) + name}
	c.wrong("exception is too short", "its parts have fixed widths", readOwner.String(), created(since-1, asUser))
	c.revocations = map[string]string{readOwner.String(): "00000000000A" + at(day)}
	c.wrong("revocation in upper case", "hexadecimal digits are lower-case", readOwner.String(), created(since-1, asUser))
	c.revocations = map[string]string{vectorOwner.String(): "x"}
	c.add("another user's revocation is malformed", "a reader parses only that of the session's user", created(since-1, asUser), current, 5, after)
	c.add("nobody is signed in, and a revocation is malformed", "as above", created(since-1), current, 5, after)
	c.revocations = nil
}

func (c *reads) globalRevocations() {
	created := func(ms int64) map[string]string {
		return hashOfRecord(readRecord(func(r *driver.Record) { r.Created = msFromNow(ms) }))
	}
	const before, during = "ended before the request", "ended during the request"
	c.revoked = at(-10_000)
	c.add("everybody: created before", "signed in or not", created(-10_001), current, 5, before)
	c.add("everybody: created at that time", "the revocation covers it", created(-10_000), current, 5, before)
	c.add("everybody: created after", "a new session", created(-9_999), current, 5, "current")
	c.add("everybody: no key", "its session may have been removed", nil, current, 5, before)
	c.began = -10_100
	c.add("everybody: request began before", "it was under way", created(-10_001), current, 5, during)
	c.add("everybody: no key, request began before", "it was under way", nil, current, 5, during)
	c.began = 0
	c.revoked = at(-minute)
	c.add("everybody a minute ago: created before", "the end is as old as a marker may be", created(-2*minute), current, 5, "none")
	c.add("everybody a minute ago: no key", "as above", nil, current, 5, "none")
	c.began = -2 * minute
	c.add("everybody a minute ago: request of two minutes", "it is too old to tell", created(-2*minute), current, 5, "superseded")
	c.began = -20_000
	c.revoked = at(-10_000)
	c.revocations = map[string]string{readOwner.String(): at(-30_000) + at(day)}
	c.add("everybody and the user", "the time of everybody's revocation counts",
		hashOfRecord(readRecord(asUser)), current, 5, during)
	c.began, c.revocations, c.revoked = 0, nil, ""
}

func (c *reads) markers() {
	ended := func(ms int64, attempt string) map[string]string { return map[string]string{"@ended": at(ms) + attempt} }
	attempt := hashOf("attempt").String()
	const before, during = "ended before the request", "ended during the request"
	c.add("ended marker, older than the request", "the visitor is unknown", ended(-10_000, zeroHash), current, 5, before)
	c.add("ended marker of an attempt, older than the request", "readers ignore the attempt", ended(-10_000, attempt), current, 5, before)
	c.add("moved marker", "a sign-in replaced the session", map[string]string{"@moved": at(-10_000)}, current, 5, "moved")
	c.add("moved marker, another verifier", "there is no verifier to compare with", map[string]string{"@moved": at(-10_000)}, another, 4, "moved")
	c.began = -20_000
	c.add("ended marker, younger than the request", "the request was under way", ended(-10_000, zeroHash), current, 5, during)
	c.add("ended marker of an attempt, younger than the request", "readers ignore the attempt", ended(-10_000, attempt), current, 5, during)
	c.add("ended marker, another verifier", "there is no verifier to compare with", ended(-10_000, zeroHash), another, 4, during)
	c.add("ended marker, 1 ms younger", "the request began before the end", ended(-19_999, zeroHash), current, 5, during)
	c.add("ended marker, as old", "a request of that time counts as later", ended(-20_000, zeroHash), current, 5, before)
	c.add("moved marker, younger than the request", "the age does not matter", map[string]string{"@moved": at(-10_000)}, current, 5, "moved")
	c.revoked = at(-30_000)
	c.add("ended marker, and everybody", "the time of the marker counts", ended(-10_000, zeroHash), current, 5, during)
	c.began, c.revoked = 0, ""
	c.wrong("ended marker is too short", "it has 34 bytes", "@ended", map[string]string{"@ended": at(-10_000)})
	c.wrong("ended marker in upper case", "hexadecimal digits are lower-case", "@ended", map[string]string{"@ended": "00000000000A" + zeroHash})
}

// wrong adds a hash that a reader refuses. name is that of the wrong value.
func (c *reads) wrong(name, why, value string, hash map[string]string) *readVector {
	v := c.add(name, why, hash, current, 5, "error")
	v.Wrong = value
	return v
}

// wholeHash returns a session with all metadata but @moving.
func wholeHash() map[string]string {
	return hashOfRecord(readRecord(asUser, func(r *driver.Record) {
		r.Tokens.Previous, r.Tokens.PreviousUntil = hashOf(previous), msFromNow(minute)
		r.Tokens.Overtaken = &driver.Overtaken{Generation: 2, Used: hashOf(another)}
		r.Principal.Device = strings.Repeat("d", 60)
	}))
}

// change adds a session with one fault.
func (c *reads) change(name, why, value string, f func(h map[string]string)) {
	h := wholeHash()
	f(h)
	c.wrong(name, why, value, h)
}

// remove adds a session without a value.
func (c *reads) remove(name, why, value string) {
	c.change(name, why, value, func(h map[string]string) { delete(h, value) })
}

// set adds a session with another value.
func (c *reads) set(name, why, value, text string) {
	c.change(name, why, value, func(h map[string]string) { h[value] = text })
}

func (c *reads) malformed() {
	c.add("all metadata", "the next vectors have one fault each", wholeHash(), current, 5, "current")
	change, set := c.change, c.set
	replace := func(name, why, value string, from, to int, text string) {
		change(name, why, value, func(h map[string]string) { h[value] = h[value][:from] + text + h[value][to:] })
	}
	for _, name := range []string{"@s", "@l"} {
		c.remove(name+" is missing", "every session has it", name)
	}
	for _, name := range []string{"@s", "@l", "@previous", "@overtaken", "@u"} {
		const why = "each value has one length"
		change(name+" is too short", why, name, func(h map[string]string) { h[name] = h[name][:len(h[name])-1] })
		change(name+" is too long", why, name, func(h map[string]string) { h[name] += "0" })
		set(name+" is empty", why, name, "")
	}
	replace("another version", "a newer program wrote the session", "@s", 0, 1, "2")
	set("another version, of any form", "the version is the first byte", "@s", "2")
	set("unknown metadata", "a newer program wrote the session", "@new", "1")
	set("ended marker beside a session", "a marker is the only name", "@ended", at(-1)+zeroHash)
	set("moved marker beside a session", "a marker is the only name", "@moved", at(-1))
	replace("unknown flag", "the flags are 1 and 2", "@s", 1, 2, "4")
	change("flag 1 without @previous", "the current verifier replaced another", "@previous", func(h map[string]string) {
		h["@s"] = withFlags("1", h["@s"])
		delete(h, "@previous")
	})
	change("flag 2 without @moving", "the flag says that @moving is there", "@moving", func(h map[string]string) { h["@s"] = withFlags("2", h["@s"]) })
	set("@moving without flag 2", "the flag is missing", "@moving", nameNew+at(5000))
	change("@moving is too short", "it has 34 bytes", "@moving", func(h map[string]string) {
		h["@s"], h["@moving"] = withFlags("2", h["@s"]), nameNew
	})
	for _, bad := range []struct{ name, text string }{
		{"upper case", "00000000000A"}, {"a sign", "-00000000001"}, {"a prefix", "0x0000000001"}, {"a space", " 00000000001"},
	} {
		replace("revision with "+bad.name, "a number has only the digits 0-9 a-f", "@s", 24, 36, bad.text)
	}
	replace("generation in upper case", "a number has only the digits 0-9 a-f", "@previous", 35, 43, "0000000A")
	replace("time of issue in upper case", "a number has only the digits 0-9 a-f", "@previous", 43, 55, "01A3185C4FFF")
	replace("last use after the year 9999", "it is at most e677d21fdbff", "@s", 44, 56, "e677d21fdc00")
	replace("creation after the year 9999", "it is at most e677d21fdbff", "@l", 22, 34, "ffffffffffff")
	replace("deadline after the year 9999", "it is at most e677d21fdbff", "@l", 34, 46, "ffffffffffff")
	replace("idle limit out of range", "a duration is at most 08637bd05af6", "@l", 46, 58, "08637bd05af7")
	replace("hash with another alphabet", "base64url has no +", "@s", 2, 3, "+")
	replace("hash with unused bits", "a hash has exactly one text", "@s", 23, 24, "x")
	replace("id with unused bits", "a hash has exactly one text", "@l", 21, 22, "x")
	replace("state of @previous", "it is a or r", "@previous", 0, 1, "x")
	replace("zero hash in @previous", "the name is absent instead", "@previous", 1, 23, zeroHash)
	replace("time in @previous", "a number has only the digits 0-9 a-f", "@previous", 23, 35, "00000000000g")
	replace("generation in @overtaken", "a number has only the digits 0-9 a-f", "@overtaken", 0, 8, "0000000A")
	replace("hash in @overtaken", "base64url has no +", "@overtaken", 8, 9, "+")
	replace("level out of range", "it is at most 63, in decimal 99", "@u", 34, 36, "64")
	replace("persistent out of range", "it is 0 or 1", "@u", 36, 37, "2")
	change("length of the info out of range", "it is at most 3000, in decimal 12288", "@u", func(h map[string]string) { h["@u"] = h["@u"][:37] + "3001" })
	replace("size is too large", "the fields have 2 bytes", "@s", 36, 44, "00000003")
	replace("size is too small", "the fields have 2 bytes", "@s", 36, 44, "00000001")
}

func (c *reads) malformedInfo() {
	change, set, remove := c.change, c.set, c.remove
	remove("@i is missing", "the length is in @u", "@i")
	remove("@i2 is missing", "the length is in @u", "@i2")
	change("@i is too short", "all parts but the last have 64 bytes", "@i", func(h map[string]string) { h["@i"] = h["@i"][1:] })
	change("@i2 is too short", "the length is in @u", "@i2", func(h map[string]string) { h["@i2"] = h["@i2"][1:] })
	change("@i2 is too long", "the length is in @u", "@i2", func(h map[string]string) { h["@i2"] += " " })
	set("@i3 is too much", "the length is in @u", "@i3", "x")
	set("@i1", "the parts are @i, @i2, @i3 …", "@i1", "x")
	set("@i02", "the number has no zero in front", "@i02", "x")
	change("@u without @i", "every user has an id", "@i", func(h map[string]string) {
		h["@u"] = h["@u"][:37] + "0000"
		delete(h, "@i")
		delete(h, "@i2")
	})
	change("@i without @u", "nobody is signed in", "@i", func(h map[string]string) { delete(h, "@u") })
	info := func(name, why, text string) {
		change(name, why, "@i", func(h map[string]string) {
			h["@u"], h["@i"] = h["@u"][:37]+fmt.Sprintf("%04x", len(text)), text
			delete(h, "@i2")
		})
	}
	info("info is no JSON", "it does not begin with ~, so it is in clear", `{"user":"YWRh"`)
	info("info with text after the JSON", "it is one JSON object", `{"user":"YWRh"}}`)
	info("info with another member", "a newer program wrote it", `{"user":"YWRh","new":1}`)
	info("info with a padded user", "base64 in this format has no padding", `{"user":"YWQ="}`)
	info("info without a user", "every user has an id", `{"methods":["pwd"]}`)
	change("name of a field", "a name has only the bytes a-z A-Z 0-9 . _ -", "é", func(h map[string]string) {
		delete(h, "n")
		h["é"] = ""
	})
	change("empty name of a field", "a name has at least a byte", "", func(h map[string]string) {
		delete(h, "n")
		h[""] = "12"
	})
	change("long name of a field", "a name has at most 64 bytes", strings.Repeat("n", 65), func(h map[string]string) {
		h[strings.Repeat("n", 65)] = ""
		h["@s"] = h["@s"][:36] + "00000043" + h["@s"][44:]
	})
	change("long key of an entry", "it has at most 256 bytes", "m", func(h map[string]string) {
		h["m:"+strings.Repeat("k", 257)] = ""
		h["@s"] = h["@s"][:36] + "00000105" + h["@s"][44:]
	})
	c.all[len(c.all)-1].Wrong = "m:" + strings.Repeat("k", 257)
}

// malformedKeys has keys of other types.
func (c *reads) malformedKeys() {
	for _, kind := range []string{"string", "list"} {
		h := hashOfRecord(readRecord(asUser))
		c.wrong("the session is a "+kind, "it is a hash", readKeys.session, h).Stored.Session = textKey(kind, "x")
		c.wrong("the revocations are a "+kind, "they are a hash", readKeys.revocations, h).Stored.Revocations = textKey(kind, "x")
	}
	h := hashOfRecord(readRecord())
	c.wrong("the revocations are a list, and nobody is signed in", "they are read with every session", readKeys.revocations, h).
		Stored.Revocations = textKey("list", "x")
	c.wrong("the time of everybody's revocation is a list", "it is a string", readKeys.revoked, h).Stored.Revoked = textKey("list", "x")
	c.wrong("the time of everybody's revocation is no time", "it may be later than any session", readKeys.revoked, h).
		Stored.Revoked = textKey("string", "yesterday")
	c.wrong("the time of everybody's revocation is in upper case", "a number has only the digits 0-9 a-f", readKeys.revoked, h).
		Stored.Revoked = textKey("string", "00000000000A")
}
