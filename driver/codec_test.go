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
		Device: "phone & \"tablet\"", UserAgent: "a/1 (é 😀)", Address: "::1", Persistent: true,
	}
	sealed := *empty
	sealed.Principal = &driver.Principal{
		Owner: hash("ada"), Authenticated: now, Level: 1, Sealed: "~1" + strings.Repeat("AbCd", 32),
	}
	nobody := *empty
	nobody.Principal = &driver.Principal{User: "0", Authenticated: time.UnixMilli(0)}
	old := *renewed
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
	const at = "01a3185c50" // the time 1,800,000,000,123 is …7b
	a, b, c, d := hash("a").String(), hash("b").String(), hash("c").String(), hash("d").String()
	const issued = "01a3185d3adb"
	check("empty", "@s", "10"+a+"000000000001"+"00000000"+at+"7b")
	check("empty", "@l", hash("secret").String()+at+"7b"+"01a31d82ac7b"+"0000001b7740")
	check("empty", "@previous", "")
	check("empty", "@overtaken", "")
	check("empty", "@u", "")
	check("empty", "@i", "")
	check("fields", "@s", "10"+a+"000000000001"+"0000001f"+at+"7b")
	check("fields", "visits", "-7")
	check("renewed", "@s", "11"+b+"000000000002"+"00000000"+at+"7b")
	check("renewed", "@previous", "r"+a+"01a3185e253b"+"00000001"+issued)
	check("replaced", "@s", "10"+b+"000000000003"+"00000000"+issued)
	check("replaced", "@previous", "r"+a+"01a3185e253b"+"00000001"+issued)
	check("rotated", "@s", "11"+b+"000000000002"+"00000000"+at+"7b")
	check("rotated", "@previous", "a"+a+"0000000005dc"+"00000001"+issued)
	check("rotated", "@overtaken", "")
	check("overtaken", "@s", "11"+c+"000000000003"+"00000000"+at+"7b")
	check("overtaken", "@previous", "a"+a+"0000000005dc"+"00000001"+issued)
	check("overtaken", "@overtaken", "00000001"+"AAAAAAAAAAAAAAAAAAAAAA")
	check("used", "@s", "11"+d+"000000000004"+"00000000"+issued)
	check("used", "@previous", "r"+c+"01a3185e253b"+"00000002"+issued)
	check("used", "@overtaken", "00000001"+c)
	check("confirmed", "@previous", "a"+a+"01a3185d40b7"+"00000001"+issued)
	check("user", "@u", hash("ada").String()+at+"7b"+"03"+"1"+"0080")
	check("user", "@i", `{"user":"_wAgPGFkYT4","methods":["pwd","hwk"],"device":"phone & `)
	check("user", "@i2", `\"tablet\"","agent":"a/1 (\u00e9 \ud83d\ude00)","address":"::1"}`)
	check("sealed", "@u", hash("ada").String()+at+"7b"+"01"+"0"+"0082")
	check("sealed", "@i", "~1"+strings.Repeat("AbCd", 15)+"Ab")
	check("sealed", "@i3", "Cd")
	check("nobody", "@u", "AAAAAAAAAAAAAAAAAAAAAA"+"000000000000"+"00"+"0"+"000d")
	check("nobody", "@i", `{"user":"MA"}`)
}

// All metadata has at most 64 bytes, which Redis stores compactly by default.
func TestMetadataIsShort(t *testing.T) {
	long := *records(t)["user"]
	long.Principal = longPrincipal()
	all := records(t)
	all["long"] = &long
	for name, r := range all {
		for _, f := range driver.Encode(r) {
			if strings.HasPrefix(string(f.Key), "@") && len(f.Value) > 64 {
				t.Errorf("%s: %s has %d bytes, want at most 64", name, f.Key, len(f.Value))
			}
		}
	}
}

// longPrincipal returns a principal that is as long as possible.
func longPrincipal() *driver.Principal {
	p := &driver.Principal{
		User: strings.Repeat("\xff", driver.MaxUser), Owner: hash("ada"), Authenticated: time.UnixMilli(1),
		Level: driver.MaxLevel, Device: strings.Repeat("\x01", driver.MaxDevice),
		UserAgent: strings.Repeat("\x02", driver.MaxUserAgent), Address: strings.Repeat("\x03", driver.MaxAddress),
	}
	for range driver.MaxMethods {
		p.Methods = append(p.Methods, strings.Repeat("\x04", driver.MaxMethod))
	}
	return p
}

// A reader of metadata alone asks for the usual names, and then for those that a long info adds.
func TestMissingNames(t *testing.T) {
	long := *records(t)["user"]
	long.Principal = longPrincipal()
	all := driver.Encode(&long)
	usual := driver.MetadataNames()
	var first, rest []driver.Field
	for _, f := range all {
		if slices.Contains(usual, f.Key) {
			first = append(first, f)
		} else {
			rest = append(rest, f)
		}
	}
	if _, err := driver.DecodeMetadata(first); !errors.Is(err, driver.ErrFormat) {
		t.Errorf("DecodeMetadata without the later parts: %v, want ErrFormat", err)
	}
	missing := driver.MissingNames(first)
	if len(missing) != len(rest) || len(rest) == 0 {
		t.Fatalf("MissingNames returns %q, want the names of %d values", missing, len(rest))
	}
	for _, f := range rest {
		if !slices.Contains(missing, f.Key) {
			t.Errorf("MissingNames lacks %s", f.Key)
		}
	}
	r, err := driver.DecodeMetadata(append(first, rest...))
	if err != nil || !reflect.DeepEqual(r.Principal, long.Principal) {
		t.Errorf("DecodeMetadata: %+v, error %v, want %+v", r, err, long.Principal)
	}
	for name, r := range records(t) {
		if missing := driver.MissingNames(driver.Encode(r)); missing != nil {
			t.Errorf("%s: MissingNames returns %q, want none", name, missing)
		}
	}
}

// Decode refuses invalid values with ErrFormat.
func TestDecodeRefuses(t *testing.T) {
	a := hash("a").String()
	const time, zero, first = "01a3185c507b", "AAAAAAAAAAAAAAAAAAAAAA", "00000001"
	const rest = "000000000001" + "00000000" + time // of "@s"
	for _, test := range []struct{ name, of, key, value string }{
		{"a newer version", "empty", "@s", "20" + a + rest},
		{"no state", "empty", "@s", ""},
		{"a short state", "empty", "@s", "10" + a + rest[1:]},
		{"a long state", "empty", "@s", "10" + a + rest + "0"},
		{"an unknown flag", "empty", "@s", "14" + a + rest},
		{"a flag that is no digit", "empty", "@s", "1-" + a + rest},
		{"a replaced verifier without the previous one", "empty", "@s", "11" + a + rest},
		{"a verifier that is not canonical", "empty", "@s", "10AAAAAAAAAAAAAAAAAAAAAB" + rest},
		{"unknown metadata", "empty", "@tenant", "x"},
		{"a bare at sign", "empty", "@", "x"},
		{"a revision that is not an integer", "empty", "@s", "10" + a + "00000000001." + "00000000" + time},
		{"another size", "empty", "@s", "10" + a + "000000000001" + "00000001" + time},
		{"a use after the year 9999", "empty", "@s", "10" + a + "000000000001" + "00000000" + "ffffffffffff"},
		{"a short life", "empty", "@l", a},
		{"a secret that is not canonical", "empty", "@l", "AAAAAAAAAAAAAAAAAAAAAB" + time + time + time},
		{"a secret with a newline", "empty", "@l", a[:20] + "\n" + a[21:] + time + time + time},
		{"a time that is not a number", "empty", "@l", a + "tomorrow    " + time + time},
		{"an idle limit that overflows", "empty", "@l", a + time + time + "0863" + "7bd05af8"},
		{"a previous token of unknown kind", "rotated", "@previous", "o" + a + time + first + time},
		{"a previous token without a time", "rotated", "@previous", "a" + a + first + time},
		{"a previous token without a generation", "rotated", "@previous", "a" + a + time},
		{"a previous token with more", "rotated", "@previous", "a" + a + time + first + time + "0"},
		{"a previous token of zeros", "rotated", "@previous", "a" + zero + time + first + time},
		{"a grace period that overflows", "rotated", "@previous", "a" + a + "ffffffffffff" + first + time},
		{"a generation in upper case", "rotated", "@previous", "a" + a + "0000000005dc" + "0000000A" + time},
		{"a negative generation", "rotated", "@previous", "a" + a + "0000000005dc" + "-0000001" + time},
		{"a generation with a space", "rotated", "@previous", "a" + a + "0000000005dc" + " 0000001" + time},
		{"a token after the year 9999", "rotated", "@previous", "a" + a + "0000000005dc" + first + "e677d21fdc00"},
		{"an overtaken generation that is no number", "empty", "@overtaken", "0000000g" + a},
		{"an overtaken generation without a hash", "empty", "@overtaken", "00000001"},
		{"an overtaken generation with more", "empty", "@overtaken", "00000001" + a + "0"},
		{"a short user", "user", "@u", hash("ada").String() + time + "031008"},
		{"a level above 99", "user", "@u", hash("ada").String() + time + "6410080"},
		{"a user that is persistent twice", "user", "@u", hash("ada").String() + time + "0320080"},
		{"a user whose info is longer", "user", "@u", hash("ada").String() + time + "0310081"},
		{"a user whose info is shorter", "user", "@u", hash("ada").String() + time + "0310040"},
		{"a user whose info is too long", "user", "@u", hash("ada").String() + time + "031ffff"},
		{"a user without info", "nobody", "@u", zero + time + "0000000"},
		{"an info without its first part", "user", "@i", ""},
		{"an info that is not JSON", "nobody", "@i", "{user:'ada'} "},
		{"an info with more after it", "nobody", "@i", `{"user":""}{}`},
		{"an info of a newer program", "nobody", "@i", `{"group":"x"}`},
		{"an info without a user", "nobody", "@i", `{"device":""}`},
		{"a user id in base64 with padding", "nobody", "@i", `{"user":"M="}`},
		{"an info in an anonymous session", "empty", "@i", `{"user":"MA"}`},
		{"a part after the end", "user", "@i3", "x"},
		{"a part with another number", "user", "@i02", "x"},
		{"a part that is far away", "user", "@i193", "x"},
		{"a field with an invalid name", "empty", "é", ""},
		{"a field without a name", "empty", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			values := driver.Encode(records(t)[test.of])
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
		if m[f.Key] = string(f.Value); strings.HasPrefix(string(f.Key), "@i") || f.Key == "@u" {
			delete(m, f.Key) // JSON has several forms, of several lengths
		}
		if f.Key == "@s" {
			// The mark of a sign-in is not the record's.
			m[f.Key] = string(f.Value[:1]) + string(f.Value[1]&^2) + string(f.Value[2:])
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
