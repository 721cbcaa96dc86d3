package redisstore_test

import (
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestOwnWritesStayTracked: a copy that a node brought up to date with its own change, or made of its own creation, hears of what
// others change after that. Redis tracks what a connection has read, and forgets it with each write, so the scripts read last.
func TestOwnWritesStayTracked(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	a := open(t, "redis://"+node.Addr(), redisstore.Options{})
	b := open(t, "redis://"+node.Addr(), redisstore.Options{})
	add := func(s *redisstore.Store, id driver.ID, verifier driver.Hash) *driver.Record {
		res, err := s.Apply(t.Context(), id, &driver.Change{Verifier: verifier, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		return res.Record
	}
	for name, own := range map[string]func(id driver.ID, o *driver.RecordSpec){
		"create": func(driver.ID, *driver.RecordSpec) {},
		"apply": func(id driver.ID, o *driver.RecordSpec) {
			if add(a, id, o.Verifier) == nil {
				t.Error("the change was not made on the copy")
			}
		},
		"touch": func(id driver.ID, o *driver.RecordSpec) {
			time.Sleep(o.Idle / 10)
			if err := a.Touch(t.Context(), id, o.Verifier); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			id, o := fresh()
			o.Idle = 2 * time.Second
			if _, err := a.Create(t.Context(), id, o, &driver.Change{Verifier: o.Verifier}); err != nil {
				t.Fatal(err)
			}
			own(id, o)
			before, _ := a.Near()
			r, _, err := a.Load(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if after, _ := a.Near(); after.Hits != before.Hits+1 {
				t.Error("the node has no copy of what it wrote itself")
			}
			add(b, id, o.Verifier)
			want := r.Revision + 1
			deadline := time.Now().Add(time.Second)
			for {
				r, _, err := a.Load(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				if r.Revision == want {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("a second after another node's change this one still serves its copy")
				}
			}
		})
	}
}
