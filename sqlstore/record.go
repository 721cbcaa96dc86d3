package sqlstore

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/coatcheck-go/session/driver"
)

// blobVersion is the first byte of both blobs.
const blobVersion = 1

// encode returns a record as two blobs: its metadata and its fields. A list of sessions so reads no
// fields. A blob is a version, and then names and values of driver.Encode, each after its length as
// a varint.
func encode(r *driver.Record) (metadata, fields []byte) {
	metadata, fields = []byte{blobVersion}, []byte{blobVersion}
	for _, v := range driver.Encode(r) {
		if strings.HasPrefix(string(v.Key), "@") {
			metadata = appendField(metadata, v)
		} else {
			fields = appendField(fields, v)
		}
	}
	return metadata, fields
}

func appendField(b []byte, v driver.Field) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(v.Key))), v.Key...)
	return append(binary.AppendUvarint(b, uint64(len(v.Value))), v.Value...)
}

// decode is the inverse of encode. The record keeps fields, so the caller must not modify it. The
// error names the session.
func decode(id string, metadata, fields []byte) (*driver.Record, error) {
	return decodeWith(driver.Decode, id, metadata, fields)
}

// decodeMetadata returns the record without its fields.
func decodeMetadata(id string, metadata []byte) (*driver.Record, error) {
	return decodeWith(driver.DecodeMetadata, id, metadata)
}

func decodeWith(
	decode func([]driver.Field) (*driver.Record, error), id string, blobs ...[]byte,
) (*driver.Record, error) {
	var values []driver.Field
	var err error
	for _, b := range blobs {
		if values, err = appendFields(values, b); err != nil {
			return nil, fmt.Errorf("sqlstore: session %s: %w", id, err)
		}
	}
	r, err := decode(values)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: session %s: %w", id, err)
	}
	return r, nil
}

func appendFields(values []driver.Field, b []byte) ([]driver.Field, error) {
	if len(b) == 0 || b[0] != blobVersion {
		return nil, fmt.Errorf("%w: a blob has version %.1x, this program supports %02x", driver.ErrFormat, b, blobVersion)
	}
	for b = b[1:]; len(b) > 0; {
		name, rest, ok1 := chunk(b)
		value, rest, ok2 := chunk(rest)
		if !ok1 || !ok2 {
			return nil, fmt.Errorf("%w: a length in a blob is wrong", driver.ErrFormat)
		}
		values = append(values, driver.Field{Key: driver.Key(name), Value: value})
		b = rest
	}
	return values, nil
}

// chunk splits off a length and that many bytes.
func chunk(b []byte) (content, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, false
	}
	end := size + int(n)
	return b[size:end:end], b[end:], true
}
