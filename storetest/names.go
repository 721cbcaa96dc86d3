package storetest

import (
	"errors"
	"strings"

	"github.com/coatcheck-go/session/driver"
)

// nameCases: which names are valid, and that different names are different values.
var nameCases = []testCase{
	{
		name: "name/distinct",
		why: "P1: Values with different names never collide, whatever the names contain: fields, entries, " +
			"separators, names of metadata.",
		run: func(k *kit) {
			keys := []driver.Key{
				"a", "A", "a.", "a.b", "a_b", "a-b", "0", "-", ".", "_", "..", "-1", "rev", "id", "token", "v", "deadline", "size",
				"a:", "a:b", "a:b:c", "a::", "a:.b", "a.b:", "a:@id", "a:a", "a: ", "a:\x00", "a:\x00b", "a:\r\n", "a:*", "a:{x}", "a:%", "a:/../b",
				"a:é", "a:e\u0301", "a:\U0001F600", "a:\u2028", "a:\"", "a:'", "a:\\", "a:[", "A:b",
				driver.Key(strings.Repeat("x", driver.MaxName)),
				driver.EntryKey(strings.Repeat("x", driver.MaxName), strings.Repeat("y", driver.MaxEntry)),
				driver.EntryKey(strings.Repeat("x", driver.MaxName), strings.Repeat("y", driver.MaxEntry-1)),
				driver.EntryKey("a", strings.Repeat("é", driver.MaxEntry/2)),
			}
			v := k.create()
			var ops []driver.Op
			var want []string
			for i, key := range keys {
				ops = append(ops, add(key, int64(i+1)))
				want = append(want, string(key), decimal(int64(i+1)))
			}
			k.apply(v, ops...)
			k.mustHave(v, want...)
			for i, key := range keys {
				k.mustReturn(k.apply(v, take(key)), decimal(int64(i+1)))
			}
			k.mustHave(v)
		},
	},
	{
		name: "name/refused",
		why: "P10: Every operation refuses a name that the format does not allow. Otherwise another language " +
			"would find a name that it cannot read.",
		run: func(k *kit) {
			bad := []driver.Key{
				"", ":", ":a", "@s", "@", "a@b", "a b", "a/b", "a\x00", "é", "a*", "{a}", "@id:a", "a\n", "\xff",
				driver.Key(strings.Repeat("x", driver.MaxName+1)),
				driver.EntryKey(strings.Repeat("x", driver.MaxName+1), "a"),
				driver.EntryKey("a", strings.Repeat("y", driver.MaxEntry+1)),
				driver.EntryKey("a", strings.Repeat("é", driver.MaxEntry/2)+"z"),
				"a:\xff", "a:\xc3", "a:\xed\xa0\x80", "a:\xc0\x80", "a:ok\xf8",
			}
			v := k.create(set("a", `1`))
			for _, key := range bad {
				for _, op := range []driver.Op{
					set(key, `1`), add(key, 1), take(key), unset(key), swap(key, nil, "1"), unsetEntries(key),
				} {
					k.mustRefuseOp(v, driver.ErrName, 1, set("a", `2`), op)
				}
			}
			k.mustHave(v, "a", "1")
			w := newVisitor()
			_, err := k.tryCreate(w, set("@s", `1`))
			if !errors.Is(err, driver.ErrName) {
				k.Errorf("Create: %v, want ErrName", err)
			}
			k.mustBeEnded(w)
		},
	},
}

// sizeCases: the size of a session is bounded.
var sizeCases = []testCase{
	{
		name: "size/bytes",
		why: "P10: No visitor can make a session grow without bound. The limit counts the bytes of keys and " +
			"values exactly, and applies to all operations.",
		run: sizeInBytes,
	},
	{
		name: "size/default",
		why:  "P10: A change without a limit has the default limit.",
		run: func(k *kit) {
			v := k.create(set("a", strings.Repeat("x", driver.DefaultMaxSize-1)))
			k.mustRefuseOp(v, driver.ErrTooLarge, 0, set("b", ""))
			k.mustRefuseOp(v, driver.ErrTooLarge, 0, set("a", strings.Repeat("x", driver.DefaultMaxSize)))
			if got := k.load(v).Size; got != driver.DefaultMaxSize {
				k.Errorf("Size is %d, want %d", got, driver.DefaultMaxSize)
			}
		},
	},
	{
		name: "size/raised",
		why:  "An application may raise the limit: a session of half a megabyte is stored completely.",
		run: func(k *kit) {
			v := k.create()
			big := strings.Repeat("0123456789abcdef", 1<<15)
			k.applyChange(v, &driver.Change{Verifier: v.verifier, Ops: []driver.Op{set("a", big)}, MaxSize: 1 << 20})
			k.mustHave(v, "a", big)
		},
	},
	{
		name: "size/fields",
		why: "P10: The number of values is bounded, and each entry of a map counts. At the bound, existing " +
			"values may still change and be removed.",
		run: func(k *kit) {
			v := k.create()
			ops := make([]driver.Op, driver.MaxFields)
			for i := range ops {
				ops[i] = set(driver.EntryKey("m", decimal(int64(i))), "1")
			}
			ops[7] = set("f", "1")
			k.apply(v, ops...)
			k.mustRefuseOp(v, driver.ErrTooLarge, 0, set("one.more", "1"))
			k.mustRefuseOp(v, driver.ErrTooLarge, 0, add("m:more", 1))
			k.mustRefuseOp(v, driver.ErrTooLarge, 0, swap("one.more", nil, "1"))
			k.apply(v, add("m:5", 1), unset("m:6"), set("one.more", "1"))
			if got := len(k.load(v).Fields); got != driver.MaxFields {
				k.Errorf("there are %d values, want %d", got, driver.MaxFields)
			}
		},
	},
	{
		name: "size/operations",
		why: "P10: The number of operations in a change is bounded, because a server that runs a change does " +
			"nothing else in the meantime.",
		run: func(k *kit) {
			v := k.create()
			ops := make([]driver.Op, driver.MaxOps+1)
			for i := range ops {
				ops[i] = add("n", 1)
			}
			k.apply(v, ops[:driver.MaxOps]...)
			err := k.mustRefuse(v, driver.ErrTooLarge, v.change(ops...))
			var op *driver.OpError
			if !errors.As(err, &op) {
				k.Errorf("the error is a %T, want a *driver.OpError", err)
			}
			k.mustHave(v, "n", decimal(driver.MaxOps))
		},
	},
}

func sizeInBytes(k *kit) {
	v := k.create()
	limited := func(ops ...driver.Op) *driver.Change {
		return &driver.Change{Verifier: v.verifier, Ops: ops, MaxSize: 100}
	}
	tooLarge := func(ops ...driver.Op) {
		k.Helper()
		k.mustRefuse(v, driver.ErrTooLarge, limited(ops...))
	}
	// 1+89 bytes and 1+9 bytes.
	k.applyChange(v, limited(set("a", strings.Repeat("x", 89)), set("b", strings.Repeat("y", 9))))
	if got := k.load(v).Size; got != 100 {
		k.Fatalf("Size is %d, want 100", got)
	}
	tooLarge(set("c", ""))
	tooLarge(set("a", strings.Repeat("x", 90)))
	tooLarge(add("c", 1))
	tooLarge(swap("b", strings.Repeat("y", 9), strings.Repeat("y", 10)))
	tooLarge(swap("c", nil, ""))
	tooLarge(set("a", strings.Repeat("x", 90)), unset("b")) // an intermediate state counts, too
	k.applyChange(v, limited(unset("b"), set("a", strings.Repeat("x", 99))))
	k.applyChange(v, limited(set("a", "x"), set("n", "99")))
	k.applyChange(v, limited(set("a", strings.Repeat("x", 96)))) // 1+96 + 1+2
	tooLarge(add("n", 1))                                        // 99 becomes 100
	k.applyChange(v, limited(add("n", -90)))
	w := newVisitor()
	c := &driver.Change{Verifier: w.verifier, Ops: []driver.Op{set("a", strings.Repeat("x", 100))}, MaxSize: 100}
	_, err := k.store.Create(k.Context(), w.id, w.spec(longIdle, longLifetime), c)
	if !errors.Is(err, driver.ErrTooLarge) {
		k.Errorf("Create: %v, want ErrTooLarge", err)
	}
	k.mustBeEnded(w)
	// After the limit was lowered, a session that is over it may shrink but not grow.
	v = k.create(set("a", strings.Repeat("x", 300)), set("b", strings.Repeat("y", 50)))
	tooLarge(set("a", strings.Repeat("x", 301)))
	k.applyChange(v, limited(set("a", strings.Repeat("x", 299))))
	k.applyChange(v, limited(unset("a")))
	k.mustHave(v, "b", strings.Repeat("y", 50))
}
