package redisstore_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

const (
	password = "s3cr?t/@:%&#"
	allRule  = "app on >" + password + " ~* &* +@all" // a user with all rights
)

var credentials = url.UserPassword("app", password).String() + "@"

// TestOpenAcceptsEachFormOfURL opens and uses a store with each form of URL.
func TestOpenAcceptsEachFormOfURL(t *testing.T) {
	t.Run("standalone", func(t *testing.T) {
		node := redistest.Start(t, redistest.Options{
			Users: []string{allRule, "default off"}, Config: []string{"databases 16"},
		})
		mustWork(t, "redis://"+credentials+node.Addr(), nil)
		mustWork(t, "redis://"+credentials+node.Addr()+"/", nil)
		mustWork(t, "redis://"+credentials+node.Addr()+"/3", nil)
		mustWork(t, "redis://"+credentials+node.Addr()+"?db=4", nil)
		mustWork(t, "redis+unix://"+credentials+node.Socket(), nil)
		mustWork(t, "redis+unix://"+credentials+node.Socket()+"?db=5", nil)
		// Each call of mustWork leaves one session.
		for db, want := range map[string]int{"0": 3, "3": 1, "4": 1, "5": 1} {
			if n := databaseSize(t, node, db); n != want {
				t.Errorf("database %s has %d keys, want %d", db, n, want)
			}
		}
	})
	t.Run("standalone with TLS", func(t *testing.T) {
		node := redistest.Start(t, redistest.Options{TLS: true, Config: []string{"tls-auth-clients yes"}})
		mustWork(t, "rediss://"+node.Addr(), node)
		mustWork(t, fmt.Sprintf("rediss://localhost:%d/1", node.Port()), node)
	})
	for _, secure := range []bool{false, true} {
		s, how := "", redistest.Options{TLS: secure, Users: []string{allRule, "default off"}}
		if secure {
			s = "s"
		}
		t.Run("sentinel"+s, func(t *testing.T) {
			limitParallel(t)
			sentinels := redistest.StartSentinel(t, how)
			address := strings.Join(sentinels.Addrs(), ",") + "/" + sentinels.Name
			mustWork(t, "redis"+s+"+sentinel://"+credentials+address+"?db=2", sentinels.Nodes[0])
			if n := databaseSize(t, sentinels.Nodes[0], "2"); n != 1 {
				t.Errorf("database 2 has %d keys, want 1", n)
			}
		})
		t.Run("cluster"+s, func(t *testing.T) {
			limitParallel(t)
			nodes := redistest.StartCluster(t, how)
			mustWork(t, "redis"+s+"+cluster://"+credentials+strings.Join(nodes.Addrs()[:2], ",")+"/", nodes.Nodes[0])
		})
	}
}

// mustWork opens a store, and creates, changes and reads a session, from the server and from the
// copy. With a certified node it uses that node's certificate.
func mustWork(t *testing.T, address string, certified *redistest.Node) *redisstore.Store {
	t.Helper()
	o := patient(redisstore.Options{})
	if certified != nil {
		o.TLS = certified.TLSConfig()
	}
	s := mustOpen(t, address, o)
	mustUse(t, s)
	id, origin := newSession()
	mustCreate(t, s, id, origin)
	eventually(t, anytime, func() error {
		_, _, err := s.Load(t.Context(), id)
		if n, _ := s.Near(); err == nil && n.Hits == 0 {
			err = fmt.Errorf("the near cache is not used: %+v", n)
		}
		return err
	})
	must(t, s.End(t.Context(), id))
	return s
}

// mustUse calls all methods for sessions, and leaves one session.
func mustUse(t *testing.T, s *redisstore.Store) {
	t.Helper()
	ctx := t.Context()
	mustHoldMaxFields(t, s)
	for i := range 2 {
		id, o := newSession()
		mustCreate(t, s, id, o)
		c := increment(o)
		c.Ops = append(c.Ops, driver.Op{Kind: driver.Set, Key: "m:x", Value: []byte("1")},
			driver.Op{Kind: driver.Take, Key: "n"}, driver.Op{Kind: driver.Swap, Key: "s", Value: []byte("2")})
		_, err := s.Apply(ctx, id, c)
		must(t, err)
		c = increment(o)
		c.Ops = append(c.Ops, driver.Op{Kind: driver.UnsetEntries, Key: "m"}, driver.Op{Kind: driver.Unset, Key: "s"})
		_, err = s.Apply(ctx, id, c)
		must(t, err)
		must(t, s.Touch(ctx, id, o.Verifier))
		for range 3 {
			r, _, err := s.Load(ctx, id)
			must(t, err)
			if n := counterOf(t, r); n != 1 {
				t.Errorf("the counter is %d, want 1", n)
			}
		}
		_, _, err = s.LoadFresh(ctx, id)
		must(t, err)
		if i == 0 {
			must(t, s.End(ctx, id))
			if _, _, err := s.Load(ctx, id); !errors.Is(err, driver.ErrNotFound) {
				t.Errorf("Load after End: %v, want ErrNotFound", err)
			}
		}
	}
}

// mustHoldMaxFields fills a session with as many fields as allowed, and checks that one more is
// refused.
func mustHoldMaxFields(t *testing.T, s *redisstore.Store) {
	t.Helper()
	id, o := newSession()
	mustCreate(t, s, id, o)
	c := &driver.Change{Verifier: o.Verifier, Ops: make([]driver.Op, driver.MaxFields)}
	for i := range c.Ops {
		c.Ops[i] = driver.Op{Kind: driver.Add, Key: driver.EntryKey("m", strconv.Itoa(i)), Delta: 1}
	}
	_, err := s.Apply(t.Context(), id, c)
	must(t, err)
	if _, err := s.Apply(t.Context(), id, increment(o)); !errors.Is(err, driver.ErrTooLarge) {
		t.Errorf("Apply with one field too many: %v, want ErrTooLarge", err)
	}
	must(t, s.End(t.Context(), id))
}

// databaseSize returns the number of keys in a database, without markers.
func databaseSize(t *testing.T, n *redistest.Node, db string) int {
	t.Helper()
	keys, err := n.Do("EVAL", "redis.call('SELECT', '"+db+"')\n"+keysWithoutMarkers, "0")
	must(t, err)
	return len(keys.([]any))
}

// TestOpenExplainsBadURLWithoutQuotingPassword opens stores with bad URLs. The error says what is
// wrong, and quotes nothing that may be a password.
func TestOpenExplainsBadURLWithoutQuotingPassword(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"", "does not begin with"},
		{"localhost:6379", "does not begin with"},
		{"app:hunter2@localhost", "does not begin with"},
		{"http://localhost", "scheme"},
		{"app:hunter2@redis://localhost", "scheme"},
		{"redis://", "host is missing"},
		{"redis://app:hunter2@", "host is missing"},
		{"redis://app:hunter2@:6379", "host is missing"},
		{"redis://app:hunter2", "port is not a number"},
		{"redis://app:hunter2/0", "port is not a number"},
		{"redis://app:hunter2@localhost:0", "port is not a number"},
		{"redis://app:hunter2@localhost:65536", "port is not a number"},
		{"redis://app:hunter2@a:1:2", "a host is not"},
		{"redis://app:hunter2@[::1", "a host is not"},
		{"redis://hunter2@localhost", "a user without a password"},
		{"redis://app:hunter2%@localhost", "%25"},
		{"redis://app:hunt?er2@localhost", "%3F"},
		{"redis://app:hunter2@localhost/hunter2", "database is not a number"},
		{"redis://app:hunter2@localhost/-1", "database is not a number"},
		{"redis://app:hunter2@localhost?db=x", "database is not a number"},
		{"redis://app:hunter2@localhost?hunter2=1", "unknown parameter"},
		{"redis://app:hunter2@localhost?db=%zz", "name=value"},
		{"redis://app:hunter2@a,b", "several hosts"},
		{"redis+unix://app:hunter2@run/redis.sock", "absolute path"},
		{"redis+sentinel://app:hunter2@a,b", "name of the master"},
		{"redis+sentinel://app:hunter2@a,,b/sessions", "host is missing"},
		{"redis+cluster://app:hunter2@a/1", "database 0 only"},
		{"redis+cluster://app:hunter2@a?db=1", "database 0 only"},
	} {
		_, err := redisstore.Open(t.Context(), c.url, redisstore.Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunt") {
			t.Errorf("Open(%q): %v, want an error with %q and no password", c.url, err, c.want)
		}
	}
	_, err := redisstore.Open(t.Context(), "redis://localhost", redisstore.Options{TLS: &tls.Config{}})
	if err == nil || !strings.Contains(err.Error(), "without TLS") {
		t.Errorf("Open with Options.TLS and redis://: %v, want an error", err)
	}
}

// TestOpenRefusesUnusableServers opens stores on servers that cannot serve. Within a bounded time,
// Open returns an error that says what is wrong and how to fix it.
func TestOpenRefusesUnusableServers(t *testing.T) {
	start := func(o redistest.Options) string { return redistest.Start(t, o).Addr() }
	plain := start(redistest.Options{})
	port := strings.TrimPrefix(plain, "127.0.0.1:")
	renamed := func(command string) string {
		return "redis://" + start(redistest.Options{Config: []string{"rename-command " + command + ` ""`}})
	}
	guarded := start(redistest.Options{Users: []string{allRule, "default off"}})
	secure := start(redistest.Options{TLS: true})
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer silent.Close()
	closed := startProxy(t, plain)
	closed.listen.Close()
	clustered := start(redistest.Options{Config: []string{"cluster-enabled yes"}})
	replica := start(redistest.Options{Config: []string{"replicaof 127.0.0.1 " + port}})
	evicting := start(redistest.Options{Config: []string{"maxmemory-policy allkeys-lru"}})
	for _, c := range []struct {
		name, url string
		want      []string
		silent    bool // the server answers nothing
	}{
		{"a replica", "redis://" + replica, []string{"is a replica of 127.0.0.1:" + port, "redis+sentinel://"}, false},
		{"a Cluster's node", "redis://" + clustered, []string{"is a node of a Cluster", "redis+cluster://"}, false},
		{"no Cluster", "redis+cluster://" + plain, []string{"is not a node of a Cluster", "redis://"}, false},
		{"no sentinel", "redis+sentinel://" + plain + "/sessions", []string{"no sentinel", "26379"}, false},
		{"eviction", "redis://" + evicting, []string{"allkeys-lru", "set noeviction, or volatile-ttl"}, false},
		{"no EVAL", renamed("EVAL"), []string{"renamed away", "'EVAL'"}, false},
		{"no EVALSHA", renamed("EVALSHA"), []string{"renamed away", "'EVALSHA'"}, false},
		{"nobody listens", "redis://" + closed.Addr(), []string{"no connection", "refused"}, false},
		{"no answer", "redis://" + silent.Addr().String(), []string{"no connection", "does not answer in time"}, true},
		{"no answer, Sentinel", "redis+sentinel://" + silent.Addr().String() + "/sessions",
			[]string{"no connection", "does not answer in time"}, true},
		{"no answer, Cluster", "redis+cluster://" + silent.Addr().String(),
			[]string{"no connection", "does not answer in time"}, true},
		{"no password", "redis://" + guarded, []string{"put user and password into the URL"}, false},
		{"wrong password", "redis://app:wr0ng@" + guarded, []string{"user or password is wrong"}, false},
		{"TLS to a server without TLS", "rediss://" + plain, []string{"no connection", "TLS"}, true},
		{"no TLS to a server with TLS", "redis://" + secure, []string{"no connection", "rediss://"}, false},
		{"unknown authority", "rediss://" + secure, []string{"no connection", "certificate"}, false},
		{"too old", "redis://" + startRedis62(t), []string{"is Redis 6.2.14", "7.0"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			// One second to dial, and the default of Options.Timeout.
			o, limit := redisstore.Options{}, 3*time.Second
			if !c.silent { // it answers when it can
				limit = anytime
				o.Client = func(c *rueidis.ClientOption) { c.Dialer.Timeout = anytime }
			}
			err := within(t, limit, func() error {
				s, err := redisstore.Open(t.Context(), c.url, o)
				if err == nil {
					s.Close()
				}
				return err
			})
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("Open: %v, want an error with %q", err, want)
				}
			}
			if err != nil && (strings.Contains(err.Error(), "wr0ng") || strings.Count(err.Error(), "redisstore:") != 1) {
				t.Errorf("Open: %v, want no password and the package's name once", err)
			}
		})
	}
}

// TestOpenSaysWhenConnectionIsLost loses the connection while Open tries out the server. The error
// does not blame the server, and says what to do.
func TestOpenSaysWhenConnectionIsLost(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	for name, lose := range map[string]func(p *proxy){
		"one reply":   func(p *proxy) { p.loseNextReply("count") }, // to the trial's change
		"all replies": func(p *proxy) { p.dieAfter(1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, node.Addr())
			lose(p)
			s, err := redisstore.Open(t.Context(), "redis://"+p.Addr(), redisstore.Options{})
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), "connection was lost") || !strings.Contains(err.Error(), "try again") ||
				strings.Contains(err.Error(), "does not do what the store needs") {
				t.Errorf("Open: %v, want an error that says to try again", err)
			}
		})
	}
}

// startRedis62 starts a server that answers Open's questions as Redis 6.2 does.
func startRedis62(t *testing.T) string {
	return startFake(t, func(args []string) string {
		switch strings.ToUpper(args[0]) {
		case "HELLO":
			return "%2\r\n+version\r\n+6.2.14\r\n+proto\r\n:3\r\n"
		case "INFO":
			text := "redis_version:6.2.14\r\nrole:master\r\n"
			return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text)
		}
		return "+OK\r\n"
	})
}

// TestOpenHonoursContext opens a store on a silent server, with a context that ends.
func TestOpenHonoursContext(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	o := redisstore.Options{
		Timeout: time.Hour, Client: func(c *rueidis.ClientOption) { c.Dialer.Timeout = time.Hour },
	}
	begin := time.Now()
	_, err = redisstore.Open(ctx, "redis://"+silent.Addr().String(), o)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Open: %v, want the error of the context", err)
	}
	if took := time.Since(begin); took > anytime {
		t.Errorf("Open took %v with a context of 50ms", took)
	}
}

// TestRefusedTrackingDisablesNearCache opens a store as a user without the right to CLIENT
// TRACKING. The store logs a warning and has no near cache.
func TestRefusedTrackingDisablesNearCache(t *testing.T) {
	rule := "app on >" + password + " ~* &* +@all -client|tracking"
	mustOpenWithoutNearCache := func(t *testing.T, address string) {
		t.Helper()
		var log logBuffer
		s := mustOpen(t, address, patient(redisstore.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}))
		if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "allow CLIENT TRACKING") {
			t.Errorf("the log is %q, want a warning", &log)
		}
		if _, has := s.Near(); has {
			t.Error("the store has a near cache")
		}
		mustUse(t, s)
	}
	node := redistest.Start(t, redistest.Options{Users: []string{rule}})
	mustOpenWithoutNearCache(t, "redis://"+credentials+node.Addr())
	nodes := redistest.StartCluster(t, redistest.Options{Users: []string{rule}})
	mustOpenWithoutNearCache(t, "redis+cluster://"+credentials+nodes.Addrs()[0])
}

// TestNewUsesClientAndLeavesItOpen creates stores with the application's clients. Close leaves the
// client open.
func TestNewUsesClientAndLeavesItOpen(t *testing.T) {
	node := redistest.Start(t, redistest.Options{})
	for _, option := range []rueidis.ClientOption{
		{ForceSingleClient: true},
		{ForceSingleClient: true, DisableCache: true},
		{ForceSingleClient: true, AlwaysRESP2: true, DisableCache: true},
	} {
		option.InitAddress = []string{node.Addr()}
		client, err := rueidis.NewClient(option)
		must(t, err)
		defer client.Close()
		s, err := redisstore.New(t.Context(), client, redisstore.Options{})
		must(t, err)
		mustUse(t, s)
		must(t, s.Close())
		if err := s.End(t.Context(), driver.ID{}); !errors.Is(err, redisstore.ErrClosed) {
			t.Errorf("End after Close: %v, want ErrClosed", err)
		}
		must(t, client.Do(t.Context(), client.B().Ping().Build()).Error())
	}
}
