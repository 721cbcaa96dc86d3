package filestore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/filestore"
)

// replaceFile replaces the store's file by another one, in all descriptors of this process.
func replaceFile(t *testing.T, dir, other string) {
	t.Helper()
	target, err := filepath.EvalSymlinks(file(dir))
	must(t, err)
	o, err := os.OpenFile(other, os.O_RDWR, 0)
	must(t, err)
	defer o.Close()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	found := false
	for _, e := range list {
		fd, _ := strconv.Atoi(e.Name())
		if link, _ := os.Readlink("/proc/self/fd/" + e.Name()); link == target {
			must(t, syscall.Dup3(int(o.Fd()), fd, syscall.O_CLOEXEC))
			found = true
		}
	}
	if !found {
		t.Fatal("the store's file is not open")
	}
}

// The errors come from the kernel: /dev/full accepts no byte, and /dev/null accepts all but cannot
// sync.
func TestWritingFails(t *testing.T) {
	for _, test := range []struct {
		other string
		want  error
	}{{"/dev/full", syscall.ENOSPC}, {"/dev/null", syscall.EINVAL}} {
		t.Run(filepath.Base(test.other), func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, filestore.Options{})
			for n := range 20 {
				create(t, s, n, set("pad", strings.Repeat("x", 1000)))
			}
			for range 5 { // for free pages, because these devices have no size
				must(t, s.End(ctx, idOf(0)))
			}
			replaceFile(t, dir, test.other)
			_, err := s.Apply(ctx, idOf(1), set("pad", `"new"`))
			if !errors.Is(err, test.want) || !errors.Is(err, driver.ErrUnknown) {
				t.Errorf("the first error is %v, want %v and ErrUnknown", err, test.want)
			}
			_, err = s.Apply(ctx, idOf(2), set("pad", `"new"`))
			if !errors.Is(err, test.want) || errors.Is(err, driver.ErrUnknown) {
				t.Errorf("the second error is %v, want %v and not ErrUnknown", err, test.want)
			}
			for n := 1; n < 20; n++ {
				if v := value(t, s, n, "pad"); len(v) != 1000 {
					t.Errorf("session %d reads %q after the error", n, v)
				}
			}
			if err := s.Close(); !errors.Is(err, test.want) {
				t.Errorf("Close: %v, want the first error", err)
			}
			s = open(t, dir, filestore.Options{})
			for n := 1; n < 20; n++ {
				if v := value(t, s, n, "pad"); len(v) != 1000 {
					t.Errorf("session %d is %q after reopening", n, v)
				}
			}
		})
	}
}

// With Interval, changes that were acknowledged before the error are lost. Later changes are
// refused, and Close returns the error.
func TestWritingFailsLater(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, filestore.Options{})
	for n := range 20 {
		create(t, s, n, set("pad", strings.Repeat("x", 1000)))
	}
	for n := range 10 { // for free pages
		must(t, s.End(ctx, idOf(10+n)))
	}
	closeStore(t, s)
	s = open(t, dir, filestore.Options{Durability: filestore.Interval, Every: time.Millisecond})
	replaceFile(t, dir, "/dev/full")
	var err error
	for start := time.Now(); err == nil && time.Since(start) < time.Minute; {
		_, err = s.Apply(ctx, idOf(1), add("n", 1))
		time.Sleep(time.Millisecond)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("changes are still acknowledged long after the disk was full: %v", err)
	}
	value(t, s, 1, "n")
	if err := s.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Close: %v, want the first error", err)
	}
}
