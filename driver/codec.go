package driver

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Names of a record's metadata. No field's name begins with "@".
const (
	nameVersion   Key = "@v"         // FormatVersion
	nameSecret    Key = "@id"        // base64url
	nameToken     Key = "@token"     // encodeToken writes it
	namePrevious  Key = "@previous"  // decodePrevious reads it
	nameOvertaken Key = "@overtaken" // encodeOvertaken writes it
	namePrincipal Key = "@principal" // JSON; absent if nobody is signed in
	nameIdle      Key = "@idle"      // milliseconds, like all durations
	nameCreated   Key = "@created"   // milliseconds since 1970, like all times
	nameSeen      Key = "@seen"
	nameDeadline  Key = "@deadline"
	nameRevision  Key = "@rev"
	nameSize      Key = "@size" // bytes of all keys and values, metadata excluded
)

// FormatVersion is the version of the format that [Encode] writes and [Decode] reads.
const FormatVersion = 1

// Encode returns r as named values: the metadata, then the fields. All languages share this format,
// and stores store it. format/README.md specifies it.
func Encode(r *Record) []Field {
	out := make([]Field, 0, 11+len(r.Fields))
	put := func(k Key, v string) { out = append(out, Field{k, []byte(v)}) }
	number := func(k Key, n int64) { out = append(out, Field{k, strconv.AppendInt(nil, n, 10)}) }
	number(nameVersion, FormatVersion)
	put(nameSecret, Hash(r.Secret).String())
	out = append(out, Field{nameToken, encodeToken(&r.Tokens)})
	if t := &r.Tokens; t.Previous != (Hash{}) {
		put(namePrevious, encodePrevious(t))
	}
	if o := r.Tokens.Overtaken; o != nil {
		put(nameOvertaken, encodeOvertaken(o))
	}
	if r.Principal != nil {
		out = append(out, Field{namePrincipal, encodePrincipal(r.Principal)})
	}
	number(nameIdle, r.Idle.Milliseconds())
	number(nameCreated, r.Created.UnixMilli())
	number(nameSeen, r.Seen.UnixMilli())
	number(nameDeadline, r.Deadline.UnixMilli())
	number(nameRevision, int64(r.Revision))
	number(nameSize, int64(r.Size))
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
		return nil, fmt.Errorf("%w: the fields have %d bytes, but %s is %d", ErrFormat, n, nameSize, r.Size)
	}
	r.Fields = fields
	return r, nil
}

// DecodeMetadata returns the record that the metadata in values describes, without fields: see
// [Record.Metadata]. It ignores fields in values. A store that reads only metadata asks for
// [MetadataNames].
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
	for i, k := range metaNames {
		if d.seen&(1<<i) == 0 && k != namePrevious && k != nameOvertaken && k != namePrincipal {
			return nil, fmt.Errorf("%w: %s is missing", ErrFormat, k)
		}
	}
	return d.r, nil
}

// MetadataNames returns the names of all metadata. A record need not have all of them.
func MetadataNames() []Key { return slices.Clone(metaNames[:]) }

// metaNames are the names of all metadata.
var metaNames = [...]Key{
	nameVersion, nameSecret, nameToken, namePrevious, nameOvertaken, namePrincipal,
	nameIdle, nameCreated, nameSeen, nameDeadline, nameRevision, nameSize,
}

func (k Key) isMeta() bool { return strings.HasPrefix(string(k), "@") }

type decoder struct {
	r    *Record
	seen uint16 // one bit for each of metaNames
}

func (d *decoder) meta(k Key, v string) (err error) {
	i := slices.Index(metaNames[:], k)
	if i < 0 {
		return fmt.Errorf("%w: unknown metadata %q", ErrFormat, k)
	}
	if d.seen&(1<<i) != 0 {
		return fmt.Errorf("%w: %s is present twice", ErrFormat, k)
	}
	d.seen |= 1 << i
	r := d.r
	switch k {
	case nameVersion:
		if v != strconv.Itoa(FormatVersion) {
			return fmt.Errorf("%w: version %.20q, this program supports %d", ErrFormat, v, FormatVersion)
		}
	case nameSecret:
		var h Hash
		h, err = ParseHash(v)
		r.Secret = Secret(h)
	case nameToken:
		err = decodeToken(v, &r.Tokens)
	case namePrevious:
		err = decodePrevious(v, &r.Tokens)
	case nameOvertaken:
		r.Tokens.Overtaken, err = decodeOvertaken(v)
	case namePrincipal:
		r.Principal, err = decodePrincipal(v)
	case nameIdle:
		r.Idle, err = decodeDuration(v)
	case nameCreated:
		r.Created, err = decodeTime(v)
	case nameSeen:
		r.Seen, err = decodeTime(v)
	case nameDeadline:
		r.Deadline, err = decodeTime(v)
	case nameRevision:
		var n int64
		n, err = decodeNumber(v)
		r.Revision = uint64(n)
	case nameSize:
		var n int64
		n, err = decodeNumber(v)
		r.Size = int(n)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", k, err)
	}
	return nil
}

// maxNumber is the end of the year 9999 in milliseconds, which keeps times far from overflow.
const maxNumber = 253_402_300_799_999

// maxDuration is the longest time.Duration in milliseconds: 292 years.
const maxDuration = int64(math.MaxInt64 / time.Millisecond)

func decodeNumber(v string) (int64, error) {
	n, ok := ParseInt([]byte(v))
	if !ok || n < 0 || n > maxNumber {
		return 0, fmt.Errorf("%w: %.40q is not a number between 0 and %d", ErrFormat, v, int64(maxNumber))
	}
	return n, nil
}

func decodeTime(v string) (time.Time, error) {
	ms, err := decodeNumber(v)
	return time.UnixMilli(ms), err
}

func decodeDuration(v string) (time.Duration, error) {
	ms, err := decodeNumber(v)
	if err == nil && ms > maxDuration {
		err = fmt.Errorf("%w: %d milliseconds is more than %d", ErrFormat, ms, maxDuration)
	}
	return time.Duration(ms) * time.Millisecond, err
}

// encodeToken returns "generation.issued.hash" of the current verifier. issued is 0 if the verifier
// was issued with the record.
func encodeToken(t *Tokens) []byte {
	issued := int64(0)
	if !t.Issued.IsZero() {
		issued = t.Issued.UnixMilli()
	}
	b := strconv.AppendUint(make([]byte, 0, 48), uint64(t.Generation), 10)
	b = strconv.AppendInt(append(b, '.'), issued, 10)
	return append(append(b, '.'), t.Current.String()...)
}

func decodeToken(v string, t *Tokens) error {
	generation, rest, _ := strings.Cut(v, ".")
	issued, hash, _ := strings.Cut(rest, ".")
	var err error
	if t.Generation, err = decodeGeneration(generation); err != nil {
		return err
	}
	if issued != "0" {
		if t.Issued, err = decodeTime(issued); err != nil {
			return err
		}
	}
	t.Current, err = ParseHash(hash)
	return err
}

func decodeGeneration(v string) (uint32, error) {
	n, err := decodeNumber(v)
	if err == nil && n > 1<<32-1 {
		err = fmt.Errorf("%w: generation %d", ErrFormat, n)
	}
	return uint32(n), err
}

// encodePrevious returns "pending.hash.grace", "grace.hash.until", "renewed.hash.until" or
// "replaced.hash.until". The states pending and renewed say that Current was not used yet.
func encodePrevious(t *Tokens) string {
	state, n := "replaced", t.PreviousUntil.UnixMilli()
	switch {
	case t.pending():
		state, n = "pending", t.Grace.Milliseconds()
	case t.PreviousAccepted:
		state = "grace"
	case t.Unused:
		state = "renewed"
	}
	return state + "." + t.Previous.String() + "." + strconv.FormatInt(n, 10)
}

// decodePrevious is the inverse of encodePrevious.
func decodePrevious(v string, t *Tokens) error {
	state, rest, _ := strings.Cut(v, ".")
	hash, number, _ := strings.Cut(rest, ".")
	var err error
	switch state {
	case "pending":
		t.PreviousAccepted, t.Unused = true, true
		t.Grace, err = decodeDuration(number)
	case "grace":
		t.PreviousAccepted = true
		t.PreviousUntil, err = decodeTime(number)
	case "renewed":
		t.Unused = true
		t.PreviousUntil, err = decodeTime(number)
	case "replaced":
		t.PreviousUntil, err = decodeTime(number)
	default:
		err = fmt.Errorf("%w: %.40q is not pending, grace, renewed or replaced", ErrFormat, state)
	}
	if err != nil {
		return err
	}
	if t.Previous, err = ParseHash(hash); err == nil && t.Previous == (Hash{}) {
		err = fmt.Errorf("%w: the hash is empty", ErrFormat)
	}
	return err
}

// encodeOvertaken returns "generation", or "generation.hash" if a verifier of that generation was
// used.
func encodeOvertaken(o *Overtaken) string {
	text := strconv.FormatUint(uint64(o.Generation), 10)
	if o.Used == (Hash{}) {
		return text
	}
	return text + "." + o.Used.String()
}

func decodeOvertaken(v string) (*Overtaken, error) {
	text, hash, used := strings.Cut(v, ".")
	generation, err := decodeGeneration(text)
	if err != nil {
		return nil, err
	}
	o := &Overtaken{Generation: generation}
	if !used {
		return o, nil
	}
	if o.Used, err = ParseHash(hash); err == nil && o.Used == (Hash{}) {
		err = fmt.Errorf("%w: the hash is empty", ErrFormat)
	}
	return o, err
}

// principal is the JSON form of a Principal. The user id is in base64, because it may be any bytes.
type principal struct {
	User          []byte   `json:"user,omitempty"`
	Owner         string   `json:"owner"`
	Authenticated int64    `json:"at"`
	Methods       []string `json:"methods,omitempty"`
	Level         int      `json:"level,omitempty"`
	Device        string   `json:"device,omitempty"`
	UserAgent     string   `json:"agent,omitempty"`
	Address       string   `json:"address,omitempty"`
	Persistent    bool     `json:"persistent,omitempty"`
	Sealed        string   `json:"sealed,omitempty"`
}

func encodePrincipal(p *Principal) []byte {
	b, err := json.Marshal(principal{
		User: []byte(p.User), Owner: p.Owner.String(), Authenticated: p.Authenticated.UnixMilli(),
		Methods: p.Methods, Level: p.Level, Device: p.Device, UserAgent: p.UserAgent, Address: p.Address,
		Persistent: p.Persistent, Sealed: p.Sealed,
	})
	if err != nil {
		panic(err) // all members can be encoded
	}
	return b
}

// SplitPrincipal returns the stored form of p without the time of its authentication: what comes
// before the time and what comes after it. A store whose server sets the time puts it in between.
func SplitPrincipal(p *Principal) (head, tail string) {
	text := string(encodePrincipal(p))
	mark := `"at":` + strconv.FormatInt(p.Authenticated.UnixMilli(), 10)
	i := strings.Index(text, mark) // the members before it are in base64 and cannot contain mark
	return text[:i+len(`"at":`)], text[i+len(mark):]
}

func decodePrincipal(v string) (*Principal, error) {
	var p principal
	d := json.NewDecoder(strings.NewReader(v))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: there is data after the principal's JSON", ErrFormat)
	}
	if p.Authenticated < 0 || p.Authenticated > maxNumber {
		return nil, fmt.Errorf("%w: authenticated at %d", ErrFormat, p.Authenticated)
	}
	owner, err := ParseHash(p.Owner)
	if err != nil {
		return nil, err
	}
	out := &Principal{
		User: string(p.User), Owner: owner, Authenticated: time.UnixMilli(p.Authenticated),
		Methods: p.Methods, Level: p.Level, Device: p.Device, UserAgent: p.UserAgent, Address: p.Address,
		Persistent: p.Persistent, Sealed: p.Sealed,
	}
	if err := out.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return out, nil
}
