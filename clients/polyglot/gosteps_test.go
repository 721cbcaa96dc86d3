package polyglot_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
)

// goSteps is the step function of the Go library. Each step is a request to an HTTP handler within
// the library's middleware.
type goSteps struct {
	nearCache int // see redisstore.Options

	mu       sync.Mutex
	clients  map[string]*goClient
	requests map[string]*goRequest
}

func newGoSteps(nearCache int) *goSteps {
	return &goSteps{nearCache: nearCache, clients: map[string]*goClient{}, requests: map[string]*goRequest{}}
}

func (g *goSteps) close() { g.closeUnused(0) }

// closeUnused closes the clients that have no request, and have had none for so long. A suite opens
// hundreds, which would keep a Cluster busy. A client that is needed again is opened again.
func (g *goSteps) closeUnused(since time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for options, c := range g.clients {
		if c.requests == 0 && time.Since(c.last) >= since {
			delete(g.clients, options)
			c.close()
		}
	}
}

// goClient is one store and one Manager. Opening it takes place once.
type goClient struct {
	requests int // under way; guarded by goSteps.mu, like last
	last     time.Time

	open    sync.Once
	store   *redisstore.Store
	plain   *redisstore.Store // without copies; nil: store has none either
	manager *session.Manager
	handler http.Handler
	err     error
}

// goRequest is a request under way. Its handler receives steps, and replies to each but the last.
type goRequest struct {
	client  *goClient
	steps   chan step
	replies chan reply
	values  []json.RawMessage
	session string
	err     error
}

type goRequestKey struct{}

func (c *goClient) close() {
	if c.store == nil {
		return
	}
	c.store.Close()
	if c.plain != nil {
		c.plain.Close()
	}
}

// outdated compares the copies that a client has with the records as they are stored. It says which
// differs.
func (g *goSteps) outdated(client json.RawMessage, ids []driver.ID) string {
	g.mu.Lock()
	c := g.clients[string(client)]
	if c == nil {
		g.mu.Unlock()
		return ""
	}
	c.requests++
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		c.requests--
		c.last = time.Now()
	}()
	for _, id := range ids {
		if wrong := c.outdated(id); wrong != "" {
			return wrong
		}
	}
	return ""
}

func (c *goClient) outdated(id driver.ID) string {
	if c.plain == nil {
		return ""
	}
	if _, _, copied := c.store.LoadStale(id); !copied {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), busy)
	defer cancel()
	// A touch may change the record between the calls.
	before, _, _ := c.plain.LoadFresh(ctx, id)
	got, _, err := c.store.Load(ctx, id)
	after, _, _ := c.plain.LoadFresh(ctx, id)
	if !sameRecord(got, before) && !sameRecord(got, after) {
		return fmt.Sprintf("%v is %+v, %v; it is stored as %+v", id, got, err, after)
	}
	return ""
}

func sameRecord(a, b *driver.Record) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Revision == b.Revision && a.Seen.Equal(b.Seen) && a.Deadline.Equal(b.Deadline) && reflect.DeepEqual(a.Fields, b.Fields)
}

func (g *goSteps) step(s step) (reply, error) {
	g.closeUnused(5 * time.Second)
	g.mu.Lock()
	c := g.clients[string(s.Client)]
	if c == nil {
		c = &goClient{}
		g.clients[string(s.Client)] = c
	}
	r, name := g.requests[s.Request], s.Request
	delete(g.requests, name)
	if r == nil {
		c.requests++
	}
	g.mu.Unlock()
	open := false
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if c.last = time.Now(); !open {
			c.requests--
		}
	}()
	c.open.Do(func() { c.start(s.Client, g.nearCache) })
	if c.handler == nil {
		return s.failed(c.err), nil
	}
	if r == nil {
		r = &goRequest{client: c, steps: make(chan step, 1), replies: make(chan reply, 1)}
		go r.serve(s.Token)
	}
	r.steps <- s
	answer := <-r.replies
	if s.Open && answer.Outcome == "ok" {
		open = true
		g.mu.Lock()
		g.requests[name] = r
		g.mu.Unlock()
	}
	answer.ID = s.ID
	return answer, nil
}

// serve makes the whole request, and sends the last reply.
func (r *goRequest) serve(cookie string) {
	ctx := context.WithValue(context.Background(), goRequestKey{}, r)
	request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", http.NoBody)
	if cookie != "" {
		request.Header.Set("Cookie", cookieName+"="+cookie)
	}
	response := httptest.NewRecorder()
	r.client.handler.ServeHTTP(response, request)
	answer := reply{Outcome: outcomeOf(r.err), Values: r.values, Session: r.session}
	if r.err != nil {
		answer.Error = r.err.Error()
	}
	for _, c := range response.Result().Cookies() {
		// A sign-in also deletes the cookie of anonymous sessions.
		if answer.Token == nil || c.Value != "" {
			answer.Token = new(token)
			*answer.Token = token(c.Value)
		}
	}
	r.replies <- answer
}

// cookieName is the library's default. The token of an anonymous session works in this cookie, too.
const cookieName = "__Host-session"

// handle is the handler of all requests.
func handle(w http.ResponseWriter, req *http.Request, s *session.Session) error {
	r := req.Context().Value(goRequestKey{}).(*goRequest)
	for {
		next := <-r.steps
		r.values = []json.RawMessage{}
		for _, action := range next.Do {
			v, err := r.act(req.Context(), s, action)
			if err != nil {
				return err
			}
			if v != nil {
				r.values = append(r.values, v)
			}
		}
		if !next.Open {
			w.WriteHeader(http.StatusNoContent) // commits
			r.session = s.Info().Handle
			return nil
		}
		r.replies <- reply{Outcome: "ok", Values: r.values, Session: s.Info().Handle}
	}
}

// goOptions are the options of a client.
type goOptions struct {
	URL         string   `json:"url"`
	Namespace   string   `json:"namespace"`
	Idle        int64    `json:"idle_ms"`
	FirstUse    int64    `json:"first_use_ms"`
	Lifetime    int64    `json:"lifetime_ms"`
	MaxRemember int64    `json:"max_remember_ms"`
	MaxSize     int      `json:"max_size"`
	MaxPerUser  int      `json:"max_per_user"`
	RefuseExtra bool     `json:"refuse_extra"`
	KeepFields  []string `json:"keep_fields"`
	Keys        []string `json:"keys"`
	UserKey     string   `json:"user_key"`
	Seal        bool     `json:"seal"`
	Rotate      int64    `json:"rotate_ms"`

	UserFields      map[string]string `json:"user_fields"` // to their kinds
	UserDataTimeout int64             `json:"user_data_timeout_ms"`
}

// busy is how long a busy machine may take for one call.
const busy = 30 * time.Second

func (c *goClient) start(text json.RawMessage, nearCache int) {
	var o goOptions
	if c.err = json.Unmarshal(text, &o); c.err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), busy)
	defer cancel()
	quiet := slog.New(slog.DiscardHandler)
	url := strings.Replace(o.URL, "redis-cluster:", "redis+cluster:", 1)
	// A server that a busy machine stops for a while must not count as down: see maxAge, too.
	options := redisstore.Options{Namespace: o.Namespace, Timeout: busy, Lease: maxAge, NearCache: nearCache, Logger: quiet}
	c.store, c.err = redisstore.Open(ctx, url, options)
	if c.err != nil {
		c.err = fmt.Errorf("%w: %v", session.ErrUnavailable, c.err)
		return
	}
	if nearCache >= 0 {
		options.NearCache = -1
		if c.plain, c.err = redisstore.Open(ctx, url, options); c.err != nil {
			return
		}
	}
	cfg := session.Config{
		IdleTimeout: milliseconds(o.Idle), FirstUseTimeout: milliseconds(o.FirstUse), Lifetime: milliseconds(o.Lifetime),
		MaxRemember: milliseconds(o.MaxRemember), MaxSize: o.MaxSize, MaxPerUser: o.MaxPerUser, RefuseExtra: o.RefuseExtra,
		UserDataTimeout: milliseconds(o.UserDataTimeout), KeepFields: o.KeepFields, Seal: o.Seal, RotateEvery: milliseconds(o.Rotate), CommitTimeout: busy, Logger: quiet,
		OnError: func(w http.ResponseWriter, r *http.Request, err error) {
			r.Context().Value(goRequestKey{}).(*goRequest).err = err
			w.WriteHeader(session.Status(err))
		},
	}
	for name, kind := range o.UserFields {
		cfg.UserFields = append(cfg.UserFields, fieldOf(name, kind))
	}
	for _, k := range o.Keys {
		cfg.Keys = append(cfg.Keys, mustHex(k))
	}
	if o.UserKey != "" {
		cfg.UserKey = mustHex(o.UserKey)
	}
	if c.manager, c.err = session.New(c.store, cfg); c.err == nil {
		c.handler = c.manager.Handler(session.HandlerFunc(handle))
	}
}

// fieldOf returns a field of a kind of the suite.
func fieldOf(name, kind string) session.Field {
	switch kind {
	case "map":
		return session.Map[json.RawMessage](name)
	case "counter":
		return session.Counter(name)
	case "counters":
		return session.Counters(name)
	}
	return session.Value[json.RawMessage](name)
}

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

var outcomes = []struct {
	err  error
	word string
}{
	{session.ErrUnknownOutcome, "unknown outcome"}, {session.ErrUnavailable, "unavailable"}, {session.ErrEnded, "ended"},
	{session.ErrTooLarge, "too large"}, {session.ErrLimit, "limit"}, {session.ErrInvalid, "invalid"}, {session.ErrDecode, "decode"},
	{session.ErrSealed, "sealed"}, {session.ErrTooMany, "too many"}, {session.ErrRevoked, "revoked"},
	{session.ErrNotFound, "not found"},
}

func outcomeOf(err error) string {
	if err == nil {
		return "ok"
	}
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return o.word
		}
	}
	return "other"
}
