package storetest

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/coatcheck-go/session/driver"
)

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// opCases: what each operation does, and that a change applies all of its operations in order, or
// none.
var opCases = []testCase{
	{
		name: "op/set-and-unset",
		why:  "The last write of a field wins, and affects only that field.",
		run: func(k *kit) {
			v := k.create()
			k.apply(v, set("theme", `"dark"`), set("lang", `"en"`))
			k.apply(v, set("theme", `"lite"`))
			k.mustHave(v, "theme", `"lite"`, "lang", `"en"`)
			k.apply(v, unset("theme"), unset("absent"))
			k.mustHave(v, "lang", `"en"`)
		},
	},
	{
		name: "op/bytes",
		why: "Values are returned byte for byte: JSON text, other bytes (sealed values), and the empty value, " +
			"which is not the same as no value.",
		run: func(k *kit) {
			var all strings.Builder
			for i := range 256 {
				all.WriteByte(byte(i))
			}
			values := []string{`{"a": [1, 2.50, "é\u0000"]}`, all.String(), "\r\n$-1\r\n", "\x00", " 1", "", strings.Repeat("x", 4096)}
			v := k.create()
			var want []string
			for i, value := range values {
				key := driver.Key("f" + strconv.Itoa(i))
				k.apply(v, set(key, value), set(driver.EntryKey("m", string(key)), value))
				want = append(want, string(key), value, "m:"+string(key), value)
			}
			k.mustHave(v, want...)
			res := k.apply(v, take("f5"))
			if len(res.Values) != 1 || res.Values[0] == nil || len(res.Values[0]) != 0 {
				k.Errorf("Take of an empty value: %#v, want an empty value", res.Values)
			}
		},
	},
	{
		name: "op/entries",
		why: "P1: A map is written entry by entry. A field and its entries are different values, and emptying " +
			"one map empties no other.",
		run: func(k *kit) {
			v := k.create(set("cart", `"plain"`), set("cart:", `0`), set("cart:a", `1`), set("cart:b", `2`),
				set("cart.x:a", `3`), set("carts:a", `4`), set("car:a", `5`))
			if got := entries(k.load(v), "cart"); !slices.Equal(got, []string{"=0", "a=1", "b=2"}) {
				k.Errorf("the entries are %q, want the entries \"\", a and b in order", got)
			}
			k.apply(v, unset("cart:a"), set("cart:c", `6`))
			k.mustHave(v, "cart", `"plain"`, "cart:", "0", "cart:b", "2", "cart:c", "6",
				"cart.x:a", "3", "carts:a", "4", "car:a", "5")
			k.apply(v, unsetEntries("cart"), unsetEntries("absent"))
			k.mustHave(v, "cart", `"plain"`, "cart.x:a", "3", "carts:a", "4", "car:a", "5")
			k.apply(v, unset("cart"))
			k.mustHave(v, "cart.x:a", "3", "carts:a", "4", "car:a", "5")
			k.apply(v, set("cart:d", `7`), unsetEntries("cart"), set("cart:e", `8`))
			k.mustHave(v, "cart:e", "8", "cart.x:a", "3", "carts:a", "4", "car:a", "5")
		},
	},
	{
		name: "op/clear",
		why:  "Clear removes the values and nothing else: limits, tokens and the session itself stay.",
		run: func(k *kit) {
			v := k.create(set("theme", `"dark"`), set("cart:a", `1`), add("visits", 1))
			before := k.load(v)
			k.apply(v, clearAll())
			k.mustHave(v)
			after := k.load(v)
			if after.Secret != before.Secret || after.Tokens != before.Tokens ||
				!after.Deadline.Equal(before.Deadline) || after.Idle != before.Idle {
				k.Errorf("before Clear: %s\nafter:        %s", text(before), text(after))
			}
			k.apply(v, set("a", `1`), clearAll(), set("b", `2`))
			k.mustHave(v, "b", "2")
		},
	},
	{
		name: "op/add",
		why: "P1: A counter adds. The result has the sum, so that a request knows the number of its own " +
			"increment.",
		run: func(k *kit) {
			v := k.create()
			res := k.apply(v, add("visits", 1), set("theme", `1`), add("visits", 41),
				add("down", -7), add("cart:a", 2), add("none", 0))
			k.mustReturn(res, "1", nil, "42", "-7", "2", "0")
			k.mustHave(v, "visits", "42", "theme", "1", "down", "-7", "cart:a", "2", "none", "0")
			k.mustReturn(k.apply(v, add("theme", 1)), "2") // a value that was set is a counter, too
		},
	},
	{
		name: "op/add-64-bits",
		why: "P1: Integers are exact to 64 bits. A sum that does not fit is refused, and never wrapped or " +
			"rounded to a double.",
		run: add64,
	},
	{
		name: "op/add-not-integer",
		why: "P1: Add refuses a value that is not an integer in canonical form. Guessing would destroy the " +
			"present value.",
		run: func(k *kit) {
			for _, bad := range []string{
				`"1"`, `1.0`, `1e3`, ` 1`, `1 `, `+1`, `01`, `-0`, ``, `-`, `0x1`, `1_000`, `null`, `{}`,
				`9223372036854775808`, `-9223372036854775809`, "1\x00",
			} {
				v := k.create(set("n", bad))
				k.mustRefuseOp(v, driver.ErrNotInteger, 0, add("n", 1))
				k.mustRefuseOp(v, driver.ErrNotInteger, 0, addWithin("n", 1, 0, 10))
			}
		},
	},
	{
		name: "op/add-within",
		why: "P1: A counter with bounds (stock, attempts) never leaves them, however many requests add at the " +
			"same time. The refusal has the present value.",
		run: func(k *kit) {
			v := k.create(set("n", `9`))
			k.mustReturn(k.apply(v, addWithin("n", 1, 0, 10)), "10")
			if op := k.mustRefuseOp(v, driver.ErrConflict, 0, addWithin("n", 1, 0, 10)); string(op.Present) != "10" {
				k.Errorf("Present is %q, want 10", op.Present)
			}
			k.mustRefuseOp(v, driver.ErrConflict, 0, addWithin("n", -11, 0, 10))
			k.mustReturn(k.apply(v, addWithin("n", -10, 0, 10)), "0")
			if op := k.mustRefuseOp(v, driver.ErrConflict, 0, addWithin("new", 5, 10, 20)); op.Present != nil {
				k.Errorf("Present is %q, want none", op.Present)
			}
			res := k.apply(v, addWithin("new", 10, 10, 10), addWithin("min", math.MinInt64, math.MinInt64, 0))
			k.mustReturn(res, "10", decimal(math.MinInt64))
			// The sum must be within the bounds, even if it does not change.
			k.mustRefuseOp(v, driver.ErrConflict, 0, addWithin("n", 0, 1, 10))
		},
	},
	{
		name: "op/add-closer",
		why: "P1: A counter that is out of its bounds, because they were lowered or because two carts joined, may " +
			"come closer. Otherwise nobody can mend it step by step. It never goes further, nor past the other bound.",
		run: func(k *kit) {
			v := k.create(set("over", `18`), set("under", `-5`), set("most", `9223372036854775807`), set("least", `-9223372036854775808`))
			k.mustReturn(k.apply(v, addWithin("over", -1, 0, 9), addWithin("under", 2, 0, 9)), "17", "-3")
			k.mustReturn(k.apply(v, addWithin("most", -7, 0, 9), addWithin("least", 8, 0, 9)),
				"9223372036854775800", "-9223372036854775800")
			for _, key := range []driver.Key{"over", "most"} {
				k.mustRefuseOp(v, driver.ErrConflict, 0, addWithin(key, 1, 0, 9))
				k.mustRefuseOp(v, driver.ErrConflict, 0, addWithin(key, 0, 0, 9))
			}
			for _, key := range []driver.Key{"under", "least"} {
				k.mustRefuseOp(v, driver.ErrConflict, 0, addWithin(key, -1, 0, 9))
				k.mustRefuseOp(v, driver.ErrConflict, 0, addWithin(key, 0, 0, 9))
			}
			// Past the other bound.
			k.mustRefuseOp(v, driver.ErrConflict, 0, addWithin("over", -18, 0, 9))
			k.mustRefuseOp(v, driver.ErrConflict, 0, addWithin("under", 13, 0, 9))
			k.mustRefuseOp(v, driver.ErrConflict, 0, addWithin("most", math.MinInt64, 0, 9))
			// There is no count.
			k.mustRefuseOp(v, driver.ErrConflict, 0, addWithin("new", -1, -9, -5))
			k.mustReturn(k.apply(v, addWithin("over", -17, 0, 9), addWithin("under", 3, 0, 9)), "0", "0")
		},
	},
	{
		name: "op/limit",
		why: "P1: A map with a limit never gets an entry over it. The change is refused as a whole. Entries that " +
			"are there can change and go, even if the map is over the limit already.",
		run: limits,
	},
	{
		name: "op/take",
		why:  "P1: A one-time value is returned and removed in one step.",
		run: func(k *kit) {
			v := k.create(set("notice", `"saved"`), set("oauth:state", `{"n":1}`))
			res := k.apply(v, take("absent"), take("notice"), take("notice"), take("oauth:state"))
			k.mustReturn(res, nil, `"saved"`, nil, `{"n":1}`)
			k.mustHave(v)
			k.mustReturn(k.apply(v, set("a", `1`), take("a"), add("a", 2), take("a")), nil, "1", "2", "2")
			k.mustHave(v)
		},
	},
	{
		name: "op/swap",
		why: "P1: A read-modify-write replaces exactly the value that it was computed from. Otherwise it gets " +
			"the present value and tries again.",
		run: swaps,
	},
	{
		name: "op/in-order",
		why: "Each operation applies to the outcome of the ones before it. A store does not reorder or merge " +
			"the steps of a request.",
		run: func(k *kit) {
			v := k.create(set("a", `1`))
			res := k.apply(v, add("a", 1), swap("a", "2", "10"), add("a", 5), take("a"), add("a", 1),
				set("b", `1`), unset("b"), swap("b", nil, "7"))
			k.mustReturn(res, "2", nil, "15", "15", "1", nil, nil, nil)
			k.mustHave(v, "a", "1", "b", "7")
		},
	},
	{
		name: "op/all-or-nothing",
		why: "P1: If one operation of a change is refused, the change has no effect, wherever in it the " +
			"operation is. Half a commit is a lost write.",
		run: func(k *kit) {
			v := k.create(set("n", `1`), set("s", `"x"`), set("m:a", `1`))
			good := []driver.Op{
				set("n", `2`), add("n", 5), unset("s"), set("t", `1`), unsetEntries("m"), take("n"), clearAll(),
				set("u", `1`), swap("u", "1", "2"),
			}
			for i := range len(good) + 1 {
				ops := slices.Insert(slices.Clone(good), i, add("bad", 1))
				ops = slices.Insert(ops, i, set("bad", `"x"`))
				k.mustRefuseOp(v, driver.ErrNotInteger, i+1, ops...)
			}
			k.mustRefuseOp(v, driver.ErrConflict, len(good), append(good, swap("u", "1", "3"))...)
			k.mustHave(v, "n", "1", "s", `"x"`, "m:a", "1")
		},
	},
	{
		name: "op/unknown-kind",
		why: "An operation that the store does not know, or that lacks an operand, is refused. Ignoring it " +
			"would look like success.",
		run: func(k *kit) {
			v := k.create()
			for _, bad := range []driver.Op{
				{Key: "a"},
				{Kind: driver.Limit + 1, Key: "a", Value: []byte(`1`)},
				{Kind: 255, Key: "a"},
				{Kind: driver.Set, Key: "a"},
				{Kind: driver.UnsetEntries, Key: "a:b"},
				{Kind: driver.Limit, Key: "a:b", Most: 1},
				{Kind: driver.Limit, Key: "a", Most: -1},
			} {
				k.mustRefuseOp(v, driver.ErrOp, 1, set("a", `1`), bad)
			}
		},
	},
	{
		name: "op/as-driver-says",
		why: "For every combination of operations, every store and every language has the same outcome as " +
			"package driver.",
		run: asDriverSays,
	},
}

func entries(r *driver.Record, field string) []string {
	var got []string
	for key, value := range r.Fields.Entries(field) {
		got = append(got, key+"="+string(value))
	}
	return got
}

// mustReturn checks Result.Values; nil stands for no value.
func (k *kit) mustReturn(res *driver.Result, want ...any) {
	k.Helper()
	if len(res.Values) != len(want) {
		k.Fatalf("Result.Values is %q, want one value for each of %d operations", res.Values, len(want))
	}
	for i, w := range want {
		if got := res.Values[i]; (got == nil) != (w == nil) || w != nil && string(got) != w.(string) {
			k.Errorf("Result.Values[%d] is %q (nil: %v), want %v", i, got, got == nil, w)
		}
	}
}

func add64(k *kit) {
	v := k.create()
	k.mustReturn(k.apply(v, add("n", 1<<53), add("n", 1), add("n", 1)),
		"9007199254740992", "9007199254740993", "9007199254740994")
	k.mustReturn(k.apply(v, add("max", math.MaxInt64-1), add("max", 1)), "9223372036854775806", "9223372036854775807")
	k.mustReturn(k.apply(v, add("min", math.MinInt64)), "-9223372036854775808")
	k.mustRefuseOp(v, driver.ErrOverflow, 0, add("max", 1))
	k.mustRefuseOp(v, driver.ErrOverflow, 0, add("max", math.MaxInt64))
	k.mustRefuseOp(v, driver.ErrOverflow, 0, add("min", -1))
	k.mustRefuseOp(v, driver.ErrOverflow, 0, add("min", math.MinInt64))
	k.mustRefuseOp(v, driver.ErrOverflow, 1, add("new", math.MaxInt64), add("new", 1))
	k.mustReturn(k.apply(v, add("max", math.MinInt64), add("min", math.MaxInt64), add("max", 0)), "-1", "-1", "-1")
	k.mustReturn(k.apply(v, add("n", -9007199254740995)), "-1")
	k.apply(v, set("big", `-9007199254740993`))
	k.mustReturn(k.apply(v, add("big", 0)), "-9007199254740993")
}

func limits(k *kit) {
	v := k.create(set("m", `"plain"`), set("m:a", `1`), set("m.x:a", `1`), set("mm:a", `1`))
	k.apply(v, set("m:b", `2`), limit("m", 2))
	k.mustRefuseOp(v, driver.ErrFull, 2, set("n", `1`), set("m:c", `3`), limit("m", 2))
	k.mustRefuseOp(v, driver.ErrFull, 1, add("m:c", 1), limit("m", 2))
	k.mustRefuseOp(v, driver.ErrFull, 1, swap("m:c", nil, "1"), limit("m", 2))
	k.mustRefuseOp(v, driver.ErrFull, 2, set("m:c", `3`), set("m:d", `4`), limit("m", 3))
	k.mustHave(v, "m", `"plain"`, "m:a", "1", "m:b", "2", "m.x:a", "1", "mm:a", "1")
	k.mustReturn(k.apply(v, add("m:a", 1), limit("m", 0)), "2", nil) // no entry is new
	k.apply(v, unset("m:a"), limit("m", 0))
	k.apply(v, set("m:c", `3`), unset("m:b"), limit("m", 1))       // the removed one makes room
	k.apply(v, set("m:d", `4`), unset("m:d"), limit("m", 0))       // it is not there
	k.apply(v, limit("m", 1), set("m:d", `4`))                     // later operations do not count
	k.apply(v, unsetEntries("m"), set("m:d", `5`), limit("m", 0))  // it was there before
	k.apply(v, set("mm:b", `1`), set("m.x:b", `1`), limit("m", 0)) // other maps
	k.mustRefuseOp(v, driver.ErrFull, 3, unsetEntries("m"), set("m:x", `1`), set("m:y", `1`), limit("m", 1))
	k.mustRefuseOp(v, driver.ErrFull, 2, clearAll(), set("m:x", `1`), limit("m", 0))
	k.mustHave(v, "m", `"plain"`, "m:d", "5", "m.x:a", "1", "m.x:b", "1", "mm:a", "1", "mm:b", "1")
	k.mustRefuseOp(v, driver.ErrTooLarge, 0, set("m:x", strings.Repeat("x", driver.DefaultMaxSize)), limit("m", 0))
	if _, err := k.tryCreate(newVisitor(), set("m:x", `1`), limit("m", 0)); !errors.Is(err, driver.ErrFull) {
		k.Errorf("Create: %v, want ErrFull", err)
	}
}

func swaps(k *kit) {
	v := k.create(set("a", `1`))
	k.apply(v, swap("a", "1", "2"), swap("new", nil, "x"), swap("m:k", nil, "y"))
	k.mustHave(v, "a", "2", "new", "x", "m:k", "y")
	present := func(want any, index int, ops ...driver.Op) {
		k.Helper()
		op := k.mustRefuseOp(v, driver.ErrConflict, index, ops...)
		if (op.Present == nil) != (want == nil) || want != nil && string(op.Present) != want.(string) {
			k.Errorf("Present is %q (nil: %v), want %v", op.Present, op.Present == nil, want)
		}
	}
	present("2", 0, swap("a", "1", "3"))
	present("2", 0, swap("a", nil, "3"))
	present(nil, 0, swap("absent", "1", "3"))
	present("5", 2, set("b", "0"), set("a", "5"), swap("a", "2", "3")) // set by the same change
	present("2", 0, swap("a", "2 ", nil))
	present("2", 0, swap("a", "2.0", nil)) // bytes are compared, not numbers
	k.apply(v, swap("a", "2", nil), swap("absent", nil, nil), set("empty", ""))
	k.mustHave(v, "new", "x", "m:k", "y", "empty", "")
	present("", 0, swap("empty", nil, "1")) // an empty value is a value
	k.apply(v, swap("empty", "", "1"))
	k.mustHave(v, "new", "x", "m:k", "y", "empty", "1")
	if err := k.mustRefuse(v, driver.ErrConflict, v.change(swap("new", "y", "z"))); errors.Is(err, driver.ErrMoved) {
		k.Error("a failed comparison matches ErrMoved")
	}
}
