package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// topology says how the servers are arranged.
type topology uint8

const (
	standalone topology = iota
	sentinel
	cluster
)

// nodeStatus is what a node says about itself.
type nodeStatus struct {
	addr            string
	asked, answered time.Time
	primary         bool
	serving         bool // in a Cluster: the node believes that the cluster is well
	replicationID   string
	time            time.Time // the node's clock
	err             error     // it did not answer
}

// askNode asks a node for its role, its replication id and its time.
func (s *Store) askNode(ctx context.Context, addr string, c rueidis.Client) nodeStatus {
	n := nodeStatus{addr: addr, asked: time.Now(), serving: true}
	questions := []rueidis.Completed{c.B().Info().Section("replication").Build(), c.B().Time().Build()}
	if s.topology == cluster {
		questions = append(questions, c.B().ClusterInfo().Build())
	}
	replies := c.DoMulti(ctx, questions...)
	n.answered = time.Now()
	info, err := replies[0].ToString()
	if err != nil {
		n.err = err
		return n
	}
	n.primary = infoValue(info, "role") == "master"
	n.replicationID = infoValue(info, "master_replid")
	if t, err := replies[1].AsIntSlice(); err == nil && len(t) == 2 {
		n.time = time.Unix(t[0], t[1]*1000)
	} else {
		n.err = err
	}
	if len(replies) > 2 {
		state, err := replies[2].ToString()
		n.serving = err == nil && infoValue(state, "cluster_state") == "ok"
	}
	return n
}

// infoValue returns one value from the text of INFO or CLUSTER INFO.
func infoValue(info, name string) string {
	info = strings.TrimPrefix(info, "txt:") // the client leaves RESP3's mark of a verbatim string
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// nodeView remembers the nodes' last answers, to notice a failover. The zero nodeView is ready.
type nodeView struct {
	mu             sync.Mutex
	replicationIDs map[string]string // of each primary, by address
	replicas       map[string]bool   // addresses that were replicas when they last answered
}

// wasReplica reports that the node at an address was a replica when it last answered.
func (v *nodeView) wasReplica(addr string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.replicas[addr]
}

// update takes the newest answers. healthy says that every primary answered. changed says that a
// primary is new, was deposed, or has a new replication id.
func (v *nodeView) update(answers []nodeStatus) (healthy, changed bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	primaries := 0
	healthy = true
	ids, replicas := map[string]string{}, map[string]bool{}
	for i := range answers {
		switch n := &answers[i]; {
		case n.err != nil && v.replicas[n.addr]:
			replicas[n.addr] = true
		case n.err != nil:
			healthy = false
			if id, ok := v.replicationIDs[n.addr]; ok {
				ids[n.addr] = id
			}
		case !n.primary:
			replicas[n.addr] = true
		default:
			primaries++
			ids[n.addr] = n.replicationID
		}
	}
	changed = v.replicationIDs != nil && !maps.Equal(v.replicationIDs, ids)
	v.replicationIDs, v.replicas = ids, replicas
	return healthy && primaries > 0, changed
}

// primaries returns the primaries that answer, and the latest of their times in milliseconds.
// The error names the nodes that do not answer and may be primaries.
func (s *Store) primaries(ctx context.Context) (found map[string]rueidis.Client, latest int64, away error) {
	found = map[string]rueidis.Client{}
	for addr, node := range s.plain.Nodes() {
		var n nodeStatus
		err := s.withRetry(ctx, anywhere, readOnly, func(ctx context.Context) error {
			n = s.askNode(ctx, addr, node)
			return n.err
		})
		switch {
		case err != nil && s.nodes.wasReplica(addr):
		case err != nil:
			away = errors.Join(away, fmt.Errorf("%s: %w", addr, err))
		case n.primary:
			found[addr] = node
			latest = max(latest, n.time.UnixMilli())
		}
	}
	return found, latest, away
}
