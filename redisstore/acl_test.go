package redisstore_test

import (
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// documentedRules are those of format/README.md, as lines of redistest.Options.Users with the password of credentials: of the user as
// such, and of one who may have ends wait for replicas.
func documentedRules(t *testing.T) (rule, waiting string) {
	t.Helper()
	text, err := os.ReadFile("../format/README.md")
	ok(t, err)
	found := regexp.MustCompile(`(?m)^    ACL SETUSER coatcheck (.*)$`).FindAllSubmatch(text, -1)
	if len(found) != 2 {
		t.Fatalf("format/README.md has %d rules, want 2", len(found))
	}
	rule = "app " + strings.ReplaceAll(string(found[0][1]), "PASSWORD", password)
	return rule, strings.Replace(rule, "app", "waiting", 1) + " " + string(found[1][1])
}

// TestACL opens and uses a store as the user that the format describes, who may do nothing else, on every server there is.
func TestACL(t *testing.T) {
	rule, waiting := documentedRules(t)
	for _, server := range redistest.Servers() {
		o := redistest.Options{Server: server, Users: []string{rule, waiting, "default off"}}
		t.Run(server.Name+" standalone", func(t *testing.T) {
			few(t)
			node := redistest.Start(t, o)
			works(t, "redis://"+credentials+node.Addr(), nil)
			tells(t, "redis://"+credentials+node.Addr())
			works(t, "redis://"+credentials+node.Addr()+"/1", nil)
			denied(t, node)
			_, err := redisstore.Open(t.Context(), "redis://"+credentials+node.Addr(), redisstore.Options{Namespace: "other"})
			refusedByACL(t, err)
			_, err = redisstore.Open(t.Context(), "redis://"+credentials+node.Addr(), redisstore.Options{Replicas: 1})
			refusedByACL(t, err)
		})
		t.Run(server.Name+" Sentinel", func(t *testing.T) {
			few(t)
			s := redistest.StartSentinel(t, o)
			address := strings.Join(s.Addrs(), ",") + "/" + s.Name
			store := works(t, "redis+sentinel://"+credentials+address, nil)
			waits(t, "redis+sentinel://"+asWaiting+address)
			tells(t, "redis+sentinel://"+credentials+address)
			_, err := s.Failover()
			ok(t, err)
			eventuallyUses(t, store)
			denied(t, s.Nodes...)
		})
		t.Run(server.Name+" Cluster", func(t *testing.T) {
			few(t)
			c := redistest.StartCluster(t, o)
			store := works(t, "redis+cluster://"+credentials+c.Addrs()[0], nil)
			waits(t, "redis+cluster://"+asWaiting+c.Addrs()[0])
			tells(t, "redis+cluster://"+credentials+c.Addrs()[0])
			usesOnTheMove(t, store, c)
			_, err := c.Failover(c.Nodes[0])
			ok(t, err)
			eventuallyUses(t, store)
			denied(t, c.Nodes...)
		})
	}
}

var asWaiting = url.UserPassword("waiting", password).String() + "@"

func refusedByACL(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), `see "ACL"`) {
		t.Errorf("%v, want the way to the rule", err)
	}
}

// usesOnTheMove changes and ends sessions of a slot that is on its way to another node.
func usesOnTheMove(t *testing.T, s *redisstore.Store, c *redistest.Cluster) {
	t.Helper()
	id, o := fresh()
	create(t, s, id, o)
	key := keyOf(id)
	m, _ := migrate(t, c, redistest.Slot(key))
	ok(t, m.Move(key))
	_, err := s.Apply(t.Context(), id, add1(o))
	ok(t, err)
	_, _, err = s.LoadFresh(t.Context(), id)
	ok(t, err)
	ok(t, s.End(t.Context(), id))
	ok(t, m.Finish())
}

// keyOf is the key of a session, as the format has it.
func keyOf(id driver.ID) string {
	bucket, selector, _ := strings.Cut(id.String(), "-")
	return "coatcheck:{" + bucket + "}:s:" + selector
}

// denied fails if the servers refused the store anything.
func denied(t *testing.T, nodes ...*redistest.Node) {
	t.Helper()
	for _, n := range nodes {
		log, err := n.Do("ACL", "LOG")
		ok(t, err)
		if entries := log.([]any); len(entries) > 0 {
			t.Errorf("%s refused: %v", n, entries)
		}
	}
}

// waits ends a session that waits for a replica.
func waits(t *testing.T, address string) {
	t.Helper()
	s := open(t, address, waitingFor(1))
	id, o := fresh()
	create(t, s, id, o)
	ok(t, s.End(t.Context(), id))
}

// tells publishes an event, and follows it.
func tells(t *testing.T, address string) {
	t.Helper()
	s := open(t, address, publishing)
	f := follow(t, s)
	s.Publish([]byte("works"))
	f.until(t, 5*time.Second, "works")
}

func eventuallyUses(t *testing.T, s *redisstore.Store) {
	t.Helper()
	id, o := fresh()
	create(t, s, id, o)
	eventually(t, recovery, func() error { _, err := s.Apply(t.Context(), id, add1(o)); return err })
}
