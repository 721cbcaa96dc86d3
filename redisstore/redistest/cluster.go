package redistest

import (
	"fmt"
	"strconv"
)

const clusterPrimaries, clusterNodes = 3, 6

// Cluster is a Cluster of three primaries with a replica each. A node that does not answer for 1.5
// s is replaced by its replica; the line "cluster-node-timeout 500" in [Options.Config] would make
// it half a second.
type Cluster struct {
	// Nodes are the six nodes. At the start the first three are the primaries, each with a third of
	// the slots in order, and the fourth is the first one's replica, and so on.
	Nodes []*Node
}

// NewCluster starts a Cluster and waits until all nodes agree on it. The caller closes it. In a
// test, use [StartCluster].
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

// form makes a Cluster of nodes that know nothing of each other.
func (c *Cluster) form() error {
	for i, n := range c.Nodes {
		if _, err := n.Do("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1)); err != nil {
			return err
		}
		for _, other := range c.Nodes[:i] {
			_, err := n.Do("CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(other.port), strconv.Itoa(other.busPort))
			if err != nil {
				return err
			}
		}
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
		err = poll(settleLimit, func() error { // until the replica has heard of the primary
			_, err := replica.Do("CLUSTER", "REPLICATE", id)
			return err
		})
		if err != nil {
			return err
		}
	}
	return c.Settle()
}

// Addrs returns the addresses of all nodes.
func (c *Cluster) Addrs() []string { return addrs(c.Nodes) }

// Primaries returns the nodes that run and take themselves for a primary, in the order of Nodes.
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

// NodeOfSlot returns the primary that serves a slot. It is an error when no running node does.
func (c *Cluster) NodeOfSlot(slot int) (*Node, error) {
	var owner *Node
	epoch := -1
	for _, n := range running(c.Nodes) {
		self, err := n.self()
		if err != nil {
			return nil, err
		}
		if self.has("master") && self.owns(slot) && self.epoch > epoch { // a deposed primary has an older epoch
			owner, epoch = n, self.epoch
		}
	}
	if owner == nil {
		return nil, fmt.Errorf("redistest: no running node serves slot %d: Restart or Settle first", slot)
	}
	return owner, nil
}

// Replica returns a running replica of a primary. It is an error when there is none.
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

// Failover swaps a primary and its replica, as planned maintenance does, without losing a write
// (CLUSTER FAILOVER). It waits until all nodes agree, and returns the new primary. For an unplanned
// one, Kill the primary and Settle.
func (c *Cluster) Failover(primary *Node) (*Node, error) {
	replica, err := c.Replica(primary)
	if err != nil {
		return nil, err
	}
	if _, err := replica.Do("CLUSTER", "FAILOVER"); err != nil {
		return nil, err
	}
	err = poll(settleLimit, func() error {
		self, err := replica.self()
		if err == nil && !self.has("master") {
			err = fmt.Errorf("redistest: %s is not promoted yet", replica.Addr())
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return replica, c.Settle()
}

// Settle waits until the running nodes agree: every slot is served by one of them, all call the
// Cluster's state ok, and every replica has all that its primary has. It gives up after 30 s, with
// an error that says what is missing.
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
