package redistest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// settled returns nil if the servers are at rest, and otherwise an error about the first thing that
// is missing.
func (s *Sentinel) settled() error {
	primary, err := s.Primary()
	if err != nil {
		return err
	}
	if !primary.Running() {
		return fmt.Errorf("redistest: the primary %s does not run, and is not replaced yet", primary.Addr())
	}
	if err := s.replicating(primary); err != nil {
		return err
	}
	for _, n := range running(s.Sentinels) {
		if err := s.seesAll(n); err != nil {
			return err
		}
	}
	return nil
}

// replicating returns nil if all other running servers are up-to-date replicas of the primary.
func (s *Sentinel) replicating(primary *Node) error {
	others := slices.DeleteFunc(running(s.Nodes), func(n *Node) bool { return n == primary })
	return follow(primary, others...)
}

// seesAll returns nil if a sentinel sees all running servers, and no failover is in progress.
func (s *Sentinel) seesAll(n *Node) error {
	reply, err := n.Do("SENTINEL", "MASTER", s.Name)
	if err != nil {
		return err
	}
	primary := fields(reply)
	if primary["flags"] != "master" {
		return fmt.Errorf("redistest: sentinel %s: the primary's flags are %s", n.Addr(), primary["flags"])
	}
	known, others := primary["num-other-sentinels"], strconv.Itoa(len(s.Sentinels)-1)
	if known != others {
		return fmt.Errorf("redistest: sentinel %s knows %s of %s other sentinels", n.Addr(), known, others)
	}
	if reply, err = n.Do("SENTINEL", "REPLICAS", s.Name); err != nil {
		return err
	}
	replicas, _ := reply.([]any)
	linked := 0
	for _, r := range replicas {
		if f := fields(r); f["flags"] == "slave" && f["master-link-status"] == "ok" {
			linked++
		}
	}
	if want := len(running(s.Nodes)) - 1; linked != want {
		return fmt.Errorf("redistest: sentinel %s sees %d of %d replicas linked", n.Addr(), linked, want)
	}
	return nil
}

// fields returns a map of a reply that alternates names and values.
func fields(reply any) map[string]string {
	list, _ := reply.([]any)
	m := map[string]string{}
	for i := 0; i+1 < len(list); i += 2 {
		m[strings.ToLower(fmt.Sprint(list[i]))] = fmt.Sprint(list[i+1])
	}
	return m
}
