//go:build unix

package filestore_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/filestore"
)

func init() {
	roles["open"] = openOnly
	roles["open as nobody"] = openAsNobody
	roles["fill"] = fillDisk
}

// openOnly opens a store, reports that on standard output, and closes it when its standard input
// ends.
func openOnly(args []string) error {
	s, err := filestore.Open(args[0], filestore.Options{})
	if err != nil {
		return err
	}
	fmt.Println("opened")
	io.Copy(io.Discard, os.Stdin)
	return s.Close()
}

// openAsNobody opens a store as a user to whom permissions apply, unlike root.
func openAsNobody(args []string) error {
	if os.Getuid() == 0 {
		if err := errors.Join(syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
			return err
		}
	}
	return openOnly(args)
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	c := child(t, "open", dir)
	in, err := c.StdinPipe()
	must(t, err)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	if _, err := io.ReadFull(out, make([]byte, len("opened\n"))); err != nil {
		t.Fatal(err)
	}
	words := []string{dir, "in use by another process", "Redis", "redisstore"}
	if _, err := filestore.Open(dir, filestore.Options{}); err == nil {
		t.Error("two processes have the store open")
	} else {
		mustMention(t, err.Error(), words...)
	}
	third, err := child(t, "open", dir).CombinedOutput()
	if err == nil {
		t.Error("two processes have the store open")
	}
	mustMention(t, string(third), words...)

	in.Close()
	must(t, c.Wait())
	s := open(t, dir, filestore.Options{}) // the first process has ended
	create(t, s, 1, set("a", "1"))
	if _, err := filestore.Open(dir, filestore.Options{}); err == nil {
		t.Error("one process has the store open twice")
	}
}

func TestDirectoryCannotBeUsed(t *testing.T) {
	// The child is another user and needs access to the path.
	base := t.TempDir()
	must(t, os.Chmod(filepath.Dir(base), 0o755))
	regular := filepath.Join(base, "regular")
	must(t, os.WriteFile(regular, nil, 0o644))
	readOnly := filepath.Join(base, "read-only")
	must(t, os.Mkdir(readOnly, 0o555))
	fixed := filepath.Join(base, "fixed")
	closeStore(t, open(t, fixed, filestore.Options{}))
	must(t, os.Chmod(file(fixed), 0o444))
	must(t, os.Chmod(fixed, 0o755))
	for _, test := range []struct {
		name, dir string
		words     []string
	}{
		{"below a regular file", filepath.Join(regular, "data"), []string{"cannot be created", regular, "not a directory"}},
		{"to be made in a read-only directory", filepath.Join(readOnly, "data"),
			[]string{"cannot be created", "permission denied"}},
		{"read-only", readOnly, []string{"must be able to create files", readOnly, "permission denied"}},
		{"with a file that may not be written", fixed, []string{file(fixed), "may read and write", "permission denied"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := child(t, "open as nobody", test.dir).CombinedOutput()
			if err == nil {
				t.Fatal("the store was opened, want an error")
			}
			mustMention(t, string(out), test.words...)
		})
	}
}

// fillDisk writes until the file cannot grow, checks what the store then does, and reports how many
// sessions were acknowledged.
func fillDisk(args []string) error {
	s, err := filestore.Open(args[0], filestore.Options{})
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 300_000, Max: 300_000}); err != nil {
		return err
	}
	n, big := 0, set("pad", strings.Repeat("x", 2000))
	for ; err == nil; n++ {
		_, err = s.Create(ctx, idOf(n), originOf(n), big)
	}
	n-- // the last session was not acknowledged
	first := err
	if !errors.Is(first, driver.ErrUnknown) || !errors.Is(first, syscall.EFBIG) &&
		!strings.Contains(first.Error(), "file too large") {
		return fmt.Errorf("the first error is: %w", first)
	}
	_, creating := s.Create(ctx, idOf(-1), originOf(-1), set("a", "1"))
	_, applying := s.Apply(ctx, idOf(0), set("a", "1"))
	for what, err := range map[string]error{"Create": creating, "Apply": applying, "End": s.End(ctx, idOf(1))} {
		if err == nil || errors.Is(err, driver.ErrUnknown) || !strings.Contains(first.Error(), err.Error()) {
			return fmt.Errorf("%s after the first error: %w", what, err)
		}
	}
	for i := range n {
		if _, _, err := s.Load(ctx, idOf(i)); (err == nil) == (i == 1) {
			return fmt.Errorf("reading session %d after the error: %w", i, err)
		}
	}
	if err := s.Close(); err == nil || !strings.Contains(first.Error(), err.Error()) {
		return fmt.Errorf("Close: %w", err)
	}
	fmt.Println(n)
	return nil
}

// The file cannot grow, as on a full disk. The test uses the limit on file sizes, which needs no
// privilege.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	out, err := child(t, "fill", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	must(t, err)
	s := open(t, dir, filestore.Options{}) // there is room again
	if n < 20 || s.Len() != n {
		t.Errorf("%d sessions were acknowledged, the store has %d", n, s.Len())
	}
	for i := range n {
		value(t, s, i, "pad")
	}
	create(t, s, n+1, set("a", "1"))
}

// A file that is truncated while the store has it open removes pages under the memory map. That
// causes a write error, not the end of the process.
func TestCutShortWhileOpen(t *testing.T) {
	dir := t.TempDir()
	s, err := filestore.Open(dir, filestore.Options{})
	must(t, err)
	for n := range 100 {
		create(t, s, n, set("pad", strings.Repeat("x", 1000)))
	}
	must(t, os.Truncate(file(dir), int64(2*os.Getpagesize())))
	if _, err := s.Apply(ctx, idOf(1), set("a", "1")); err == nil {
		t.Error("a change was acknowledged by a file without pages")
	} else {
		mustMention(t, err.Error(), "the file changed under the store")
	}
	value(t, s, 1, "pad")
	if err := s.Close(); err == nil {
		t.Error("Close: no error")
	}
	if _, err := filestore.Open(dir, filestore.Options{}); err == nil {
		t.Error("a file without pages was opened")
	}
}
