package redisstore

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// mustDial returns a client of the server.
func mustDial(t *testing.T, node *redistest.Node) rueidis.Client {
	t.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{node.Addr()}, DisableRetry: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// mustUse returns a store that uses the client.
func mustUse(t *testing.T, client rueidis.Client, o Options) *Store {
	t.Helper()
	s, err := New(t.Context(), client, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// betweenReads is a client that calls then once, after a pipeline that reads sessions.
type betweenReads struct {
	rueidis.Client
	then func()
}

func (c *betweenReads) DoMulti(ctx context.Context, commands ...rueidis.Completed) []rueidis.RedisResult {
	reads := commands[0].Commands()[0] == "HMGET"
	replies := c.Client.DoMulti(ctx, commands...)
	if reads && c.then != nil {
		c.then()
		c.then = nil
	}
	return replies
}

// TestListLeavesOutSessionThatEndsBetweenItsReads: the info of the session is too long for one
// read, and another node ends it in between. The user's other sessions are listed.
func TestListLeavesOutSessionThatEndsBetweenItsReads(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	plain := mustDial(t, node)
	client := &betweenReads{Client: plain}
	s, other := mustUse(t, client, Options{}), mustUse(t, plain, Options{})
	for name, end := range map[string]func(driver.ID) error{
		"ended": func(id driver.ID) error { return other.End(t.Context(), id) },
		"expired": func(id driver.ID) error {
			return plain.Do(t.Context(), plain.B().Del().Key(s.keys.record(id)).Build()).Error()
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := driver.Principal{User: name, Owner: driver.HashOf([]byte(name)), UserAgent: strings.Repeat("a", 512)}
			var ids []driver.ID
			for i := range 2 {
				id := driver.ID{Bucket: driver.BucketOf(p.Owner), Selector: driver.HashOf([]byte{byte(i)})}
				in := &driver.SignIn{Spec: driver.RecordSpec{Verifier: driver.HashOf([]byte{1}), Idle: time.Hour, Lifetime: time.Hour, Principal: &p}}
				if _, err := s.SignIn(t.Context(), id, in); err != nil {
					t.Fatal(err)
				}
				ids = append(ids, id)
			}
			client.then = func() {
				if err := end(ids[0]); err != nil {
					t.Error(err)
				}
			}
			list, err := s.Sessions(t.Context(), p.Owner, driver.SessionCursor{}, 10)
			if err != nil || len(list) != 1 || list[0].ID != ids[1] {
				t.Errorf("the list is %v, %v, want %v alone", list, err, ids[1])
			}
		})
	}
}

// lateReplies is a client whose scripts, once giveUp is set, reply when nobody waits any more: it
// calls giveUp when a script has run.
type lateReplies struct {
	rueidis.Client
	giveUp atomic.Pointer[context.CancelFunc]
}

func (c *lateReplies) DoMulti(ctx context.Context, commands ...rueidis.Completed) []rueidis.RedisResult {
	giveUp := c.giveUp.Load()
	late := giveUp != nil && commands[0].Commands()[0] == "EVALSHA"
	replies := c.Client.DoMulti(context.WithoutCancel(ctx), commands...)
	if late {
		(*giveUp)()
		<-ctx.Done()
	}
	return replies
}

// TestLateReplyToSignInDisturbsNobody: the race detector would report it.
func TestLateReplyToSignInDisturbsNobody(t *testing.T) {
	client := &lateReplies{Client: mustDial(t, redistest.Start(t, redistest.Options{}))}
	s := mustUse(t, client, Options{Timeout: time.Minute})
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	client.giveUp.Store(&giveUp)
	s.inFlight.suspect.Store(int64(time.Since(started) + time.Hour)) // tries may be left behind
	p := driver.Principal{User: "ada", Owner: driver.HashOf([]byte("ada"))}
	id := driver.ID{Bucket: driver.BucketOf(p.Owner), Selector: driver.Hash{1}}
	in := &driver.SignIn{Spec: driver.RecordSpec{Verifier: driver.HashOf([]byte{1}), Idle: time.Hour, Lifetime: time.Hour, Principal: &p}}
	if _, err := s.SignIn(ctx, id, in); !errors.Is(err, driver.ErrUnknown) {
		t.Errorf("SignIn returns %v, want ErrUnknown", err)
	}
	for s.inFlight.running.Load() > 0 {
		runtime.Gosched()
	}
}
