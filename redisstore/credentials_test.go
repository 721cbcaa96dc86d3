package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// deployment is a set of servers in one arrangement.
type deployment struct {
	url              func(credentials, query string) string
	nodes, sentinels []*redistest.Node
}

// eachDeployment runs a test on one server, on Sentinel and on a Cluster with these options.
func eachDeployment(t *testing.T, o redistest.Options, run func(t *testing.T, d deployment)) {
	secure := ""
	if o.TLS {
		secure = "s"
	}
	urlOf := func(scheme, servers, name string) func(string, string) string {
		return func(credentials, query string) string {
			return "redis" + secure + scheme + "://" + credentials + servers + name + query
		}
	}
	t.Run("standalone", func(t *testing.T) {
		limitParallel(t)
		n := redistest.Start(t, o)
		run(t, deployment{urlOf("", n.Addr(), ""), []*redistest.Node{n}, nil})
	})
	t.Run("sentinel", func(t *testing.T) {
		limitParallel(t)
		s := redistest.StartSentinel(t, o)
		run(t, deployment{urlOf("+sentinel", strings.Join(s.Addrs(), ","), "/"+s.Name), s.Nodes[:1], s.Sentinels})
	})
	t.Run("cluster", func(t *testing.T) {
		limitParallel(t)
		c := redistest.StartCluster(t, o)
		run(t, deployment{urlOf("+cluster", strings.Join(c.Addrs(), ","), ""), c.Nodes, nil})
	})
}

// onEach sends a command to each of some servers.
func onEach(t *testing.T, nodes []*redistest.Node, command ...string) (replies []string) {
	t.Helper()
	for _, n := range nodes {
		v, err := n.Do(command...)
		must(t, err)
		replies = append(replies, fmt.Sprint(v))
	}
	return replies
}

// mustWritePassword replaces a password file, as Kubernetes does for a secret.
func mustWritePassword(t *testing.T, file, password string) {
	t.Helper()
	must(t, os.WriteFile(file+".new", []byte(password+"\n"), 0o600))
	must(t, os.Rename(file+".new", file))
}

// TestStoreFollowsPasswordOfFile rotates the password of servers and sentinels under a running
// store, in the worst order: the servers refuse the old password before the file has the new one.
// Open connections stay authenticated. When these are cut, the store connects with the new password
// as soon as the file has it, and repeats the sign-out that failed meanwhile.
func TestStoreFollowsPasswordOfFile(t *testing.T) {
	eachDeployment(t, redistest.Options{
		Users: []string{"app on >first ~* &* +@all", "default off"}, DownAfter: never,
	}, func(t *testing.T, d deployment) {
		file := filepath.Join(t.TempDir(), "password")
		mustWritePassword(t, file, "first")
		query := "?password_file=" + url.QueryEscape(file)
		if d.sentinels != nil {
			onEach(t, d.sentinels, "ACL", "SETUSER", "watcher", "on", ">first", "&*", "+@all")
			query += "&sentinel_user=watcher&sentinel_password_file=" + url.QueryEscape(file)
		}
		dialer := countingDialer{open: map[string]int{}}
		var ended atomic.Int64 // connections that a server ended
		s := mustOpen(t, d.url("app@", query), redisstore.Options{
			Client: func(o *rueidis.ClientOption) { o.DialCtxFn = countEnds(&ended, dialer.wrap(o.DialCtxFn)) },
		})
		id, verifier := mustSignIn(t, s, "ada")
		signedOut, _ := mustSignIn(t, s, "eve")
		mustWarm(t, s, id)
		known := 0
		for _, list := range onEach(t, d.nodes, "CLIENT", "LIST") {
			known += strings.Count(list, " user=app ")
		}
		if known < 2 {
			t.Errorf("the servers have %d connections of the store, want at least 2", known)
		}

		onEach(t, d.nodes, "ACL", "SETUSER", "app", "resetpass", ">second")
		onEach(t, d.sentinels, "ACL", "SETUSER", "watcher", "resetpass", ">second")
		mustBeAlive(t, s, id, verifier)
		onEach(t, d.nodes, "PING")
		if n := ended.Load(); n > 0 { // the client ends some by itself
			t.Errorf("the changed password alone ended %d connections", n)
		}

		onEach(t, d.nodes, "CLIENT", "KILL", "USER", "app")
		onEach(t, d.sentinels, "CLIENT", "KILL", "USER", "watcher")
		dialer.mustClose(t, d.nodes...)
		// The first end may have been sent on a connection that was cut.
		eventually(t, anytime, func() error {
			err := within(t, 2*time.Second, func() error { return s.End(t.Context(), signedOut) })
			if err == nil {
				t.Fatal("End succeeds without a connection")
			}
			if !strings.Contains(err.Error(), "user or password is wrong") {
				return fmt.Errorf("End: %w, want an error that says why", err)
			}
			return nil
		})
		if _, _, err := s.Load(t.Context(), signedOut); !errors.Is(err, driver.ErrNotFound) {
			t.Errorf("Load of a session that was ended meanwhile: %v, want ErrNotFound", err)
		}

		mustWritePassword(t, file, "second")
		eventually(t, time.Second, func() error {
			_, err := s.Apply(t.Context(), id, incrementWith(verifier))
			return err
		})
		eventually(t, recovery, func() error {
			for _, n := range d.nodes {
				if v, err := n.Do("EXISTS", sessionKey(signedOut)); err == nil && v != int64(0) {
					return errors.New("the session that was ended meanwhile is on the server")
				}
			}
			return nil
		})
		eventually(t, recovery, func() error {
			before, _ := s.Near()
			_, _, err := s.Load(t.Context(), id)
			if now, _ := s.Near(); err == nil && now.Hits == before.Hits {
				err = errors.New("the near cache does not serve the session")
			}
			return err
		})
	})
}

// countEnds counts the connections whose other end was closed first.
func countEnds(ended *atomic.Int64, dial dialFn) dialFn {
	return wrapping(dial, func(conn net.Conn) net.Conn { return &endedConn{Conn: conn, ended: ended} })
}

type endedConn struct {
	net.Conn
	ended  *atomic.Int64
	closed atomic.Bool
}

func (c *endedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) && !c.closed.Swap(true) {
		c.ended.Add(1)
	}
	return n, err
}

func (c *endedConn) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

// mustClose waits until the client has noticed that all connections to these servers are closed.
func (c *countingDialer) mustClose(t *testing.T, nodes ...*redistest.Node) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, anytime, func() error {
			if open := c.openTo(n); open > 0 {
				return fmt.Errorf("%d connections to %s are open", open, n)
			}
			return nil
		})
	}
}

// TestShortRotationFailsNoRequest cuts the connections of a store half a second before its password
// file has the new password. Requests that begin meanwhile wait and succeed. Only those that were
// under way may fail.
func TestShortRotationFailsNoRequest(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{Users: []string{"app on >first ~* &* +@all", "default off"}})
	file := filepath.Join(t.TempDir(), "password")
	mustWritePassword(t, file, "first")
	dialer := countingDialer{open: map[string]int{}}
	s := mustOpen(t, "redis://app@"+node.Addr()+"?password_file="+file, redisstore.Options{
		Client: func(o *rueidis.ClientOption) { o.DialCtxFn = dialer.wrap(o.DialCtxFn) },
	})
	mustSurviveShort(t, redisstoreDownAfter, func(round int) (time.Time, error) {
		var id, ended driver.ID
		var verifier driver.Hash
		eventually(t, recovery, func() error { // the store may know of an outage
			_, _, err := s.LoadFresh(t.Context(), id)
			if errors.Is(err, driver.ErrNotFound) {
				err = nil
			}
			return err
		})
		id, verifier = mustSignIn(t, s, fmt.Sprint("ada", round))
		ended, _ = mustSignIn(t, s, fmt.Sprint("eve", round))
		next := fmt.Sprint("password", round)
		_, err := node.Do("ACL", "SETUSER", "app", "resetpass", ">"+next)
		must(t, err)
		began := time.Now()
		_, err = node.Do("CLIENT", "KILL", "USER", "app")
		must(t, err)
		dialer.mustClose(t, node)
		failed := make(chan error, 3)
		go func() { _, _, err := s.LoadFresh(t.Context(), id); failed <- err }()
		go func() { _, err := s.Apply(t.Context(), id, incrementWith(verifier)); failed <- err }()
		go func() { failed <- s.End(t.Context(), ended) }()
		time.Sleep(500 * time.Millisecond)
		mustWritePassword(t, file, next)
		return began, errors.Join(<-failed, <-failed, <-failed)
	})
}

// TestRotationInOrderFailsOnlyChangesUnderWay rotates a password in the order that
// docs/operations.md recommends, under load. No read fails. A change fails only if it was under way
// on a connection that was cut, and then says that its outcome is unknown.
func TestRotationInOrderFailsOnlyChangesUnderWay(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{Users: []string{"app on >first ~* &* +@all", "default off"}})
	file := filepath.Join(t.TempDir(), "password")
	mustWritePassword(t, file, "first")
	s := mustOpen(t, "redis://app@"+node.Addr()+"?password_file="+file, calm)
	id, verifier := mustSignIn(t, s, "ada")
	var reads, changes, unknown atomic.Int64
	stop := make(chan struct{})
	var load sync.WaitGroup
	repeat := func(do func()) {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					do()
				}
			}
		})
	}
	repeat(func() {
		if _, _, err := s.LoadFresh(t.Context(), id); err != nil {
			t.Errorf("LoadFresh: %v", err)
		}
		reads.Add(1)
	})
	repeat(func() {
		_, err := s.Apply(t.Context(), id, incrementWith(verifier))
		if errors.Is(err, driver.ErrUnknown) {
			unknown.Add(1)
		} else if err != nil {
			t.Errorf("Apply: %v", err)
		}
		changes.Add(1)
	})
	progress := func() {
		t.Helper()
		r, c := reads.Load(), changes.Load()
		eventually(t, anytime, func() error {
			if reads.Load() < r+10 || changes.Load() < c+10 {
				return fmt.Errorf("%d reads and %d changes, then %d and %d", r, c, reads.Load(), changes.Load())
			}
			return nil
		})
	}
	finish := sync.OnceFunc(func() { close(stop); load.Wait() })
	defer finish()
	progress()
	_, err := node.Do("ACL", "SETUSER", "app", ">second")
	must(t, err)
	mustWritePassword(t, file, "second")
	_, err = node.Do("ACL", "SETUSER", "app", "<first")
	must(t, err)
	progress()
	_, err = node.Do("CLIENT", "KILL", "USER", "app")
	must(t, err)
	progress()
	finish()
	if n := unknown.Load(); n > 1 { // one change at a time
		t.Errorf("%d changes of %d have an unknown outcome, want at most 1", n, changes.Load())
	}
}

// TestHangingCredentialsFailInTime cuts the connections of a store whose credentials function hangs
// or fails. Operations fail within their timeout, for certain. The store recovers with the
// function.
func TestHangingCredentialsFailInTime(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{Users: []string{allRule, "default off"}})
	var behave atomic.Pointer[func() error]
	s := mustOpen(t, "redis://"+node.Addr(), redisstore.Options{
		Timeout: 500 * time.Millisecond,
		Client: func(o *rueidis.ClientOption) {
			o.AuthCredentialsFn = func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
				if f := behave.Load(); f != nil {
					if err := (*f)(); err != nil {
						return rueidis.AuthCredentials{}, err
					}
				}
				return rueidis.AuthCredentials{Username: "app", Password: password}, nil
			}
		},
	})
	id, spec := newSession()
	mustCreate(t, s, id, spec)
	released, release := context.WithTimeout(t.Context(), anytime)
	defer release()
	for name, f := range map[string]func() error{
		"has not returned": func() error { <-released.Done(); return nil },
		"no token today":   func() error { return errors.New("no token today") },
	} {
		behave.Store(&f)
		_, err := node.Do("CLIENT", "KILL", "USER", "app")
		must(t, err)
		eventually(t, time.Second, func() error {
			err := within(t, 500*time.Millisecond, func() error {
				_, err := s.Apply(t.Context(), id, increment(spec))
				return err
			})
			if err == nil || errors.Is(err, driver.ErrUnknown) || !strings.Contains(err.Error(), name) {
				return fmt.Errorf("Apply: %w, want an error with %q that is not ErrUnknown", err, name)
			}
			return nil
		})
		behave.Store(nil)
		eventually(t, recovery, func() error { _, err := s.Apply(t.Context(), id, increment(spec)); return err })
	}
}

// TestPasswordFileIsChecked opens stores with a bad password file. The errors quote nothing of it.
func TestPasswordFileIsChecked(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	dir := t.TempDir()
	for content, want := range map[string]string{
		"":                              "it has no password",
		"\r\n":                          "it has no password",
		strings.Repeat("hunter2", 1000): "more than 4096 bytes",
	} {
		file := filepath.Join(dir, "password")
		must(t, os.WriteFile(file, []byte(content), 0o600))
		mustRefuse(t, "redis://"+node.Addr()+"?password_file="+file, want)
	}
	mustRefuse(t, "redis://"+node.Addr()+"?password_file="+dir+"/none", "no such file")
	mustRefuse(t, "redis://app:hunter2@a?password_file=b", "both a password and password_file")
	mustRefuse(t, "redis+sentinel://a/b?sentinel_password=hunter2&sentinel_password_file=b", "both sentinel_password and")
	mustRefuse(t, "redis://a?sentinel_password_file=b", "unknown parameter")
}

// mustRefuse checks that Open fails with a text and quotes no password.
func mustRefuse(t *testing.T, address, want string) {
	t.Helper()
	_, err := redisstore.Open(t.Context(), address, redisstore.Options{})
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunt") {
		t.Errorf("Open(%q): %v, want an error with %q and no password", address, err, want)
	}
}
