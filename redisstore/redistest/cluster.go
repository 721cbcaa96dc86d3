package redistest

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

const (
	clusterPrimaries, clusterNodes = 3, 6
	clusterDownAfter               = 1500 * time.Millisecond

	// After these times the nodes have given up an introduction, and an ordered failover.
	meetLimit, failoverLimit = 3 * time.Second, 6 * time.Second
)

// Cluster is a Redis Cluster of three primaries with one replica each. A replica replaces its
// primary when the primary has not answered for 1.5 s, or for [Options.DownAfter].
type Cluster struct {
	// Nodes are the six nodes. At the start the first three are the primaries. Each has a third of
	// the slots, in order. Node i+3 is the replica of node i.
	Nodes []*Node
}

// NewCluster starts a Cluster and waits until all nodes agree on it. The caller closes the Cluster.
// In a test, use [StartCluster].
func NewCluster(o Options) (*Cluster, error) {
	k, err := newKit(o)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Nodes: make([]*Node, clusterNodes)}
	err = each(clusterNodes, func(i int) (err error) {
		c.Nodes[i], err = k.start(clustered)
		return err
	})
	if err == nil {
		if err = c.form(); err != nil {
			err = fmt.Errorf("%w\n%s", err, logTails(c.Nodes))
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// form makes a Cluster of nodes that do not know each other yet.
func (c *Cluster) form() error {
	return c.hurry(0, func() error {
		if err := c.join(); err != nil {
			return err
		}
		return c.Settle()
	})
}

// join makes the nodes known to each other, and gives them slots and primaries.
func (c *Cluster) join() error {
	for i, n := range c.Nodes {
		if _, err := n.Do("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1)); err != nil {
			return err
		}
	}
	if err := pollAndRepeat(meetLimit, c.meet, c.met); err != nil {
		return err
	}
	for i, n := range c.Nodes[:clusterPrimaries] {
		first, last := i*slots/clusterPrimaries, (i+1)*slots/clusterPrimaries-1
		if _, err := n.Do("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(first), strconv.Itoa(last)); err != nil {
			return err
		}
	}
	for i, replica := range c.Nodes[clusterPrimaries:] {
		id, err := c.Nodes[i].text("CLUSTER", "MYID")
		if err != nil {
			return err
		}
		err = poll(settleLimit, func() error { // until the replica knows the primary
			_, err := replica.Do("CLUSTER", "REPLICATE", id)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// hurry calls do while the nodes exchange news often, and no replica replaces a primary by itself.
// It only calls do if a primary may be silent for at most the limit: then news travels fast anyway.
func (c *Cluster) hurry(limit time.Duration, do func() error) error {
	const timeout, noFailover = "cluster-node-timeout", "cluster-replica-no-failover"
	up := running(c.Nodes)
	if len(up) == 0 {
		return errNoneRuns
	}
	reply, err := up[0].Do("CONFIG", "GET", "cluster-[nr]*")
	if err != nil {
		return err
	}
	before := fields(reply)
	ms, err := strconv.Atoi(before[timeout])
	if err != nil {
		return fmt.Errorf("redistest: %s is %q: %w", timeout, before[timeout], err)
	}
	downAfter := time.Duration(ms) * time.Millisecond
	if downAfter <= limit {
		return do()
	}
	set := func(downAfter time.Duration, noReplacement string) error {
		for _, n := range running(c.Nodes) {
			if _, err := n.Do("CONFIG", "SET", noFailover, noReplacement); err != nil {
				return err
			}
		}
		return c.SetDownAfter(downAfter)
	}
	if err := set(min(downAfter, clusterDownAfter), "yes"); err != nil {
		return err
	}
	return errors.Join(do(), set(downAfter, before[noFailover]))
}

// SetDownAfter changes how long a primary may be silent until its replica replaces it, on the
// running nodes. See [Options.DownAfter].
func (c *Cluster) SetDownAfter(d time.Duration) error {
	for _, n := range running(c.Nodes) {
		_, err := n.Do("CONFIG", "SET", "cluster-node-timeout", strconv.FormatInt(d.Milliseconds(), 10))
		if err != nil {
			return err
		}
	}
	return nil
}

// Addrs returns the addresses of all nodes.
func (c *Cluster) Addrs() []string { return addrs(c.Nodes) }

// Primaries returns the running nodes that are primaries in their own view, in the order of Nodes.
func (c *Cluster) Primaries() ([]*Node, error) {
	var primaries []*Node
	for _, n := range running(c.Nodes) {
		self, err := n.self()
		if err != nil {
			return nil, err
		}
		if self.has("master") {
			primaries = append(primaries, n)
		}
	}
	return primaries, nil
}

// NodeOfSlot returns the primary that serves a slot. It returns an error if no running node serves
// the slot.
func (c *Cluster) NodeOfSlot(slot int) (*Node, error) {
	var owner *Node
	epoch := -1
	for _, n := range running(c.Nodes) {
		self, err := n.self()
		if err != nil {
			return nil, err
		}
		// A deposed primary has an older epoch.
		if self.has("master") && self.owns(slot) && self.epoch > epoch {
			owner, epoch = n, self.epoch
		}
	}
	if owner == nil {
		return nil, fmt.Errorf("redistest: no running node serves slot %d: call Restart or Settle first", slot)
	}
	return owner, nil
}

// Replica returns a running replica of a primary. It returns an error if the primary has none.
func (c *Cluster) Replica(primary *Node) (*Node, error) {
	for _, n := range running(c.Nodes) {
		view, err := n.view()
		if err != nil {
			return nil, err
		}
		for _, m := range view {
			if m.bus == primary.busPort && view[n.busPort].primary == m.id {
				return n, nil
			}
		}
	}
	return nil, fmt.Errorf("redistest: %s has no running replica", primary.Addr())
}

// Failover promotes the replica of a primary without losing a write, as planned maintenance does
// (CLUSTER FAILOVER). It waits until all nodes agree, and returns the new primary. For an unplanned
// failover, call Kill on the primary and then Settle.
func (c *Cluster) Failover(primary *Node) (*Node, error) {
	replica, err := c.Replica(primary)
	if err != nil {
		return nil, err
	}
	order := func() error { _, err := replica.Do("CLUSTER", "FAILOVER"); return err }
	promoted := func() error {
		self, err := replica.self()
		if err == nil && !self.has("master") {
			err = fmt.Errorf("redistest: %s is not promoted yet", replica.Addr())
		}
		return err
	}
	return replica, c.hurry(clusterDownAfter, func() error {
		if err := pollAndRepeat(failoverLimit, order, promoted); err != nil {
			return err
		}
		return c.Settle()
	})
}

// Settle waits until the running nodes agree. Then one of them serves every slot, each calls the
// Cluster's state ok, and every replica is up to date. After a minute Settle returns an error that
// says what is missing.
func (c *Cluster) Settle() error {
	return poll(settleLimit, c.settled)
}

// Close kills all nodes and removes their directories.
func (c *Cluster) Close() error { return closeAll(c.Nodes) }

func closeAll(nodes []*Node) error {
	return each(len(nodes), func(i int) error { return nodes[i].Close() })
}

func addrs(nodes []*Node) []string {
	var list []string
	for _, n := range nodes {
		list = append(list, n.Addr())
	}
	return list
}

func running(nodes []*Node) []*Node {
	var list []*Node
	for _, n := range nodes {
		if n.Running() {
			list = append(list, n)
		}
	}
	return list
}
