package filestore

import "math"

// element is an entry of a leaf. It refers to the bytes of the page.
type element struct {
	flags      uint32
	key, value []byte
}

// leaf checks a page of entries and calls visit for each.
func (c *checker) leaf(p []byte, id uint64, s span, visit func(element) error) error {
	if len(p) < pageHeader {
		return bad("page %d has no header", id)
	}
	if flags := order.Uint16(p[8:]); flags != flagLeaf {
		return bad("page %d has the flags %x", id, flags)
	}
	n := int(order.Uint16(p[10:]))
	end := pageHeader + n*elementSize
	keys := keyOrder{span: s, id: id}
	for i := range n {
		at := pageHeader + i*elementSize
		if at+elementSize > len(p) {
			return bad("page %d has no room for %d entries", id, n)
		}
		e := element{flags: order.Uint32(p[at:])}
		pos, keySize, valueSize := order.Uint32(p[at+4:]), order.Uint32(p[at+8:]), order.Uint32(p[at+12:])
		from := end
		if int64(at)+int64(pos) != int64(from) || int64(keySize)+int64(valueSize) > int64(len(p)-from) {
			return bad("entry %d of page %d does not follow the previous entry", i, id)
		}
		e.key = p[from : from+int(keySize)]
		end = from + int(keySize) + int(valueSize)
		e.value = p[from+int(keySize) : end]
		if err := keys.next(e.key); err != nil {
			return err
		}
		if err := visit(e); err != nil {
			return err
		}
	}
	return nil
}

// branch checks a branch page and appends the pages that it refers to to below.
func (c *checker) branch(p []byte, s span, below []span) ([]span, error) {
	n := int(order.Uint16(p[10:]))
	if n == 0 {
		return nil, bad("page %d refers to no pages", s.page)
	}
	end := pageHeader + n*elementSize
	keys := keyOrder{span: s, id: s.page}
	for i := range n {
		at := pageHeader + i*elementSize
		if at+elementSize > len(p) {
			return nil, bad("page %d has no room for %d entries", s.page, n)
		}
		pos, keySize := order.Uint32(p[at:]), order.Uint32(p[at+4:])
		if int64(at)+int64(pos) != int64(end) || int64(keySize) > int64(len(p)-end) {
			return nil, bad("entry %d of page %d does not follow the previous entry", i, s.page)
		}
		key := p[end : end+int(keySize)]
		end += int(keySize)
		if err := keys.next(key); err != nil {
			return nil, err
		}
		if i > 0 {
			below[len(below)-1].last = string(key)
		}
		below = append(below, span{page: order.Uint64(p[at+8:]), least: string(key)})
	}
	below[len(below)-1].last = s.last
	return below, nil
}

// keyOrder checks that keys ascend, within the bounds from the page above.
type keyOrder struct {
	span
	id       uint64 // the page
	previous []byte
	any      bool // there is a previous key
}

func (k *keyOrder) next(key []byte) error {
	if k.any && string(k.previous) >= string(key) || string(key) < k.least || k.last != "" && string(key) >= k.last {
		return bad("the keys of page %d are not in order", k.id)
	}
	k.previous, k.any = key, true
	return nil
}

// freelist checks the list of free pages. It is in the file only if another program wrote it.
func (c *checker) freelist() error {
	id := c.meta.freelist
	if id == noFreelist {
		return nil
	}
	p, flags, err := c.page(id)
	if err != nil {
		return err
	}
	if flags != flagFreelist {
		return bad("page %d has the flags %x", id, flags)
	}
	n, at := uint64(order.Uint16(p[10:])), pageHeader
	if n == math.MaxUint16 {
		n, at = order.Uint64(p[at:]), at+8
	}
	if n > uint64(len(p)-at)/8 {
		return bad("the list of free pages has no room for %d", n)
	}
	for before := uint64(1); n > 0; n, at = n-1, at+8 {
		free := order.Uint64(p[at:])
		if free <= before || free >= c.meta.pages || c.used[free] {
			return bad("page %d is in use and listed as free", free)
		}
		before = free
	}
	return nil
}
