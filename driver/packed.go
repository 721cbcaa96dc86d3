package driver

import (
	"fmt"
	"math"
	"time"
)

// Metadata is fixed-width ASCII, which every language cuts by position and which redis-cli shows. A
// number is lower-case hexadecimal, so it has no sign, no leading space and exactly one text.

// Widths of the parts of a value, in characters.
const (
	hashWidth  = 22
	timeWidth  = 12 // times, durations and revisions
	countWidth = 8  // generations and sizes
)

const hexDigits = "0123456789abcdef"

// appendHex appends n with a fixed number of digits.
func appendHex(b []byte, n uint64, width int) []byte {
	for shift := 4 * (width - 1); shift >= 0; shift -= 4 {
		b = append(b, hexDigits[n>>shift&0xf])
	}
	return b
}

func appendTime(b []byte, t time.Time) []byte {
	return appendHex(b, uint64(t.UnixMilli()), timeWidth)
}

func appendDuration(b []byte, d time.Duration) []byte {
	return appendHex(b, uint64(d.Milliseconds()), timeWidth)
}

func appendHash(b []byte, h Hash) []byte { return encoding.AppendEncode(b, h[:]) }

// packed cuts a value into its parts, from left to right. It remembers the first error.
type packed struct {
	rest string
	err  error
}

// unpack returns the value v, whose length must be width.
func unpack(v string, width int) packed {
	if len(v) != width {
		return packed{err: fmt.Errorf("%w: %.80q has %d bytes, not %d", ErrFormat, v, len(v), width)}
	}
	return packed{rest: v}
}

func (p *packed) cut(width int) string {
	if p.err != nil {
		return ""
	}
	part := p.rest[:width]
	p.rest = p.rest[width:]
	return part
}

func (p *packed) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
	}
}

// number cuts off a number between 0 and most.
func (p *packed) number(width int, most uint64) (n uint64) {
	text := p.cut(width)
	for i := range len(text) {
		c := text[i]
		switch {
		case '0' <= c && c <= '9':
			n = n<<4 | uint64(c-'0')
		case 'a' <= c && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			p.fail("%q is not %d lower-case hexadecimal digits", text, width)
			return 0
		}
	}
	if n > most {
		p.fail("%q is above %x", text, most)
		return 0
	}
	return n
}

func (p *packed) time() time.Time { return time.UnixMilli(int64(p.number(timeWidth, maxTime))) }

func (p *packed) duration() time.Duration {
	return time.Duration(p.number(timeWidth, maxDuration)) * time.Millisecond
}

func (p *packed) hash() (h Hash) {
	text := p.cut(hashWidth)
	if p.err == nil {
		h, p.err = ParseHash(text)
	}
	return h
}

// Bounds of numbers.
const (
	maxTime     = 253_402_300_799_999 // the end of the year 9999
	maxDuration = uint64(math.MaxInt64 / time.Millisecond)
	maxRevision = 1<<48 - 1
	maxCount    = 1<<32 - 1
)
