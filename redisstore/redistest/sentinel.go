package redistest

import (
	"errors"
	"fmt"
	"net"
	"strconv"
)

const sentinelNodes, sentinelReplicas = 3, 2

// Sentinel is a primary and two replicas that three sentinels watch. A primary that does not answer
// for 1 s is replaced.
type Sentinel struct {
	Name      string  // what the sentinels call the primary
	Nodes     []*Node // the servers that hold data; the first is the primary at the start
	Sentinels []*Node // the sentinels
}

// NewSentinel starts a primary, replicas and sentinels and waits until all know of each other, so
// that a failover can begin. The caller closes it. In a test, use [StartSentinel].
func NewSentinel(o Options) (*Sentinel, error) {
	k, err := newKit(o)
	if err != nil {
		return nil, err
	}
	s := &Sentinel{
		Name:      "sessions",
		Nodes:     make([]*Node, 1+sentinelReplicas),
		Sentinels: make([]*Node, sentinelNodes),
	}
	if err = s.start(k); err != nil {
		err = fmt.Errorf("%w\n%s", err, logTails(s.all()))
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Sentinel) start(k *kit) (err error) {
	if s.Nodes[0], err = k.start(standalone); err != nil {
		return err
	}
	port := strconv.Itoa(s.Nodes[0].port)
	err = each(sentinelReplicas, func(i int) (err error) {
		s.Nodes[1+i], err = k.start(standalone, "replicaof 127.0.0.1 "+port)
		return err
	})
	if err != nil {
		return err
	}
	// Sentinels that come when the replicas are linked find them at once.
	if err = poll(settleLimit, func() error { return s.replicating(s.Nodes[0]) }); err != nil {
		return err
	}
	err = each(sentinelNodes, func(i int) (err error) {
		s.Sentinels[i], err = k.start(sentinel, s.watch(k, port)...)
		return err
	})
	if err != nil {
		return err
	}
	return s.Settle()
}

// watch is the configuration of a sentinel.
func (s *Sentinel) watch(k *kit, port string) []string {
	lines := []string{
		"sentinel monitor " + s.Name + " 127.0.0.1 " + port + " 2",
		"sentinel down-after-milliseconds " + s.Name + " 1000",
		"sentinel failover-timeout " + s.Name + " 5000",
	}
	if k.password != "" {
		lines = append(lines,
			"sentinel auth-user "+s.Name+" "+adminUser,
			"sentinel auth-pass "+s.Name+" "+k.password)
	}
	return lines
}

// hurry sets how often, in milliseconds, the running sentinels announce themselves and ask servers
// for their INFO. They do not mind that the machine stands still for a while: by themselves they
// would do nothing for the next 30 s ("tilt").
func (s *Sentinel) hurry(announce, info string) error {
	for _, n := range running(s.Sentinels) {
		if _, err := n.Do("SENTINEL", "DEBUG", "publish-period", announce, "info-period", info, "tilt-trigger", "60000"); err != nil {
			return err
		}
	}
	return nil
}

// Addrs returns the addresses of the sentinels, which is what a client is given, with Name.
func (s *Sentinel) Addrs() []string { return addrs(s.Sentinels) }

// Primary returns the server that the running sentinels call the primary. It is an error when they
// disagree, as they do for a moment during a failover.
func (s *Sentinel) Primary() (*Node, error) {
	var primary *Node
	for _, n := range running(s.Sentinels) {
		reply, err := n.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.Name)
		if err != nil {
			return nil, err
		}
		named, err := s.node(reply)
		if err != nil {
			return nil, err
		}
		if primary != nil && named != primary {
			return nil, fmt.Errorf("redistest: the sentinels disagree: the primary is %s or %s", primary.Addr(), named.Addr())
		}
		primary = named
	}
	if primary == nil {
		return nil, errors.New("redistest: no sentinel runs: Restart one")
	}
	return primary, nil
}

// node finds the server at an address that a sentinel replied.
func (s *Sentinel) node(reply any) (*Node, error) {
	if pair, ok := reply.([]any); ok && len(pair) == 2 {
		addr := net.JoinHostPort(fmt.Sprint(pair[0]), fmt.Sprint(pair[1]))
		for _, n := range s.Nodes {
			if n.Addr() == addr {
				return n, nil
			}
		}
	}
	return nil, fmt.Errorf("redistest: a sentinel calls %v the primary", reply)
}

// Failover has the sentinels replace the primary while it is in good health (SENTINEL FAILOVER),
// and returns the new one as soon as all sentinels name it. The old one goes on as a primary until
// they demote it, some 10 s later, or at once with Settle. For an unplanned failover, Kill the
// primary and Settle.
func (s *Sentinel) Failover() (*Node, error) {
	old, err := s.Primary()
	if err != nil {
		return nil, err
	}
	leader := running(s.Sentinels)[0]
	err = poll(settleLimit, func() error { // "INPROG" and "NOGOODSLAVE" pass
		_, err := leader.Do("SENTINEL", "FAILOVER", s.Name)
		return err
	})
	if err != nil {
		return nil, err
	}
	var primary *Node
	err = poll(settleLimit, func() (err error) {
		if primary, err = s.Primary(); err == nil && primary == old {
			err = fmt.Errorf("redistest: %s is still the primary", old.Addr())
		}
		return err
	})
	return primary, err
}

// Settle waits until the running sentinels agree on a primary that runs, the other running servers
// are its replicas and up to date, and every sentinel sees all of that. Meanwhile the sentinels
// look around every tenth of a second: by themselves they take some 20 s to do so after a failover.
// It gives up after 30 s, with an error that says what is missing.
func (s *Sentinel) Settle() error {
	if err := s.hurry("100", "100"); err != nil {
		return err
	}
	return errors.Join(poll(settleLimit, s.settled), s.hurry("2000", "10000")) // the defaults
}

// Close kills all servers and sentinels and removes their directories.
func (s *Sentinel) Close() error { return closeAll(s.all()) }

func (s *Sentinel) all() []*Node {
	return append(s.Nodes[:len(s.Nodes):len(s.Nodes)], s.Sentinels...)
}
