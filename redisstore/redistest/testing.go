package redistest

import (
	"strings"
	"testing"
)

// Start starts a standalone server that is closed when the test ends. Without a server program the
// test fails, with a message that says how to install one. When the test fails, the end of the
// server's log is in its output.
func Start(t testing.TB, o Options) *Node {
	t.Helper()
	n, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, n, n)
	return n
}

// StartCluster is [NewCluster] for a test: as [Start].
func StartCluster(t testing.TB, o Options) *Cluster {
	t.Helper()
	c, err := NewCluster(o)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, c, c.Nodes...)
	return c
}

// StartSentinel is [NewSentinel] for a test: as [Start].
func StartSentinel(t testing.TB, o Options) *Sentinel {
	t.Helper()
	s, err := NewSentinel(o)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, s, s.all()...)
	return s
}

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

// logTails joins the ends of the logs of those nodes that were started.
func logTails(nodes []*Node) string {
	var tails []string
	for _, n := range nodes {
		if n != nil {
			tails = append(tails, n.logTail())
		}
	}
	return strings.Join(tails, "\n")
}
