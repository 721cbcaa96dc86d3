package redistest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// member is one node in another node's view of the Cluster.
type member struct {
	id      string
	bus     int // the port of the Cluster bus, which identifies the Node
	flags   []string
	primary string // a replica's primary by id, or "-"
	epoch   int
	slots   []string // "0-5460", "7"
}

// has reports whether a flag of CLUSTER NODES is set, such as "master".
func (m member) has(flag string) bool { return slices.Contains(m.flags, flag) }

// owns reports whether the member serves a slot.
func (m member) owns(slot int) bool {
	for _, r := range m.slots {
		first, last, isRange := strings.Cut(r, "-")
		from, _ := strconv.Atoi(first)
		to, _ := strconv.Atoi(last)
		if slot == from || isRange && from < slot && slot <= to {
			return true
		}
	}
	return false
}

// view returns the node's view of all nodes (CLUSTER NODES), by bus port.
func (n *Node) view() (map[int]member, error) {
	text, err := n.text("CLUSTER", "NODES")
	if err != nil {
		return nil, err
	}
	view := map[int]member{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line) // id ip:port@bus[,…] flags primary ping pong epoch link slot…
		if len(f) < 8 {
			return nil, fmt.Errorf("redistest: %s: CLUSTER NODES replied %q", n.Addr(), line)
		}
		_, bus, _ := strings.Cut(f[1], "@")
		bus, _, _ = strings.Cut(bus, ",")
		m := member{id: f[0], flags: strings.Split(f[2], ","), primary: f[3], slots: f[8:]}
		m.bus, _ = strconv.Atoi(bus)
		m.epoch, _ = strconv.Atoi(f[6])
		m.slots = slices.DeleteFunc(m.slots, func(s string) bool { return s[0] == '[' }) // moving
		view[m.bus] = m
	}
	return view, nil
}

// self returns the node's view of itself.
func (n *Node) self() (member, error) {
	view, err := n.view()
	if err != nil {
		return member{}, err
	}
	return view[n.busPort], nil
}

// meet introduces those nodes to each other that have not met.
func (c *Cluster) meet() error {
	views, err := c.views()
	if err != nil {
		return err
	}
	for i, n := range c.Nodes {
		for j, other := range c.Nodes[:i] {
			if knows(views[i], other) && knows(views[j], n) {
				continue
			}
			_, err := n.Do("CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(other.port), strconv.Itoa(other.busPort))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// met returns nil if each node knows all others.
func (c *Cluster) met() error {
	views, err := c.views()
	if err != nil {
		return err
	}
	for i, n := range c.Nodes {
		for _, other := range c.Nodes {
			if !knows(views[i], other) {
				return fmt.Errorf("redistest: %s does not know %s yet", n.Addr(), other.Addr())
			}
		}
	}
	return nil
}

// views returns the views of all nodes.
func (c *Cluster) views() (views []map[int]member, err error) {
	for _, n := range c.Nodes {
		view, err := n.view()
		if err != nil {
			return nil, err
		}
		views = append(views, view)
	}
	return views, nil
}

// knows reports whether a node with this view has met another one.
func knows(view map[int]member, other *Node) bool {
	m, known := view[other.busPort]
	return known && !m.has("handshake")
}

var errNoneRuns = errors.New("redistest: no node of the Cluster runs: call Restart on one")

// settled returns nil if the running nodes agree, and otherwise an error about the first thing that
// is missing.
func (c *Cluster) settled() error {
	up := running(c.Nodes)
	if len(up) == 0 {
		return final{errNoneRuns}
	}
	var agreed string
	for i, n := range up {
		view, err := n.view()
		if err != nil {
			return err
		}
		if err := c.atRest(n, view); err != nil {
			return err
		}
		if i == 0 {
			agreed = shape(view)
		} else if s := shape(view); s != agreed {
			return fmt.Errorf("redistest: the Cluster's nodes disagree: %s says\n%s%s says\n%s",
				up[0].Addr(), agreed, n.Addr(), s)
		}
	}
	return nil
}

// atRest returns nil if a node's view and state are those of a Cluster at rest.
func (c *Cluster) atRest(n *Node, view map[int]member) error {
	state, err := n.info("cluster_state", "CLUSTER", "INFO")
	if err != nil {
		return err
	}
	if state != "ok" {
		return fmt.Errorf("redistest: %s: the Cluster's state is %s", n.Addr(), state)
	}
	for _, other := range c.Nodes {
		m, up := view[other.busPort], other.Running()
		switch {
		case !knows(view, other):
			return fmt.Errorf("redistest: %s does not know %s yet", n.Addr(), other.Addr())
		case up && (m.has("fail") || m.has("fail?")):
			return fmt.Errorf("redistest: %s considers %s failed", n.Addr(), other.Addr())
		case !up && len(m.slots) > 0:
			return fmt.Errorf("redistest: no replica has taken over the slots of %s, which does not run", other.Addr())
		}
	}
	for _, primary := range c.Nodes {
		if view[primary.busPort].id == view[n.busPort].primary {
			return follow(primary, n)
		}
	}
	return nil
}

// shape describes which node replicates which and serves which slots. Equal views have equal
// shapes.
func shape(view map[int]member) string {
	var b strings.Builder
	for _, bus := range slices.Sorted(maps.Keys(view)) {
		m := view[bus]
		fmt.Fprintln(&b, "\t", m.id, m.primary, m.slots)
	}
	return b.String()
}
