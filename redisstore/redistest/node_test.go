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

// onEach runs a test on every server of this machine.
func onEach(t *testing.T, test func(t *testing.T, s redistest.Server)) {
	servers := redistest.Servers()
	if len(servers) == 0 {
		t.Fatal("no server program found: apt-get install redis-server, and run servers/install.sh")
	}
	t.Parallel()
	for _, s := range servers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

// mustReply checks the reply to a command, printed with %v. Of an error, it checks the beginning.
func mustReply(t *testing.T, n *redistest.Node, reply string, command ...string) {
	t.Helper()
	got, err := n.Do(command...)
	if err != nil {
		got = err
	}
	if s := fmt.Sprint(got); s != reply && (err == nil || !strings.HasPrefix(s, reply)) {
		t.Fatalf("%q replied %q, want %q", command, s, reply)
	}
}

// must fails the test if err is not nil.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestServerAnswersUntilClose(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		begin := time.Now()
		n := redistest.Start(t, redistest.Options{Server: s})
		t.Logf("started in %v", time.Since(begin))
		mustReply(t, n, "OK", "SET", "k", "v\r\n")
		mustReply(t, n, "v\r\n", "GET", "k")
		mustReply(t, n, "<nil>", "GET", "other")
		mustReply(t, n, "[1 [a b]]", "EVAL", "return {1, {'a', 'b'}}", "0")
		mustReply(t, n, "ERR unknown command", "NONSENSE")
		if _, err := n.Do("NONSENSE"); !errors.As(err, new(redistest.ReplyError)) {
			t.Errorf("an error reply is %T, want a ReplyError", err)
		}
		mustPing(t, n.Addr(), nil)
		program, version, _ := strings.Cut(s.Name, "-")
		if field := program + "_version:" + version; !strings.Contains(mustGetInfo(t, n), field) {
			t.Errorf("INFO has no %s", field)
		}
		if !strings.Contains(n.Log(), "Ready to accept connections") {
			t.Errorf("log: %s", n.Log())
		}
		must(t, n.Close())
		if _, err := os.Stat(n.Dir()); err == nil {
			t.Error("the directory exists after Close")
		}
	})
}

// mustGetInfo returns the section "server" of INFO.
func mustGetInfo(t *testing.T, n *redistest.Node) string {
	t.Helper()
	text, err := n.Do("INFO", "server")
	must(t, err)
	return text.(string)
}

// mustPing sends PING to an address, as a client does.
func mustPing(t *testing.T, addr string, config *tls.Config) {
	t.Helper()
	if err := tryPing(addr, config); err != nil {
		t.Fatal(err)
	}
}

// tryPing sends PING and returns an error unless the reply is PONG.
func tryPing(addr string, config *tls.Config) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
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
	mustReply(t, n, "OK", "SET", "k", "v")
	addr, pid := n.Addr(), n.PID()
	must(t, n.Kill())
	must(t, n.Kill()) // a second call does nothing
	if _, err := n.Do("PING"); err == nil || n.Running() {
		t.Error("the server answers or runs after Kill")
	}
	must(t, n.Restart())
	mustReply(t, n, "0", "EXISTS", "k")
	if n.Addr() != addr || n.PID() == pid {
		t.Errorf("Restart gives %s, process %d; want the address %s and another process than %d",
			n.Addr(), n.PID(), addr, pid)
	}
}

func TestRestartLoadsAppendOnlyFile(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		n := redistest.Start(t, redistest.Options{Server: s, Config: []string{"appendonly yes", "appendfsync always"}})
		mustReply(t, n, "OK", "SET", "k", "v")
		must(t, n.Kill())
		must(t, n.Restart())
		mustReply(t, n, "v", "GET", "k")
		mustReply(t, n, "OK", "SET", "k", "w")
		must(t, n.Restart())
		mustReply(t, n, "w", "GET", "k")
	})
}

func TestPausedServerAnswersAfterResume(t *testing.T) {
	t.Parallel()
	n := redistest.Start(t, redistest.Options{})
	mustReply(t, n, "OK", "SET", "k", "v")
	must(t, n.Pause())
	if _, err := n.Do("PING"); err == nil || n.Running() {
		t.Error("the server answers or runs after Pause")
	}
	must(t, n.Resume())
	mustReply(t, n, "v", "GET", "k")
	must(t, n.Pause())
	must(t, n.Stop()) // Stop also works while the server is paused
	if err := n.Resume(); err == nil {
		t.Error("Resume of a stopped server succeeds, want an error")
	}
	must(t, n.Restart())
	mustReply(t, n, "PONG", "PING")
	must(t, n.Pause()) // Close also kills a paused server
}

func TestConfigOverridesDefaults(t *testing.T) {
	t.Parallel()
	n := redistest.Start(t, redistest.Options{Config: []string{
		"maxmemory 2mb", "maxmemory-policy noeviction", "enable-debug-command no",
	}})
	mustReply(t, n, "<nil>", "EVAL", "redis.call('SET', 'k', string.rep('x', 3e6))", "0")
	mustReply(t, n, "OOM command not allowed", "SET", "l", "v")
	mustReply(t, n, "ERR DEBUG command not allowed", "DEBUG", "SLEEP", "0")
}

func TestNewExplainsBadConfigLine(t *testing.T) {
	t.Parallel()
	_, err := redistest.New(redistest.Options{Config: []string{"no-such-thing yes"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-thing yes") {
		t.Errorf("New: %v, want an error that quotes the line", err)
	}
	_, err = redistest.New(redistest.Options{Config: []string{"requirepass secret"}})
	if err == nil || !strings.Contains(err.Error(), "Options.Users") {
		t.Errorf("New: %v, want an error that says how to set a password", err)
	}
}

func TestTLSServerRefusesOtherClients(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		n := redistest.Start(t, redistest.Options{Server: s, TLS: true})
		mustPing(t, n.Addr(), n.TLSConfig())
		mustReply(t, n, "PONG", "PING")
		if tryPing(n.Addr(), nil) == nil {
			t.Error("the server answers without TLS")
		}
		if tryPing(n.Addr(), &tls.Config{ServerName: "localhost"}) == nil {
			t.Error("a client without the authority trusts the certificate")
		}
	})
}

func TestServerCanRequireClientCertificate(t *testing.T) {
	t.Parallel()
	n := redistest.Start(t, redistest.Options{TLS: true, Config: []string{"tls-auth-clients yes"}})
	mustPing(t, n.Addr(), n.TLSConfig())
	none := n.TLSConfig()
	none.Certificates = nil
	if tryPing(n.Addr(), none) == nil {
		t.Error("the server answers a client without a certificate")
	}
}

func TestUsersHaveTheRightsOfTheirRules(t *testing.T) {
	onEach(t, func(t *testing.T, s redistest.Server) {
		n := redistest.Start(t, redistest.Options{
			Server: s, Users: []string{"default off", "app on >secret ~app:* +get +ping"},
		})
		mustReply(t, n, "OK", "SET", "other", "v")
		mustReply(t, n, "OK", "ACL", "DRYRUN", "app", "GET", "app:k")
		if denied, _ := n.Do("ACL", "DRYRUN", "app", "SET", "app:k", "v"); denied == "OK" {
			t.Error("the user has more rights than its rule")
		}
		if tryPing(n.Addr(), nil) == nil {
			t.Error("the default user is not disabled")
		}
		must(t, n.Restart())
		mustReply(t, n, "OK", "ACL", "DRYRUN", "app", "GET", "app:k")
	})
}
