package redistest_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/redisstore/redistest"
)

// onEach runs a test on every server that this machine has.
func onEach(t *testing.T, test func(t *testing.T, s redistest.Server)) {
	servers := redistest.Servers()
	if len(servers) == 0 {
		t.Fatal("no server here: apt-get install redis-server, and run servers/install.sh")
	}
	t.Parallel()
	for _, s := range servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

// want checks what a command replies, printed with %v. An error is compared by how it begins.
func want(t *testing.T, n *redistest.Node, reply string, command ...string) {
	t.Helper()
	got, err := n.Do(command...)
	if err != nil {
		got = err
	}
	if s := fmt.Sprint(got); s != reply && (err == nil || !strings.HasPrefix(s, reply)) {
		t.Fatalf("%q replied %q, want %q", command, s, reply)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestStandalone(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		begin := time.Now()
		n := redistest.Start(t, redistest.Options{Server: s})
		t.Logf("started in %v", time.Since(begin))
		want(t, n, "OK", "SET", "k", "v\r\n")
		want(t, n, "v\r\n", "GET", "k")
		want(t, n, "<nil>", "GET", "other")
		want(t, n, "[1 [a b]]", "EVAL", "return {1, {'a', 'b'}}", "0")
		want(t, n, "ERR unknown command", "NONSENSE")
		if _, err := n.Do("NONSENSE"); !errors.As(err, new(redistest.ReplyError)) {
			t.Errorf("an error reply is %T, want a ReplyError", err)
		}
		ping(t, n.Addr(), nil)
		program, version, _ := strings.Cut(s.Name, "-")
		if field := program + "_version:" + version; !strings.Contains(info(t, n), field) {
			t.Errorf("INFO has no %s", field)
		}
		if !strings.Contains(n.Log(), "Ready to accept connections") {
			t.Errorf("log: %s", n.Log())
		}
		ok(t, n.Close())
		if _, err := os.Stat(n.Dir()); err == nil {
			t.Error("Close left the directory")
		}
	})
}

func info(t *testing.T, n *redistest.Node) string {
	t.Helper()
	text, err := n.Do("INFO", "server")
	ok(t, err)
	return text.(string)
}

// ping says PING to an address, as a client does.
func ping(t *testing.T, addr string, config *tls.Config) {
	t.Helper()
	if err := tryPing(addr, config); err != nil {
		t.Fatal(err)
	}
}

func tryPing(addr string, config *tls.Config) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if config != nil {
		conn = tls.Client(conn, config)
	}
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		return err
	}
	reply := make([]byte, len("+PONG\r\n"))
	if _, err := io.ReadFull(conn, reply); err != nil || string(reply) != "+PONG\r\n" {
		return fmt.Errorf("PING replied %q, %v", reply, err)
	}
	return nil
}

func TestRestartWithoutPersistenceIsEmpty(t *testing.T) {
	t.Parallel()
	n := redistest.Start(t, redistest.Options{})
	want(t, n, "OK", "SET", "k", "v")
	addr, pid := n.Addr(), n.PID()
	ok(t, n.Kill())
	ok(t, n.Kill()) // does nothing
	if _, err := n.Do("PING"); err == nil || n.Running() {
		t.Error("a killed server answers")
	}
	ok(t, n.Restart())
	want(t, n, "0", "EXISTS", "k")
	if n.Addr() != addr || n.PID() == pid {
		t.Errorf("restarted as %s, process %d; was %s, process %d", n.Addr(), n.PID(), addr, pid)
	}
}

func TestRestartLoadsAppendOnlyFile(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		n := redistest.Start(t, redistest.Options{Server: s, Config: []string{"appendonly yes", "appendfsync always"}})
		want(t, n, "OK", "SET", "k", "v")
		ok(t, n.Kill())
		ok(t, n.Restart())
		want(t, n, "v", "GET", "k")
		want(t, n, "OK", "SET", "k", "w")
		ok(t, n.Restart())
		want(t, n, "w", "GET", "k")
	})
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	n := redistest.Start(t, redistest.Options{})
	want(t, n, "OK", "SET", "k", "v")
	ok(t, n.Pause())
	if _, err := n.Do("PING"); err == nil || n.Running() {
		t.Error("a paused server answers")
	}
	ok(t, n.Resume())
	want(t, n, "v", "GET", "k")
	ok(t, n.Pause())
	ok(t, n.Stop()) // a paused server too
	if err := n.Resume(); err == nil {
		t.Error("Resume of a stopped server is no error")
	}
	ok(t, n.Restart())
	want(t, n, "PONG", "PING")
	ok(t, n.Pause()) // Close kills it all the same
}

func TestConfigLinesWin(t *testing.T) {
	t.Parallel()
	n := redistest.Start(t, redistest.Options{Config: []string{
		"maxmemory 2mb", "maxmemory-policy noeviction", "enable-debug-command no",
	}})
	want(t, n, "<nil>", "EVAL", "redis.call('SET', 'k', string.rep('x', 3e6))", "0")
	want(t, n, "OOM command not allowed", "SET", "l", "v")
	want(t, n, "ERR DEBUG command not allowed", "DEBUG", "SLEEP", "0")
}

func TestBadConfigLine(t *testing.T) {
	t.Parallel()
	_, err := redistest.New(redistest.Options{Config: []string{"no-such-thing yes"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-thing yes") {
		t.Errorf("got %v, want an error that quotes the line", err)
	}
	_, err = redistest.New(redistest.Options{Config: []string{"requirepass secret"}})
	if err == nil || !strings.Contains(err.Error(), "Options.Users") {
		t.Errorf("got %v, want an error that says how to set a password", err)
	}
}

func TestTLS(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		n := redistest.Start(t, redistest.Options{Server: s, TLS: true})
		ping(t, n.Addr(), n.TLSConfig())
		want(t, n, "PONG", "PING")
		if tryPing(n.Addr(), nil) == nil {
			t.Error("the server speaks without TLS")
		}
		if tryPing(n.Addr(), &tls.Config{ServerName: "localhost"}) == nil {
			t.Error("the certificate is trusted by all")
		}
	})
}

func TestTLSWithClientCertificate(t *testing.T) {
	t.Parallel()
	n := redistest.Start(t, redistest.Options{TLS: true, Config: []string{"tls-auth-clients yes"}})
	ping(t, n.Addr(), n.TLSConfig())
	none := n.TLSConfig()
	none.Certificates = nil
	if tryPing(n.Addr(), none) == nil {
		t.Error("the server asks for no certificate")
	}
}

func TestUsers(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		n := redistest.Start(t, redistest.Options{Server: s, Users: []string{"default off", "app on >secret ~app:* +get +ping"}})
		want(t, n, "OK", "SET", "other", "v")
		want(t, n, "OK", "ACL", "DRYRUN", "app", "GET", "app:k")
		if denied, _ := n.Do("ACL", "DRYRUN", "app", "SET", "app:k", "v"); denied == "OK" {
			t.Error("the user may do more than its rule says")
		}
		if tryPing(n.Addr(), nil) == nil {
			t.Error("the default user is on")
		}
		ok(t, n.Restart())
		want(t, n, "OK", "ACL", "DRYRUN", "app", "GET", "app:k")
	})
}
