package redistest

import (
	"strings"
	"testing"
)

// Start starts a standalone server and closes it when the test ends. If there is no server program,
// the test fails, with a message that says how to install one. If the test fails, its output
// includes the end of the server's log.
func Start(t testing.TB, o Options) *Node {
	t.Helper()
	n, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, n, n)
	return n
}

// StartCluster starts a Cluster, as [NewCluster] does, and treats the test as [Start] does.
func StartCluster(t testing.TB, o Options) *Cluster {
	t.Helper()
	c, err := NewCluster(o)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, c, c.Nodes...)
	return c
}

// StartSentinel starts Sentinel servers, as [NewSentinel] does, and treats the test as [Start]
// does.
func StartSentinel(t testing.TB, o Options) *Sentinel {
	t.Helper()
	s, err := NewSentinel(o)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, s, s.all()...)
	return s
}

// closeAfter closes x when the test ends. If the test has failed, it first logs the nodes' log
// tails.
func closeAfter(t testing.TB, x interface{ Close() error }, nodes ...*Node) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(logTails(nodes))
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
}

// logTails joins the log tails of the nodes that were started.
func logTails(nodes []*Node) string {
	var tails []string
	for _, n := range nodes {
		if n != nil {
			tails = append(tails, n.logTail())
		}
	}
	return strings.Join(tails, "\n")
}
