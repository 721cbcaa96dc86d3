package redisstore

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// betweenReads is a client that calls then once, after its first pipeline.
type betweenReads struct {
	rueidis.Client
	then func()
}

func (c *betweenReads) DoMulti(ctx context.Context, commands ...rueidis.Completed) []rueidis.RedisResult {
	replies := c.Client.DoMulti(ctx, commands...)
	if c.then != nil {
		c.then()
		c.then = nil
	}
	return replies
}

// TestListLeavesOutSessionThatEndsBetweenItsReads: the info of the session is too long for one
// read, and another node ends it in between. The user's other sessions are listed.
func TestListLeavesOutSessionThatEndsBetweenItsReads(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	open := func() *Store {
		s, err := Open(t.Context(), "redis://"+node.Addr(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	s, other := open(), open()
	plain := s.plain
	defer func() { s.plain = plain }()
	for name, end := range map[string]func(driver.ID) error{
		"ended": func(id driver.ID) error { return other.End(t.Context(), id) },
		"expired": func(id driver.ID) error {
			return plain.Do(t.Context(), plain.B().Del().Key(s.keys.session(id)).Build()).Error()
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
			s.plain = &betweenReads{plain, func() {
				if err := end(ids[0]); err != nil {
					t.Error(err)
				}
			}}
			list, err := s.Sessions(t.Context(), p.Owner, driver.SessionCursor{}, 10)
			if err != nil || len(list) != 1 || list[0].ID != ids[1] {
				t.Errorf("the list is %v, %v, want %v alone", list, err, ids[1])
			}
		})
	}
}
