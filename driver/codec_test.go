package driver_test

import (
	"errors"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

func hash(s string) driver.Hash { return driver.HashOf([]byte(s)) }

// records returns one record of each kind.
func records(tb testing.TB) map[string]*driver.Record {
	now := time.UnixMilli(1_800_000_000_123)
	spec := &driver.RecordSpec{
		Secret: driver.Secret(hash("secret")), Verifier: hash("a"), Idle: 30 * time.Minute, Lifetime: 24 * time.Hour,
	}
	record := func(ops ...driver.Op) *driver.Record {
		res, err := driver.NewRecord(now, spec, &driver.Change{Verifier: spec.Verifier, Ops: ops})
		if err != nil {
			tb.Fatal(err)
		}
		return res.Record
	}
	apply := func(r *driver.Record, verifier driver.Hash, n *driver.Renewal) *driver.Record {
		res, err := r.Apply(now.Add(time.Minute), &driver.Change{Verifier: verifier, Renew: n})
		if err != nil {
			tb.Fatal(err)
		}
		return res.Record
	}
	empty := record()
	rotated := apply(empty, hash("a"), &driver.Renewal{Verifier: hash("b"), Grace: 1500 * time.Millisecond})
	renewed := apply(empty, hash("a"), &driver.Renewal{Verifier: hash("b")})
	overtaken := apply(rotated, hash("a"), &driver.Renewal{Verifier: hash("c"), Grace: 1500 * time.Millisecond})
	user := *empty
	user.Principal = &driver.Principal{
		User: "\xff\x00 <ada>", Owner: hash("ada"), Authenticated: now, Methods: []string{"pwd", "hwk"}, Level: 3,
		Device: "phone & \"tablet\"", UserAgent: "a/1 (é)", Address: "::1", Persistent: true,
	}
	sealed := *empty
	sealed.Principal = &driver.Principal{
		Owner: hash("ada"), Authenticated: now, Methods: []string{"pwd"}, Level: 1, Sealed: "~1AAAA\"at\":0",
	}
	nobody := *empty
	nobody.Principal = &driver.Principal{User: "0", Authenticated: time.UnixMilli(0)}
	old := *empty
	old.Revision, old.Created, old.Seen = 1<<40, time.UnixMilli(0), time.UnixMilli(1)
	old.Idle = time.Duration(math.MaxInt64).Truncate(time.Millisecond)
	old.Tokens.Generation = math.MaxUint32
	return map[string]*driver.Record{
		"empty": empty,
		"fields": record(
			driver.Op{Kind: driver.Set, Key: "theme", Value: []byte(`"dark"`)},
			driver.Op{Kind: driver.Add, Key: "visits", Delta: -7},
			driver.Op{Kind: driver.Set, Key: "m:", Value: []byte{}},
			driver.Op{Kind: driver.Set, Key: "m:a:b\x00é", Value: []byte("\xff\x00")},
		),
		"renewed":   renewed,
		"replaced":  apply(renewed, hash("b"), nil),
		"overtaken": overtaken,
		"used":      apply(overtaken, hash("c"), &driver.Renewal{Verifier: hash("d")}),
		"rotated":   rotated,
		"confirmed": apply(rotated, hash("b"), nil),
		"user":      &user,
		"sealed":    &sealed,
		"nobody":    &nobody,
		"extremes":  &old,
	}
}

func TestEncodeDecode(t *testing.T) {
	for name, r := range records(t) {
		t.Run(name, func(t *testing.T) {
			values := driver.Encode(r)
			slices.Reverse(values) // the order does not matter
			got, err := driver.Decode(values)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Fields) == 0 && len(r.Fields) == 0 {
				got.Fields = r.Fields
			}
			normal(r)
			normal(got)
			if !reflect.DeepEqual(got, r) {
				t.Errorf("decoded: %+v\nwant:    %+v", got, r)
			}
		})
	}
}

// normal makes equal times of a record identical, for reflect.DeepEqual.
func normal(r *driver.Record) {
	for _, t := range []*time.Time{&r.Created, &r.Seen, &r.Deadline, &r.Tokens.PreviousUntil, &r.Tokens.Issued} {
		if !t.IsZero() {
			*t = time.UnixMilli(t.UnixMilli())
		}
	}
}

// The encoding is shared with other languages. This test fails if it changes.
func TestEncodeForm(t *testing.T) {
	all := records(t)
	check := func(name string, k driver.Key, want string) {
		t.Helper()
		for _, f := range driver.Encode(all[name]) {
			if f.Key == k {
				if string(f.Value) != want {
					t.Errorf("%s: %s is %s, want %s", name, k, f.Value, want)
				}
				return
			}
		}
		if want != "" {
			t.Errorf("%s: %s is missing, want %s", name, k, want)
		}
	}
	a, b := hash("a").String(), hash("b").String()
	check("empty", "@v", "1")
	check("empty", "@id", hash("secret").String())
	check("empty", "@token", "0.0."+a)
	check("empty", "@previous", "")
	check("empty", "@principal", "")
	check("empty", "@idle", "1800000")
	check("empty", "@created", "1800000000123")
	check("empty", "@seen", "1800000000123")
	check("empty", "@deadline", "1800086400123")
	check("empty", "@rev", "1")
	check("empty", "@size", "0")
	check("fields", "@size", "31")
	check("fields", "visits", "-7")
	check("renewed", "@token", "1.1800000060123."+b)
	check("renewed", "@previous", "renewed."+a+".1800000120123")
	check("replaced", "@previous", "replaced."+a+".1800000120123")
	check("rotated", "@overtaken", "")
	check("overtaken", "@token", "1.1800000060123."+hash("c").String())
	check("overtaken", "@previous", "pending."+a+".1500")
	check("overtaken", "@overtaken", "1")
	check("used", "@token", "2.1800000060123."+hash("d").String())
	check("used", "@previous", "renewed."+hash("c").String()+".1800000120123")
	check("used", "@overtaken", "1."+hash("c").String())
	check("rotated", "@previous", "pending."+a+".1500")
	check("confirmed", "@previous", "grace."+a+".1800000061623")
	check("user", "@principal", `{"user":"/wAgPGFkYT4=","owner":"`+hash("ada").String()+`","at":1800000000123,"methods":["pwd","hwk"],"level":3,`+
		`"device":"phone \u0026 \"tablet\"","agent":"a/1 (é)","address":"::1","persistent":true}`)
	check("sealed", "@principal", `{"owner":"`+hash("ada").String()+`","at":1800000000123,"methods":["pwd"],"level":1,"sealed":"~1AAAA\"at\":0"}`)
	check("nobody", "@principal", `{"user":"MA==","owner":"AAAAAAAAAAAAAAAAAAAAAA","at":0}`)
}

// Decode refuses invalid values with ErrFormat.
func TestDecodeRefuses(t *testing.T) {
	a := hash("a").String()
	for _, test := range []struct{ name, key, value string }{
		{"a newer version", "@v", "2"},
		{"no version", "@v", ""},
		{"an older version", "@v", "01"},
		{"unknown metadata", "@tenant", "x"},
		{"a bare at sign", "@", "x"},
		{"a short secret", "@id", a[:21]},
		{"a secret that is not canonical", "@id", "AAAAAAAAAAAAAAAAAAAAAB"},
		{"a secret with a newline", "@id", a[:20] + "\n" + a[21:]},
		{"a token without a generation", "@token", a},
		{"a token without its time", "@token", "0." + a},
		{"a negative generation", "@token", "-1.0." + a},
		{"a generation over 32 bits", "@token", "4294967296.0." + a},
		{"a token with an empty time", "@token", "0.." + a},
		{"a token's time with a zero before it", "@token", "1.01." + a},
		{"a token after the year 9999", "@token", "1.253402300800000." + a},
		{"a token with more", "@token", "0.0." + a + ".0"},
		{"a previous token of unknown kind", "@previous", "old." + a + ".5"},
		{"a previous token without a time", "@previous", "grace." + a},
		{"a previous token with more", "@previous", "grace." + a + ".5.5"},
		{"a previous token of zeros", "@previous", "grace.AAAAAAAAAAAAAAAAAAAAAA.5"},
		{"an overtaken generation that is no number", "@overtaken", "a"},
		{"an overtaken generation that is not canonical", "@overtaken", "01"},
		{"an overtaken generation above 32 bits", "@overtaken", "4294967296"},
		{"an overtaken generation with an empty hash", "@overtaken", "1."},
		{"an overtaken generation with zeros", "@overtaken", "1.AAAAAAAAAAAAAAAAAAAAAA"},
		{"an overtaken generation with more", "@overtaken", "1." + a + ".1"},
		{"a grace period that overflows", "@previous", "pending." + a + ".9223372036855"},
		{"an idle limit that overflows", "@idle", "9223372036855"},
		{"a negative idle limit", "@idle", "-1"},
		{"a time that is not a number", "@created", "soon"},
		{"a time with a zero before it", "@seen", "01"},
		{"a time with a sign", "@deadline", "+1"},
		{"a time after the year 9999", "@deadline", "253402300800000"},
		{"a revision that is not an integer", "@rev", "1.0"},
		{"another size", "@size", "1"},
		{"a principal that is not JSON", "@principal", "{"},
		{"a principal with more after it", "@principal", `{"user":"","at":0}{}`},
		{"a principal of a newer program", "@principal", `{"user":"","at":0,"tenant":"x"}`},
		{"a principal before 1970", "@principal", `{"user":"","at":-1}`},
		{"a user id that is too long", "@principal", `{"user":"` + strings.Repeat("AAAA", 86) + `","at":0}`},
		{"a principal without a user", "@principal", `{"owner":"` + a + `","at":0}`},
		{"a principal with sealed and clear text", "@principal", `{"user":"YWRh","owner":"` + a + `","at":0,"sealed":"x"}`},
		{"a sealed principal that is too long", "@principal", `{"owner":"` + a + `","at":0,"sealed":"` + strings.Repeat("x", driver.MaxSealed+1) + `"}`},
		{"a field with an invalid name", "é", ""},
		{"a field without a name", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			values := driver.Encode(records(t)["empty"])
			values = slices.DeleteFunc(values, func(f driver.Field) bool { return string(f.Key) == test.key })
			values = append(values, driver.Field{Key: driver.Key(test.key), Value: []byte(test.value)})
			if r, err := driver.Decode(values); !errors.Is(err, driver.ErrFormat) || r != nil {
				t.Errorf("Decode: record %v, error %v, want ErrFormat", r != nil, err)
			}
		})
	}
	whole := driver.Encode(records(t)["fields"])
	for i, f := range whole {
		r, err := driver.Decode(slices.Delete(slices.Clone(whole), i, i+1))
		if !errors.Is(err, driver.ErrFormat) || r != nil {
			t.Errorf("without %s: record %v, error %v, want ErrFormat", f.Key, r != nil, err)
		}
		if r, err := driver.Decode(append(slices.Clone(whole), f)); !errors.Is(err, driver.ErrFormat) || r != nil {
			t.Errorf("with %s twice: record %v, error %v, want ErrFormat", f.Key, r != nil, err)
		}
	}
}

// An accepted record encodes to the same values, and its principal to JSON with the same meaning. A
// refused record is an ErrFormat.
func FuzzDecode(f *testing.F) {
	for _, r := range records(f) {
		f.Add(join(driver.Encode(r)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		values := split(data)
		r, err := driver.Decode(slices.Clone(values))
		if err != nil {
			if !errors.Is(err, driver.ErrFormat) || r != nil {
				t.Fatalf("record %v, error %v, want ErrFormat", r != nil, err)
			}
			return
		}
		again := driver.Encode(r)
		if got, want := byKey(again), byKey(values); !maps.Equal(got, want) {
			t.Fatalf("decoded: %q\nencoded: %q", want, got)
		}
		second, err := driver.Decode(again)
		if err != nil {
			t.Fatalf("the encoded record is refused: %v", err)
		}
		if !reflect.DeepEqual(r, second) {
			t.Fatalf("first:  %+v\nsecond: %+v", r, second)
		}
	})
}

func byKey(values []driver.Field) map[driver.Key]string {
	m := map[driver.Key]string{}
	for _, f := range values {
		if m[f.Key] = string(f.Value); f.Key == "@principal" {
			m[f.Key] = "there"
		}
	}
	return m
}

// join and split convert named values to bytes that a fuzzer can change, and back. The length of a
// key takes one byte, the length of a value two.
func join(values []driver.Field) []byte {
	var b []byte
	for _, f := range values {
		b = append(append(b, byte(len(f.Key))), f.Key...)
		b = append(append(b, byte(len(f.Value)>>8), byte(len(f.Value))), f.Value...)
	}
	return b
}

func split(b []byte) []driver.Field {
	part := func(n int) []byte {
		p := b[:min(n, len(b))]
		b = b[len(p):]
		return p
	}
	var values []driver.Field
	for len(b) > 0 {
		key := part(int(part(1)[0]))
		n := append(slices.Clone(part(2)), 0, 0)
		values = append(values, driver.Field{Key: driver.Key(key), Value: part(int(n[0])<<8 | int(n[1]))})
	}
	return values
}
