package redisstore

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// scriptVector is one call of a script. In its texts "<+n>" and "<-n>" are times: the server's time
// plus or minus n milliseconds.
type scriptVector struct {
	Name   string                `json:"name"`
	Why    string                `json:"why"`
	Script string                `json:"script"`
	Before map[string]keyContent `json:"before"` // by key
	Keys   []string              `json:"keys"`
	Args   []string              `json:"args"`
	Reply  []any                 `json:"reply"` // as in changes.json
	After  map[string]keyContent `json:"after"` // all keys
}

// keyContent is what a key holds. One of its fields is set.
type keyContent struct {
	Hash   map[string]string `json:"hash,omitempty"`
	Scores map[string]string `json:"scores,omitempty"` // of a sorted set
	Text   string            `json:"text,omitempty"`
	Stream [][]string        `json:"stream,omitempty"` // each: its id, then names and values
}

const placeholder = `<[+-]\d+>`

var placeholders = regexp.MustCompile(placeholder)

// atServer replaces the placeholders in a text by times.
func atServer(text string, now int64) string {
	return placeholders.ReplaceAllStringFunc(text, func(p string) string {
		n, _ := strconv.ParseInt(p[1:len(p)-1], 10, 64)
		return strconv.FormatInt(now+n, 10)
	})
}

// fits reports whether a text matches a vector. Times may differ by some seconds.
func fits(got, want string, now int64) bool {
	var pattern bytes.Buffer
	var times []int64
	rest := want
	for {
		at := placeholders.FindStringIndex(rest)
		if at == nil {
			break
		}
		n, _ := strconv.ParseInt(rest[at[0]+1:at[1]-1], 10, 64)
		times = append(times, now+n)
		pattern.WriteString(regexp.QuoteMeta(rest[:at[0]]) + `(\d+)`)
		rest = rest[at[1]:]
	}
	m := regexp.MustCompile("^" + pattern.String() + regexp.QuoteMeta(rest) + "$").FindStringSubmatch(got)
	if m == nil {
		return false
	}
	for i, t := range times {
		n, err := strconv.ParseInt(m[i+1], 10, 64)
		if err != nil || max(n-t, t-n) > 5000 {
			return false
		}
	}
	return true
}

func TestScriptVectors(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s, err := Open(t.Context(), "redis://"+node.Addr(), Options{NearCache: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	file := filepath.Join(vectorsDir, "scripts.json")
	if *update {
		writeJSON(t, file, scriptCases())
	}
	var vectors []scriptVector
	readJSON(t, file, &vectors)
	if !bytes.Equal(toJSON(t, vectors), toJSON(t, scriptCases())) {
		t.Fatalf("%s does not match the code: run go test ./redisstore -run Vectors -update", file)
	}
	scripts := map[string]*rueidis.Lua{
		"signin.lua": signInScript, "enduser.lua": endUserScript, "move.lua": moveScript, "revokeall.lua": revokeAllScript,
		"apply.lua": applyScript, "touch.lua": touchScript, "create.lua": createScript, "end.lua": endScript, "clean.lua": cleanScript,
		"publish.lua": publishScript,
	}
	for _, v := range vectors {
		t.Run(v.Script+" "+v.Name, func(t *testing.T) { v.run(t, s.plain, scripts[v.Script]) })
	}
}

// run calls the script on a real server.
func (v *scriptVector) run(t *testing.T, c rueidis.Client, script *rueidis.Lua) {
	ctx := t.Context()
	do := func(cmd rueidis.Completed) rueidis.RedisResult {
		t.Helper()
		res := c.Do(ctx, cmd)
		if err := res.Error(); err != nil && !rueidis.IsRedisNil(err) {
			t.Fatal(err)
		}
		return res
	}
	do(c.B().Flushall().Build())
	server, err := do(c.B().Time().Build()).AsIntSlice()
	if err != nil {
		t.Fatal(err)
	}
	now := server[0]*1000 + server[1]/1000
	for key, value := range v.Before {
		for name, text := range value.Hash {
			do(c.B().Hset().Key(key).FieldValue().FieldValue(name, atServer(text, now)).Build())
		}
		for name, score := range value.Scores {
			do(c.B().Arbitrary("ZADD").Keys(key).Args(atServer(score, now), name).Build())
		}
		if value.Text != "" {
			do(c.B().Set().Key(key).Value(atServer(value.Text, now)).Build())
		}
		for _, entry := range value.Stream {
			do(c.B().Arbitrary("XADD").Keys(key).Args(entry...).Build())
		}
	}
	args := slices.Clone(v.Args)
	for i := range args {
		args[i] = atServer(args[i], now)
	}
	got, err := script.Exec(ctx, c, v.Keys, args).ToArray()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(v.Reply) {
		t.Fatalf("the script replies %v, want %v", got, v.Reply)
	}
	texts := make([]string, len(got))
	for i := range got {
		if texts[i], err = got[i].ToString(); err != nil {
			n, _ := got[i].AsInt64()
			texts[i] = strconv.FormatInt(n, 10)
		}
	}
	if v.Script == "move.lua" && len(texts) > 3 { // a hash has no order
		pairs := slices.Collect(slices.Chunk(slices.Clone(texts[3:]), 2))
		slices.SortFunc(pairs, slices.Compare)
		copy(texts[3:], slices.Concat(pairs...))
	}
	for i, want := range v.Reply {
		text := texts[i]
		if want := fmt.Sprint(want); want != "SECONDS" && want != "MICROSECONDS" && !fits(text, want, now) {
			t.Errorf("reply %d is %q, want %q", i, text, want)
		}
	}
	keys, err := do(c.B().Keys().Pattern("*").Build()).AsStrSlice()
	if err != nil || len(keys) != len(v.After) {
		t.Errorf("the keys are %q, error %v, want %d", keys, err, len(v.After))
	}
	for key, want := range v.After {
		want.mustBeStored(t, c, key, now)
	}
}

// mustBeStored checks that a key holds this content.
func (k keyContent) mustBeStored(t *testing.T, c rueidis.Client, key string, now int64) {
	t.Helper()
	do := func(cmd rueidis.Completed) rueidis.RedisResult { return c.Do(t.Context(), cmd) }
	got, want := map[string]string{}, k.Hash
	var err error
	switch {
	case k.Hash != nil:
		got, err = do(c.B().Hgetall().Key(key).Build()).AsStrMap()
	case k.Scores != nil:
		var scores []rueidis.ZScore
		scores, err = do(c.B().Zrange().Key(key).Min("0").Max("-1").Withscores().Build()).AsZScores()
		for _, z := range scores {
			got[z.Member] = strconv.FormatFloat(z.Score, 'f', -1, 64)
		}
		want = k.Scores
	case k.Stream != nil:
		var entries []rueidis.XRangeEntry
		entries, err = do(c.B().Xrange().Key(key).Start("-").End("+").Build()).AsXRange()
		for _, e := range entries {
			got[e.ID] = fmt.Sprint(e.FieldValues)
		}
		want = map[string]string{}
		for _, e := range k.Stream {
			values := map[string]string{}
			for i := 1; i < len(e); i += 2 {
				values[e[i]] = e[i+1]
			}
			want[e[0]] = fmt.Sprint(values)
		}
	default:
		got["text"], err = do(c.B().Get().Key(key).Build()).ToString()
		want = map[string]string{"text": k.Text}
	}
	if err != nil || len(got) != len(want) {
		t.Errorf("%s is %q, error %v, want %q", key, got, err, want)
	}
	for name, text := range want {
		if !fits(got[name], text, now) {
			t.Errorf("%s has %s %q, want %q", key, name, got[name], text)
		}
	}
}

// The cases have a user with two sessions in one bucket.
var (
	vectorOwner        = driver.HashOf([]byte("owner"))
	nameA              = driver.HashOf([]byte("session a")).String()
	nameB              = driver.HashOf([]byte("session b")).String()
	nameNew            = driver.HashOf([]byte("session new")).String()
	keyA, keyB, keyNew = "vector:{0000}:s:" + nameA, "vector:{0000}:s:" + nameB, "vector:{0000}:s:" + nameNew
	keyIndex           = "vector:{0000}:u:" + vectorOwner.String()
	keyRevoked         = "vector:{0000}:n"
	keyAll             = "vector:revoked"
)

// sessionOf returns the hash of a session of that user.
func sessionOf(created string) keyContent {
	now := time.UnixMilli(1_800_000_000_000)
	r := base(field("n", "1"))(now)
	r.Principal = &driver.Principal{User: "ada", Owner: vectorOwner, Authenticated: now}
	h := map[string]string{}
	for _, f := range driver.Encode(r) {
		h[string(f.Key)] = string(f.Value)
	}
	h["@created"], h["@seen"], h["@deadline"] = created, "<-1000>", "<+86400000>"
	return keyContent{Hash: h}
}

// with returns the hash with changed values. "" removes a value.
func (k keyContent) with(namesAndValues ...string) keyContent {
	h := map[string]string{}
	for name, v := range k.Hash {
		h[name] = v
	}
	for i := 0; i < len(namesAndValues); i += 2 {
		if h[namesAndValues[i]] = namesAndValues[i+1]; namesAndValues[i+1] == "" {
			delete(h, namesAndValues[i])
		}
	}
	return keyContent{Hash: h}
}

func scoresOf(namesAndScores ...string) keyContent {
	z := map[string]string{}
	for i := 0; i < len(namesAndScores); i += 2 {
		z[namesAndScores[i]] = namesAndScores[i+1]
	}
	return keyContent{Scores: z}
}

func revocationOf(text string) keyContent {
	return keyContent{Hash: map[string]string{vectorOwner.String(): text}}
}
