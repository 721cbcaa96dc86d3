package polyglot_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/coatcheck-go/session/redisstore/redistest"
)

// server is the Redis of a test: one server or a Cluster.
type server struct {
	url  string
	node *redistest.Node    // nil: a Cluster
	all  *redistest.Cluster // nil: one server
}

// topologies start servers.
var topologies = []struct {
	name  string
	start func(t testing.TB) *server
}{
	{"standalone", func(t testing.TB) *server {
		n := redistest.Start(t, redistest.Options{})
		return &server{url: "redis://" + n.Addr(), node: n}
	}},
	{"cluster", func(t testing.TB) *server {
		c := redistest.StartCluster(t, redistest.Options{})
		return &server{url: "redis-cluster://" + strings.Join(c.Addrs(), ","), all: c}
	}},
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
