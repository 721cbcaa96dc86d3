package redisstore_test

import (
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// mustReadACLRules returns the two ACL rules of format/README.md, for redistest.Options.Users. The
// second rule also permits waiting for replicas.
func mustReadACLRules(t *testing.T) (rule, waiting string) {
	t.Helper()
	text, err := os.ReadFile("../format/README.md")
	must(t, err)
	found := regexp.MustCompile(`(?m)^    ACL SETUSER coatcheck (.*)$`).FindAllSubmatch(text, -1)
	if len(found) != 2 {
		t.Fatalf("format/README.md has %d rules, want 2", len(found))
	}
	rule = "app " + strings.ReplaceAll(string(found[0][1]), "PASSWORD", password)
	return rule, strings.Replace(rule, "app", "waiting", 1) + " " + string(found[1][1])
}

// TestDocumentedACLRulesSuffice uses stores as the users that format/README.md documents, on every
// server of this machine. Those users have no other rights.
func TestDocumentedACLRulesSuffice(t *testing.T) {
	rule, waiting := mustReadACLRules(t)
	for _, server := range redistest.Servers() {
		o := redistest.Options{Server: server, Users: []string{rule, waiting, "default off"}, DownAfter: never}
		t.Run(server.Name+" standalone", func(t *testing.T) {
			limitParallel(t)
			node := redistest.Start(t, o)
			mustWork(t, "redis://"+credentials+node.Addr(), nil)
			mustPublish(t, "redis://"+credentials+node.Addr())
			mustWork(t, "redis://"+credentials+node.Addr()+"/1", nil)
			mustHaveNoDenial(t, node)
			for _, denied := range []redisstore.Options{{Namespace: "other"}, {Replicas: 1}} {
				_, err := redisstore.Open(t.Context(), "redis://"+credentials+node.Addr(), denied)
				mustPointToACLSection(t, err)
			}
		})
		t.Run(server.Name+" Sentinel", func(t *testing.T) {
			limitParallel(t)
			s := redistest.StartSentinel(t, o)
			address := strings.Join(s.Addrs(), ",") + "/" + s.Name
			store := mustWork(t, "redis+sentinel://"+credentials+address, nil)
			mustEndOnReplica(t, "redis+sentinel://"+waitingCredentials+address)
			mustPublish(t, "redis+sentinel://"+credentials+address)
			_, err := s.Failover()
			must(t, err)
			mustRecoverWrites(t, store)
			mustHaveNoDenial(t, s.Nodes...)
		})
		t.Run(server.Name+" Cluster", func(t *testing.T) {
			limitParallel(t)
			c := redistest.StartCluster(t, o)
			store := mustWork(t, "redis+cluster://"+credentials+c.Addrs()[0], nil)
			mustEndOnReplica(t, "redis+cluster://"+waitingCredentials+c.Addrs()[0])
			mustPublish(t, "redis+cluster://"+credentials+c.Addrs()[0])
			mustUseWhileSlotMoves(t, store, c)
			_, err := c.Failover(c.Nodes[0])
			must(t, err)
			mustRecoverWrites(t, store)
			mustHaveNoDenial(t, c.Nodes...)
		})
	}
}

// waitingCredentials belong to the user of the second rule.
var waitingCredentials = url.UserPassword("waiting", password).String() + "@"

// mustPointToACLSection checks that an error tells the reader where the ACL rules are.
func mustPointToACLSection(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), `see "ACL"`) {
		t.Errorf("%v, want an error that points to the section \"ACL\"", err)
	}
}

// mustHaveNoDenial checks that the servers denied no command.
func mustHaveNoDenial(t *testing.T, nodes ...*redistest.Node) {
	t.Helper()
	for _, n := range nodes {
		log, err := n.Do("ACL", "LOG")
		must(t, err)
		if entries := log.([]any); len(entries) > 0 {
			t.Errorf("%s denied commands: %v", n, entries)
		}
	}
}

// mustEndOnReplica ends a session and waits for a replica.
func mustEndOnReplica(t *testing.T, address string) {
	t.Helper()
	s := mustOpen(t, address, withReplicas(1))
	id, o := newSession()
	mustCreate(t, s, id, o)
	must(t, s.End(t.Context(), id))
}

// mustPublish publishes an event and receives it.
func mustPublish(t *testing.T, address string) {
	t.Helper()
	s := mustOpen(t, address, withEvents)
	f := follow(t, s)
	s.Publish([]byte("works"))
	f.mustReceive(t, "works")
}

// mustRecoverWrites checks that the store accepts changes again after a failover. Each attempt
// creates a session: the primary of before may have taken the last one with it.
func mustRecoverWrites(t *testing.T, s *redisstore.Store) {
	t.Helper()
	eventually(t, recovery, func() error {
		id, o := newSession()
		_, err := s.Create(t.Context(), id, o, &driver.Change{Verifier: o.Verifier})
		if err == nil {
			_, err = s.Apply(t.Context(), id, increment(o))
		}
		return err
	})
}
