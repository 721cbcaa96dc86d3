package sqlstore_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/sqlstore"
)

const (
	processes     = 3
	perProcess    = 134 // increments, 402 in all
	signInsEach   = 67  // 201 in all
	sessionsLimit = 5
)

// TestProcessesShareSessions: three processes increment the counter of one session and sign in one
// user, all at the same time. No increment is lost, and the user never has more sessions than the
// limit.
func TestProcessesShareSessions(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			p := d.new(t)
			s := p.open(t)
			id := mustCreate(t, s)
			var children []*exec.Cmd
			for range processes {
				self, err := os.Executable()
				must(t, err)
				c := exec.Command(self, "-test.run=^$")
				c.Env = append(os.Environ(), roleVariable+"="+strings.Join([]string{p.url, p.options.Prefix, id.String()}, " "))
				c.Stderr = os.Stderr
				must(t, c.Start())
				children = append(children, c)
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for _, c := range children {
					if err := c.Wait(); err != nil {
						t.Errorf("a process failed: %v", err)
					}
				}
			}()
			for running := true; running; {
				select {
				case <-ended:
					running = false
				default:
				}
				list, err := s.Sessions(t.Context(), ada, driver.SessionCursor{}, 100)
				must(t, err)
				if len(list) > sessionsLimit {
					t.Fatalf("the user has %d sessions at one moment, want %d at most", len(list), sessionsLimit)
				}
			}
			mustCount(t, s, id, fmt.Sprint(1+processes*perProcess))
			list, err := s.Sessions(t.Context(), ada, driver.SessionCursor{}, 100)
			if err != nil || len(list) != sessionsLimit {
				t.Errorf("the user has %d sessions in the end, %v, want %d", len(list), err, sessionsLimit)
			}
		})
	}
}

// runChild is one of the processes of TestProcessesShareSessions.
func runChild(role string) int {
	ctx := context.Background()
	var url, prefix, handle string
	fmt.Sscan(role, &url, &prefix, &handle)
	o := options()
	o.Prefix = prefix
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "process:", err)
		return 1
	}
	s, err := sqlstore.Open(ctx, url, o)
	if err != nil {
		return fail(err)
	}
	defer s.Close()
	id, err := driver.ParseID(handle)
	if err != nil {
		return fail(err)
	}
	errs := make(chan error, perProcess+signInsEach)
	concurrently(perProcess+signInsEach, func(i int) {
		if i < perProcess {
			_, err := s.Apply(ctx, id, increment())
			errs <- err
			return
		}
		id, in := signIn()
		in.MaxSessions = sessionsLimit
		_, err := s.SignIn(ctx, id, in)
		errs <- err
	})
	for range cap(errs) {
		if err := <-errs; err != nil {
			return fail(err)
		}
	}
	return 0
}

// TestProcessesCreateTheSchemaTogether: stores that open an empty database at the same time all
// succeed.
func TestProcessesCreateTheSchemaTogether(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			p := d.new(t)
			concurrently(6, func(int) {
				s, err := sqlstore.Open(t.Context(), p.url, p.options)
				if err != nil {
					t.Errorf("Open: %v", err)
					return
				}
				defer s.Close()
				mustCreate(t, s)
			})
		})
	}
}
