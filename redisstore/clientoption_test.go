package redisstore_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// countingDialer counts the connections that it opened and that are still open, by address.
type countingDialer struct {
	mu   sync.Mutex
	open map[string]int
}

type countedConn struct {
	net.Conn
	closed func()
}

func (c countedConn) Close() error { c.closed(); return c.Conn.Close() }

type dialFn = func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error)

func (c *countingDialer) wrap(dial dialFn) dialFn {
	return func(ctx context.Context, to string, d *net.Dialer, config *tls.Config) (net.Conn, error) {
		conn, err := dial(ctx, to, d, config)
		if err != nil {
			return nil, err
		}
		c.add(to, 1)
		return countedConn{conn, sync.OnceFunc(func() { c.add(to, -1) })}, nil
	}
}

func (c *countingDialer) add(to string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[to] += n
}

func (c *countingDialer) openTo(n *redistest.Node) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open[n.Addr()]
}

// TestClientOptionReachesEveryConnection opens stores with a dialer, a TLS configuration and
// credentials of the application. All connections use them, those to sentinels with the sentinels'
// own credentials. The near cache works.
func TestClientOptionReachesEveryConnection(t *testing.T) {
	o := redistest.Options{TLS: true, Users: []string{allRule, "default off"}, Config: []string{"tls-auth-clients yes"}}
	eachDeployment(t, o, func(t *testing.T, d deployment) {
		onEach(t, d.sentinels, "ACL", "SETUSER", "watcher", "on", ">"+password, "&*", "+@all")
		dialer := countingDialer{open: map[string]int{}}
		query := ""
		if d.sentinels != nil {
			query = "?sentinel_user=watcher&sentinel_password=" + url.QueryEscape(password)
		}
		s := mustOpen(t, d.url("", query), redisstore.Options{
			Client: func(o *rueidis.ClientOption) {
				o.TLSConfig, o.Dialer.Timeout = d.nodes[0].TLSConfig(), anytime
				o.DialCtxFn = dialer.wrap(o.DialCtxFn)
				o.ClientName = "shop"
				o.AuthCredentialsFn = func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
					return rueidis.AuthCredentials{
						Username: "app", Password: password, RefreshAfter: time.Now().Add(100 * time.Millisecond),
					}, nil
				}
			},
		})
		mustUse(t, s)
		id, spec := newSession()
		mustCreate(t, s, id, spec)
		mustWarm(t, s, id)
		for _, n := range d.nodes {
			eventually(t, anytime, func() error {
				list, err := n.Do("CLIENT", "LIST")
				must(t, err)
				named := strings.Count(list.(string), " name=shop ")
				if got := dialer.openTo(n); named == 0 || got != named {
					return fmt.Errorf("%v connections to %s came from the dialer, and the server has %d", got, n, named)
				}
				return nil
			})
		}
		for _, n := range d.sentinels {
			eventually(t, anytime, func() error {
				list, err := n.Do("CLIENT", "LIST")
				must(t, err)
				known := strings.Count(list.(string), " user=watcher ")
				if got := dialer.openTo(n); known == 0 || got != known {
					return fmt.Errorf("%v connections to %s came from the dialer, and the sentinel has %d", got, n, known)
				}
				return nil
			})
		}
		// The client renews the credentials without a new connection.
		eventually(t, anytime, func() error {
			if n := commandCalls(t, d.nodes[0], "auth"); n < 2 {
				return fmt.Errorf("the server has got %d AUTH, want 2", n)
			}
			return nil
		})
		mustWarm(t, s, id)
	})
}

// TestOpenRefusesClientOptionThatBreaksPromises changes what Options.Client may not change. Open
// refuses it before it dials, and names the field.
func TestOpenRefusesClientOptionThatBreaksPromises(t *testing.T) {
	for field, change := range map[string]func(*rueidis.ClientOption){
		"ClientTrackingOptions": func(o *rueidis.ClientOption) { o.ClientTrackingOptions = []string{"BCAST"} },
		"OnInvalidations":       func(o *rueidis.ClientOption) { o.OnInvalidations = func([]rueidis.RedisMessage) {} },
		"NewCacheStoreFn": func(o *rueidis.ClientOption) {
			o.NewCacheStoreFn = func(rueidis.CacheStoreOption) rueidis.CacheStore { return nil }
		},
		"DisableCache":          func(o *rueidis.ClientOption) { o.DisableCache = true },
		"AlwaysRESP2":           func(o *rueidis.ClientOption) { o.AlwaysRESP2 = true },
		"DisableRetry":          func(o *rueidis.ClientOption) { o.DisableRetry = false },
		"PipelineMultiplex":     func(o *rueidis.ClientOption) { o.PipelineMultiplex = 2 },
		"AlwaysPipelining":      func(o *rueidis.ClientOption) { o.AlwaysPipelining = false },
		"DisableAutoPipelining": func(o *rueidis.ClientOption) { o.DisableAutoPipelining = true },
		"ConnWriteTimeout":      func(o *rueidis.ClientOption) { o.ConnWriteTimeout = time.Minute },
		"SendToReplicas":        func(o *rueidis.ClientOption) { o.SendToReplicas = func(rueidis.Completed) bool { return true } },
		"ReplicaOnly":           func(o *rueidis.ClientOption) { o.ReplicaOnly = true },
		"InitAddress":           func(o *rueidis.ClientOption) { o.InitAddress[0] = "127.0.0.1:2" },
		"SelectDB":              func(o *rueidis.ClientOption) { o.SelectDB = 1 },
		"Sentinel":              func(o *rueidis.ClientOption) { o.Sentinel.MasterSet = "other" },
		"DialFn": func(o *rueidis.ClientOption) {
			o.DialFn = func(string, *net.Dialer, *tls.Config) (net.Conn, error) { return nil, nil }
		},
		"removes DialCtxFn":   func(o *rueidis.ClientOption) { o.DialCtxFn = nil },
		"turns TLS on or off": func(o *rueidis.ClientOption) { o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13} },
	} {
		_, err := redisstore.Open(t.Context(), "redis://127.0.0.1:1", redisstore.Options{Client: change})
		if err == nil || !strings.Contains(err.Error(), "redisstore: Options.Client ") || !strings.Contains(err.Error(), field) {
			t.Errorf("Open: %v, want an error about Options.Client with %q", err, field)
		}
	}
	if _, err := redisstore.New(t.Context(), nil, redisstore.Options{Client: func(*rueidis.ClientOption) {}}); err == nil {
		t.Error("New accepts Options.Client")
	}
}
