package polyglot_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// runner runs one scenario.
type runner struct {
	testing.TB
	server    *server
	steppers  func(client string) stepper
	copies    bool // some client keeps copies of sessions, so a read may be a moment old
	scenario  *scenario
	namespace string
	visitors  map[string]*visitor
	handles   map[string]bool // of all sessions that a reply named
	at        string          // the step, for messages
}

// visitor is a browser.
type visitor struct{ token, handle string }

var (
	lastNamespace atomic.Int64
	lastID        atomic.Int64
)

const (
	repeatFor = 30 * time.Second // see the member "repeat" of a step
	maxAge    = busy             // a read from a copy is never older: see redisstore.Options.Lease
)

func (r *runner) run() {
	r.namespace = fmt.Sprintf("contract.%d.%d", time.Now().UnixNano(), lastNamespace.Add(1))
	r.visitors, r.handles = map[string]*visitor{}, map[string]bool{}
	for i, raw := range r.scenario.Steps {
		r.at = fmt.Sprintf("step %d, %.200s", i+1, raw)
		var s stepData
		mustDecode(r, r.fill(raw), &s)
		switch {
		case s.AtOnce != nil:
			r.atOnce(&s)
		case s.Redis != nil:
			r.attempt(&s, r.redis)
		case s.Token != "":
			r.setToken(&s)
		case s.WaitMS > 0:
			time.Sleep(milliseconds(s.WaitMS))
		default:
			r.attempt(&s, r.request)
		}
		if r.Failed() {
			return
		}
	}
}

func (r *runner) visitor(name string) *visitor {
	if r.visitors[name] == nil {
		r.visitors[name] = &visitor{}
	}
	return r.visitors[name]
}

var placeholder = regexp.MustCompile(`<(ns|(token|handle|key) [^<>]+)>`)

// fill replaces placeholders. None of them stands for text that JSON would have to escape.
func (r *runner) fill(b []byte) []byte {
	return placeholder.ReplaceAllFunc(b, func(m []byte) []byte {
		kind, name, _ := strings.Cut(string(m[1:len(m)-1]), " ")
		if kind == "ns" {
			return []byte(r.namespace)
		}
		switch v := r.visitor(name); kind {
		case "token":
			return []byte(v.token)
		case "handle":
			return []byte(v.handle)
		default:
			bucket, hash, _ := strings.Cut(v.handle, "-")
			return []byte(r.namespace + ":{" + bucket + "}:s:" + hash)
		}
	})
}

func (r *runner) setToken(s *stepData) {
	text := s.Text
	if s.Cut != nil {
		text = text[s.Cut[0]:s.Cut[1]]
	}
	r.visitor(s.Token).token = s.Before + text
}

// attempt makes a step, and again if the step asks for that, until it comes out as wanted. once
// makes it once and says what is wrong.
func (r *runner) attempt(s *stepData, once func(*stepData) string) {
	limit := time.Duration(0)
	if s.Repeat {
		limit = repeatFor
	}
	wrong := retried(limit, func() string { return once(s) })
	if wrong != "" && !r.Failed() {
		r.Errorf("%s: %s", r.at, wrong)
	}
}

// retried calls f until it returns "". The last call begins after the limit, so a machine that
// stands still for a while does not make it the only one.
func retried(limit time.Duration, f func() string) string {
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		last := time.Since(began) >= limit
		if wrong := f(); wrong == "" || last {
			return wrong
		}
	}
}

func (r *runner) redis(s *stepData) string {
	replies, err := r.server.do(s.Redis, s.Everywhere)
	if err != nil {
		r.Fatalf("%s: %v", r.at, err)
	}
	for _, got := range replies {
		if s.Want != nil && !sameJSON(encoded(got), s.Want) {
			return fmt.Sprintf("the server replied %s", encoded(got))
		}
	}
	return ""
}

// settle waits until the copies that a client keeps are as the sessions are stored.
func (r *runner) settle(on string) {
	steps, able := r.steppers(on).(*goSteps)
	if !r.copies || !able {
		return
	}
	var ids []driver.ID
	for handle := range r.handles {
		id, err := driver.ParseID(handle)
		if err != nil {
			r.Fatalf("%s: %v", r.at, err)
		}
		ids = append(ids, id)
	}
	replies, err := r.server.do([]string{"KEYS", r.namespace + ":*:d:*"}, false)
	if err != nil {
		r.Fatalf("%s: %v", r.at, err)
	}
	for _, key := range replies[0].([]any) {
		owner, err := driver.ParseHash(key.(string)[strings.Index(key.(string), ":d:")+3:])
		if err != nil {
			r.Fatalf("%s: %v", r.at, err)
		}
		ids = append(ids, driver.UserDataID(owner))
	}
	if wrong := retried(maxAge, func() string { return steps.outdated(r.client(on), ids) }); wrong != "" {
		r.Errorf("%s: the client %q keeps a copy for longer than %v: %s", r.at, on, maxAge, wrong)
	}
}

// request makes one request and compares its reply.
func (r *runner) request(s *stepData) string {
	var w want
	if s.Want != nil {
		mustDecode(r, s.Want, &w)
	}
	var before []any
	if s.Unchanged != "" {
		before = r.dump(s.Unchanged)
	}
	as, on := one(s.As, ""), one(s.On, "a")
	r.visitor(as) // so that it is there
	r.settle(on)
	got := r.send(as, on, &s.requestData, 0)
	r.update(as, &got)
	if wrong := r.wrong(&got, &w); wrong != "" {
		return fmt.Sprintf("%s\nthe reply is %s", wrong, encoded(got))
	}
	if s.Unchanged != "" {
		if after := r.dump(s.Unchanged); !reflect.DeepEqual(before, after) {
			return fmt.Sprintf("the session of %q changed:\nbefore %s\nafter  %s", s.Unchanged, encoded(before), encoded(after))
		}
	}
	return ""
}

// one returns the only name of a list, or the default.
func one(n names, missing string) string {
	if len(n) == 0 {
		return missing
	}
	return n[0]
}

// dump returns the values of a visitor's session, sorted, without those that a touch changes.
func (r *runner) dump(name string) []any {
	replies, err := r.server.do([]string{"HGETALL", string(r.fill([]byte("<key " + name + ">")))}, false)
	if err != nil {
		r.Fatalf("%s: %v", r.at, err)
	}
	list := replies[0].([]any)
	var pairs []any
	for i := 0; i+1 < len(list); i += 2 {
		value := list[i+1].(string)
		if list[i] == "@s" && len(value) == 56 {
			value = value[:24] + value[36:44] // without the revision and the last use
		}
		pairs = append(pairs, fmt.Sprint(list[i], "=", value))
	}
	slices.SortFunc(pairs, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
	return pairs
}

// client returns the options of a client.
func (r *runner) client(on string) json.RawMessage {
	options := map[string]json.RawMessage{
		"name": encoded(on), "url": encoded(r.server.url), "namespace": encoded(r.namespace),
	}
	maps.Copy(options, r.scenario.Options)
	maps.Copy(options, r.scenario.Clients[on])
	return encoded(options)
}

// send makes a request, with this number in "at once".
func (r *runner) send(as, on string, q *requestData, i int) reply {
	s := step{ID: lastID.Add(1), Client: r.client(on), Open: q.Open}
	if as != "" {
		s.Token = r.visitors[as].token // not visitor, which may write
	}
	if q.Request != "" {
		s.Request = r.namespace + "." + on + "." + q.Request
	}
	for _, action := range q.Do {
		filled := make([]json.RawMessage, len(action))
		for n, b := range action {
			filled[n] = bytes.ReplaceAll(b, []byte("<i>"), []byte(strconv.Itoa(i)))
		}
		s.Do = append(s.Do, filled)
	}
	got, err := r.steppers(on).step(s)
	if err != nil {
		r.Errorf("%s: %v", r.at, err)
		return reply{Outcome: "other", Error: err.Error()}
	}
	return got
}

// update gives the visitor what the reply brought.
func (r *runner) update(as string, got *reply) {
	if got.Session != "" {
		r.handles[got.Session] = true
	}
	if as == "" {
		return
	}
	v := r.visitors[as]
	if got.Token != nil {
		v.token = string(*got.Token)
	}
	if got.Session != "" {
		v.handle = got.Session
	}
}

// wrong says what of the reply is not as wanted.
func (r *runner) wrong(got *reply, w *want) string {
	outcomes := w.Outcome
	if len(outcomes) == 0 {
		outcomes = names{"ok"}
	}
	if !slices.Contains(outcomes, got.Outcome) {
		return fmt.Sprintf("the outcome is %q, want %q", got.Outcome, outcomes)
	}
	if w.Values != nil && got.Outcome == "ok" && !sameJSON(encoded(got.Values), encoded(w.Values)) {
		return fmt.Sprintf("the values are %s, want %s", encoded(got.Values), encoded(w.Values))
	}
	if w.Session != nil && !sameJSON(w.Session, encoded(got.Session != "")) && !sameJSON(w.Session, encoded(got.Session)) {
		return fmt.Sprintf("the session is %q, want %s", got.Session, w.Session)
	}
	sent := "none"
	if got.Token != nil {
		sent = "set"
		if *got.Token == "" {
			sent = "deleted"
		}
	}
	if w.Token != "" && sent != w.Token {
		return fmt.Sprintf("the token is %q, want %q", sent, w.Token)
	}
	return ""
}

// atOnce makes requests at the same time, and counts the replies.
func (r *runner) atOnce(s *stepData) {
	type sent struct {
		as, on string
		q      *requestData
		i      int
		got    reply
	}
	var all []*sent
	for _, raw := range s.AtOnce {
		q := &requestData{}
		mustDecode(r, raw, q)
		visitors, clients := q.As, q.On
		if len(visitors) == 0 {
			visitors = names{""}
		}
		if len(clients) == 0 {
			clients = names{"a"}
		}
		for i := range max(q.Times, 1) * len(visitors) {
			x := &sent{as: visitors[i%len(visitors)], on: clients[i%len(clients)], q: q, i: i}
			if x.as != "" {
				r.visitor(x.as)
			}
			all = append(all, x)
		}
		for _, on := range clients {
			r.settle(on)
		}
	}
	var wg sync.WaitGroup
	for _, x := range all {
		wg.Go(func() { x.got = r.send(x.as, x.on, x.q, x.i) })
	}
	wg.Wait()
	var replies []*reply
	for _, x := range all {
		r.update(x.as, &x.got)
		replies = append(replies, &x.got)
	}
	r.compareAll(s, replies)
}

func (r *runner) compareAll(s *stepData, replies []*reply) {
	var entries []want
	mustDecode(r, s.Want, &entries)
	matches := make([]int, len(entries))
	for _, got := range replies {
		var all []string
		for i := range entries {
			if wrong := r.wrong(got, &entries[i]); wrong != "" {
				all = append(all, wrong)
			} else {
				matches[i]++
			}
		}
		if len(all) == len(entries) {
			r.Errorf("%s: a reply matches no entry: %s\n%s", r.at, encoded(got), strings.Join(all, "\n"))
			return
		}
	}
	for i, w := range entries {
		least, most := bounds(r, w.Times)
		if matches[i] < least || matches[i] > most {
			r.Errorf("%s: %d replies match entry %d of want, want %d to %d", r.at, matches[i], i+1, least, most)
		}
		if w.Counted != nil {
			do := [][]json.RawMessage{{encoded("count"), encoded(w.Counted[1])}}
			r.at += ", counted"
			r.attempt(&stepData{
				requestData: requestData{As: names{w.Counted[0]}, Do: do},
				Want:        encoded(map[string]any{"values": []string{strconv.Itoa(matches[i])}}),
			}, r.request)
		}
	}
	if !s.Distinct {
		return
	}
	seen := map[string]bool{}
	for _, got := range replies {
		v := string(encoded(got.Values))
		if seen[v] {
			r.Errorf("%s: two replies have the values %s", r.at, v)
			return
		}
		seen[v] = true
	}
}

// bounds decodes a number, or the least and the most.
func bounds(t testing.TB, b json.RawMessage) (least, most int) {
	if b[0] != '[' {
		mustDecode(t, b, &least)
		return least, least
	}
	var both [2]int
	mustDecode(t, b, &both)
	return both[0], both[1]
}

// sameJSON compares two values: members of objects in any order, and numbers by value.
func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
