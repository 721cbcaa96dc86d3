package driver

import (
	"fmt"
	"slices"
	"strings"
)

// Names of a record's metadata. No field's name begins with "@". The info is in info.go.
const (
	nameState     Key = "@s"
	nameLife      Key = "@l"
	namePrevious  Key = "@previous"
	nameOvertaken Key = "@overtaken"
	nameUser      Key = "@u"
)

// FormatVersion is the version of the format that [Encode] writes and [Decode] reads.
const FormatVersion = 1

// Widths of the metadata: the sums of their parts.
const (
	stateWidth     = 1 + 1 + hashWidth + timeWidth + countWidth + timeWidth
	lifeWidth      = hashWidth + 3*timeWidth
	previousWidth  = 1 + hashWidth + timeWidth + countWidth + timeWidth
	overtakenWidth = countWidth + hashWidth
	userWidth      = hashWidth + timeWidth + 2 + 1 + 4
)

// Flags in "@s".
const (
	flagUnused = 1 // Tokens.Unused
	flagMoving = 2 // a sign-in is replacing the session; set by the scripts of redisstore only
)

// Encode returns r as named values: the metadata, then the fields. All languages share this format,
// and stores store it. format/README.md specifies it.
func Encode(r *Record) []Field {
	out := make([]Field, 0, 7+len(r.Fields))
	out = append(out, Field{nameState, encodeState(r)}, Field{nameLife, encodeLife(r)})
	if r.Tokens.Previous != (Hash{}) {
		out = append(out, Field{namePrevious, encodePrevious(&r.Tokens)})
	}
	if o := r.Tokens.Overtaken; o != nil {
		b := appendHex(make([]byte, 0, overtakenWidth), uint64(o.Generation), countWidth)
		out = append(out, Field{nameOvertaken, appendHash(b, o.Used)})
	}
	if p := r.Principal; p != nil {
		text := []byte(p.Sealed)
		if p.Sealed == "" {
			text = EncodeInfo(p)
		}
		out = append(out, Field{nameUser, encodeUser(p, len(text))})
		out = appendInfo(out, text)
	}
	return append(out, r.Fields...)
}

// Decode is the inverse of [Encode]. The order of the values does not matter. The record keeps the
// values, so the caller must not modify them afterwards. Decode refuses unknown metadata, because a
// newer program wrote it. The error wraps [ErrFormat].
func Decode(values []Field) (*Record, error) {
	r, err := DecodeMetadata(values)
	if err != nil {
		return nil, err
	}
	n := 0
	for i := range values {
		if !values[i].Key.isMeta() {
			n++
		}
	}
	fields := make(Fields, 0, n) // exact, because it stays in memory with the record
	for _, v := range values {
		if !v.Key.isMeta() {
			fields = append(fields, v)
		}
	}
	slices.SortFunc(fields, func(a, b Field) int { return strings.Compare(string(a.Key), string(b.Key)) })
	for i := range fields {
		if err := fields[i].Key.Check(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		if i > 0 && fields[i].Key == fields[i-1].Key {
			return nil, fmt.Errorf("%w: field %q is present twice", ErrFormat, fields[i].Key)
		}
	}
	if n := fields.Size(); n != r.Size {
		return nil, fmt.Errorf("%w: the fields have %d bytes, but %s says %d", ErrFormat, n, nameState, r.Size)
	}
	r.Fields, r.plain = fields, fields.plain()
	return r, nil
}

// DecodeMetadata returns the record that the metadata in values describes, without fields: see
// [Record.Metadata]. It ignores fields in values. A store that reads only metadata asks for
// [MetadataNames], and then for [MissingNames].
//
// Errors: as of [Decode].
func DecodeMetadata(values []Field) (*Record, error) {
	d := decoder{r: &Record{}}
	for _, v := range values {
		if !v.Key.isMeta() {
			continue
		}
		if err := d.meta(v.Key, string(v.Value)); err != nil {
			return nil, err
		}
	}
	if err := d.finish(); err != nil {
		return nil, err
	}
	return d.r, nil
}

// MetadataNames returns the names of all metadata of usual records. A record need not have all of
// them. A record with a long info has more: see [MissingNames].
func MetadataNames() []Key {
	names := slices.Clone(metaNames[:])
	for i := range listedParts {
		names = append(names, infoName(i))
	}
	return names
}

// MissingNames returns the names of metadata that a record has and that values lacks: the later
// parts of a long info. A record may change or end between two reads, so a store reads the missing
// values together with the others once more. MissingNames returns nil for values that are complete,
// or that [DecodeMetadata] refuses in any case.
func MissingNames(values []Field) (missing []Key) {
	n, parts := 0, 0
	for _, v := range values {
		switch {
		case v.Key == nameUser:
			if _, size, err := decodeUser(string(v.Value)); err == nil {
				n = infoParts(size)
			}
		case infoIndex(v.Key) >= 0:
			parts++
		}
	}
	for ; parts < n; parts++ {
		missing = append(missing, infoName(parts))
	}
	return missing
}

// metaNames are the names of all metadata but the info.
var metaNames = [...]Key{nameState, nameLife, namePrevious, nameOvertaken, nameUser}

func (k Key) isMeta() bool { return strings.HasPrefix(string(k), "@") }

// decoder collects the metadata of one record.
type decoder struct {
	r        *Record
	seen     uint8 // one bit for each of metaNames
	previous string
	infoSize int
	info     []string
}

func (d *decoder) meta(k Key, v string) (err error) {
	if i := infoIndex(k); i >= 0 {
		return d.part(i, v)
	}
	i := slices.Index(metaNames[:], k)
	if i < 0 {
		return fmt.Errorf("%w: unknown metadata %q", ErrFormat, k)
	}
	if d.seen&(1<<i) != 0 {
		return fmt.Errorf("%w: %s is present twice", ErrFormat, k)
	}
	d.seen |= 1 << i
	switch k {
	case nameState:
		err = decodeState(v, d.r)
	case nameLife:
		err = decodeLife(v, d.r)
	case namePrevious:
		d.previous = v // its meaning depends on the flag in "@s"
	case nameOvertaken:
		d.r.Tokens.Overtaken, err = decodeOvertaken(v)
	case nameUser:
		d.r.Principal, d.infoSize, err = decodeUser(v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", k, err)
	}
	return nil
}

// part keeps a part of the info.
func (d *decoder) part(i int, v string) error {
	for len(d.info) <= i {
		d.info = append(d.info, "")
	}
	if d.info[i] != "" {
		return fmt.Errorf("%w: %s is present twice", ErrFormat, infoName(i))
	}
	d.info[i] = v
	return nil
}

// finish decodes what depends on several values.
func (d *decoder) finish() error {
	for i, k := range metaNames[:2] {
		if d.seen&(1<<i) == 0 {
			return fmt.Errorf("%w: %s is missing", ErrFormat, k)
		}
	}
	t := &d.r.Tokens
	if d.seen&(1<<slices.Index(metaNames[:], namePrevious)) != 0 {
		if err := decodePrevious(d.previous, t); err != nil {
			return fmt.Errorf("%s: %w", namePrevious, err)
		}
	} else if t.Unused {
		return fmt.Errorf("%w: %s says that the verifier replaced another, but %s is missing", ErrFormat, nameState, namePrevious)
	}
	text, err := joinInfo(d.info, d.infoSize)
	if err != nil || d.r.Principal == nil {
		return err
	}
	return decodePrincipal(text, d.r.Principal)
}

func encodeState(r *Record) []byte {
	b := append(make([]byte, 0, stateWidth), '0'+FormatVersion, '0')
	if r.Tokens.Unused {
		b[1] = '0' + flagUnused
	}
	b = appendHex(appendHash(b, r.Tokens.Current), r.Revision, timeWidth)
	return appendTime(appendHex(b, uint64(r.Size), countWidth), r.Seen)
}

func decodeState(v string, r *Record) error {
	if v != "" && v[0] != '0'+FormatVersion {
		return fmt.Errorf("%w: version %q, this program supports %d", ErrFormat, v[:1], FormatVersion)
	}
	p := unpack(v, stateWidth)
	p.cut(1)
	r.Tokens.Unused = p.number(1, flagUnused|flagMoving)&flagUnused != 0
	r.Tokens.Current = p.hash()
	r.Revision = p.number(timeWidth, maxRevision)
	r.Size = int(p.number(countWidth, maxCount))
	r.Seen = p.time()
	return p.err
}

func encodeLife(r *Record) []byte {
	b := appendHash(make([]byte, 0, lifeWidth), Hash(r.Secret))
	return appendDuration(appendTime(appendTime(b, r.Created), r.Deadline), r.Idle)
}

func decodeLife(v string, r *Record) error {
	p := unpack(v, lifeWidth)
	r.Secret = Secret(p.hash())
	r.Created = p.time()
	r.Deadline = p.time()
	r.Idle = p.duration()
	return p.err
}

// States of "@previous": whether the previous verifier is accepted, or only remembered.
const (
	previousAccepted   = 'a'
	previousRemembered = 'r'
)

// encodePrevious writes a duration after the hash if Current came from a rotation and was not used
// yet: the grace period, which begins with its first use. Otherwise it writes a time.
func encodePrevious(t *Tokens) []byte {
	b := append(make([]byte, 0, previousWidth), previousRemembered)
	if t.PreviousAccepted {
		b[0] = previousAccepted
	}
	b = appendHash(b, t.Previous)
	if t.pending() {
		b = appendDuration(b, t.Grace)
	} else {
		b = appendTime(b, t.PreviousUntil)
	}
	return appendTime(appendHex(b, uint64(t.Generation), countWidth), t.Issued)
}

// decodePrevious needs t.Unused.
func decodePrevious(v string, t *Tokens) error {
	p := unpack(v, previousWidth)
	switch state := p.cut(1); state {
	case string(previousAccepted):
		t.PreviousAccepted = true
	case string(previousRemembered):
	default:
		p.fail("%q is not %q or %q", state, previousAccepted, previousRemembered)
	}
	if t.Previous = p.hash(); t.Previous == (Hash{}) {
		p.fail("the hash is empty")
	}
	if t.pending() {
		t.Grace = p.duration()
	} else {
		t.PreviousUntil = p.time()
	}
	t.Generation = uint32(p.number(countWidth, maxCount))
	t.Issued = p.time()
	return p.err
}

func decodeOvertaken(v string) (*Overtaken, error) {
	p := unpack(v, overtakenWidth)
	o := &Overtaken{Generation: uint32(p.number(countWidth, maxCount)), Used: p.hash()}
	return o, p.err
}

// encodeUser needs the size of the info.
func encodeUser(p *Principal, size int) []byte {
	b := appendTime(appendHash(make([]byte, 0, userWidth), p.Owner), p.Authenticated)
	b = append(appendHex(b, uint64(p.Level), 2), '0')
	if p.Persistent {
		b[len(b)-1] = '1'
	}
	return appendHex(b, uint64(size), 4)
}

func decodeUser(v string) (_ *Principal, size int, err error) {
	p := unpack(v, userWidth)
	out := &Principal{
		Owner: p.hash(), Authenticated: p.time(), Level: int(p.number(2, MaxLevel)), Persistent: p.number(1, 1) == 1,
	}
	size = int(p.number(4, MaxInfo))
	return out, size, p.err
}

// decodePrincipal adds the info to p. A sealed info stays sealed: it is no JSON.
func decodePrincipal(text string, p *Principal) error {
	if strings.HasPrefix(text, "~") {
		p.Sealed = text
	} else if err := DecodeInfo([]byte(text), p); err != nil {
		return fmt.Errorf("%s: %w", nameInfo, err)
	}
	if err := p.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return nil
}
