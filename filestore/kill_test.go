//go:build unix

package filestore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/filestore"
)

const (
	writers = 16
	kills   = 50
	shared  = 8 // the number of sessions that all writers add to
)

func init() { roles["write"] = writeForever }

// writeForever writes to the store from many goroutines until it is killed. It prints a line "sent"
// before each call and a line "done" after it, with the operation, session and value. A change
// without a line "done" was not acknowledged.
func writeForever(args []string) error {
	first, err := strconv.Atoi(args[1]) // the first session that this process creates
	if err != nil {
		return err
	}
	s, err := filestore.Open(args[0], filestore.Options{})
	if err != nil {
		return err
	}
	failed := make(chan error)
	for w := range writers {
		go func() { failed <- write(s, w, first+w*1_000_000) }()
	}
	return <-failed
}

func write(s *filestore.Store, w, next int) error {
	ctx := context.Background()
	do := func(op string, n int, v string, f func() error) error {
		// Each line is one write system call, so lines printed before the kill are in the pipe.
		os.Stdout.WriteString("sent " + op + " " + strconv.Itoa(n) + " " + v + "\n")
		if err := f(); err != nil {
			return fmt.Errorf("%s %d: %w", op, n, err)
		}
		os.Stdout.WriteString("done " + op + " " + strconv.Itoa(n) + " " + v + "\n")
		return nil
	}
	for i := 0; ; i++ {
		n, v := next+i, strconv.Itoa(i)
		steps := []func() error{
			func() error {
				return do("create", n, v, func() error {
					_, err := s.Create(ctx, idOf(n), originOf(n), set("v", v))
					return err
				})
			},
			func() error {
				return do("add", i%shared, "1", func() error {
					_, err := s.Apply(ctx, idOf(i%shared), add("n", 1))
					return err
				})
			},
			func() error {
				return do("set", n, v+"0", func() error {
					_, err := s.Apply(ctx, idOf(n), set("v", v+"0"))
					return err
				})
			},
			func() error {
				if i%2 == 0 {
					return nil
				}
				return do("end", n, v, func() error { return s.End(ctx, idOf(n)) })
			},
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
	}
}

// history is what the children printed about one session.
type history struct {
	created, ended, ending bool
	values                 map[string]bool // the values that it may have
	sent, done             int64           // adds
}

type ledger map[int]*history

func (l ledger) of(n int) *history {
	h := l[n]
	if h == nil {
		h = &history{values: map[string]bool{}}
		l[n] = h
	}
	return h
}

func (l ledger) note(line string) error {
	parts := strings.Fields(line)
	if len(parts) != 4 {
		return fmt.Errorf("invalid line %q", line)
	}
	n, err := strconv.Atoi(parts[2])
	if err != nil {
		return err
	}
	h, v := l.of(n), parts[3]
	switch parts[0] + " " + parts[1] {
	case "sent create", "sent set":
		h.values[v] = true
	case "done create":
		h.created = true
	case "done set": // the value replaces all earlier ones
		h.values = map[string]bool{v: true}
	case "sent add":
		h.sent++
	case "done add":
		h.done++
	case "sent end":
		h.ending = true
	case "done end":
		h.ended = true
	default:
		return fmt.Errorf("invalid line %q", line)
	}
	return nil
}

// check compares the store with the history.
func (l ledger) check(s *filestore.Store) error {
	var errs []error
	for n, h := range l {
		r, _, err := s.Load(context.Background(), idOf(n))
		switch {
		case n < shared:
			if err != nil {
				return fmt.Errorf("shared session %d: %w", n, err)
			}
			v, _ := r.Fields.Get("n")
			count, _ := driver.ParseInt(v)
			if count < h.done || count > h.sent {
				errs = append(errs, fmt.Errorf("counter %d is %d: %d adds were acknowledged, %d were sent", n, count, h.done, h.sent))
			}
			h.sent, h.done = count, count // additions in flight are now decided
		case h.ended && !errors.Is(err, driver.ErrNotFound):
			errs = append(errs, fmt.Errorf("session %d was ended and is found (%v)", n, err))
		case errors.Is(err, driver.ErrNotFound):
			if h.created && !h.ending {
				errs = append(errs, fmt.Errorf("session %d was created and is missing", n))
			}
			h.ended = true
		case err != nil:
			errs = append(errs, err)
		default:
			v, _ := r.Fields.Get("v")
			if !h.values[string(v)] {
				errs = append(errs, fmt.Errorf("session %d has the value %q, and may have %v", n, v, h.values))
			}
			// A change in flight is now decided, and stays so.
			l[n] = &history{created: true, values: map[string]bool{string(v): true}}
		}
	}
	return errors.Join(errs...)
}

// live runs a child that writes until it is killed at a random time. In every other life it first
// acknowledges some writes, however slow the machine is.
func (l ledger) live(t *testing.T, dir string, life int) (acknowledged int) {
	c := child(t, "write", dir, strconv.Itoa((life+1)*100_000_000))
	out, err := c.StdoutPipe()
	must(t, err)
	var complaint strings.Builder
	c.Stderr = &complaint
	must(t, c.Start())
	least := life % 2 * 2 * writers
	var kill sync.Once
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			if err != io.EOF {
				t.Error(err)
			}
			break // text after the last newline is incomplete
		}
		must(t, l.note(line[:len(line)-1]))
		if strings.HasPrefix(line, "done") {
			acknowledged++
		}
		if acknowledged < least {
			continue
		}
		kill.Do(func() { // the child has begun to write
			time.AfterFunc(time.Duration(rand.IntN(80_000))*time.Microsecond, func() { c.Process.Kill() })
		})
	}
	c.Wait()
	if complaint.Len() > 0 {
		t.Fatalf("the child failed before it was killed: %s", complaint.String())
	}
	return acknowledged
}

// A process that is killed while it writes, again and again, loses nothing that it has
// acknowledged.
func TestKilledWhileWriting(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, filestore.Options{})
	for n := range shared {
		create(t, s, n, set("v", "0"))
	}
	closeStore(t, s)
	said, total := ledger{}, 0
	for life := range kills {
		total += said.live(t, dir, life)
		s := open(t, dir, filestore.Options{})
		if err := said.check(s); err != nil {
			t.Fatalf("after kill %d: %v", life+1, err)
		}
		closeStore(t, s)
	}
	if total < kills*writers {
		t.Errorf("only %d writes were acknowledged in %d runs: too few for the test to be valid", total, kills)
	}
	t.Logf("%d writes were acknowledged in %d lives, and all were found", total, kills)
}
