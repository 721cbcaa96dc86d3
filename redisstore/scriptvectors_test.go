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

// scriptVector is one call of a script. In its texts "<+n>" and "<-n>" are times, the server's time
// plus or minus n milliseconds, as 12 hexadecimal digits; "[+n]" and "[-n]" are decimal.
type scriptVector struct {
	Name   string                `json:"name"`
	Why    string                `json:"why"`
	Script string                `json:"script"`
	Before map[string]keyContent `json:"before"` // by key
	Keys   []string              `json:"keys"`
	Args   []string              `json:"args"`
	Reply  []any                 `json:"reply"` // "TIME" is the server's time
	After  map[string]keyContent `json:"after"` // all keys
}

// keyContent is what a key holds. One of its fields is set.
type keyContent struct {
	Hash   map[string]string `json:"hash,omitempty"`
	Scores map[string]string `json:"scores,omitempty"` // of a sorted set
	Text   string            `json:"text,omitempty"`
	Stream [][]string        `json:"stream,omitempty"` // each: its id, then names and values
	// TTL is in milliseconds. 0: the key does not expire; -1: it does, at a fixed time.
	TTL int64 `json:"ttl"`
}

var placeholders = regexp.MustCompile(`<[+-]\d+>|\[[+-]\d+\]`)

// atServer replaces the placeholders in a text by times.
func atServer(text string, now int64) string {
	return placeholders.ReplaceAllStringFunc(text, func(p string) string {
		n, _ := strconv.ParseInt(p[1:len(p)-1], 10, 64)
		if p[0] == '<' {
			return fmt.Sprintf("%012x", now+n)
		}
		return strconv.FormatInt(now+n, 10)
	})
}

// fits reports whether a text matches a vector. Times may differ by late milliseconds.
func fits(got, want string, now, late int64) bool {
	var pattern bytes.Buffer
	var times []int64
	var bases []int
	rest := want
	for at := placeholders.FindStringIndex(rest); at != nil; at = placeholders.FindStringIndex(rest) {
		n, _ := strconv.ParseInt(rest[at[0]+1:at[1]-1], 10, 64)
		times = append(times, now+n)
		digits, base := `(\d+)`, 10
		if rest[at[0]] == '<' {
			digits, base = `([0-9a-f]{12})`, 16
		}
		bases = append(bases, base)
		pattern.WriteString(regexp.QuoteMeta(rest[:at[0]]) + digits)
		rest = rest[at[1]:]
	}
	m := regexp.MustCompile("^" + pattern.String() + regexp.QuoteMeta(rest) + "$").FindStringSubmatch(got)
	if m == nil {
		return false
	}
	for i, t := range times {
		n, err := strconv.ParseInt(m[i+1], bases[i], 64)
		if err != nil || max(n-t, t-n) > late {
			return false
		}
	}
	return true
}

func TestScriptVectors(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	s, err := Open(t.Context(), "redis://"+node.Addr(), waitToDial(Options{NearCache: -1}))
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
		"publish.lua": publishScript, "join.lua": joinScript,
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
	begin := time.Now()
	// A case may take a while.
	late := func() int64 { return (5*time.Second + time.Since(begin)).Milliseconds() }
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
		if value.TTL > 0 {
			do(c.B().Pexpire().Key(key).Milliseconds(value.TTL).Build())
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
	mustFit(t, "the reply", got, v.Reply, now, late())
	keys, err := do(c.B().Keys().Pattern("*").Build()).AsStrSlice()
	if err != nil || len(keys) != len(v.After) {
		t.Errorf("the keys are %q, error %v, want %d", keys, err, len(v.After))
	}
	for key, want := range v.After {
		want.mustBeStored(t, c, key, now, late)
	}
}

// mustFit compares a reply with a vector. A list of pairs, which a hash is, has no order.
func mustFit(t *testing.T, what string, got []rueidis.RedisMessage, want []any, now, late int64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s is %v, want %v", what, got, want)
	}
	for i := range got {
		switch want := want[i].(type) {
		case nil:
			if !got[i].IsNil() {
				t.Errorf("%s has %v at %d, want nil", what, &got[i], i)
			}
		case []any:
			list, err := got[i].ToArray()
			if err != nil {
				t.Fatalf("%s has %v at %d, want %v", what, &got[i], i, want)
			}
			if text, err := got[0].ToString(); err == nil && text == "ok" && len(got) == 3 && len(list) > 10 {
				list = sortedPairs(list)
			}
			mustFit(t, what, list, want, now, late)
		case string:
			text, err := got[i].ToString()
			if n, isNumber := got[i].AsInt64(); err != nil && isNumber == nil {
				text = strconv.FormatInt(n, 10)
			}
			if want == "TIME" {
				want = "[+0]"
			}
			if !fits(text, want, now, late) {
				t.Errorf("%s has %q at %d, want %q", what, text, i, want)
			}
		default: // a number; an integer in the code, and a float from JSON
			n, err := got[i].AsInt64()
			if err != nil || fmt.Sprint(n) != fmt.Sprint(want) {
				t.Errorf("%s has %v at %d, want %v", what, &got[i], i, want)
			}
		}
	}
}

// sortedPairs sorts a list of names and values by name.
func sortedPairs(list []rueidis.RedisMessage) []rueidis.RedisMessage {
	pairs := slices.Collect(slices.Chunk(slices.Clone(list), 2))
	slices.SortFunc(pairs, func(a, b []rueidis.RedisMessage) int {
		x, _ := a[0].ToString()
		y, _ := b[0].ToString()
		return bytes.Compare([]byte(x), []byte(y))
	})
	return slices.Concat(pairs...)
}

// mustBeStored checks that a key holds this content.
func (k keyContent) mustBeStored(t *testing.T, c rueidis.Client, key string, now int64, late func() int64) {
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
		if !fits(got[name], text, now, late()) {
			t.Errorf("%s has %s %q, want %q", key, name, got[name], text)
		}
	}
	ttl, err := do(c.B().Pttl().Key(key).Build()).AsInt64()
	if ttl = max(ttl, 0); err != nil || (ttl == 0) != (k.TTL == 0) || k.TTL >= 0 && max(ttl-k.TTL, k.TTL-ttl) > late() {
		t.Errorf("%s expires in %d ms, error %v, want %d", key, ttl, err, k.TTL)
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

const (
	hour, day     = 3_600_000, 86_400_000
	hourHex       = "00000036ee80"
	zeroHash      = "AAAAAAAAAAAAAAAAAAAAAA"
	vectorInfo    = `{"user":"YWRh"}`
	vectorUserEnd = "000000f" // level, persistent, and the length of the info
)

var (
	vectorSecret = driver.HashOf([]byte("secret")).String()
	vectorState  = stateOf(7, "<-1000>")
)

// stateOf returns a "@s" with the verifier that the cases present. The fields have two bytes.
func stateOf(revision int, seen string) string {
	return "10" + verifierA.String() + fmt.Sprintf("%012x%08x", revision, 2) + seen
}

// withFlags returns a "@s" with other flags, and withVerifier one with another verifier.
func withFlags(flags, state string) string { return state[:1] + flags + state[2:] }

func withVerifier(verifier, state string) string { return state[:2] + verifier + state[24:] }

// previousOf returns a "@previous". It ends with the generation 3, which began 50 s ago.
func previousOf(state, verifier, until string) string {
	return state + verifier + until + "00000003" + "<-50000>"
}

func lifeOf(secret, created string) string { return secret + created + "<+86400000>" + hourHex }

// sessionOf returns the hash of a session of that user.
func sessionOf(created string) keyContent {
	return keyContent{Hash: map[string]string{
		"@s": vectorState, "@l": lifeOf(vectorSecret, created),
		"@u": vectorOwner.String() + "01977420dc00" + vectorUserEnd, "@i": vectorInfo, "n": "1",
	}}
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
	return keyContent{Hash: h, TTL: k.TTL}
}

// lives returns the content of a key that expires after some milliseconds.
func (k keyContent) lives(ttl int64) keyContent {
	k.TTL = ttl
	return k
}

func scoresOf(namesAndScores ...string) keyContent {
	z := map[string]string{}
	for i := 0; i < len(namesAndScores); i += 2 {
		z[namesAndScores[i]] = namesAndScores[i+1]
	}
	return keyContent{Scores: z}
}

// revocationOf is the user's revocation. text has since, until and the exceptions.
func revocationOf(text string) keyContent {
	return keyContent{Hash: map[string]string{vectorOwner.String(): text}}
}

// endedAt is the "ended" marker of a session, and movedAt its "moved" marker.
func endedAt(at, attempt string) keyContent {
	return keyContent{Hash: map[string]string{"@ended": at + attempt}}
}

func movedAt(at string) keyContent { return keyContent{Hash: map[string]string{"@moved": at}} }
