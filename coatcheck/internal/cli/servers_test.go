package cli_test

import (
	"errors"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/coatcheck-go/session/redisstore/redistest"
)

// servers are the Redis servers that a script has started.
type servers struct {
	node    *redistest.Node // the server that "redis kill" kills
	settle  func() error
	primary func() (*redistest.Node, error)
}

// serversKey is the key of a script's servers among its values.
type serversKey struct{}

const redisUsage = "usage: redis server|users|sentinel|cluster [CONFIG...], redis kill|restart"

// redis starts real servers. It sets $STORE to their URL, and $STORE_ADDR to the address of the
// first.
func redis(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("%s", redisUsage)
	}
	s := ts.Value(serversKey{}).(*servers)
	switch args[0] {
	case "kill":
		ts.Check(s.kill())
	case "restart":
		ts.Check(s.node.Restart())
	default:
		s.start(ts, args[0], args[1:])
	}
}

func (s *servers) start(ts *testscript.TestScript, name string, config []string) {
	o := redistest.Options{Config: config}
	switch name {
	case "users":
		o.Config, o.Users = nil, config
		fallthrough
	case "server":
		n, err := redistest.New(o)
		ts.Check(err)
		ts.Defer(func() { ts.Check(n.Close()) })
		s.node = n
		s.set(ts, "redis://", "", n.Addr())
	case "sentinel":
		c, err := redistest.NewSentinel(o)
		ts.Check(err)
		ts.Defer(func() { ts.Check(c.Close()) })
		s.settle, s.primary = c.Settle, c.Primary
		s.set(ts, "redis+sentinel://", "/"+c.Name, c.Addrs()...)
	case "cluster":
		c, err := redistest.NewCluster(o)
		ts.Check(err)
		ts.Defer(func() { ts.Check(c.Close()) })
		s.set(ts, "redis+cluster://", "", c.Addrs()...)
	default:
		ts.Fatalf("%s", redisUsage)
	}
}

func (s *servers) set(ts *testscript.TestScript, scheme, name string, addrs ...string) {
	ts.Setenv("STORE", scheme+strings.Join(addrs, ",")+name)
	ts.Setenv("STORE_ADDR", addrs[0])
}

// kill kills the server with SIGKILL. With Sentinel, it kills the primary, once the replicas have
// caught up.
func (s *servers) kill() error {
	if s.primary != nil {
		if err := s.settle(); err != nil {
			return err
		}
		n, err := s.primary()
		if err != nil {
			return err
		}
		s.node = n
	}
	if s.node == nil {
		return errors.New("there is no server to kill: run redis server or redis sentinel first")
	}
	return s.node.Kill()
}
