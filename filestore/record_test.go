package filestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// FuzzRecord: a decoded record encodes to a form that decodes to the same record. A refused one is
// an ErrFormat. Damage is always refused. With right, the checksum is corrected, because the fuzzer
// would otherwise not get past it.
func FuzzRecord(f *testing.F) {
	key := keyOf(driver.ID{Bucket: 0x1a2b, Selector: driver.Hash{1, 2, 3}})
	now := time.UnixMilli(1_800_000_000_123)
	o := &driver.RecordSpec{Secret: driver.Secret{7}, Verifier: driver.Hash{8}, Idle: time.Hour, Lifetime: 24 * time.Hour}
	for _, ops := range [][]driver.Op{nil, {
		{Kind: driver.Set, Key: "theme", Value: []byte(`"dark"`)},
		// A value whose length takes two bytes.
		{Kind: driver.Set, Key: "cart.gifts:b\x00ok", Value: bytes.Repeat([]byte{0xff}, 200)},
		{Kind: driver.Add, Key: "visits", Delta: -7},
	}} {
		res, err := driver.NewRecord(now, o, &driver.Change{Verifier: o.Verifier, Ops: ops})
		if err != nil {
			f.Fatal(err)
		}
		value := appendRecord(nil, key[:], res.Record)
		f.Add(value, false)
		f.Add(value[:len(value)-1], true)
	}
	f.Fuzz(func(t *testing.T, value []byte, right bool) {
		if right && len(value) >= recordHeader {
			value = slices.Clone(value)
			value[0] = recordVersion
			binary.BigEndian.PutUint32(value[1:], crcOf(key[:], value[recordHeader:]))
		}
		r, err := new(decoder).record(key[:], value)
		if err != nil {
			if !errors.Is(err, driver.ErrFormat) || r != nil {
				t.Fatalf("record %v, error %v, want ErrFormat", r != nil, err)
			}
			return
		}
		checkRecord(t, key[:], value, r)
	})
}

// checkRecord checks the promises for an accepted value.
func checkRecord(t *testing.T, key, value []byte, r *driver.Record) {
	t.Helper()
	again := appendRecord(nil, key, r)
	second, err := new(decoder).record(key, again)
	if err != nil {
		t.Fatalf("the encoded record is refused: %v", err)
	}
	if !reflect.DeepEqual(r, second) {
		t.Fatalf("first:  %+v\nsecond: %+v", r, second)
	}
	if _, err := new(decoder).record(append([]byte{key[0] ^ 1}, key[1:]...), value); err == nil {
		t.Error("the record was accepted with another key")
	}
	bit := int(crcOf(nil, value)) % (8 * len(value)) // any bit, but the same for each run
	broken := slices.Clone(value)
	broken[bit/8] ^= 1 << (bit % 8)
	if _, err := new(decoder).record(key, broken); err == nil {
		t.Errorf("the record was accepted with bit %d inverted", bit)
	}
	clear(value)
	if !reflect.DeepEqual(r, second) {
		t.Error("the record refers to the bytes that it was decoded from")
	}
}
