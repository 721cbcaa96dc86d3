package redistest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// settled returns nil when the set-up is at rest, and else the first thing that is missing.
func (s *Sentinel) settled() error {
	primary, err := s.Primary()
	if err != nil {
		return err
	}
	if !primary.Running() {
		return fmt.Errorf("redistest: the primary, %s, does not run and is not replaced yet", primary.Addr())
	}
	if err := s.replicating(primary); err != nil {
		return err
	}
	for _, n := range running(s.Sentinels) {
		if err := s.seen(n); err != nil {
			return err
		}
	}
	return nil
}

// replicating returns nil when all running servers are up-to-date replicas of the primary.
func (s *Sentinel) replicating(primary *Node) error {
	others := slices.DeleteFunc(running(s.Nodes), func(n *Node) bool { return n == primary })
	return follow(primary, others...)
}

// seen returns nil when a sentinel sees all that runs, and nothing under way.
func (s *Sentinel) seen(n *Node) error {
	reply, err := n.Do("SENTINEL", "MASTER", s.Name)
	if err != nil {
		return err
	}
	primary := fields(reply)
	if primary["flags"] != "master" {
		return fmt.Errorf("redistest: sentinel %s: the primary is %s", n.Addr(), primary["flags"])
	}
	if others := strconv.Itoa(len(s.Sentinels) - 1); primary["num-other-sentinels"] != others {
		return fmt.Errorf("redistest: sentinel %s knows %s of %s others", n.Addr(), primary["num-other-sentinels"], others)
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

// fields makes a map of a reply of names and values in turn.
func fields(reply any) map[string]string {
	list, _ := reply.([]any)
	m := map[string]string{}
	for i := 0; i+1 < len(list); i += 2 {
		m[strings.ToLower(fmt.Sprint(list[i]))] = fmt.Sprint(list[i+1])
	}
	return m
}
