package filestore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/filestore"
)

var ctx = context.Background()

var durabilities = []filestore.Options{{}, {Durability: filestore.Interval}}

func TestReopen(t *testing.T) {
	for _, o := range durabilities {
		t.Run(o.Durability.String(), func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, o)
			o1 := originOf(1)
			o1.Principal = &driver.Principal{
				User: "ada", Authenticated: time.UnixMilli(1_700_000_000_000), Methods: []string{"pwd"}, Persistent: true,
			}
			_, err := s.Create(ctx, idOf(1), o1, set("theme", `"dark"`))
			must(t, err)
			create(t, s, 2, set("theme", `"light"`))
			create(t, s, 3, &driver.Change{Verifier: verifier})
			renewed := add("visits", 41)
			renewed.Renew = &driver.Renewal{Verifier: driver.Hash{9}}
			_, err = s.Apply(ctx, idOf(1), renewed)
			must(t, err)
			must(t, s.End(ctx, idOf(2)))
			before, _, err := s.Load(ctx, idOf(1))
			must(t, err)
			closeStore(t, s)

			s = open(t, dir, o)
			after, _, err := s.Load(ctx, idOf(1))
			must(t, err)
			if got, want := fmt.Sprintf("%q", driver.Encode(after)), fmt.Sprintf("%q", driver.Encode(before)); got != want {
				t.Errorf("after reopening the record is\n%s\nbefore it was\n%s", got, want)
			}
			if _, _, err := s.Load(ctx, idOf(2)); !errors.Is(err, driver.ErrNotFound) {
				t.Errorf("the ended session is found: %v", err)
			}
			if n := s.Len(); n != 2 {
				t.Errorf("the store has %d sessions, want 2", n)
			}
		})
	}
}

func TestExpiredAreRemovedAtOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, filestore.Options{})
		for n := range 100 {
			o := originOf(n)
			if n%2 == 0 {
				o.Idle = time.Minute
			}
			_, err := s.Create(ctx, idOf(n), o, set("n", "1"))
			must(t, err)
		}
		closeStore(t, s)
		time.Sleep(2 * time.Minute)
		for range 2 { // the second time the file no longer has them, and its sums are right
			s = open(t, dir, filestore.Options{})
			if n := s.Len(); n != 50 {
				t.Errorf("%d sessions were restored, want 50", n)
			}
			closeStore(t, s)
			db, err := bolt.Open(file(dir), 0o600, nil)
			must(t, err)
			must(t, db.View(func(tx *bolt.Tx) error {
				if n := tx.Bucket([]byte("sessions")).Stats().KeyN; n != 50 {
					t.Errorf("the file has %d records, want 50", n)
				}
				return nil
			}))
			must(t, db.Close())
		}
	})
}

// The store's time continues from the last written time, even if the system's clock was set back.
func TestTimeNeverRunsBehind(t *testing.T) {
	dir := t.TempDir()
	var late time.Time
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(100 * 365 * 24 * time.Hour) // far later than the real clock
		s := open(t, dir, filestore.Options{})
		create(t, s, 1, set("a", "1"))
		time.Sleep(time.Hour)
		must(t, s.End(ctx, idOf(1)))
		_, late, _ = s.Load(ctx, idOf(1))
		closeStore(t, s)
	})
	s := open(t, dir, filestore.Options{})
	if _, now, _ := s.Load(ctx, idOf(1)); now.Before(late.Truncate(time.Millisecond)) {
		t.Errorf("the time was %v and is now %v, which is earlier", late, now)
	}
}

// A touch is written with other changes. Without any, it is written within the interval.
func TestTouchIsWrittenWithinTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, filestore.Options{Every: 5 * time.Second})
		create(t, s, 1, set("a", "1"))
		time.Sleep(30 * time.Minute)
		must(t, s.Touch(ctx, idOf(1), verifier))
		time.Sleep(6 * time.Second)
		var copied bytes.Buffer
		must(t, s.Backup(&copied))
		time.Sleep(45 * time.Minute) // more than the idle limit after the creation

		other := t.TempDir()
		must(t, os.WriteFile(file(other), copied.Bytes(), 0o600))
		value(t, open(t, other, filestore.Options{}), 1, "a")
	})
}

// With Interval no call waits for the disk, and acknowledged changes are on it in time.
func TestInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), filestore.Options{Durability: filestore.Interval, Every: time.Minute})
		create(t, s, 1, set("a", "1"))
		value(t, s, 1, "a") // visible at once
		for _, c := range []struct {
			after time.Duration
			want  int
		}{{0, 0}, {61 * time.Second, 1}} {
			time.Sleep(c.after)
			var copied bytes.Buffer
			must(t, s.Backup(&copied))
			dir := t.TempDir()
			must(t, os.WriteFile(file(dir), copied.Bytes(), 0o600))
			if n := open(t, dir, filestore.Options{}).Len(); n != c.want {
				t.Errorf("after %v the file has %d sessions, want %d", c.after, n, c.want)
			}
		}
	})
}

func TestBackupUnderLoad(t *testing.T) {
	s := open(t, t.TempDir(), filestore.Options{})
	for n := range 200 {
		create(t, s, n, set("pad", strings.Repeat("x", 1000)))
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := 1000; ; n++ {
			select {
			case <-stop:
				return
			default:
				create(t, s, n, set("pad", strings.Repeat("y", 1000)))
			}
		}
	}()
	for range 5 {
		var copied bytes.Buffer
		must(t, s.Backup(&copied))
		dir := t.TempDir()
		must(t, os.WriteFile(file(dir), copied.Bytes(), 0o600))
		if n := open(t, dir, filestore.Options{}).Len(); n < 200 {
			t.Errorf("the backup has %d sessions, want 200 or more", n)
		}
	}
	close(stop)
	<-stopped
}

func TestClosed(t *testing.T) {
	for _, o := range durabilities {
		s := open(t, t.TempDir(), o)
		create(t, s, 1, set("a", "1"))
		closeStore(t, s)
		closeStore(t, s)
		_, _, loading := s.Load(ctx, idOf(1))
		_, creating := s.Create(ctx, idOf(2), originOf(2), set("a", "1"))
		_, applying := s.Apply(ctx, idOf(1), set("a", "2"))
		for what, err := range map[string]error{"Load": loading, "Create": creating, "Apply": applying,
			"Touch": s.Touch(ctx, idOf(1), verifier), "End": s.End(ctx, idOf(1)), "Backup": s.Backup(&bytes.Buffer{})} {
			if !errors.Is(err, os.ErrClosed) {
				t.Errorf("%v: %s after Close: %v, want os.ErrClosed", o.Durability, what, err)
			}
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for want, o := range map[string]filestore.Options{
		"Options.Durability": {Durability: 7},
		"Options.Every":      {Every: time.Microsecond},
	} {
		if _, err := filestore.Open(t.TempDir(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want an error that names %s", o, err, want)
		}
	}
}
