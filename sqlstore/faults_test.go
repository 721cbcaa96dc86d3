package sqlstore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/openstore"
	"github.com/coatcheck-go/session/sqlstore"
)

// TestKilledServerLosesNothingAcknowledged kills PostgreSQL while the store writes. When the server
// is back, the same store continues. What was acknowledged is there, and what is unknown happened
// once at most.
func TestKilledServerLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, "fsync = on")
	p := place{server.url(), options()}
	s := p.open(t)
	const writers = 8
	var acknowledged, unknown [writers]int
	var ids, ended [writers]driver.ID
	for i := range ids {
		ids[i], ended[i] = mustCreate(t, s), mustCreate(t, s)
	}
	var killed, restarted atomic.Bool
	var work sync.WaitGroup
	for i := range writers {
		work.Go(func() {
			for after := 0; after < 5; { // changes after the restart
				known := !killed.Load()
				_, err := s.Apply(t.Context(), ids[i], increment())
				switch {
				case err == nil:
					acknowledged[i]++
				case errors.Is(err, driver.ErrUnknown):
					unknown[i]++
				case errors.Is(err, driver.ErrNotFound), errors.Is(err, driver.ErrMoved), known && !killed.Load():
					t.Errorf("Apply: %v", err)
					return
				}
				if restarted.Load() && err == nil {
					after++
				}
			}
		})
	}
	for i := range ended {
		must(t, s.End(t.Context(), ended[i]))
	}
	killed.Store(true)
	server.kill()
	must(t, server.start())
	restarted.Store(true)
	work.Wait()
	for i, id := range ids {
		r, _, err := s.Load(t.Context(), id)
		must(t, err)
		text, _ := r.Fields.Get("n")
		if n, _ := strconv.Atoi(string(text)); n < 1+acknowledged[i] || n > 1+acknowledged[i]+unknown[i] {
			t.Errorf("the count is %d after %d acknowledged increments and %d unknown ones", n, acknowledged[i], unknown[i])
		}
		if _, _, err := s.Load(t.Context(), ended[i]); !errors.Is(err, driver.ErrEnded) {
			t.Errorf("Load of a session that had ended: %v, want ErrEnded", err)
		}
	}
}

// proxy forwards connections to the shared server, and can lose what it forwards.
type proxy struct {
	listen  net.Listener
	gate    sync.RWMutex // a test holds it to stop forwarding
	commits atomic.Int64 // this many commits lose their connection …
	forward atomic.Bool  // … after the server has got them
}

func startProxy(t testing.TB, server *postgres) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{listen: l}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			backend, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(server.port))
			if err != nil {
				client.Close()
				continue
			}
			mu.Lock()
			open = append(open, client, backend)
			mu.Unlock()
			var lost atomic.Bool // the next reply is lost
			all.Go(func() {
				p.copy(backend, client, func(b []byte) (pass bool) {
					if !bytes.Contains(b, []byte("commit\x00")) || p.commits.Load() == 0 || p.commits.Add(-1) < 0 {
						return true
					}
					lost.Store(true)
					return p.forward.Load()
				})
			})
			all.Go(func() { p.copy(client, backend, func([]byte) bool { return !lost.Load() }) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return p
}

// copy forwards until pass refuses, and then closes both sides.
func (p *proxy) copy(to, from net.Conn, pass func(b []byte) bool) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		p.gate.RLock()
		ok := pass(b[:n])
		if ok {
			_, err = to.Write(b[:n])
		}
		p.gate.RUnlock()
		if !ok || err != nil {
			return
		}
	}
}

// place is the shared server behind the proxy. The only commits are those of the test.
func (p *proxy) place(server *postgres) place {
	at := place{server.urlAt("127.0.0.1", p.listen.Addr().(*net.TCPAddr).Port), options()}
	at.options.CleanEvery = time.Hour
	return at
}

// TestLostCommit: a change whose commit got no reply is ErrUnknown, whether it was stored or not,
// and is not sent again. Calls that the store recognizes are sent again, and take effect once.
func TestLostCommit(t *testing.T) {
	t.Parallel()
	for name, forward := range map[string]bool{"stored": true, "not stored": false} {
		t.Run(name, func(t *testing.T) {
			server := shared(t)
			proxy := startProxy(t, server)
			s := proxy.place(server).open(t)
			id, other := mustCreate(t, s), mustCreate(t, s)
			lose := func() {
				proxy.forward.Store(forward)
				proxy.commits.Store(1)
			}
			lose()
			if _, err := s.Apply(t.Context(), id, increment()); !errors.Is(err, driver.ErrUnknown) {
				t.Errorf("Apply: %v, want ErrUnknown", err)
			}
			mustCount(t, s, id, map[bool]string{true: "2", false: "1"}[forward])
			lose()
			created := mustCreate(t, s)
			mustCount(t, s, created, "1")
			lose()
			mustSignIn(t, s)
			if list, err := s.Sessions(t.Context(), ada, driver.SessionCursor{}, 10); err != nil || len(list) != 1 {
				t.Errorf("after a repeated sign-in: %d sessions, %v, want 1", len(list), err)
			}
			lose()
			if ended, err := s.EndAndReport(t.Context(), id, driver.Hash{}, driver.Attempt{1}); !ended || err != nil {
				t.Errorf("EndAndReport: %v, %v, want true", ended, err)
			}
			lose()
			renewal := &driver.Change{Verifier: verifier, Renew: &driver.Renewal{Verifier: newHash()}, Ops: increment().Ops}
			if res, err := s.Apply(t.Context(), other, renewal); err != nil || !res.Renewed {
				t.Errorf("Apply with a renewal: %v, want no error", err)
			}
			mustCount(t, s, other, "2")
			if proxy.commits.Load() != 0 {
				t.Error("the proxy has lost no commit: the test shows nothing")
			}
		})
	}
}

// TestHungServer: if the server does not answer, each call returns within the timeout. A change
// that was not committed is no unknown outcome.
func TestHungServer(t *testing.T) {
	t.Parallel()
	server := shared(t)
	proxy := startProxy(t, server)
	p := proxy.place(server)
	direct := place{server.url(), p.options}.open(t)
	id := mustCreate(t, direct)
	p.options.Timeout = 400 * time.Millisecond
	s := p.open(t)
	m, err := session.New(s, session.Config{})
	must(t, err)
	proxy.gate.Lock()
	resume := sync.OnceFunc(proxy.gate.Unlock)
	defer resume()
	start := time.Now()
	concurrently(20, func(i int) {
		var err error
		switch i % 4 {
		case 0:
			_, _, err = s.Load(t.Context(), id)
		case 1:
			_, err = s.Apply(t.Context(), id, increment())
		case 2:
			err = s.End(t.Context(), id)
		case 3:
			if _, err = m.RevokeUser(t.Context(), "ada"); !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("RevokeUser: %v, want ErrUnavailable", err)
			}
		}
		if err == nil || errors.Is(err, driver.ErrUnknown) || errors.Is(err, driver.ErrNotFound) {
			t.Errorf("call %d: %v, want an error that says that nothing was done", i%4, err)
		}
	})
	if took := time.Since(start); took > time.Minute { // the machine may be slow
		t.Errorf("the calls took %v with a timeout of %v", took, p.options.Timeout)
	}
	resume()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, _, err := s.Load(t.Context(), id); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("Load after the server answers again: %v", err)
		}
	}
	mustCount(t, direct, id, "1")
}

// TestCallerThatHangsUpKeepsTheConnection: a caller's context that is cancelled meanwhile neither
// undoes a change nor closes a connection.
func TestCallerThatHangsUpKeepsTheConnection(t *testing.T) {
	t.Parallel()
	p := onPostgres(t)
	s := p.open(t)
	id := mustCreate(t, s)
	tx, err := p.db(t).Begin()
	must(t, err)
	_, err = tx.Exec("UPDATE "+p.table("sessions")+" SET epoch = epoch WHERE id = $1", id.String())
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := s.Apply(ctx, id, increment())
		done <- err
	}()
	for waiting := 0; waiting == 0; time.Sleep(5 * time.Millisecond) {
		must(t, p.db(t).QueryRow("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%"+
			p.table("sessions")+"%'").Scan(&waiting))
	}
	cancel()
	must(t, tx.Rollback())
	must(t, <-done)
	mustCount(t, s, id, "2")
}

// TestDamagedRows: a row that does not decode is an error that names the session. No call rewrites
// it, and the session can be ended. Other sessions are not affected.
func TestDamagedRows(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			p := d.new(t)
			s, db := p.open(t), p.db(t)
			good := mustCreate(t, s)
			for name, damage := range map[string]struct {
				column string
				value  func(metadata []byte) any
			}{
				"garbage":          {"metadata", func([]byte) any { return []byte("\x01garbage") }},
				"garbage fields":   {"fields", func([]byte) any { return []byte("\x01garbage") }},
				"no fields":        {"fields", func([]byte) any { return nil }},
				"a newer version":  {"metadata", func(b []byte) any { return append([]byte{2}, b[1:]...) }},
				"a truncated blob": {"metadata", func(b []byte) any { return b[:len(b)-3] }},
				"too few fields":   {"fields", func([]byte) any { return []byte{1} }},
			} {
				id := mustCreate(t, s)
				var metadata []byte
				row := db.QueryRow("SELECT metadata FROM "+p.table("sessions")+" WHERE id = $1", id.String())
				must(t, row.Scan(&metadata))
				_, err := db.Exec("UPDATE "+p.table("sessions")+" SET "+damage.column+" = $2 WHERE id = $1", id.String(), damage.value(metadata))
				must(t, err)
				before := p.rowText(t, db, id)
				_, _, loadErr := s.Load(t.Context(), id)
				_, applyErr := s.Apply(t.Context(), id, increment())
				touchErr := s.Touch(t.Context(), id, verifier)
				_, createErr := s.Create(t.Context(), id, spec(id), increment())
				for _, err := range []error{loadErr, applyErr, touchErr, createErr} {
					if !errors.Is(err, driver.ErrFormat) || !bytes.Contains([]byte(err.Error()), []byte(id.String())) {
						t.Errorf("%s: %v, want an ErrFormat that names %s", name, err, id)
					}
				}
				if after := p.rowText(t, db, id); after != before {
					t.Errorf("%s: the row was rewritten\nfrom %s\nto   %s", name, before, after)
				}
				must(t, s.End(t.Context(), id))
				if _, _, err := s.Load(t.Context(), id); !errors.Is(err, driver.ErrEnded) {
					t.Errorf("%s: Load after End: %v, want ErrEnded", name, err)
				}
			}
			mustCount(t, s, good, "1")
		})
	}
}

// TestURLErrorsQuoteNoPassword: wrong URLs, of a kind that people write, are refused with an error
// that does not have the password.
func TestURLErrorsQuoteNoPassword(t *testing.T) {
	for _, url := range []string{
		"postgres://app:se/cret@localhost/app", "postgres://app:secret@localhost:port/app", "postgres://app:se%cret@localhost/app",
		"postgres://app:secret@localhost/app?sslmode=wrong", "mysql://app:secret@localhost/app", "app:secret@localhost",
		"postgres://app:secret@127.0.0.1:1/app?connect_timeout=1",
		"postgres://127.0.0.1:1/secret@127.0.0.1:1/app", "postgres://127.0.0.1:1?secret@127.0.0.1/app",
		"postgres://127.0.0.1:1/app#secret@127.0.0.1/app",
	} {
		_, err := sqlstore.Open(t.Context(), url, options())
		_, errOfSetting := openstore.Open(t.Context(), url)
		for _, err := range []error{err, errOfSetting} {
			if err == nil || strings.Contains(err.Error(), "cret") {
				t.Errorf("%s: %v, want an error without the password", url, err)
			}
		}
	}
	for _, url := range []string{
		"sqlite:", "sqlite::memory:", "sqlite:///", "sqlite://sessions.db", "sqlite:sessions.db?mode=memory", "sqlite:%zz",
		"sqlite:" + filepath.Join(t.TempDir(), "missing", "sessions.db"),
	} {
		if s, err := sqlstore.Open(t.Context(), url, options()); err == nil {
			s.Close()
			t.Errorf("%s: no error", url)
		}
	}
}

var _ io.Closer = (*sqlstore.Store)(nil)
