package redistest

import (
	"fmt"
	"strconv"
)

// role is a server's reply to ROLE.
type role struct {
	primary bool
	of      string // the port of a replica's primary
	state   string // a replica's link; "connected" if it is up
	offset  int64  // bytes of the replication stream that the server has sent or received
}

func (n *Node) role() (role, error) {
	reply, err := n.Do("ROLE")
	if err != nil {
		return role{}, err
	}
	v, _ := reply.([]any)
	switch {
	case len(v) == 3 && v[0] == "master":
		offset, _ := v[1].(int64)
		return role{primary: true, offset: offset}, nil
	case len(v) == 5 && v[0] == "slave":
		offset, _ := v[4].(int64)
		return role{of: fmt.Sprint(v[2]), state: fmt.Sprint(v[3]), offset: offset}, nil
	}
	return role{}, fmt.Errorf("redistest: %s: ROLE replied %v", n.Addr(), reply)
}

// follow returns nil if the replicas are linked to the primary and up to date.
func follow(primary *Node, replicas ...*Node) error {
	p, err := primary.role()
	if err != nil {
		return err
	}
	if !p.primary {
		return fmt.Errorf("redistest: %s is not a primary", primary.Addr())
	}
	for _, n := range replicas {
		r, err := n.role()
		switch {
		case err != nil:
			return err
		case r.primary:
			return fmt.Errorf("redistest: %s is a primary, and so is %s", n.Addr(), primary.Addr())
		case r.of != strconv.Itoa(primary.port):
			return fmt.Errorf("redistest: %s is a replica of port %s, not of %s", n.Addr(), r.of, primary.Addr())
		case r.state != "connected":
			return fmt.Errorf("redistest: %s is not linked to its primary: %s", n.Addr(), r.state)
		case r.offset < p.offset:
			return fmt.Errorf("redistest: %s is %d bytes behind its primary", n.Addr(), p.offset-r.offset)
		}
	}
	return nil
}
