package driver_test

import (
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// A record is plain only if no value of it is sealed, whichever way the value came in.
func TestPlainMeansNoSealedValue(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_123)
	unsealed, sealed := []byte(`"~1"`), []byte("~1AbCdEfGh")
	set := func(v []byte) driver.Op { return driver.Op{Kind: driver.Set, Key: "k", Value: v} }
	create := func(ops ...driver.Op) *driver.Record {
		res, err := driver.NewRecord(now, &driver.RecordSpec{Idle: time.Hour, Lifetime: time.Hour}, &driver.Change{Ops: ops})
		if err != nil {
			t.Fatal(err)
		}
		return res.Record
	}
	apply := func(r *driver.Record, op driver.Op) *driver.Record {
		res, err := r.Apply(now, &driver.Change{Ops: []driver.Op{op}})
		if err != nil {
			t.Fatal(err)
		}
		return res.Record
	}
	carry := func(fields driver.Fields) *driver.Record {
		in := &driver.SignIn{
			Spec:  driver.RecordSpec{Idle: time.Hour, Lifetime: time.Hour, Principal: &driver.Principal{User: "ada"}},
			Carry: func(*driver.Record) (driver.Fields, error) { return fields, nil },
		}
		res, err := driver.NewSignedIn(now, in, create())
		if err != nil {
			t.Fatal(err)
		}
		return res.Record
	}
	for name, tt := range map[string]struct {
		r    *driver.Record
		want bool
	}{
		"empty":           {create(), true},
		"created clear":   {create(set(unsealed)), true},
		"created sealed":  {create(set(sealed)), false},
		"changed clear":   {apply(create(set(unsealed)), set(unsealed)), true},
		"changed sealed":  {apply(create(set(unsealed)), set(sealed)), false},
		"swapped sealed":  {apply(create(), driver.Op{Kind: driver.Swap, Key: "k", Value: sealed}), false},
		"counted":         {apply(create(set([]byte("1"))), driver.Op{Kind: driver.Add, Key: "k", Delta: 1}), true},
		"beside sealed":   {apply(create(set(sealed)), driver.Op{Kind: driver.Add, Key: "n", Delta: 1}), false},
		"carried clear":   {carry(driver.Fields{{Key: "k", Value: unsealed}}), true},
		"carried sealed":  {carry(driver.Fields{{Key: "k", Value: sealed}}), false},
		"made by hand":    {&driver.Record{Fields: driver.Fields{{Key: "k", Value: sealed}}}, false},
		"changed by hand": {apply(&driver.Record{Fields: driver.Fields{{Key: "k", Value: sealed}}}, driver.Op{Kind: driver.Add, Key: "n", Delta: 1}), false},
	} {
		decoded := tt.r
		if name != "made by hand" && name != "changed by hand" {
			var err error
			if decoded, err = driver.Decode(driver.Encode(tt.r)); err != nil {
				t.Fatal(err)
			}
		}
		if got := tt.r.Plain(); got != tt.want || decoded.Plain() != tt.want {
			t.Errorf("%s: Plain is %v, after Decode %v, want %v", name, got, decoded.Plain(), tt.want)
		}
	}
}
