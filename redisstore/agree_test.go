package redisstore_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestScriptAgreesWithDriver applies random changes, valid and invalid, with apply.lua and with
// Record.Apply. Outcomes, values and records must be equal. This test keeps the two descriptions of
// the semantics the same.
func TestScriptAgreesWithDriver(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	for _, near := range []int{-1, 0} {
		t.Run(fmt.Sprint("near cache ", near), func(t *testing.T) {
			s := mustOpen(t, "redis://"+node.Addr(), patient(redisstore.Options{NearCache: near}))
			for seed := range 40 {
				random := mathrand.New(mathrand.NewPCG(uint64(seed), 1))
				mustAgree(t, s, random)
			}
		})
	}
}

// mustAgree applies 30 random changes to one session.
func mustAgree(t *testing.T, s *redisstore.Store, random *mathrand.Rand) {
	t.Helper()
	id, o := newSession()
	verifier := o.Verifier
	first := &driver.Change{Verifier: verifier, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}
	res, err := s.Create(t.Context(), id, o, first)
	if err != nil {
		t.Fatal(err)
	}
	want, err := driver.NewRecord(res.Now, o, first)
	if err != nil {
		t.Fatal(err)
	}
	record := want.Record
	for range 30 {
		c := &driver.Change{Verifier: verifier, MaxSize: 400}
		for range 1 + random.IntN(6) {
			c.Ops = append(c.Ops, randomOp(random, record))
		}
		if random.IntN(5) == 0 {
			var next [8]byte
			rand.Read(next[:])
			c.Renew = &driver.Renewal{Verifier: driver.HashOf(next[:])}
			if random.IntN(2) == 0 {
				c.Renew.Grace = time.Minute
				c.Renew.MinAge = []time.Duration{0, 2 * time.Millisecond, time.Hour}[random.IntN(3)]
			}
		}
		if random.IntN(10) == 0 {
			c.Verifier = record.Tokens.Previous
		}
		c.Issued = random.IntN(4) == 0
		got, gotErr := s.Apply(t.Context(), id, c)
		at := time.Now()
		if gotErr == nil {
			at = got.Now
		}
		want, wantErr := record.Apply(at, c)
		if !sameError(gotErr, wantErr) {
			t.Fatalf("the script returns %v, want %v as the driver\nchange %+v\nrecord %+v", gotErr, wantErr, c, record)
		}
		if wantErr != nil {
			continue
		}
		if !reflect.DeepEqual(got.Values, want.Values) {
			t.Fatalf("the script's values are %q, want %q as the driver's\nchange %+v", got.Values, want.Values, c)
		}
		record = want.Record
		if got.Renewed != want.Renewed {
			t.Fatalf("the script renewed the token: %v, want %v as the driver\nchange %+v", got.Renewed, want.Renewed, c)
		}
		if want.Renewed {
			verifier = c.Renew.Verifier
		}
		stored, _, err := s.LoadFresh(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		cached, _, err := s.Load(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		for name, r := range map[string]*driver.Record{"server's": stored, "near cache's": cached, "driver's": record} {
			if !reflect.DeepEqual(driver.Encode(r), driver.Encode(record)) {
				t.Fatalf("the %s record is\n%s\nwant the driver's\n%s\nafter %+v",
					name, driver.Encode(r), driver.Encode(record), c)
			}
		}
		if r := got.Record; r != nil && !reflect.DeepEqual(driver.Encode(r), driver.Encode(record)) {
			t.Fatalf("the result's record is\n%s\nwant the driver's\n%s\nafter %+v",
				driver.Encode(r), driver.Encode(record), c)
		}
	}
}

// sameError reports whether two errors match the same sentinels and have the same details.
func sameError(a, b error) bool {
	if (a == nil) != (b == nil) {
		return false
	}
	for _, target := range []error{
		driver.ErrMoved, driver.ErrNotFound, driver.ErrConflict, driver.ErrNotInteger,
		driver.ErrOverflow, driver.ErrFull, driver.ErrTooLarge, driver.ErrName, driver.ErrOp,
	} {
		if errors.Is(a, target) != errors.Is(b, target) {
			return false
		}
	}
	var x, y *driver.OpError
	if errors.As(a, &x) != errors.As(b, &y) {
		return false
	}
	return x == nil || x.Index == y.Index && x.Key == y.Key && string(x.Present) == string(y.Present)
}

var (
	names    = []driver.Key{"n", "big", "v", "m:a", "m:b", "m:", "m:a:b", "mm:a", "m.x"}
	literals = []string{
		`1`, `-1`, `0`, `"text"`, `9007199254740993`, `-9223372036854775808`, `9223372036854775807`,
		`007`, `-0`, `1.5`, `4503599627370495`, `9223372036854775808`,
	}
	deltas = []int64{1, -1, 5, 0, 1 << 52, -(1 << 53) - 1, 1<<62 + 3, -1 << 63, 1<<63 - 1, 10_000_000, -99_999_999_999}
)

// randomOp returns an operation that is valid for the record, or is not.
func randomOp(random *mathrand.Rand, r *driver.Record) driver.Op {
	key := names[random.IntN(len(names))]
	value := []byte(literals[random.IntN(len(literals))])
	if random.IntN(8) == 0 {
		value = make([]byte, random.IntN(300))
	}
	switch random.IntN(13) {
	case 0, 1, 2:
		return driver.Op{Kind: driver.Set, Key: key, Value: value}
	case 3:
		return driver.Op{Kind: driver.Unset, Key: key}
	case 4:
		if random.IntN(3) == 0 {
			return driver.Op{Kind: driver.Clear}
		}
		return driver.Op{Kind: driver.UnsetEntries, Key: "m"}
	case 5:
		return driver.Op{Kind: driver.Take, Key: key}
	case 6:
		old, _ := r.Fields.Get(key)
		return driver.Op{Kind: driver.Swap, Key: key, Old: old, Value: value}
	case 7:
		a, b := deltas[random.IntN(len(deltas))], deltas[random.IntN(len(deltas))]
		within := &driver.Range{Min: min(a, b), Max: max(a, b)}
		return driver.Op{Kind: driver.Add, Key: "n", Delta: deltas[random.IntN(len(deltas))], Within: within}
	case 8:
		return driver.Op{Kind: driver.Limit, Key: []driver.Key{"m", "mm"}[random.IntN(2)], Most: random.IntN(4)}
	case 9, 10:
		return driver.Op{Kind: driver.Add, Key: "big", Delta: deltas[random.IntN(len(deltas))]}
	}
	return driver.Op{Kind: driver.Add, Key: "n", Delta: deltas[random.IntN(3)]}
}
