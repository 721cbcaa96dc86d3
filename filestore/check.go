package filestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"slices"
)

// check reads a bbolt file as bytes and returns an error if it is damaged. It runs before bbolt
// reads the file: bbolt trusts its pages, and a damaged one ends the process from one of bbolt's
// goroutines.
//
// It finds damage that would crash bbolt or hide records. Every page in use must be used once, have
// the right kind and number, be filled without gaps, and have its keys in order. The records have
// checksums of their own. The layout is that of bbolt's internal/common.
func check(f io.ReaderAt, path string, size int64) error {
	c := checker{f: f, size: size}
	err := c.header()
	if err == nil {
		err = c.tree()
	}
	if err == nil {
		err = c.freelist()
	}
	switch {
	case errors.Is(err, errNotAStore):
		return notAStore(path, err.Error())
	case errors.Is(err, errDamaged):
		return damaged(path, err.Error())
	case err != nil:
		return fmt.Errorf("filestore: reading %s: %w", path, err)
	}
	return nil
}

var (
	errNotAStore = errors.New("another program wrote it")
	errDamaged   = errors.New("invalid content")
)

// bad returns an error that wraps errDamaged.
func bad(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errDamaged}, args...)...)
}

// Sizes and constants of bbolt's files. Numbers have the byte order of the machine.
const (
	boltMagic     = 0xED0CDAED
	boltVersion   = 2
	pageHeader    = 16 // id 8, flags 2, count 2, overflow 4
	elementSize   = 16 // branch: pos 4, key size 4, page 8; leaf: flags, pos and two sizes, 4 each
	bucketHeader  = 16 // root page 8, sequence 8
	metaSize      = 64
	flagBranch    = 0x01
	flagLeaf      = 0x02
	flagMeta      = 0x04
	flagFreelist  = 0x10
	flagSubbucket = 0x01           // in an element of a leaf
	noFreelist    = math.MaxUint64 // the list is not in the file
)

var order = binary.NativeEndian

type checker struct {
	f    io.ReaderAt
	size int64
	meta meta
	used []bool // pages in use
	buf  []byte
}

// meta is a header of the file. There are two; the one with the higher txid is valid.
type meta struct {
	pageSize              uint32
	root, freelist, pages uint64
	txid                  uint64
}

// header reads both headers. A header lies within a sector, and disks write a sector as a whole, so
// a crash leaves the old header or the new one. An invalid header is therefore damage. To continue
// with the other header could undo acknowledged changes.
func (c *checker) header() error {
	first, err := c.metaAt(0)
	if err != nil {
		return err
	}
	second, err := c.metaAt(int64(first.pageSize))
	if err != nil {
		if errors.Is(err, errNotAStore) {
			err = bad("the second header is overwritten")
		}
		return err
	}
	if first.pageSize != second.pageSize {
		return bad("the headers have different page sizes")
	}
	if c.meta = first; second.txid > first.txid {
		c.meta = second
	}
	if c.meta.pages > math.MaxInt64/uint64(c.meta.pageSize) || int64(c.meta.pages)*int64(c.meta.pageSize) > c.size {
		return bad("it is truncated: it has %d bytes and needs %d pages of %d", c.size, c.meta.pages, c.meta.pageSize)
	}
	c.used = make([]bool, c.meta.pages)
	return nil
}

func (c *checker) metaAt(offset int64) (m meta, err error) {
	var b [pageHeader + metaSize]byte
	if _, err := c.f.ReadAt(b[:], offset); err == io.EOF {
		return m, bad("it is truncated: it has only %d bytes", c.size)
	} else if err != nil {
		return m, err
	}
	p := b[pageHeader:]
	if order.Uint32(p) != boltMagic {
		return m, fmt.Errorf("%w: it does not start like a bbolt database", errNotAStore)
	}
	if v := order.Uint32(p[4:]); v != boltVersion {
		return m, fmt.Errorf("%w: it has version %d of bbolt's format, not %d", errNotAStore, v, boltVersion)
	}
	sum := fnv.New64a()
	sum.Write(p[:metaSize-8])
	if sum.Sum64() != order.Uint64(p[metaSize-8:]) {
		return m, bad("the checksum of a header is wrong " +
			"(\"bbolt surgery revert-meta-page\" restores the other header, which can be older)")
	}
	m = meta{pageSize: order.Uint32(p[8:]), root: order.Uint64(p[16:]), freelist: order.Uint64(p[32:]),
		pages: order.Uint64(p[40:]), txid: order.Uint64(p[48:])}
	if m.pageSize < 1024 || m.pageSize > 1<<24 || m.pageSize&(m.pageSize-1) != 0 {
		return m, bad("its pages have %d bytes", m.pageSize)
	}
	return m, nil
}

// tree checks the root of the database and its buckets.
func (c *checker) tree() error {
	var buckets []element
	err := c.bucket(c.meta.root, func(e element) error {
		if e.flags != flagSubbucket || len(e.value) < bucketHeader {
			return bad("the root has an entry that is not a bucket")
		}
		if string(e.key) != string(bucketMeta) && string(e.key) != string(bucketSessions) {
			return fmt.Errorf("%w: it has a bucket %.40q", errNotAStore, e.key)
		}
		buckets = append(buckets, element{key: e.key, value: slices.Clone(e.value)})
		return nil
	})
	if err != nil {
		return err
	}
	if len(buckets) == 1 {
		return bad("it has one bucket, not two")
	}
	for _, b := range buckets {
		noBucket := func(e element) error {
			if e.flags != 0 {
				return bad("there is a bucket in a bucket")
			}
			return nil
		}
		if root := order.Uint64(b.value); root != 0 {
			err = c.bucket(root, noBucket)
		} else {
			// A small bucket is stored in its parent's page.
			err = c.leaf(b.value[bucketHeader:], 0, span{}, noBucket)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// span is a page to be checked, and the range of keys that it may have: from least to below last.
// An empty last means no bound.
type span struct {
	page        uint64
	least, last string
}

// bucket checks a tree of pages, and calls visit for each entry. It checks one level after another,
// and each level in the order of the file, which a disk reads fastest.
func (c *checker) bucket(root uint64, visit func(element) error) error {
	for level := []span{{page: root}}; len(level) > 0; {
		var below []span
		slices.SortFunc(level, func(a, b span) int {
			if a.page < b.page {
				return -1
			}
			return 1
		})
		for _, s := range level {
			p, flags, err := c.page(s.page)
			if err != nil {
				return err
			}
			switch flags {
			case flagLeaf:
				err = c.leaf(p, s.page, s, visit)
			case flagBranch:
				below, err = c.branch(p, s, below)
			default:
				err = bad("page %d has the flags %x", s.page, flags)
			}
			if err != nil {
				return err
			}
		}
		level = below
	}
	return nil
}

// page reads a page and its overflow pages. The result is valid until the next call.
func (c *checker) page(id uint64) (p []byte, flags uint16, err error) {
	size := int(c.meta.pageSize)
	if id < 2 || id >= c.meta.pages {
		return nil, 0, bad("there is no page %d", id)
	}
	if p, err = c.read(id, size); err != nil {
		return nil, 0, err
	}
	if got := order.Uint64(p); got != id {
		return nil, 0, bad("page %d has the number of page %d", id, got)
	}
	more := uint64(order.Uint32(p[12:]))
	if more >= c.meta.pages-id {
		return nil, 0, bad("page %d continues beyond the end", id)
	}
	for i := id; i <= id+more; i++ {
		if c.used[i] {
			return nil, 0, bad("page %d is used twice", i)
		}
		c.used[i] = true
	}
	if more > 0 {
		if p, err = c.read(id, size*int(more+1)); err != nil {
			return nil, 0, err
		}
	}
	return p, order.Uint16(p[8:]), nil
}

func (c *checker) read(id uint64, n int) ([]byte, error) {
	if cap(c.buf) < n {
		c.buf = make([]byte, n)
	}
	b := c.buf[:n]
	_, err := c.f.ReadAt(b, int64(id)*int64(c.meta.pageSize))
	if errors.Is(err, io.EOF) {
		err = bad("it is truncated in page %d", id)
	}
	return b, err
}
