package polyglot_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// rounds is how many requests of each kind a program makes in a race.
const rounds = 12

// race is what the races have in common: all programs at once on one server.
type race struct {
	testing.TB
	server   *server
	programs []*program
	options  map[string]any
	space    string
}

// races are the races. In each, one program leads: it signs out, or revokes.
var races = []struct {
	name string
	run  func(r *race, leader *program)
}{
	{"one session", raceOnOneSession},
	{"sign-ins", raceOfSignIns},
	{"revocation", raceWithRevocation},
}

// TestRaces runs the races on one server and on a Cluster, with each program as the leader.
func TestRaces(t *testing.T) {
	onEachTopology(t, func(t *testing.T, s *server) {
		programs := startPrograms(t, s)
		if len(programs) == 1 { // Go against Go
			programs = append(programs, startPrograms(t, s)...)
		}
		for _, race := range races {
			for _, leader := range programs {
				t.Run(race.name+"/"+leader.language, func(t *testing.T) { race.run(newRace(t, s, programs), leader) })
			}
		}
	})
}

func newRace(t *testing.T, s *server, programs []*program) *race {
	space := fmt.Sprintf("race.%d.%d", time.Now().UnixNano(), lastNamespace.Add(1))
	return &race{TB: t, server: s, programs: programs, options: map[string]any{}, space: space}
}

// do makes a request with actions in the form of the suite: [["get","theme"]].
func (r *race) do(p *program, cookie, actions string) reply {
	r.Helper()
	options := map[string]any{"name": p.language, "url": r.server.url, "namespace": r.space}
	for k, v := range r.options {
		options[k] = v
	}
	s := step{ID: lastID.Add(1), Client: encoded(options), Token: cookie}
	mustDecode(r, []byte(actions), &s.Do)
	got, err := p.step(s)
	if err != nil {
		r.Error(err)
		got.Outcome = "other"
	}
	return got
}

// mustDo is do with a request that succeeds. It returns the new token, or the one before.
func (r *race) mustDo(p *program, cookie, actions string) (got reply, after string) {
	r.Helper()
	if got = r.do(p, cookie, actions); got.Outcome != "ok" {
		r.Fatalf("%s replied %s to %s", p.language, encoded(got), actions)
	}
	if got.Token != nil {
		cookie = string(*got.Token)
	}
	return got, cookie
}

// atOnce calls f for each program, n times at the same time.
func (r *race) atOnce(n int, f func(p *program, i int)) {
	var wg sync.WaitGroup
	for i := range n {
		for _, p := range r.programs {
			wg.Go(func() { f(p, i) })
		}
	}
	wg.Wait()
}

// mustBeEnded checks that a session's key holds an ended marker and nothing else, and that no
// program finds the session. The end took place after the time since. A minute later, the key may
// have expired.
func (r *race) mustBeEnded(handle, cookie string, since time.Time) {
	r.Helper()
	bucket, hash, _ := strings.Cut(handle, "-")
	key := r.space + ":{" + bucket + "}:s:" + hash
	replies, err := r.server.do([]string{"HGETALL", key}, false)
	if err != nil {
		r.Fatal(err)
	}
	list := replies[0].([]any)
	expired := len(list) == 0 && time.Since(since) >= time.Minute
	if !expired && (len(list) != 2 || list[0] != "@ended") {
		r.Errorf("the key of the ended session has %q, want a marker", list)
	}
	for _, p := range r.programs {
		if got := r.do(p, cookie, `[["has","theme"]]`); got.Outcome != "ok" || got.Session != "" || string(got.Values[0]) != "false" {
			r.Errorf("%s finds the ended session: %s", p.language, encoded(got))
		}
	}
}

const writeAll = `[["add","n",1],["set","f.LANGUAGE",NUMBER],["set","m:LANGUAGE.NUMBER",NUMBER],["add","sums:LANGUAGE",2],
	["append","log",NUMBER],["count","n"]]`

// raceOnOneSession: all languages at once add to one counter, and write fields and entries of
// their own. Nothing is lost. Then one of them signs out among the others: what was acknowledged
// before counts, and nothing comes back.
func raceOnOneSession(r *race, leader *program) {
	first, cookie := r.mustDo(leader, "", `[["set","theme","dark"]]`)
	var sums sync.Map
	r.atOnce(rounds, func(p *program, i int) {
		got := r.do(p, cookie, strings.NewReplacer("LANGUAGE", p.language, "NUMBER", strconv.Itoa(i)).Replace(writeAll))
		if got.Outcome != "ok" || got.Token != nil {
			r.Errorf("%s replied %s", p.language, encoded(got))
			return
		}
		if _, twice := sums.LoadOrStore(string(got.Values[1]), true); twice {
			r.Errorf("%s got the sum %s, as another request did", p.language, got.Values[1])
		}
	})
	total := len(r.programs) * rounds
	for _, p := range r.programs {
		r.mustHaveAll(p, cookie, total)
	}
	if !r.Failed() {
		r.signOutAmongWriters(leader, first.Session, cookie, total)
	}
}

// mustHaveAll checks what all programs have written.
func (r *race) mustHaveAll(p *program, cookie string, total int) {
	r.Helper()
	got, _ := r.mustDo(p, cookie, `[["count","n"],["get","theme"],["entries","m"],["counts","sums"],["get","log"]]`)
	var entries map[string]json.RawMessage
	var counts map[string]string
	var log []json.RawMessage
	mustDecode(r, got.Values[2], &entries)
	mustDecode(r, got.Values[3], &counts)
	mustDecode(r, got.Values[4], &log)
	distinct := map[string]bool{} // Go against Go are two programs of one name
	for _, q := range r.programs {
		distinct[q.language] = true
	}
	if text(got.Values[0]) != strconv.Itoa(total) || len(log) != total || len(entries) != len(distinct)*rounds {
		r.Errorf("%s reads a count of %s, %d elements and %d entries, want %d, %d and %d",
			p.language, got.Values[0], len(log), len(entries), total, total, len(distinct)*rounds)
	}
	for language := range distinct {
		if want := strconv.Itoa(2 * total / len(distinct)); counts[language] != want {
			r.Errorf("%s reads the sum %s of %s, want %s", p.language, counts[language], language, want)
		}
		if got, _ := r.mustDo(p, cookie, fmt.Sprintf(`[["has","f.%s"]]`, language)); string(got.Values[0]) != "true" {
			r.Errorf("%s does not find the field of %s", p.language, language)
		}
	}
}

const writeAndCount = `[["has","theme"],["take","absent"],["add","n",1],["commit"],["count","n"]]`

// signOutAmongWriters ends the session while all write to it.
func (r *race) signOutAmongWriters(leader *program, handle, cookie string, total int) {
	var highest, acknowledged atomic.Int64
	began, ended := time.Now(), make(chan struct{})
	r.atOnce(rounds, func(p *program, i int) {
		if p == leader && i == rounds/2 {
			if got := r.do(p, cookie, `[["sign out"]]`); got.Outcome != "ok" || got.Token == nil || *got.Token != "" {
				r.Errorf("%s signed out with %s", p.language, encoded(got))
			}
			close(ended)
			return
		}
		for range 3 {
			after := isDone(ended)
			// A request after the end is that of an unknown visitor. Its addition begins a session
			// of its own.
			got := r.do(p, cookie, writeAndCount)
			found := len(got.Values) > 0 && string(got.Values[0]) == "true"
			switch {
			case got.Outcome == "ok" && found && after:
				r.Errorf("%s wrote to the session after its end: %s", p.language, encoded(got))
			case got.Outcome == "ok" && found:
				n := number(got.Values[2])
				acknowledged.Add(1)
				for old := highest.Load(); n > old && !highest.CompareAndSwap(old, n); {
					old = highest.Load()
				}
			case got.Outcome == "ok" && got.Session != handle, got.Outcome == "ended":
			default:
				r.Errorf("%s replied %s", p.language, encoded(got))
			}
		}
	})
	if want := int64(total) + acknowledged.Load(); acknowledged.Load() > 0 && highest.Load() != want {
		r.Errorf("the last sum is %d after %d acknowledged additions, want %d", highest.Load(), acknowledged.Load(), want)
	}
	r.mustBeEnded(handle, cookie, began)
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// raceOfSignIns: all languages at once sign one user in, under a limit. Exactly as many sessions as
// allowed live, or exactly as many sign-ins succeed.
func raceOfSignIns(r *race, leader *program) {
	const limit = 4
	r.options["max_per_user"] = limit
	cookies := r.signInAll("ok")
	if n := r.countSignedIn(cookies); n != limit {
		r.Errorf("%d sessions live, want %d", n, limit)
	}
	r.mustDo(leader, "", `[["revoke user","ann",[]]]`)
	if n := r.countSignedIn(cookies); n != 0 {
		r.Errorf("%d sessions live after the revocation", n)
	}
	r.options["refuse_extra"] = true
	cookies = r.signInAll("too many")
	if n := r.countSignedIn(cookies); n != limit || len(cookies) != limit {
		r.Errorf("%d sign-ins succeeded and %d sessions live, want %d", len(cookies), n, limit)
	}
	if got, _ := r.mustDo(leader, "", `[["count sessions","ann"]]`); string(got.Values[0]) != strconv.Itoa(limit) {
		r.Errorf("%s lists %s sessions, want %d", leader.language, got.Values[0], limit)
	}
}

// signInAll signs a user in, with all programs at once, and returns the tokens. A sign-in may also
// have the other outcome, without a token. This is "ok" if the limit may end its session before its
// response leaves.
func (r *race) signInAll(other string) (cookies []string) {
	r.Helper()
	var mu sync.Mutex
	r.atOnce(4, func(p *program, _ int) {
		got := r.do(p, "", `[["sign in",{"user":"ann","device":"é"}]]`)
		switch {
		case got.Outcome == "ok" && got.Token != nil:
			mu.Lock()
			defer mu.Unlock()
			cookies = append(cookies, string(*got.Token))
		case got.Outcome != other || got.Token != nil:
			r.Errorf("%s replied %s", p.language, encoded(got))
		}
	})
	return cookies
}

// countSignedIn returns how many of the tokens open a session of the user. All programs must agree.
func (r *race) countSignedIn(cookies []string) (n int) {
	r.Helper()
	for i, cookie := range cookies {
		p, q := r.programs[i%len(r.programs)], r.programs[(i+1)%len(r.programs)]
		a, _ := r.mustDo(p, cookie, `[["user"]]`)
		b, _ := r.mustDo(q, cookie, `[["user"]]`)
		if string(a.Values[0]) != string(b.Values[0]) {
			r.Errorf("%s finds the user %s, and %s %s", p.language, a.Values[0], q.language, b.Values[0])
		}
		if string(a.Values[0]) == `"ann"` {
			n++
		}
	}
	return n
}

// raceWithRevocation: one language revokes the user while all others write to the user's
// sessions. All of the sessions end, and nothing comes back.
func raceWithRevocation(r *race, leader *program) {
	handles, cookies := make([]string, len(r.programs)), make([]string, len(r.programs))
	for i, p := range r.programs {
		var got reply
		got, cookies[i] = r.mustDo(p, "", `[["sign in",{"user":"ann"}],["set","theme","dark"]]`)
		handles[i] = got.Session
	}
	began, ended := time.Now(), make(chan struct{})
	r.atOnce(rounds, func(p *program, i int) {
		if p == leader && i == rounds/2 {
			got := r.do(p, "", `[["revoke user","ann",[]]]`)
			if got.Outcome != "ok" || string(got.Values[0]) != strconv.Itoa(len(r.programs)) {
				r.Errorf("%s revoked with %s, want %d sessions", p.language, encoded(got), len(r.programs))
			}
			close(ended)
			return
		}
		for range 3 {
			n := (i + 1) % len(cookies)
			after := isDone(ended)
			got := r.do(p, cookies[n], `[["user"],["has","theme"],["add","n",1],["append","m:log",1]]`)
			found := len(got.Values) > 1 && string(got.Values[1]) == "true"
			switch {
			case got.Outcome == "ok" && (found && after || found != (got.Session == handles[n])):
				r.Errorf("%s replied %s, after the end: %v", p.language, encoded(got), after)
			case got.Outcome != "ok" && got.Outcome != "ended":
				r.Errorf("%s replied %s", p.language, encoded(got))
			}
		}
	})
	for i := range cookies {
		r.mustBeEnded(handles[i], cookies[i], began)
	}
	if got, _ := r.mustDo(leader, "", `[["count sessions","ann"]]`); string(got.Values[0]) != "0" {
		r.Errorf("%s lists %s sessions of the revoked user", leader.language, got.Values[0])
	}
}
