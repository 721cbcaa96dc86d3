package redisstore

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

var update = flag.Bool("update", false, "write format/vectors anew")

// These tests make the vectors of format/vectors from the Go code, and check the scripts on a real
// server against them. Implementations in other languages need only the files.

// value is a value of a hash: text, or the server's time plus some milliseconds. Times may differ
// by some seconds.
type value struct {
	text    string
	fromNow int64
	isTime  bool
}

type timeValue struct {
	MSFromNow int64 `json:"ms_from_now"`
}

func (v value) MarshalJSON() ([]byte, error) {
	if v.isTime {
		return json.Marshal(timeValue{v.fromNow})
	}
	return json.Marshal(v.text)
}

func (v *value) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		return json.Unmarshal(b, &v.text)
	}
	var t timeValue
	v.isTime = true
	err := json.Unmarshal(b, &t)
	v.fromNow = t.MSFromNow
	return err
}

// changeVector is one call of apply.lua.
type changeVector struct {
	Name   string           `json:"name"`
	Why    string           `json:"why"`
	Before map[string]value `json:"before"` // the hash; null: no hash
	Change changeJSON       `json:"change"`
	Args   []string         `json:"args"`  // ARGV
	Reply  []any            `json:"reply"` // "SECONDS", "MICROSECONDS": the server's time
	After  map[string]value `json:"after"`
}

type changeJSON struct {
	Verifier string     `json:"verifier"`
	Issued   bool       `json:"issued,omitempty"`
	MaxSize  int        `json:"max_size"`
	Renew    *renewJSON `json:"renew,omitempty"`
	Ops      []opJSON   `json:"ops"`
}

type renewJSON struct {
	Verifier string `json:"verifier"`
	GraceMS  int64  `json:"grace_ms"`
	MinAgeMS int64  `json:"min_age_ms,omitempty"`
}

type opJSON struct {
	Kind  string  `json:"kind"`
	Key   string  `json:"key,omitempty"`
	Value *string `json:"value,omitempty"`
	Old   *string `json:"old,omitempty"`
	Delta string  `json:"delta,omitempty"` // a string: it may be above 2^53
	Min   string  `json:"min,omitempty"`
	Max   string  `json:"max,omitempty"`
}

const vectorsDir = "../format/vectors"

func TestChangeVectors(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s, err := Open(t.Context(), "redis://"+node.Addr(), Options{NearCache: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	file := filepath.Join(vectorsDir, "changes.json")
	if *update {
		var all []changeVector
		for _, c := range changeCases {
			all = append(all, c.vector(t))
		}
		writeJSON(t, file, all)
	}
	var vectors []changeVector
	readJSON(t, file, &vectors)
	if len(vectors) != len(changeCases) {
		t.Fatalf("%s has %d vectors, the code has %d: go test ./redisstore -run Vectors -update", file, len(vectors), len(changeCases))
	}
	for i, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			want := changeCases[i].vector(t)
			if got, want := toJSON(t, v), toJSON(t, want); !bytes.Equal(got, want) {
				t.Errorf("the vector does not match the code: run go test ./redisstore -run Vectors -update\n%s\n%s", got, want)
			}
			checkOnServer(t, s, &v)
		})
	}
}

// vector computes the vector of a case with package driver.
func (c *changeCase) vector(t *testing.T) changeVector {
	t.Helper()
	now := time.UnixMilli(1_800_000_000_000)
	v := changeVector{Name: c.name, Why: c.why, Change: changeToJSON(&c.change), Args: applyArgs(&c.change, "0")}
	if c.before == nil {
		v.Reply = []any{"gone"}
		return v
	}
	r := c.before(now)
	v.Before = hashOf(r, now)
	v.After = v.Before
	res, err := r.Apply(now, &c.change)
	var op *driver.OpError
	switch {
	case err == driver.ErrMoved:
		v.Reply = []any{"moved"}
	case asOpError(err, &op):
		v.Reply = []any{"refused", op.Index, why(op)}
		if op.Present != nil {
			v.Reply = append(v.Reply, string(op.Present))
		}
	case err != nil:
		t.Fatal(err)
	default:
		status := "ok"
		if c.change.Renew != nil && !res.Renewed {
			status = "kept"
		}
		v.Reply = []any{status, "SECONDS", "MICROSECONDS", strconv.FormatUint(res.Record.Revision, 10)}
		for _, value := range res.Values {
			if value == nil {
				v.Reply = append(v.Reply, nil)
			} else {
				v.Reply = append(v.Reply, string(value))
			}
		}
		v.After = hashOf(res.Record, now)
	}
	return v
}

func asOpError(err error, op **driver.OpError) bool {
	e, ok := err.(*driver.OpError)
	*op = e
	return ok
}

func why(e *driver.OpError) string {
	for text, target := range map[string]error{"conflict": driver.ErrConflict, "integer": driver.ErrNotInteger, "overflow": driver.ErrOverflow, "large": driver.ErrTooLarge} {
		if bytes.Contains([]byte(e.Err.Error()), []byte(target.Error())) {
			return text
		}
	}
	return ""
}

// hashOf returns the hash of a record, with times relative to now.
func hashOf(r *driver.Record, now time.Time) map[string]value {
	h := map[string]value{}
	for _, f := range driver.Encode(r) {
		v := value{text: string(f.Value)}
		switch f.Key {
		case "@created", "@seen", "@deadline":
			ms, _ := strconv.ParseInt(v.text, 10, 64)
			v = value{isTime: true, fromNow: ms - now.UnixMilli()}
		case "@token":
			if issued := r.Tokens.Issued; !issued.IsZero() {
				v.text = strings.Replace(v.text, strconv.FormatInt(issued.UnixMilli(), 10), fmt.Sprintf("<%+d>", issued.Sub(now).Milliseconds()), 1)
			}
		case "@previous":
			if until := r.Tokens.PreviousUntil; !until.IsZero() {
				state := v.text[:len(v.text)-len(strconv.FormatInt(until.UnixMilli(), 10))]
				v.text = state + fmt.Sprintf("<%+d>", until.Sub(now).Milliseconds())
			}
		}
		h[string(f.Key)] = v
	}
	return h
}

// checkOnServer runs the script on a real server.
func checkOnServer(t *testing.T, s *Store, v *changeVector) {
	t.Helper()
	ctx, c := t.Context(), s.plain
	key := "vector:{0000}:s:" + v.Name
	server, err := c.Do(ctx, c.B().Time().Build()).AsIntSlice()
	if err != nil {
		t.Fatal(err)
	}
	now := server[0]*1000 + server[1]/1000
	if v.Before != nil {
		set := c.B().Hset().Key(key).FieldValue()
		for name, value := range v.Before {
			set = set.FieldValue(name, resolve(value, now))
		}
		if err := c.Do(ctx, set.Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := applyScript.Exec(ctx, c, []string{key}, v.Args).ToArray()
	if err != nil {
		t.Fatal(err)
	}
	if want := v.Reply; !sameReply(got, want) {
		t.Errorf("the script replies %v, want %v", got, want)
	}
	after, err := c.Do(ctx, c.B().Hgetall().Key(key).Build()).AsStrMap()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range v.After {
		got := after[name]
		delete(after, name)
		if !about(got, resolve(want, now)) {
			t.Errorf("%s is %q, want %q", name, got, resolve(want, now))
		}
	}
	if len(after) > 0 {
		t.Errorf("the hash has fields that the vector has not: %q", after)
	}
}

// resolve returns a value for a server whose time is now.
func resolve(v value, now int64) string {
	if v.isTime {
		return strconv.FormatInt(now+v.fromNow, 10)
	}
	head, rest, _ := strings.Cut(v.text, "<")
	number, tail, found := strings.Cut(rest, ">")
	if ms, err := strconv.ParseInt(number, 10, 64); found && err == nil {
		return head + strconv.FormatInt(now+ms, 10) + tail
	}
	return v.text
}

// about reports whether two values are the same. Times may differ by some seconds.
func about(a, b string) bool {
	return slices.EqualFunc(strings.Split(a, "."), strings.Split(b, "."), func(a, b string) bool {
		x, err1 := strconv.ParseInt(a, 10, 64)
		y, err2 := strconv.ParseInt(b, 10, 64)
		return a == b || err1 == nil && err2 == nil && x > 1e12 && y > 1e12 && max(x-y, y-x) < 5000
	})
}

func sameReply(got []rueidis.RedisMessage, want []any) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range want {
		switch w := want[i].(type) {
		case nil:
			if !got[i].IsNil() {
				return false
			}
		case float64:
			if n, err := got[i].AsInt64(); err != nil || n != int64(w) {
				return false
			}
		case string:
			text, err := got[i].ToString()
			if err != nil || text != w && w != "SECONDS" && w != "MICROSECONDS" {
				return false
			}
		}
	}
	return true
}

func changeToJSON(c *driver.Change) changeJSON {
	out := changeJSON{Verifier: c.Verifier.String(), Issued: c.Issued, MaxSize: c.MaxSize, Ops: []opJSON{}}
	if out.MaxSize == 0 {
		out.MaxSize = driver.DefaultMaxSize
	}
	if c.Renew != nil {
		out.Renew = &renewJSON{c.Renew.Verifier.String(), c.Renew.Grace.Milliseconds(), c.Renew.MinAge.Milliseconds()}
	}
	for _, op := range c.Ops {
		o := opJSON{Kind: op.Kind.String(), Key: string(op.Key)}
		if op.Value != nil {
			o.Value = ptr(string(op.Value))
		}
		if op.Old != nil {
			o.Old = ptr(string(op.Old))
		}
		if op.Kind == driver.Add {
			o.Delta = strconv.FormatInt(op.Delta, 10)
		}
		if op.Within != nil {
			o.Min, o.Max = strconv.FormatInt(op.Within.Min, 10), strconv.FormatInt(op.Within.Max, 10)
		}
		out.Ops = append(out.Ops, o)
	}
	return out
}

func ptr[T any](v T) *T { return &v }

// recordVector is a record and its hash.
type recordVector struct {
	Name   string            `json:"name"`
	Record recordJSON        `json:"record"`
	Hash   map[string]string `json:"hash"`
}

type recordJSON struct {
	Secret     string            `json:"secret"`
	Current    string            `json:"current"`
	Generation uint32            `json:"generation"`
	IssuedMS   int64             `json:"issued_ms,omitempty"`
	Previous   string            `json:"previous,omitempty"`
	Accepted   bool              `json:"accepted,omitempty"`
	Unused     bool              `json:"unused,omitempty"`
	Overtaken  *overtakenJSON    `json:"overtaken,omitempty"`
	UntilMS    int64             `json:"until_ms,omitempty"`
	GraceMS    int64             `json:"grace_ms,omitempty"`
	Principal  *driver.Principal `json:"principal,omitempty"`
	IdleMS     int64             `json:"idle_ms"`
	CreatedMS  int64             `json:"created_ms"`
	SeenMS     int64             `json:"seen_ms"`
	DeadlineMS int64             `json:"deadline_ms"`
	Revision   uint64            `json:"revision"`
	Fields     map[string]string `json:"fields"`
}

type overtakenJSON struct {
	Generation uint32 `json:"generation"`
	Used       string `json:"used,omitempty"`
}

func TestRecordVectors(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	cases := map[string]*driver.Record{}
	var names []string
	for _, c := range changeCases {
		if c.before == nil {
			continue
		}
		if r := c.before(now); r.Principal != nil || r.Tokens.Previous != (driver.Hash{}) || len(r.Fields) > 1 || c.name == "add above 2^53" {
			cases[c.name] = r
			names = append(names, c.name)
		}
	}
	var want []recordVector
	for _, name := range names {
		v := recordVector{Name: name, Record: recordToJSON(cases[name]), Hash: map[string]string{}}
		for _, f := range driver.Encode(cases[name]) {
			v.Hash[string(f.Key)] = string(f.Value)
		}
		want = append(want, v)
	}
	file := filepath.Join(vectorsDir, "records.json")
	if *update {
		writeJSON(t, file, want)
	}
	var got []recordVector
	readJSON(t, file, &got)
	if !bytes.Equal(toJSON(t, got), toJSON(t, want)) {
		t.Errorf("%s does not match the code: run go test ./redisstore -run Vectors -update", file)
	}
	for _, v := range got {
		var fields []driver.Field
		for k, text := range v.Hash {
			fields = append(fields, field(k, text))
		}
		r, err := driver.Decode(fields)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if !reflect.DeepEqual(recordToJSON(r), v.Record) {
			t.Errorf("%s: the hash decodes to %+v, want %+v", v.Name, recordToJSON(r), v.Record)
		}
	}
}

func recordToJSON(r *driver.Record) recordJSON {
	out := recordJSON{
		Secret: driver.Hash(r.Secret).String(), Current: r.Tokens.Current.String(), Generation: r.Tokens.Generation,
		Accepted: r.Tokens.PreviousAccepted, Unused: r.Tokens.Unused, GraceMS: r.Tokens.Grace.Milliseconds(),
		IdleMS: r.Idle.Milliseconds(), CreatedMS: r.Created.UnixMilli(), SeenMS: r.Seen.UnixMilli(), DeadlineMS: r.Deadline.UnixMilli(),
		Revision: r.Revision, Fields: map[string]string{},
	}
	if r.Tokens.Previous != (driver.Hash{}) {
		out.Previous = r.Tokens.Previous.String()
	}
	if o := r.Tokens.Overtaken; o != nil {
		out.Overtaken = &overtakenJSON{Generation: o.Generation}
		if o.Used != (driver.Hash{}) {
			out.Overtaken.Used = o.Used.String()
		}
	}
	if !r.Tokens.Issued.IsZero() {
		out.IssuedMS = r.Tokens.Issued.UnixMilli()
	}
	if !r.Tokens.PreviousUntil.IsZero() {
		out.UntilMS = r.Tokens.PreviousUntil.UnixMilli()
	}
	if r.Principal != nil {
		p := *r.Principal
		p.Authenticated = p.Authenticated.UTC()
		p.Methods = slices.Clone(p.Methods)
		out.Principal = &p
	}
	for _, f := range r.Fields {
		out.Fields[string(f.Key)] = string(f.Value)
	}
	return out
}

func toJSON(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func writeJSON(t *testing.T, file string, v any) {
	t.Helper()
	if err := os.WriteFile(file, toJSON(t, v), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readJSON(t *testing.T, file string, v any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}
