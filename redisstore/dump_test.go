package redisstore_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// What the application stores. No other data contains these words.
const (
	inValue  = "chartreuse-value"
	inEntry  = "vermilion-entry"
	inOnce   = "ultramarine-once"
	inUpdate = "aquamarine-update"
	aUser    = "hildegard.von.bingen@example.org"
	aDevice  = "Rhenish Psaltery on Parchment"
	anAgent  = "Scivias/1.0 (Ordo Virtutum)"
	anAddr   = "2001:db8:1098:1179::17"
)

// TestDumpHoldsNoTokenAndNoSealedValue searches everything that a thief of the store gets: every
// key, the snapshot, the append-only file and the slow log. The dump holds no token in any form.
// With sealing it holds no value and no user either. Without sealing the same search finds both,
// which proves that the search works. (P4)
func TestDumpHoldsNoTokenAndNoSealedValue(t *testing.T) {
	words := []string{inValue, inEntry, inOnce, inUpdate, aUser, aDevice, anAgent, anAddr}
	for _, seal := range []bool{true, false} {
		t.Run(fmt.Sprint("sealed ", seal), func(t *testing.T) {
			node := redistest.Start(t, redistest.Options{Config: []string{
				"rdbcompression no", "appendonly yes", "appendfsync always",
				"slowlog-log-slower-than 0", "slowlog-max-len 10000",
			}})
			tokens, handle := mustUseEverything(t, "redis://"+node.Addr(), seal)
			eventually(t, anytime, func() error { // until the events are stored too
				if n, err := node.Do("XLEN", "coatcheck:events"); err != nil || n.(int64) < 2 {
					return fmt.Errorf("%v events are stored, want 2 (error %w)", n, err)
				}
				return nil
			})
			dump := mustDump(t, node)
			if !dump.has([]byte(handle[5:])) || seal && !dump.has([]byte("~1")) {
				t.Fatal("the dump does not contain the session")
			}
			if len(tokens) < 4 {
				t.Fatalf("%d tokens were issued, want at least 4", len(tokens))
			}
			for _, text := range tokens {
				b, err := base64.RawURLEncoding.DecodeString(text)
				if err != nil {
					t.Fatal(err)
				}
				parts := map[string][]byte{"token": b, "selector": b[3:19], "verifier": b[23:39], "signature": b[39:]}
				for name, part := range parts {
					if at := dump.find(part); at != "" {
						t.Errorf("the %s of a token is in %s", name, at)
					}
				}
				if at := dump.find([]byte(text)); at != "" {
					t.Errorf("a token is in %s", at)
				}
			}
			for _, kind := range []string{"HGETALL ", "DUMP ", ".rdb", ".incr.aof"} {
				if found := dump.only(kind).find([]byte(inValue)) != ""; found == seal {
					t.Errorf("a value is in %s: %v, want %v", kind, found, !seal)
				}
			}
			for _, w := range words {
				switch at := dump.find([]byte(w)); {
				case seal && at != "":
					t.Errorf("%q is in %s", w, at)
				case !seal && at == "":
					t.Errorf("the search does not find %q in the unsealed dump", w)
				}
			}
		})
	}
}

// TestDumpSearchFindsEveryEncodingOfAToken is the control: the search finds a token that an
// application stores in a clear value, in every encoding.
func TestDumpSearchFindsEveryEncodingOfAToken(t *testing.T) {
	node := redistest.Start(t, redistest.Options{
		Config: []string{"rdbcompression no", "appendonly yes", "appendfsync always"},
	})
	b := []byte("\x01\x02\x030123456789abcdef\xff\xfe0123456789ABCDEF!?")
	for form, text := range map[string]string{
		"raw":       string(b),
		"hex":       hex.EncodeToString(b),
		"base64url": base64.RawURLEncoding.EncodeToString(b),
		"base64":    "xy" + base64.StdEncoding.EncodeToString(b),
		"within":    base64.StdEncoding.EncodeToString(append([]byte("x"), b...)),
	} {
		if _, err := node.Do("HSET", "key", "field", text); err != nil {
			t.Fatal(err)
		}
		dump := mustDump(t, node)
		for _, part := range [][]byte{b, b[3:19], b[21:37]} {
			if dump.find(part) == "" {
				t.Errorf("%s: the search does not find %q in %q", form, part, text)
			}
		}
	}
}

// mustUseEverything uses all features that leave data in the store. It returns the issued tokens
// and the last handle.
func mustUseEverything(t *testing.T, url string, seal bool) (tokens []string, handle string) {
	t.Helper()
	key := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	m, err := session.New(mustOpen(t, url, patient(withEvents)), session.Config{
		Keys: [][]byte{key(1)}, UserKey: key(2), Seal: seal, KeepFields: []string{"value", "entries", "n"}, MaxPerUser: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	const (
		value   session.Value[string] = "value"
		entries session.Map[string]   = "entries"
		once    session.Value[string] = "once"
		updated session.Value[string] = "updated"
		n       session.Counter       = "n"
	)
	login := session.Login{User: aUser, Device: aDevice, UserAgent: anAgent, Address: anAddr, Methods: []string{"pwd"}}
	cookie := ""
	do := func(f func(s *session.Session) error) {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		if cookie != "" {
			r.Header.Set("Cookie", cookie)
		}
		w := httptest.NewRecorder()
		m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
			return f(s)
		})).ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Fatal(w.Code, w.Body)
		}
		for _, c := range w.Result().Cookies() {
			if c.MaxAge < 0 { // a sign-in deletes the cookie of the anonymous session
				continue
			}
			cookie = c.Name + "=" + c.Value
			tokens = append(tokens, c.Value)
		}
	}
	for range 3 { // the limit is 2, so the third sign-in ends the first session
		cookie = ""
		do(func(s *session.Session) error {
			value.Set(s, inValue)
			// The entry is too long for the server's compact encoding.
			entries.Set(s, "a", inEntry+strings.Repeat(" and more", 20))
			once.Set(s, inOnce)
			n.Add(s, 1)
			return nil
		})
		do(func(s *session.Session) error { once.Set(s, inOnce); return s.SignIn(t.Context(), login) })
		do(func(s *session.Session) error { return s.Renew(t.Context()) })
		do(func(s *session.Session) error {
			_, err := updated.Update(t.Context(), s, func(string) (string, error) { return inUpdate, nil })
			return err
		})
	}
	do(func(s *session.Session) error {
		got, ok, err := once.Take(t.Context(), s)
		entry, _ := entries.Get(s, "a")
		if got != inOnce || !ok || value.Get(s) != inValue || !strings.HasPrefix(entry, inEntry) ||
			updated.Get(s) != inUpdate || n.Get(s) != 1 || s.User() != aUser || s.Info().Device != aDevice {
			t.Errorf("the session holds %q, %q, %q, %q, %d, %+v",
				got, value.Get(s), entry, updated.Get(s), n.Get(s), s.Info())
		}
		handle = s.Info().Handle
		return err
	})
	if list, err := listAll(t.Context(), m, aUser); err != nil || len(list) != 2 || list[0].Address != anAddr {
		t.Errorf("Sessions: %+v, %v", list, err)
	}
	return tokens, handle
}

// dump maps each place where a server reveals data to that data.
type dump map[string][]byte

// mustDump reads every key in every way, the slow log, and the server's files.
func mustDump(t *testing.T, node *redistest.Node) dump {
	t.Helper()
	d := dump{}
	read := func(args ...string) any {
		t.Helper()
		reply, err := node.Do(args...)
		if err != nil {
			t.Fatal(err)
		}
		d[strings.Join(args, " ")] = flat(reply)
		return reply
	}
	read("SLOWLOG", "GET", "-1")
	keys, _ := read("KEYS", "*").([]any)
	if len(keys) == 0 {
		t.Fatal("the server has no keys")
	}
	for _, k := range keys {
		key := k.(string)
		read("DUMP", key)
		switch kind, _ := node.Do("TYPE", key); kind {
		case "hash":
			d["info of "+key] = joinedInfo(read("HGETALL", key).([]any))
		case "zset":
			read("ZRANGE", key, "0", "-1", "WITHSCORES")
		case "string":
			read("GET", key)
		case "stream":
			read("XRANGE", key, "-", "+")
		default:
			t.Errorf("%s has the unexpected type %v", key, kind)
		}
	}
	if _, err := node.Do("SAVE"); err != nil {
		t.Fatal(err)
	}
	var files []string
	err := filepath.WalkDir(node.Dir(), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		files = append(files, e.Name())
		d[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{".rdb", ".incr.aof"} {
		if !slices.ContainsFunc(files, func(name string) bool { return strings.HasSuffix(name, part) }) {
			t.Fatalf("no %s file among %q", part, files)
		}
	}
	return d
}

// joinedInfo returns the parts of a session's info as one text: a word may lie in two parts.
func joinedInfo(hash []any) (info []byte) {
	values := map[any]any{}
	for i := 0; i+1 < len(hash); i += 2 {
		values[hash[i]] = hash[i+1]
	}
	for i, name := 2, "@i"; values[name] != nil; i, name = i+1, fmt.Sprint("@i", i) {
		info = fmt.Append(info, values[name])
	}
	return info
}

// only returns the data from one kind of place.
func (d dump) only(kind string) dump {
	some := dump{}
	for where, all := range d {
		if strings.Contains(where, kind) {
			some[where] = all
		}
	}
	return some
}

// flat joins all strings of a reply.
func flat(reply any) []byte {
	switch r := reply.(type) {
	case []any:
		var all []byte
		for _, v := range r {
			all = append(append(all, flat(v)...), '\n')
		}
		return all
	default:
		return fmt.Append(nil, r)
	}
}

// has reports whether the dump contains b as it is.
func (d dump) has(b []byte) bool {
	for _, all := range d {
		if bytes.Contains(all, b) {
			return true
		}
	}
	return false
}

// find returns a place that contains b, or "". It searches for b as it is, in hexadecimal, and in
// both alphabets of base64 at any offset.
func (d dump) find(b []byte) string {
	forms := [][]byte{b, []byte(hex.EncodeToString(b)), []byte(strings.ToUpper(hex.EncodeToString(b)))}
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		// Leave out the bytes at both ends that share a group of characters with other bytes.
		for before := range 3 {
			whole := b[(3-before)%3:]
			forms = append(forms, []byte(e.EncodeToString(whole[:len(whole)/3*3])))
		}
	}
	for where, all := range d {
		for _, form := range forms {
			if bytes.Contains(all, form) {
				return where
			}
		}
	}
	return ""
}
