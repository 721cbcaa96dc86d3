package redistest

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

const (
	sentinelNodes, sentinelReplicas = 3, 2
	sentinelDownAfter               = time.Second
)

// Sentinel is a primary and two replicas, watched by three sentinels. The sentinels replace a
// primary that has not answered for 1 s, or for [Options.DownAfter].
type Sentinel struct {
	Name      string  // the primary's name
	Nodes     []*Node // the servers that hold data; the first is the primary at the start
	Sentinels []*Node // the sentinels
}

// NewSentinel starts a primary, replicas and sentinels. It waits until all know each other, so that
// a failover is possible. The caller closes the result. In a test, use [StartSentinel].
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
	if err = s.start(k); err == nil {
		err = s.SetDownAfter(cmp.Or(o.DownAfter, sentinelDownAfter))
	}
	if err != nil {
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
	// A sentinel that starts when the replicas are linked finds them at once.
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

// watch returns the configuration of a sentinel.
func (s *Sentinel) watch(k *kit, port string) []string {
	lines := []string{
		"sentinel monitor " + s.Name + " 127.0.0.1 " + port + " 2",
		// Until NewSentinel sets it, nothing is replaced.
		"sentinel down-after-milliseconds " + s.Name + " 3600000",
		"sentinel failover-timeout " + s.Name + " 5000",
	}
	if k.password != "" {
		lines = append(lines,
			"sentinel auth-user "+s.Name+" "+adminUser,
			"sentinel auth-pass "+s.Name+" "+k.password)
	}
	return lines
}

// hurry sets two intervals of the running sentinels, in milliseconds: how often they announce
// themselves, and how often they ask servers for INFO. It also keeps them from tilt mode, in which
// a sentinel does nothing for 30 s because the machine stalled.
func (s *Sentinel) hurry(announce, info string) error {
	for _, n := range running(s.Sentinels) {
		_, err := n.Do("SENTINEL", "DEBUG",
			"publish-period", announce, "info-period", info, "tilt-trigger", "60000")
		if err != nil {
			return err
		}
	}
	return nil
}

// SetDownAfter changes how long a primary may be silent until a replica replaces it, on the running
// sentinels. See [Options.DownAfter].
func (s *Sentinel) SetDownAfter(d time.Duration) error {
	for _, n := range running(s.Sentinels) {
		_, err := n.Do("SENTINEL", "SET", s.Name, "down-after-milliseconds", strconv.FormatInt(d.Milliseconds(), 10))
		if err != nil {
			return err
		}
	}
	return nil
}

// Addrs returns the addresses of the sentinels. A client needs them and Name.
func (s *Sentinel) Addrs() []string { return addrs(s.Sentinels) }

// Primary returns the server that the running sentinels name as the primary. It returns an error if
// they disagree, as they may for a moment during a failover.
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
			return nil, fmt.Errorf("redistest: the sentinels disagree: the primary is %s or %s",
				primary.Addr(), named.Addr())
		}
		primary = named
	}
	if primary == nil {
		return nil, errors.New("redistest: no sentinel runs: call Restart on one")
	}
	return primary, nil
}

// node returns the server whose address a sentinel replied.
func (s *Sentinel) node(reply any) (*Node, error) {
	if pair, ok := reply.([]any); ok && len(pair) == 2 {
		addr := net.JoinHostPort(fmt.Sprint(pair[0]), fmt.Sprint(pair[1]))
		for _, n := range s.Nodes {
			if n.Addr() == addr {
				return n, nil
			}
		}
	}
	return nil, fmt.Errorf("redistest: a sentinel names an unknown primary: %v", reply)
}

// Failover has the sentinels replace a healthy primary (SENTINEL FAILOVER). It returns the new
// primary as soon as all sentinels name it. The old one stays a primary until the sentinels demote
// it: after about 10 s, or at once with Settle. For an unplanned failover, call Kill on the primary
// and then Settle.
func (s *Sentinel) Failover() (*Node, error) {
	old, err := s.Primary()
	if err != nil {
		return nil, err
	}
	leader := running(s.Sentinels)[0]
	var primary *Node
	err = poll(settleLimit, func() (err error) {
		if err = s.orderFailover(leader, old); err != nil {
			return err
		}
		if primary, err = s.Primary(); err == nil && primary == old {
			err = fmt.Errorf("redistest: %s is still the primary", old.Addr())
		}
		return err
	})
	return primary, err
}

// orderFailover has a sentinel replace the primary, unless it is doing so or has done so. The
// sentinel gives up a failover that takes too long.
func (s *Sentinel) orderFailover(leader, old *Node) error {
	reply, err := leader.Do("SENTINEL", "MASTER", s.Name)
	if err != nil {
		return err
	}
	seen := fields(reply)
	if seen["port"] != strconv.Itoa(old.port) || strings.Contains(seen["flags"], "failover_in_progress") {
		return nil
	}
	_, err = leader.Do("SENTINEL", "FAILOVER", s.Name) // NOGOODSLAVE goes away with time
	return err
}

// Settle waits until the servers are at rest: the running sentinels agree on a primary that runs,
// the other running servers are its up-to-date replicas, and every sentinel sees that. After a
// minute Settle returns an error that says what is missing.
//
// Meanwhile the sentinels check the servers every tenth of a second. Otherwise they would take some
// 20 s after a failover.
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
