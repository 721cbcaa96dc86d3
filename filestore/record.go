package filestore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/coatcheck-go/session/driver"
)

// A record on disk:
//
//	1 byte     version, 1
//	4 bytes    CRC-32C of the key and of all that follows, big-endian
//	the rest   the named values of driver.Encode: for each its name and its value, both as a
//	           length, an unsigned varint, and the bytes
const (
	recordVersion = 1
	recordHeader  = 1 + 4
)

// keySize is the length of a session's key: the bucket, big-endian, and the selector's hash. The
// key of user data has one more byte, userDataKey.
const (
	keySize     = 2 + 16
	userDataKey = 'd'
)

func keyOf(id driver.ID) []byte {
	key := make([]byte, keySize, keySize+1)
	binary.BigEndian.PutUint16(key, id.Bucket)
	copy(key[2:], id.Selector[:])
	if id.UserData {
		key = append(key, userDataKey)
	}
	return key
}

func parseKey(key []byte) (id driver.ID, err error) {
	id.UserData = len(key) == keySize+1 && key[keySize] == userDataKey
	if len(key) != keySize && !id.UserData {
		return id, fmt.Errorf("%w: a key has %d bytes, and that of user data one more; this one has %d",
			driver.ErrFormat, keySize, len(key))
	}
	id.Bucket, id.Selector = binary.BigEndian.Uint16(key), driver.Hash(key[2:keySize])
	return id, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func crcOf(key, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body)
}

// checksum returns the checksum in a stored record.
func checksum(value []byte) uint64 {
	if len(value) < recordHeader {
		return 0
	}
	return uint64(binary.BigEndian.Uint32(value[1:]))
}

// appendRecord appends the stored form of r under key.
func appendRecord(buf, key []byte, r *driver.Record) []byte {
	start := len(buf)
	buf = append(buf, recordVersion, 0, 0, 0, 0)
	for _, v := range driver.Encode(r) {
		buf = binary.AppendUvarint(buf, uint64(len(v.Key)))
		buf = append(buf, v.Key...)
		buf = binary.AppendUvarint(buf, uint64(len(v.Value)))
		buf = append(buf, v.Value...)
	}
	binary.BigEndian.PutUint32(buf[start+1:], crcOf(key, buf[start+recordHeader:]))
	return buf
}

// decoder decodes many records. It keeps one copy of each field name.
type decoder struct {
	names  map[string]driver.Key
	values []driver.Field // reused for each record
}

// maxNames bounds the names that a decoder keeps, because each entry of a map has a name, too.
const maxNames = 4096

// record decodes the stored form of a record. The record does not refer to value.
func (d *decoder) record(key, value []byte) (*driver.Record, error) {
	if len(value) < recordHeader {
		return nil, fmt.Errorf("%w: %d bytes are too short for a record", driver.ErrFormat, len(value))
	}
	if value[0] != recordVersion {
		return nil, fmt.Errorf("%w: version %d, this program supports %d", driver.ErrFormat, value[0], recordVersion)
	}
	body := value[recordHeader:]
	if crcOf(key, body) != binary.BigEndian.Uint32(value[1:]) {
		return nil, fmt.Errorf("%w: its checksum is wrong", driver.ErrFormat)
	}
	d.values = d.values[:0]
	size := 0
	for rest := body; len(rest) > 0; {
		name, next, ok1 := chunk(rest)
		content, next, ok2 := chunk(next)
		if !ok1 || !ok2 {
			return nil, fmt.Errorf("%w: a length is wrong", driver.ErrFormat)
		}
		if len(name) == 0 || name[0] != '@' {
			size += len(content)
		}
		d.values = append(d.values, driver.Field{Key: d.name(name), Value: content})
		rest = next
	}
	// Decode keeps the values of fields, so copy them, all in one piece.
	own := make([]byte, 0, size)
	for i := range d.values {
		v := &d.values[i]
		if len(v.Key) == 0 || v.Key[0] != '@' {
			from := len(own)
			own = append(own, v.Value...)
			v.Value = own[from:len(own):len(own)]
		}
	}
	return driver.Decode(d.values)
}

// chunk splits off a length and that many bytes.
func chunk(b []byte) (content, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, false
	}
	return b[size : size+int(n)], b[size+int(n):], true
}

// name returns the key, without a copy if it is known.
func (d *decoder) name(b []byte) driver.Key {
	if k, ok := d.names[string(b)]; ok {
		return k
	}
	if d.names == nil {
		d.names = map[string]driver.Key{}
	}
	k := driver.Key(b)
	if len(d.names) < maxNames {
		d.names[string(k)] = k
	}
	return k
}
