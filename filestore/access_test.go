//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package filestore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/coatcheck-go/session/filestore"
)

// mustRefuse checks that Open returns an error with these words.
func mustRefuse(t *testing.T, dir string, words ...string) {
	t.Helper()
	s, err := filestore.Open(dir, filestore.Options{})
	if err == nil {
		s.Close()
		t.Errorf("the store was opened, want an error with %q", words)
		return
	}
	mustMention(t, err.Error(), words...)
}

// newStore creates a store in a directory below a temporary one, and closes it.
func newStore(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	s := open(t, dir, filestore.Options{})
	create(t, s, 1, set("a", "1"))
	closeStore(t, s)
	return dir
}

// The test sets the process's umask, so it must not run in parallel with other tests.
func TestOpenCreatesForThisUserOnly(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := newStore(t)
	for path, want := range map[string]os.FileMode{dir: 0o700, file(dir): 0o600} {
		info, err := os.Lstat(path)
		must(t, err)
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has the mode %o, want %o", path, got, want)
		}
	}
}

func TestOpenRefusesWhatOthersMayWrite(t *testing.T) {
	for _, test := range []struct {
		name      string
		dir, file os.FileMode
		refused   bool
	}{
		{"readable by all", 0o755, 0o644, false},
		{"writable by the group, as in a Kubernetes volume", 0o770 | os.ModeSetgid, 0o660, false},
		{"a directory that all may write", 0o707, 0o600, true},
		{"a directory that all may write, with the sticky bit", 0o777 | os.ModeSticky, 0o600, true},
		{"a file that all may write", 0o700, 0o602, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := newStore(t)
			must(t, os.Chmod(file(dir), test.file))
			must(t, os.Chmod(dir, test.dir))
			if !test.refused {
				value(t, open(t, dir, filestore.Options{}), 1, "a")
				return
			}
			path := file(dir)
			if test.dir&0o002 != 0 {
				path = dir
			}
			mustRefuse(t, dir, fmt.Sprintf("%q", "chmod o-w "+path))
		})
	}
}

// The command that the error names makes the store acceptable.
func TestOpenRefusesAnEmptyDirectoryThatOthersMayWrite(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o777))
	mustRefuse(t, dir, "chmod o-w "+dir)
	if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
		t.Errorf("the directory has %v (%v), want no file", list, err)
	}
	must(t, os.Chmod(dir, 0o755))
	open(t, dir, filestore.Options{})
}

// A link in place of a file of the store never leads to another file, whether that exists or not.
func TestOpenFollowsNoLinks(t *testing.T) {
	for _, name := range []string{filestore.FileName, filestore.FileName + ".new"} {
		for _, exists := range []bool{true, false} {
			dir, target := t.TempDir(), filepath.Join(t.TempDir(), "target")
			if exists {
				must(t, os.WriteFile(target, []byte("precious"), 0o600))
			}
			must(t, os.Symlink(target, filepath.Join(dir, name)))
			mustRefuse(t, dir, filepath.Join(dir, name), "symbolic link")
			got, err := os.ReadFile(target)
			if exists && string(got) != "precious" || !exists && !os.IsNotExist(err) {
				t.Errorf("%s: the target of the link is now %q (%v)", name, got, err)
			}
		}
	}
	dir := newStore(t)
	must(t, os.Rename(file(dir), filepath.Join(dir, "elsewhere")))
	must(t, os.Symlink("elsewhere", file(dir)))
	mustRefuse(t, dir, file(dir), "symbolic link")

	link := filepath.Join(t.TempDir(), "link") // a link to the directory is the caller's own choice
	must(t, os.Symlink(newStore(t), link))
	value(t, open(t, link, filestore.Options{}), 1, "a")
}

func TestOpenRefusesWhatIsNoRegularFile(t *testing.T) {
	for _, name := range []string{filestore.FileName, filestore.FileName + ".new"} {
		dir := t.TempDir()
		must(t, syscall.Mkfifo(filepath.Join(dir, name), 0o600))
		mustRefuse(t, dir, filepath.Join(dir, name), "not a regular file")
	}
}

// A crash can leave the temporary file behind, and another user can have made it ready. Open
// replaces the file: it never writes into one that it did not create.
func TestOpenReplacesTheTemporaryFile(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(t.TempDir(), "other")
	must(t, os.WriteFile(other, []byte("precious"), 0o666))
	must(t, os.Link(other, file(dir)+".new"))
	create(t, open(t, dir, filestore.Options{}), 1, set("a", "1"))
	if got, err := os.ReadFile(other); err != nil || string(got) != "precious" {
		t.Errorf("the other name of the file has %q (%v), want it unchanged", got, err)
	}
	if info, err := os.Stat(file(dir)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has the mode %v (%v), want 0600", info.Mode(), err)
	}
}

// Of several callers that create a store at the same time, also beside the rest of a crash, exactly
// one succeeds. The others get the error that the store is in use.
func TestOpenCreatesOnce(t *testing.T) {
	for round := range 50 {
		dir := t.TempDir()
		if round%2 == 1 {
			must(t, os.WriteFile(file(dir)+".new", []byte("rest of a crash"), 0o600))
		}
		const callers = 8
		stores, errs := make(chan *filestore.Store, callers), make(chan error, callers)
		for range callers {
			go func() {
				s, err := filestore.Open(dir, filestore.Options{})
				stores <- s
				errs <- err
			}()
		}
		opened := 0
		var keep []*filestore.Store
		for range callers {
			if s := <-stores; s != nil {
				opened++
				keep = append(keep, s)
			}
			if err := <-errs; err != nil {
				mustMention(t, err.Error(), "in use")
			}
		}
		if opened != 1 {
			t.Errorf("round %d: %d callers have the store, want 1", round, opened)
		}
		for _, s := range keep {
			create(t, s, 1, set("a", "1"))
			closeStore(t, s)
		}
		value(t, open(t, dir, filestore.Options{}), 1, "a")
	}
}
