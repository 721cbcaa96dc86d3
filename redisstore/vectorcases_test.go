package redisstore

import (
	"strings"
	"time"

	"github.com/coatcheck-go/session/driver"
)

var (
	verifierA = driver.HashOf([]byte("verifier a"))
	verifierB = driver.HashOf([]byte("verifier b"))
	verifierC = driver.HashOf([]byte("verifier c"))
)

// changeCase is the input of a changeVector.
type changeCase struct {
	name, why string
	before    func(now time.Time) *driver.Record // nil: there is no session
	change    driver.Change
}

// known reports that the caller has a copy of the session.
func (c *changeCase) known() bool { return strings.HasSuffix(c.name, ", known") }

func base(fields ...driver.Field) func(time.Time) *driver.Record {
	return func(now time.Time) *driver.Record {
		f := driver.Fields(fields)
		return &driver.Record{
			Secret: driver.Secret(driver.HashOf([]byte("secret"))), Tokens: driver.Tokens{Current: verifierA},
			Idle: time.Hour, Created: now.Add(-time.Minute), Seen: now.Add(-30 * time.Second), Deadline: now.Add(24 * time.Hour),
			Revision: 7, Fields: f, Size: f.Size(),
		}
	}
}

// unusedSoFar makes the session one that lives for 15 minutes until its first use.
func unusedSoFar(r *driver.Record, _ time.Time) { r.Seen = r.Created.Add(15*time.Minute - r.Idle) }

// signedInRecord has a user, and an info in clear.
var signedInRecord = with(base(field("n", "1")), func(r *driver.Record, now time.Time) {
	r.Principal = &driver.Principal{User: "ada", Owner: vectorOwner, Authenticated: now, Methods: []string{"pwd"}, Level: 1}
})

func with(r func(time.Time) *driver.Record, change func(*driver.Record, time.Time)) func(time.Time) *driver.Record {
	return func(now time.Time) *driver.Record {
		x := r(now)
		change(x, now)
		return x
	}
}

func field(k, v string) driver.Field { return driver.Field{Key: driver.Key(k), Value: []byte(v)} }

// limited sets entries, and limits the map m to most.
func limited(most int, entries ...driver.Key) driver.Change {
	var o []driver.Op
	for _, k := range entries {
		o = append(o, driver.Op{Kind: driver.Set, Key: k, Value: []byte(`"new"`)})
	}
	return ops(append(o, driver.Op{Kind: driver.Limit, Key: "m", Most: most})...)
}

func ops(o ...driver.Op) driver.Change { return driver.Change{Verifier: verifierA, Ops: o} }

var changeCases = []changeCase{
	{"add", "a counter grows; its new value is in the reply", base(field("visits", "41")), ops(driver.Op{Kind: driver.Add, Key: "visits", Delta: 1})},
	{"add to nothing", "a counter that is not there is 0", base(), ops(driver.Op{Kind: driver.Add, Key: "visits", Delta: -5})},
	{"add above 2^53", "integers are exact to 64 bits, and replied as strings", base(field("n", "9007199254740993")), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 2})},
	{"add to the edge", "the greatest integer", base(field("n", "9223372036854775806")), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 1})},
	{"overflow", "a sum that does not fit is refused", base(field("n", "9223372036854775807")), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 1})},
	{"not an integer", "text does not add", base(field("n", `"text"`)), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 1})},
	{"not canonical", "an integer has one form", base(field("n", "007")), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 1})},
	{"within", "a sum within its range", base(field("n", "4")), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 1, Within: &driver.Range{Min: 0, Max: 5}})},
	{"closer to its range", "a count that is out of its range may come closer", base(field("n", "9")), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: -1, Within: &driver.Range{Min: 0, Max: 5}})},
	{"past its range", "a count that is out of its range may not pass the other bound", base(field("n", "9")), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: -10, Within: &driver.Range{Min: 0, Max: 5}})},
	{"out of range", "a sum out of its range is a conflict, with the value that is there", base(field("n", "5")), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 1, Within: &driver.Range{Min: 0, Max: 5}})},
	{"set", "a value and its bytes in @size", base(), ops(driver.Op{Kind: driver.Set, Key: "theme", Value: []byte(`"dark"`)})},
	{"set in place", "only the difference counts for @size", base(field("theme", `"dark"`)), ops(driver.Op{Kind: driver.Set, Key: "theme", Value: []byte(`"light"`)})},
	{"set an entry", "an entry of a map is a field of the hash; a colon in its key is its own", base(), ops(driver.Op{Kind: driver.Set, Key: "gifts:a:b", Value: []byte(`{"to":"Ada"}`)})},
	{"unset", "a field goes", base(field("theme", `"dark"`)), ops(driver.Op{Kind: driver.Unset, Key: "theme"})},
	{"unset nothing", "what is not there may be unset", base(), ops(driver.Op{Kind: driver.Unset, Key: "theme"})},
	{"unset entries", "all entries of one map, and nothing else", base(field("m", "1"), field("m:", "2"), field("m:a", "3"), field("mm:a", "4")), ops(driver.Op{Kind: driver.UnsetEntries, Key: "m"})},
	{"clear", "all fields; the metadata stays", base(field("a", "1"), field("m:a", "3")), ops(driver.Op{Kind: driver.Clear})},
	{"clear and set", "operations go in order", base(field("a", "1")), ops(driver.Op{Kind: driver.Clear}, driver.Op{Kind: driver.Set, Key: "a", Value: []byte("2")})},
	{"take", "the value is in the reply, and gone", base(field("notice", `"hello"`)), ops(driver.Op{Kind: driver.Take, Key: "notice"})},
	{"take nothing", "there is no value to reply", base(), ops(driver.Op{Kind: driver.Take, Key: "notice"})},
	{"swap", "compare and set", base(field("v", `["a"]`)), ops(driver.Op{Kind: driver.Swap, Key: "v", Old: []byte(`["a"]`), Value: []byte(`["a","b"]`)})},
	{"swap of nothing", "the value must not be there", base(), ops(driver.Op{Kind: driver.Swap, Key: "v", Value: []byte(`1`)})},
	{"swap to nothing", "the value goes", base(field("v", "1")), ops(driver.Op{Kind: driver.Swap, Key: "v", Old: []byte("1")})},
	{"conflict", "another value is there: it is in the reply", base(field("v", `["x"]`)), ops(driver.Op{Kind: driver.Swap, Key: "v", Old: []byte(`["a"]`), Value: []byte(`["a","b"]`)})},
	{"limit", "a map may have as many entries as the limit says", base(field("m:a", "1")), limited(2, "m:b")},
	{"limit passed", "a new entry over the limit refuses the whole change", base(field("m:a", "1"), field("m:b", "2")), limited(2, "m:c")},
	{"limit of another map", "only the entries of one map count", base(field("m", "1"), field("m.a:a", "1"), field("m:a", "3"), field("mm:a", "2")), limited(2, "m:b", "mm:b")},
	{"limit without a new entry", "a map that is over its limit keeps its entries, and they can change", base(field("m:a", "1"), field("m:b", "2")), limited(1, "m:b")},
	{"limit and room", "an entry that goes in the same change makes room", base(field("m:a", "1"), field("m:b", "2")),
		ops(driver.Op{Kind: driver.Set, Key: "m:c", Value: []byte("3")}, driver.Op{Kind: driver.Unset, Key: "m:a"}, driver.Op{Kind: driver.Limit, Key: "m", Most: 2})},
	{"limit after all entries went", "an entry that the map had before the change is not new", base(field("m:a", "1"), field("m:b", "2")),
		ops(driver.Op{Kind: driver.UnsetEntries, Key: "m"}, driver.Op{Kind: driver.Set, Key: "m:a", Value: []byte("3")},
			driver.Op{Kind: driver.Add, Key: "m:c", Delta: 1}, driver.Op{Kind: driver.Limit, Key: "m", Most: 1})},
	{"limit of 0", "no entry is added", base(), limited(0, "m:a")},
	{"limit before the entry", "only the operations before a limit count", base(field("m:a", "1")),
		ops(driver.Op{Kind: driver.Limit, Key: "m", Most: 1}, driver.Op{Kind: driver.Set, Key: "m:b", Value: []byte("2")})},
	{"all or nothing", "the second operation is refused, so the first is not done", base(field("v", `"x"`)), ops(driver.Op{Kind: driver.Set, Key: "a", Value: []byte("1")}, driver.Op{Kind: driver.Add, Key: "v", Delta: 1})},
	{"too large", "the limit counts names and values", base(field("a", "1")), driver.Change{Verifier: verifierA, MaxSize: 10, Ops: []driver.Op{{Kind: driver.Set, Key: "b", Value: []byte(`"12345678"`)}}}},
	{"no operations", "a change without operations still counts a revision", base(field("a", "1")), ops()},
	{"use is due", "a change writes a use down when it prolongs the session by more than the touch interval",
		with(base(), func(r *driver.Record, now time.Time) { r.Seen = now.Add(-10 * time.Minute) }), ops(driver.Op{Kind: driver.Set, Key: "a", Value: []byte("1")})},
	{"first use of a session", "it has been stored as seen long before its creation; the use gives it the whole idle limit",
		with(base(), unusedSoFar), ops(driver.Op{Kind: driver.Set, Key: "a", Value: []byte("1")})},
	{"write in the request that created", "it is not the first use: the time of the last use stays",
		with(base(), unusedSoFar), driver.Change{Verifier: verifierA, Issued: true, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}},
	{"near the deadline", "no use prolongs a session past its deadline",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Seen, r.Deadline = now.Add(-10*time.Minute), now.Add(20*time.Minute)
		}), ops(driver.Op{Kind: driver.Set, Key: "a", Value: []byte("1")})},
	{"signed in", "the principal stays as it is",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Principal = &driver.Principal{User: "ada", Authenticated: time.UnixMilli(1700000000000), Methods: []string{"pwd", "otp"}, Level: 2, Device: "Firefox on Linux"}
		}), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 1})},
	{"signed in, sealed", "who it is, on what device and from where, is sealed; see sealed.json",
		with(base(field("theme", "~1I9dzAAECAwQFBgcICQoLglcVDYQE3Lkou6TvWa8Z2lSOzycI1Q")), func(r *driver.Record, now time.Time) {
			r.Principal = &driver.Principal{Owner: driver.HashOf([]byte("ada")), Authenticated: time.UnixMilli(1700000000000), Level: 1,
				Sealed: "~1I9dzAAECAwQFBgcICQoL"}
		}), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 1})},
	{"renew", "the verifier before is dead at once, and remembered for a minute", base(), driver.Change{Verifier: verifierA, Renew: &driver.Renewal{Verifier: verifierB}}},
	{"renewed before", "a renewal that is repeated is not done again, nor are its operations",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Tokens = driver.Tokens{Current: verifierB, Generation: 4, Issued: now.Add(-30 * time.Second), Previous: verifierA, PreviousUntil: now.Add(time.Minute)}
		}),
		driver.Change{Verifier: verifierA, Renew: &driver.Renewal{Verifier: verifierB}, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}},
	{"rotate", "the verifier before is accepted until the new one is used", base(), driver.Change{Verifier: verifierA, Renew: &driver.Renewal{Verifier: verifierB, Grace: 30 * time.Second}}},
	{"rotate by age", "a verifier that is old enough rotates, and its operations are done with it", base(),
		driver.Change{Verifier: verifierA, Renew: &driver.Renewal{Verifier: verifierB, Grace: 30 * time.Second, MinAge: 55 * time.Second},
			Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}},
	{"too young to rotate", "the token stays, and the operations are done: the reply says so",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Tokens = driver.Tokens{
				Current: verifierA, Generation: 4, Issued: now.Add(-50 * time.Second), Previous: verifierB, PreviousUntil: now.Add(10 * time.Second),
			}
		}),
		driver.Change{Verifier: verifierA, Renew: &driver.Renewal{Verifier: verifierB, Grace: 30 * time.Second, MinAge: time.Minute},
			Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}},
	{"rotate at the same time", "another request has just rotated: its token is on its way, and stays",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Tokens = driver.Tokens{Current: verifierB, Generation: 4, Issued: now.Add(-time.Second), Previous: verifierA, PreviousAccepted: true, Unused: true, Grace: 30 * time.Second}
		}),
		driver.Change{Verifier: verifierA, Renew: &driver.Renewal{Verifier: verifierC, Grace: 30 * time.Second, MinAge: time.Minute},
			Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}},
	{"rotate again", "the response with the new token was lost: the visitor's own stays the accepted one",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Tokens = driver.Tokens{Current: verifierB, Generation: 4, Issued: now.Add(-time.Hour), Previous: verifierA, PreviousAccepted: true, Unused: true, Grace: 30 * time.Second}
		}),
		driver.Change{Verifier: verifierA, Renew: &driver.Renewal{Verifier: verifierC, Grace: 30 * time.Second}}},
	{"renew overtakes a rotation", "the rotated token was not used: it keeps its generation, and may arrive late",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Tokens = driver.Tokens{
				Current: verifierB, Generation: 4, Issued: now.Add(-time.Second), Previous: verifierA, PreviousAccepted: true,
				Unused: true, Grace: 30 * time.Second,
			}
		}),
		driver.Change{Verifier: verifierA, Renew: &driver.Renewal{Verifier: verifierC}}},
	{"renew again in one request", "the first new token has not left: the visitor's own stays the one before",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Tokens = driver.Tokens{
				Current: verifierB, Generation: 4, Issued: now.Add(-time.Second), Previous: verifierA, Unused: true,
				PreviousUntil: now.Add(59 * time.Second),
			}
		}),
		driver.Change{Verifier: verifierB, Issued: true, Renew: &driver.Renewal{Verifier: verifierC}}},
	{"write in the request that renewed", "it does not show that the client has the new token",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Tokens = driver.Tokens{
				Current: verifierB, Generation: 4, Issued: now.Add(-time.Second), Previous: verifierA, Unused: true,
				PreviousUntil: now.Add(59 * time.Second),
			}
		}),
		driver.Change{Verifier: verifierB, Issued: true, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}},
	{"first use of a renewed token", "from now on the token before counts as stolen, once it is forgotten",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Tokens = driver.Tokens{
				Current: verifierA, Generation: 4, Issued: now.Add(-30 * time.Second), Previous: verifierB, Unused: true, PreviousUntil: now.Add(time.Minute),
			}
		}), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 1})},
	{"after an overtaken generation", "the verifier of that generation that was used is remembered",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Tokens = driver.Tokens{
				Current: verifierA, Generation: 4, Issued: now.Add(-time.Hour), Previous: verifierB, PreviousAccepted: true,
				PreviousUntil: now.Add(-time.Second), Overtaken: &driver.Overtaken{Generation: 4},
			}
		}), driver.Change{Verifier: verifierA, Renew: &driver.Renewal{Verifier: verifierC, Grace: 30 * time.Second}}},
	{"two generations after it", "it stays remembered, until another generation is overtaken",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Tokens = driver.Tokens{
				Current: verifierA, Generation: 5, Issued: now.Add(-time.Hour), Previous: verifierB, PreviousAccepted: true,
				PreviousUntil: now.Add(-time.Second), Overtaken: &driver.Overtaken{Generation: 4, Used: verifierB},
			}
		}), driver.Change{Verifier: verifierA, Renew: &driver.Renewal{Verifier: verifierC}}},
	{"first use", "the first use of a rotated token begins the grace of the one before",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Tokens = driver.Tokens{Current: verifierA, Generation: 4, Issued: now.Add(-30 * time.Second), Previous: verifierB, PreviousAccepted: true, Unused: true, Grace: 30 * time.Second}
		}), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 1})},
	{"in grace", "a rotated-out verifier still opens the session",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Tokens = driver.Tokens{Current: verifierB, Generation: 4, Issued: now.Add(-30 * time.Second), Previous: verifierA, PreviousAccepted: true, PreviousUntil: now.Add(20 * time.Second)}
		}), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 1})},
	{"rotate late", "a token whose successor is in use does not rotate any more; the rest of the change is done",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Tokens = driver.Tokens{Current: verifierB, Generation: 4, Issued: now.Add(-30 * time.Second), Previous: verifierA, PreviousAccepted: true, PreviousUntil: now.Add(20 * time.Second)}
		}), driver.Change{Verifier: verifierA, Renew: &driver.Renewal{Verifier: verifierC, Grace: 30 * time.Second},
			Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}},
	{"rotate at the first use", "the one before has its grace first; the rest of the change is done",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Tokens = driver.Tokens{Current: verifierA, Generation: 4, Issued: now.Add(-time.Hour), Previous: verifierB, PreviousAccepted: true, Unused: true, Grace: 30 * time.Second}
		}), driver.Change{Verifier: verifierA, Renew: &driver.Renewal{Verifier: verifierC, Grace: 30 * time.Second},
			Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}},
	{"rotate in the grace", "nor during it",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Tokens = driver.Tokens{Current: verifierA, Generation: 4, Issued: now.Add(-time.Hour), Previous: verifierB, PreviousAccepted: true, PreviousUntil: now.Add(20 * time.Second)}
		}), driver.Change{Verifier: verifierA, Renew: &driver.Renewal{Verifier: verifierC, Grace: 30 * time.Second},
			Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}},
	{"grace is over", "then it does not",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Tokens = driver.Tokens{Current: verifierB, Generation: 4, Issued: now.Add(-30 * time.Second), Previous: verifierA, PreviousAccepted: true, PreviousUntil: now.Add(-time.Second)}
		}), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 1})},
	{"replaced", "a verifier that was renewed away is refused",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Tokens = driver.Tokens{Current: verifierB, Generation: 4, Issued: now.Add(-30 * time.Second), Previous: verifierA, PreviousUntil: now.Add(time.Minute)}
		}), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 1})},
	{"foreign", "so is one that nobody issued", base(), driver.Change{Verifier: verifierC, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}},
	{"gone", "a change never creates a session", nil, ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 1})},
	{"expired", "the session's time is over, whether or not the server has removed the key",
		with(base(), func(r *driver.Record, now time.Time) { r.Seen = now.Add(-time.Hour) }), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 1})},
	{"add, known", "the caller has a copy and knows that no touch is due: the script does not read the time", base(field("visits", "41")),
		ops(driver.Op{Kind: driver.Add, Key: "visits", Delta: 1})},
	{"add to nothing, known", "as above", base(), ops(driver.Op{Kind: driver.Add, Key: "visits", Delta: -5})},
	{"set, known", "as above", base(), ops(driver.Op{Kind: driver.Set, Key: "theme", Value: []byte(`"dark"`)})},
	{"swap, known", "as above", base(field("v", `["a"]`)), ops(driver.Op{Kind: driver.Swap, Key: "v", Old: []byte(`["a"]`), Value: []byte(`["a","b"]`)})},
	{"four operations, known", "a value for each operation, if one has a value", base(field("a", `"long value"`), field("n", "9"), field("v", "1")),
		ops(driver.Op{Kind: driver.Set, Key: "a", Value: []byte("1")}, driver.Op{Kind: driver.Add, Key: "n", Delta: 1},
			driver.Op{Kind: driver.Swap, Key: "v", Old: []byte("1"), Value: []byte("2")}, driver.Op{Kind: driver.Set, Key: "b", Value: []byte("3")})},
	{"one field twice, known", "operations go in order", base(field("n", "1")),
		ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 1}, driver.Op{Kind: driver.Add, Key: "n", Delta: 1})},
	{"add above 2^53, known", "as above", base(field("n", "9007199254740993")), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 2})},
	{"not canonical, known", "as above", base(field("n", "-0")), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 1})},
	{"too large, known", "as above", base(field("a", "1")),
		driver.Change{Verifier: verifierA, MaxSize: 10, Ops: []driver.Op{{Kind: driver.Set, Key: "b", Value: []byte(`"12345678"`)}}}},
	{"smaller, known", "a session over the limit may shrink", base(field("a", `"123456789"`)),
		driver.Change{Verifier: verifierA, MaxSize: 10, Ops: []driver.Op{{Kind: driver.Set, Key: "a", Value: []byte(`"12345678"`)}}}},
	{"take, known", "as above", base(field("notice", `"hello"`)), ops(driver.Op{Kind: driver.Take, Key: "notice"})},
	{"in grace, known", "the script reads the time, because it needs it",
		with(base(), func(r *driver.Record, now time.Time) {
			r.Tokens = driver.Tokens{Current: verifierB, Generation: 4, Issued: now.Add(-30 * time.Second), Previous: verifierA, PreviousAccepted: true, PreviousUntil: now.Add(20 * time.Second)}
		}), ops(driver.Op{Kind: driver.Add, Key: "n", Delta: 1})},
}
