package redisstore

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// readVectors are the content of reading.json. All vectors have the same keys and the same time.
type readVectors struct {
	NowMS       int64        `json:"now_ms"` // the server's time
	Namespace   string       `json:"namespace"`
	Bucket      string       `json:"bucket"`
	Selector    string       `json:"selector"` // its hash
	Owner       string       `json:"owner"`    // of the user "ada", without a key
	Session     string       `json:"session"`  // three keys
	Revocations string       `json:"revocations"`
	Revoked     string       `json:"revoked"`
	Reads       []readVector `json:"reads"`
}

// readVector is what a reader finds, and what it must decide.
type readVector struct {
	Name   string     `json:"name"`
	Why    string     `json:"why"`
	Stored readStored `json:"stored"`
	Token  readToken  `json:"token"`

	RequestBeganMS int64 `json:"request_began_ms"` // by the server's clock

	Outcome   string `json:"outcome"`
	Wrong     string `json:"wrong"`      // what an error is about: a name in a hash, or a key
	TouchDue  bool   `json:"touch_due"`  // false unless the request uses the session
	ExpiresMS int64  `json:"expires_ms"` // 0 unless the request uses the session
}

type readStored struct {
	Session     storedKey `json:"session"`
	Revocations storedKey `json:"revocations"`
	Revoked     storedKey `json:"revoked"`
}

// storedKey is what a key holds. Type is as TYPE replies it.
type storedKey struct {
	Type string            `json:"type"`
	Hash map[string]string `json:"hash"`
	Text string            `json:"text"` // a string, or the only element of a list
}

type readToken struct {
	Generation uint32 `json:"generation"`
	Verifier   string `json:"verifier"` // its hash
}

// usesSession reports whether the request uses the session.
func (v *readVector) usesSession() bool { return v.Outcome == "current" || v.Outcome == "grace" }

func TestReadVectors(t *testing.T) {
	file := filepath.Join(vectorsDir, "reading.json")
	want := readVectors{
		NowMS: vectorNow, Namespace: "vector", Bucket: fmt.Sprintf("%04x", readID.Bucket), Selector: readID.Selector.String(),
		Owner: readOwner.String(), Session: readKeys.session, Revocations: readKeys.revocations, Revoked: readKeys.revoked, Reads: readCases(),
	}
	if *update {
		writeJSON(t, file, want)
	}
	var got readVectors
	readJSON(t, file, &got)
	if !bytes.Equal(toJSON(t, got), toJSON(t, want)) {
		t.Fatalf("%s does not match the code: run go test ./redisstore -run Vectors -update", file)
	}
	node := redistest.Start(t, redistest.Options{})
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{node.Addr()}, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	served, requested := map[string]int{}, map[string]int{}
	for _, v := range got.Reads {
		t.Run(v.Name, func(t *testing.T) {
			now, began := time.UnixMilli(vectorNow), time.UnixMilli(v.RequestBeganMS)
			v.mustMatch(t, "from the stored values", v.decide(now, began), true)
			if !v.lasts(now, began) {
				return // some milliseconds decide
			}
			request := v.RequestBeganMS == vectorNow && v.lasts(now.Add(5*time.Second), began.Add(5*time.Second))
			v.runOnServer(t, c, "redis://"+node.Addr(), request)
			if served[v.Outcome]++; request {
				requested[v.Outcome]++
			}
		})
	}
	for _, o := range readOutcomes {
		if served[o] == 0 || requested[o] == 0 && o != "ended during the request" {
			t.Errorf("%q is the outcome of %d reads from a server, and of %d requests", o, served[o], requested[o])
		}
	}
}

var readOutcomes = []string{
	"current", "grace", "superseded", "unknown", "theft", "moved", "ended before the request", "ended during the request", "none", "error",
}

// decision is what a reader finds out.
type decision struct {
	outcome string
	err     error
	touch   bool
	expires time.Time
}

// lasts reports whether the decision stays the same for some seconds, so that a real server with a
// running clock gives it.
func (v *readVector) lasts(now, began time.Time) bool {
	for _, d := range []time.Duration{-10 * time.Millisecond, 10 * time.Millisecond, 5 * time.Second} {
		if x := v.decide(now.Add(d), began); x.outcome != v.Outcome || x.touch != v.TouchDue {
			return false
		}
		if d < time.Second && v.decide(now, began.Add(d)).outcome != v.Outcome {
			return false
		}
	}
	return true
}

// decide computes the decision from the stored values.
func (v *readVector) decide(now, began time.Time) decision {
	r, err := v.read(now)
	return v.classify(r, err, now, began)
}

// read returns what Load returns.
func (v *readVector) read(now time.Time) (*driver.Record, error) {
	for _, k := range []storedKey{v.Stored.Session, v.Stored.Revocations} {
		if k.Type != "none" && k.Type != "hash" {
			return nil, errors.New("WRONGTYPE")
		}
	}
	s := &Store{}
	if revoked := v.Stored.Revoked; revoked.Type != "none" {
		at, ok := parseTime(revoked.Text)
		if !ok || revoked.Type != "string" {
			return nil, fmt.Errorf("%s: %w", readKeys.revoked, driver.ErrFormat)
		}
		s.global.learn(at)
	}
	hash := maps.Clone(v.Stored.Session.Hash)
	r, err := decodeHash(hash)
	var at time.Time
	switch {
	case errors.Is(err, driver.ErrEnded):
		at, err = parseEnded(hash["@ended"])
	case errors.Is(err, driver.ErrNotFound):
		at, err = s.global.time(), nil
	case err == nil:
		at, err = s.revokedAt(readID, r, v.Stored.Revocations.Hash)
		if err == nil && at.IsZero() && r.Live(now) {
			return r, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return nil, driver.EndedSince(now, at)
}

// classify names what the result of a Load means for the request.
func (v *readVector) classify(r *driver.Record, err error, now, began time.Time) decision {
	var over *driver.EndedError
	switch {
	case errors.Is(err, driver.ErrMoved):
		return decision{outcome: "moved"}
	case errors.As(err, &over) && now.Sub(began) > over.Ago:
		return decision{outcome: "ended during the request"}
	case errors.Is(err, driver.ErrNotFound) && now.Sub(began) >= driver.SupersededFor:
		return decision{outcome: "superseded"} // the marker may be gone
	case over != nil:
		return decision{outcome: "ended before the request"}
	case errors.Is(err, driver.ErrNotFound):
		return decision{outcome: "none"}
	case err != nil:
		return decision{outcome: "error", err: err}
	}
	verifier, err := driver.ParseHash(v.Token.Verifier)
	if err != nil {
		return decision{err: err}
	}
	uses := decision{touch: r.TouchDue(verifier, now), expires: r.Expires()}
	switch r.Tokens.Status(verifier, now) {
	case driver.Current:
		uses.outcome = "current"
		return uses
	case driver.Grace:
		uses.outcome = "grace"
		return uses
	case driver.Superseded:
		return decision{outcome: "superseded"}
	}
	switch generation := v.Token.Generation; {
	case r.Tokens.Stolen(verifier, generation, began):
		return decision{outcome: "theft"}
	case generation < r.Tokens.Generation && r.Tokens.Overlaps(verifier, began):
		return decision{outcome: "superseded"}
	}
	return decision{outcome: "unknown"}
}

// mustMatch compares a decision with the vector. exact includes the time of expiry.
func (v *readVector) mustMatch(t *testing.T, how string, got decision, exact bool) {
	t.Helper()
	var expires int64
	if !got.expires.IsZero() {
		expires = got.expires.UnixMilli()
	}
	if got.outcome != v.Outcome || got.touch != v.TouchDue || exact && expires != v.ExpiresMS {
		t.Errorf("%s: %+v, want %q, touch due %v, expiry %d", how, got, v.Outcome, v.TouchDue, v.ExpiresMS)
	}
	if v.Outcome == "error" && (got.err == nil || !v.isNamedIn(got.err)) {
		t.Errorf("%s: the error %v does not name %q", how, got.err, v.Wrong)
	}
}

// isNamedIn reports whether an error says what is wrong. The server's error names no key.
func (v *readVector) isNamedIn(err error) bool {
	text := err.Error()
	for wrong, name := range map[string]string{"@ended": "ended marker", "@i": "user id", readOwner.String(): "revocation"} {
		if v.Wrong == wrong && strings.Contains(text, name) {
			return true
		}
	}
	field, _, _ := strings.Cut(v.Wrong, ":")
	return field == "vector" || strings.Contains(text, field)
}

// runOnServer stores the values, with times relative to the server's, and reads the session: with
// the store alone, and in a request.
func (v *readVector) runOnServer(t *testing.T, c rueidis.Client, url string, request bool) {
	ctx := t.Context()
	server, err := c.Do(ctx, c.B().Time().Build()).AsIntSlice()
	if err != nil {
		t.Fatal(err)
	}
	shift := server[0]*1000 + server[1]/1000 - vectorNow
	v.store(t, c, shift)
	s, err := Open(ctx, url, waitToDial(Options{Namespace: "vector", NearCache: -1}))
	if err != nil {
		v.mustMatch(t, "when the store is opened", decision{outcome: "error", err: err}, false)
		if v.Wrong != readKeys.revoked {
			t.Errorf("Open: %v", err)
		}
		return
	}
	defer s.Close()
	r, now, err := s.Load(ctx, readID)
	got := v.classify(r, err, now, time.UnixMilli(v.RequestBeganMS+shift))
	if !got.expires.IsZero() {
		got.expires = got.expires.Add(-time.Duration(shift) * time.Millisecond)
	}
	v.mustMatch(t, "from a server", got, true)
	if v.Outcome == "error" && (err == nil || !strings.Contains(err.Error(), readID.String())) {
		t.Errorf("the error %v does not name the session", err)
	}
	if v.usesSession() && !v.isLeaving() {
		verifier, _ := driver.ParseHash(v.Token.Verifier)
		if err := s.Touch(ctx, readID, verifier); err != nil {
			t.Errorf("Touch: %v", err)
		}
		state, err := c.Do(ctx, c.B().Hget().Key(readKeys.session).Field("@s").Build()).ToString()
		revision := func(state string) string { return state[24:36] }
		if wrote := err == nil && revision(state) != revision(v.Stored.Session.Hash["@s"]); err != nil || wrote != v.TouchDue {
			t.Errorf("touch.lua wrote: %v, error %v, want %v", wrote, err, v.TouchDue)
		}
	}
	if request {
		v.store(t, c, shift)
		v.runRequest(t, c, s)
	}
}

// isLeaving reports whether a sign-in is under way: the session can be read, and not written.
func (v *readVector) isLeaving() bool {
	moving := v.Stored.Session.Hash["@moving"]
	if len(moving) != nameWidth+timeWidth {
		return false
	}
	until, ok := parseTime(moving[nameWidth:])
	return ok && until > vectorNow
}

// store stores the values. All times are later by shift, in milliseconds.
func (v *readVector) store(t *testing.T, c rueidis.Client, shift int64) {
	t.Helper()
	do := func(cmd rueidis.Completed) {
		t.Helper()
		if err := c.Do(t.Context(), cmd).Error(); err != nil {
			t.Fatal(err)
		}
	}
	do(c.B().Flushall().Build())
	for key, k := range map[string]storedKey{
		readKeys.session: v.Stored.Session, readKeys.revocations: v.Stored.Revocations, readKeys.revoked: v.Stored.Revoked,
	} {
		switch k.Type {
		case "hash":
			for name, text := range k.Hash {
				do(c.B().Hset().Key(key).FieldValue().FieldValue(name, shifted(name, text, shift)).Build())
			}
		case "string":
			do(c.B().Set().Key(key).Value(shifted("revoked", k.Text, shift)).Build())
		case "list":
			do(c.B().Rpush().Key(key).Element(k.Text).Build())
		}
	}
	// The key of a session expires with it.
	if r, err := decodeHash(maps.Clone(v.Stored.Session.Hash)); err == nil {
		do(c.B().Pexpireat().Key(readKeys.session).MillisecondsTimestamp(r.Expires().UnixMilli() + shift).Build())
	}
}

// runRequest sends the token in a request whose handler adds 1 to the counter n.
func (v *readVector) runRequest(t *testing.T, c rueidis.Client, s *Store) {
	const n session.Counter = "n"
	var stolen atomic.Bool
	m, err := session.New(s, session.Config{Logger: slog.New(slog.DiscardHandler), OnEvent: func(_ context.Context, e session.Event) {
		if e.Kind == session.EventStolen {
			stolen.Store(true)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	sees := false
	h := m.Handler(session.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
		sees = n.Get(s) != 0
		n.Add(s, 1)
		return nil
	}))
	token := binary.BigEndian.AppendUint16([]byte{1}, readID.Bucket)
	token = append(token, readSelector...)
	token = binary.BigEndian.AppendUint32(token, v.Token.Generation)
	for _, text := range readVerifiers {
		if driver.HashOf([]byte(text)).String() == v.Token.Verifier {
			token = append(token, text...)
		}
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://example.com/", nil)
	req.AddCookie(&http.Cookie{Name: "__Host-session", Value: base64.RawURLEncoding.EncodeToString(token)})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	cookie := w.Header().Get("Set-Cookie") != ""
	var code int
	var wantCookie bool
	switch v.Outcome {
	case "current", "grace":
		if code = http.StatusOK; v.isLeaving() {
			code = http.StatusConflict
		}
	case "superseded", "moved", "ended during the request":
		code = http.StatusConflict
	case "error":
		code = http.StatusServiceUnavailable
	default: // the visitor is unknown, and gets a new session
		code, wantCookie = http.StatusOK, true
	}
	if w.Code != code || cookie != wantCookie || sees != v.usesSession() || stolen.Load() != (v.Outcome == "theft") {
		t.Errorf("the request sees the session: %v; status %d, cookie %v, event \"stolen\" %v; want status %d, cookie %v, for %q",
			sees, w.Code, cookie, stolen.Load(), code, wantCookie, v.Outcome)
	}
	if v.Outcome == "error" && v.Stored.Session.Type == "hash" {
		hash, err := c.Do(t.Context(), c.B().Hgetall().Key(readKeys.session).Build()).AsStrMap()
		if err != nil || len(hash) != len(v.Stored.Session.Hash) {
			t.Errorf("the refused session is now %q, error %v", hash, err)
		}
	}
}

// timesIn are the places of times in stored values.
var timesIn = map[string][]int{
	"@s": {44}, "@l": {22, 34}, "@previous": {23, 43}, "@u": {22}, "@moving": {22}, "@ended": {0}, "@moved": {0}, "revoked": {0},
}

// shifted moves the times in a stored value. A time far from the vectors' now is no time, or wrong.
func shifted(name, text string, by int64) string {
	places, ok := timesIn[name]
	if !ok && len(name) == nameWidth { // a revocation, under its owner
		places = []int{0, timeWidth}
		for i := 2*timeWidth + nameWidth; i < len(text); i += exceptionWidth {
			places = append(places, i)
		}
	}
	for _, i := range places {
		if i+timeWidth > len(text) {
			continue
		}
		if at, ok := parseTime(text[i : i+timeWidth]); ok && max(at-vectorNow, vectorNow-at) < 30*day {
			text = text[:i] + fmt.Sprintf("%012x", at+by) + text[i+timeWidth:]
		}
	}
	return text
}

// The session of the vectors, and the verifiers of its tokens: 16 bytes each.
const (
	readSelector = "session-selector"
	current      = "current-verifier"
	previous     = "previous-verifie"
	another      = "another-verifier"
)

var (
	readVerifiers = []string{current, previous, another}
	readOwner, _  = driver.ParseHash("2RORHvgzkbn4W4bnJ4Imaw") // as in users.json
	readID        = driver.ID{Bucket: driver.BucketOf(readOwner), Selector: driver.HashOf([]byte(readSelector))}
	readKeys      = struct{ session, revocations, revoked string }{
		fmt.Sprintf("vector:{%04x}:s:%s", readID.Bucket, readID.Selector), fmt.Sprintf("vector:{%04x}:n", readID.Bucket), "vector:revoked",
	}
)

func hashOf(text string) driver.Hash { return driver.HashOf([]byte(text)) }

// at returns a time as the format stores it, some milliseconds from the vectors' now.
func at(ms int64) string { return fmt.Sprintf("%012x", vectorNow+ms) }

// leavingUntil marks a session for a sign-in.
func leavingUntil(ms int64, h map[string]string) map[string]string {
	h["@s"], h["@moving"] = withFlags(string(h["@s"][1]+2), h["@s"]), nameNew+at(ms)
	return h
}
