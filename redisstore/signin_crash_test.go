package redisstore_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// TestSignInOfAProcessThatDies: a process is dead after each of the scripts of a sign-in, and the visitor comes to another one. Either
// the visitor goes on with what they had, and what the dead one left counts for a minute; or the sign-in is repeated, and done once.
func TestSignInOfAProcessThatDies(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	other := open(t, "redis://"+node.Addr(), redisstore.Options{})
	scripts := []string{"leave", "signin", "left"}
	for done := range scripts {
		for _, same := range []bool{false, true} { // the same user had signed in before
			for _, repeated := range []bool{false, true} {
				after := "nothing"
				if done > 0 {
					after = scripts[done-1]
				}
				t.Run(fmt.Sprintf("after %s, same user %v, repeated %v", after, same, repeated), func(t *testing.T) {
					t.Parallel()
					d := dying{t, fmt.Sprint("ada ", done, same, repeated), node, other}
					from := d.visitor(same)
					id, in := signInOf(d.user, 0)
					in.From = from
					d.signsIn(done, id, in)
					if repeated {
						d.repeats(id, in)
					} else {
						d.goesOn(done, same, id, in)
					}
				})
			}
		}
	}
}

type dying struct {
	t     *testing.T
	user  string
	node  *redistest.Node
	other *redisstore.Store
}

// visitor has a session with 3 in it.
func (d *dying) visitor(signedIn bool) *driver.Credential {
	from := anonymous(d.t, d.other, 3)
	if !signedIn {
		return from
	}
	id, in := signInOf(d.user, 0)
	in.From = from
	_, err := d.other.SignIn(d.t.Context(), id, in)
	ok(d.t, err)
	ok(d.t, d.other.Touch(d.t.Context(), id, in.Spec.Verifier))
	return &driver.Credential{ID: id, Verifier: in.Spec.Verifier}
}

// signsIn signs in by a process that dies when so many scripts have run.
func (d *dying) signsIn(done int, id driver.ID, in *driver.SignIn) {
	d.t.Helper()
	p := startProxy(d.t, d.node.Addr())
	s := open(d.t, "redis://"+p.Addr(), redisstore.Options{Timeout: time.Second})
	warm, first := signInOf("warm "+d.user, 0) // the scripts are there
	first.From = anonymous(d.t, s, 1)
	_, err := s.SignIn(d.t.Context(), warm, first)
	ok(d.t, err)
	p.diesAfter(int64(done))
	_, err = s.SignIn(d.t.Context(), id, in)
	if done < 2 && err == nil {
		d.t.Error("the sign-in went on after the end of its process")
	}
	s.Close()
	if !p.dead.Load() {
		d.t.Fatal("the process did not die")
	}
}

// n returns what a session has in n, "" if it is none.
func (d *dying) n(id driver.ID) string {
	d.t.Helper()
	r, _, err := d.other.Load(d.t.Context(), id)
	if err != nil {
		if !errors.Is(err, driver.ErrNotFound) && !errors.Is(err, driver.ErrMoved) {
			d.t.Error(err)
		}
		return ""
	}
	n, _ := r.Fields.Get("n")
	return string(n)
}

func (d *dying) live() int {
	d.t.Helper()
	live, err := d.other.Sessions(d.t.Context(), driver.HashOf([]byte(d.user)))
	ok(d.t, err)
	return len(live)
}

// repeats does the same again, as often as one likes.
func (d *dying) repeats(id driver.ID, in *driver.SignIn) {
	for range 3 {
		_, err := d.other.SignIn(d.t.Context(), id, in)
		ok(d.t, err)
	}
	if _, _, err := d.other.Load(d.t.Context(), in.From.ID); !errors.Is(err, driver.ErrMoved) {
		d.t.Errorf("the session before: %v, want ErrMoved", err)
	}
	if n := d.n(id); n != "3" || d.live() != 1 {
		d.t.Errorf("%q came along, want 3; the user has %d sessions, want 1", n, d.live())
	}
}

// goesOn is the visitor with the old cookie.
func (d *dying) goesOn(done int, same bool, id driver.ID, in *driver.SignIn) {
	if done == 2 { // what nobody has a token of lives for a minute
		if ttl, err := d.node.Do("PTTL", keyOf(id)); err != nil || ttl.(int64) <= 0 || ttl.(int64) > 60_000 {
			d.t.Errorf("the new session lives for %v ms (%v), want at most a minute", ttl, err)
		}
		if same { // its script has closed the old one, too: as if the response alone was lost
			if _, _, err := d.other.Load(d.t.Context(), in.From.ID); !errors.Is(err, driver.ErrMoved) || d.live() != 1 {
				d.t.Errorf("the session before: %v, want ErrMoved; the user has %d", err, d.live())
			}
			return
		}
	} else if n := d.n(id); n != "" {
		d.t.Errorf("there is a new session with %q", n)
	}
	if n := d.n(in.From.ID); n != "3" {
		d.t.Errorf("the visitor has %q, want 3", n)
	}
	add := &driver.Change{Verifier: in.From.Verifier, Ops: []driver.Op{{Kind: driver.Add, Key: "n", Delta: 1}}}
	if done > 0 {
		if _, err := d.other.Apply(d.t.Context(), in.From.ID, add); !errors.Is(err, driver.ErrMoved) {
			d.t.Errorf("a write at once: %v, want ErrMoved", err)
		}
	}
	eventually(d.t, 10*time.Second, func() error {
		_, err := d.other.Apply(d.t.Context(), in.From.ID, add)
		return err
	})
	if n := d.n(in.From.ID); n != "4" {
		d.t.Errorf("the visitor has %q, want 4", n)
	}
	again, next := signInOf(d.user, 1)
	next.From = in.From
	res, err := d.other.SignIn(d.t.Context(), again, next)
	ok(d.t, err)
	if n := d.n(again); n != "4" || d.live() != 1 || len(res.Evicted) != done/2 {
		d.t.Errorf("the next sign-in has %q, want 4; the user has %d sessions, want 1; %v were ended", n, d.live(), res.Evicted)
	}
}
