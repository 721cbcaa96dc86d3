package polyglot_test

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/coatcheck-go/session/redisstore/redistest"
)

// server is the Redis of a test: one server or a Cluster.
type server struct {
	url  string
	node *redistest.Node    // nil: a Cluster
	all  *redistest.Cluster // nil: one server
}

// topologies start servers, once for all tests. TestMain closes them.
var topologies = []struct {
	name  string
	start func() (*server, error)
}{
	{"standalone", sync.OnceValues(func() (*server, error) {
		n, err := redistest.New(redistest.Options{})
		if err != nil {
			return nil, err
		}
		closers = append(closers, n)
		return &server{url: "redis://" + n.Addr(), node: n}, nil
	})},
	{"cluster", sync.OnceValues(func() (*server, error) {
		c, err := redistest.NewCluster(redistest.Options{})
		if err != nil {
			return nil, err
		}
		closers = append(closers, c)
		return &server{url: "redis-cluster://" + strings.Join(c.Addrs(), ","), all: c}, nil
	})},
}

var closers []io.Closer

// onEachTopology runs a subtest on one server and on a Cluster.
func onEachTopology(t *testing.T, run func(t *testing.T, s *server)) {
	for _, topology := range topologies {
		t.Run(topology.name, func(t *testing.T) {
			s, err := topology.start()
			if err != nil {
				t.Fatal(err)
			}
			run(t, s)
		})
	}
}

// do sends a command to the server of its key, or to each primary.
func (s *server) do(command []string, everywhere bool) (replies []any, err error) {
	var nodes []*redistest.Node
	switch {
	case s.node != nil:
		nodes = []*redistest.Node{s.node}
	case everywhere:
		nodes, err = s.all.Primaries()
	default:
		key := command[1]
		if strings.EqualFold(command[0], "EVAL") {
			key = command[3]
		}
		var n *redistest.Node
		n, err = s.all.NodeOfSlot(redistest.Slot(key))
		nodes = []*redistest.Node{n}
	}
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		got, err := n.Do(command...)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", command, err)
		}
		replies = append(replies, got)
	}
	return replies, nil
}
