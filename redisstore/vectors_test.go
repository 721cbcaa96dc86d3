package redisstore

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

var update = flag.Bool("update", false, "write format/vectors anew")

// These tests make the vectors of format/vectors from the Go code, and check the scripts on a real
// server against them. Implementations in other languages need only the files.

// changeVector is one call of apply.lua. Times are as in scriptVector.
type changeVector struct {
	Name   string      `json:"name"`
	Why    string      `json:"why"`
	Before *keyContent `json:"before"` // null: no hash
	Change changeJSON  `json:"change"`
	Args   []string    `json:"args"`
	Reply  []any       `json:"reply"`
	After  *keyContent `json:"after"`
}

type changeJSON struct {
	Verifier string     `json:"verifier"`
	Issued   bool       `json:"issued"`
	MaxSize  int        `json:"max_size"`
	Renew    *renewJSON `json:"renew"`
	Ops      []opJSON   `json:"ops"`
}

// renewJSON is a rotation, or a renewal if the grace period is 0.
type renewJSON struct {
	Verifier string `json:"verifier"`
	GraceMS  int64  `json:"grace_ms"`
	MinAgeMS int64  `json:"min_age_ms"`
}

// opJSON has null where the kind has no such member, or where there is no value.
type opJSON struct {
	Kind  string  `json:"kind"`
	Key   string  `json:"key"`
	Value *string `json:"value"`
	Old   *string `json:"old"`
	Delta *string `json:"delta"` // strings: they may be above 2^53
	Min   *string `json:"min"`
	Max   *string `json:"max"`
}

// waitToDial returns options with which Open waits long for a server that is slow or stopped.
func waitToDial(o Options) Options {
	o.Client = func(c *rueidis.ClientOption) { c.Dialer.Timeout = time.Minute }
	return o
}

const vectorsDir = "../format/vectors"

func TestChangeVectors(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s, err := Open(t.Context(), "redis://"+node.Addr(), waitToDial(Options{NearCache: -1}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	file := filepath.Join(vectorsDir, "changes.json")
	if *update {
		var all []changeVector
		for _, c := range changeCases {
			all = append(all, c.vector(t, c.known()))
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
			want := changeCases[i].vector(t, changeCases[i].known())
			if got, want := toJSON(t, v), toJSON(t, want); !bytes.Equal(got, want) {
				t.Errorf("the vector does not match the code: run go test ./redisstore -run Vectors -update\n%s\n%s", got, want)
			}
			v.run(t, s.plain)
			if !changeCases[i].due() { // the other path must do the same
				v = changeCases[i].vector(t, !changeCases[i].known())
				v.run(t, s.plain)
			}
		})
	}
}

// run calls the script on a real server.
func (v *changeVector) run(t *testing.T, c rueidis.Client) {
	t.Helper()
	at := func(content *keyContent) keyValues {
		if content == nil {
			return nil
		}
		return keyValues{keyA: *content}
	}
	call := scriptVector{v.Name, v.Why, "apply.lua", at(v.Before), []string{keyA}, v.Args, v.Reply, at(v.After)}
	call.run(t, c, applyScript)
}

const vectorNow = 1_800_000_000_000

// due reports that the change notes a use, or finds the session expired: a caller that knows the
// session has the script check the time.
func (c *changeCase) due() bool {
	if c.before == nil {
		return false
	}
	now := time.UnixMilli(vectorNow)
	r := c.before(now)
	return r.TouchDue(shown(&c.change), now) || !r.Live(now)
}

// vector computes the vector of a case with package driver. With known, the caller has a copy of
// the session.
func (c *changeCase) vector(t *testing.T, known bool) changeVector {
	t.Helper()
	now := time.UnixMilli(vectorNow)
	args := applyArgs(&c.change, &plan{global: "0", clock: !known}, known)
	v := changeVector{Name: c.name, Why: c.why, Change: changeToJSON(&c.change), Args: args}
	if c.before == nil {
		v.Reply = []any{"gone"}
		return v
	}
	r := c.before(now)
	v.Before = contentOf(r, now)
	v.After = v.Before
	if !r.Live(now) { // its key is still there
		v.Before.TTL = 0
		v.Reply = []any{"gone"}
		return v
	}
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
		status, at := "ok", any("TIME")
		if c.change.Renew != nil && !res.Renewed {
			status = "kept"
		}
		if known && c.change.Renew == nil && !r.Tokens.Unused && r.Tokens.Current == c.change.Verifier {
			at = 0
		}
		v.Reply = []any{status, at, res.Record.Revision}
		if c.change.Renew != nil {
			v.Reply = append(v.Reply, res.Record.Tokens.Generation)
		}
		for _, value := range res.Values {
			if value == nil {
				v.Reply = append(v.Reply, nil)
			} else {
				v.Reply = append(v.Reply, string(value))
			}
		}
		v.After = contentOf(res.Record, now)
	}
	return v
}

func asOpError(err error, op **driver.OpError) bool {
	e, ok := err.(*driver.OpError)
	*op = e
	return ok
}

func why(e *driver.OpError) string {
	for text, target := range map[string]error{"conflict": driver.ErrConflict, "integer": driver.ErrNotInteger, "overflow": driver.ErrOverflow, "large": driver.ErrTooLarge, "entries": driver.ErrFull} {
		if bytes.Contains([]byte(e.Err.Error()), []byte(target.Error())) {
			return text
		}
	}
	return ""
}

// contentOf returns what the key of a record holds, with times relative to now.
func contentOf(r *driver.Record, now time.Time) *keyContent {
	relative := func(text string) string {
		ms, err := strconv.ParseInt(text, 16, 64)
		if err != nil || max(ms-now.UnixMilli(), now.UnixMilli()-ms) > 30*day {
			return text // a duration, or a fixed time
		}
		return fmt.Sprintf("<%+d>", ms-now.UnixMilli())
	}
	h := map[string]string{}
	for _, f := range driver.Encode(r) {
		v := string(f.Value)
		switch f.Key {
		case "@s":
			v = v[:44] + relative(v[44:])
		case "@l":
			v = v[:22] + relative(v[22:34]) + relative(v[34:46]) + v[46:]
		case "@previous":
			v = v[:23] + relative(v[23:35]) + v[35:43] + relative(v[43:])
		}
		h[string(f.Key)] = v
	}
	return &keyContent{Hash: h, TTL: r.Expires().Sub(now).Milliseconds()}
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
			o.Delta = ptr(strconv.FormatInt(op.Delta, 10))
		}
		if op.Within != nil {
			o.Min, o.Max = ptr(strconv.FormatInt(op.Within.Min, 10)), ptr(strconv.FormatInt(op.Within.Max, 10))
		}
		if op.Kind == driver.Limit {
			o.Max = ptr(strconv.Itoa(op.Most))
		}
		out.Ops = append(out.Ops, o)
	}
	return out
}

func ptr[T any](v T) *T { return &v }

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
