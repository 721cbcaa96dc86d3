package redistest

import (
	"errors"
	"fmt"
	"strconv"
)

// Migration is a slot that moves from one primary to another, as during resharding. Until Finish,
// From serves the keys that it still has, and replies ASK for the others. A command on several keys
// gets TRYAGAIN if only some of them have moved.
type Migration struct {
	Slot     int
	From, To *Node

	cluster *Cluster
}

// Migrate begins to move a slot to another primary. It moves no key: call Move, and then Finish. It
// returns an error if the primary serves the slot already.
func (c *Cluster) Migrate(slot int, to *Node) (*Migration, error) {
	from, err := c.NodeOfSlot(slot)
	if err != nil {
		return nil, err
	}
	if from == to {
		return nil, fmt.Errorf("redistest: %s already serves slot %d", to.Addr(), slot)
	}
	m := &Migration{Slot: slot, From: from, To: to, cluster: c}
	if err := m.setSlot(to, "IMPORTING", from); err != nil {
		return nil, err
	}
	return m, m.setSlot(from, "MIGRATING", to)
}

// migrateTimeout is how many milliseconds a server may be silent while it receives keys.
const migrateTimeout = "20000"

// Move moves some keys of the slot. It ignores keys that From does not have.
func (m *Migration) Move(keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	args := []string{"MIGRATE", "127.0.0.1", strconv.Itoa(m.To.port), "", "0", migrateTimeout}
	if password := m.To.kit.password; password != "" {
		args = append(args, "AUTH2", adminUser, password)
	}
	args = append(append(args, "KEYS"), keys...)
	if _, err := m.From.Do(args...); err != nil {
		return fmt.Errorf("redistest: move keys of slot %d from %s: %w", m.Slot, m.From.Addr(), err)
	}
	return nil
}

// Finish moves the remaining keys, assigns the slot to To, and waits until all nodes agree.
func (m *Migration) Finish() error {
	for {
		keys, err := m.Keys()
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			break
		}
		if err := m.Move(keys...); err != nil {
			return err
		}
	}
	if err := m.setSlot(m.To, "NODE", m.To); err != nil {
		return err
	}
	primaries, err := m.cluster.Primaries()
	if err != nil {
		return err
	}
	for _, n := range primaries {
		if n != m.To {
			if err := m.setSlot(n, "NODE", m.To); err != nil {
				return err
			}
		}
	}
	return m.cluster.Settle()
}

// Keys returns at most 100 of the slot's keys that From still has.
func (m *Migration) Keys() ([]string, error) {
	reply, err := m.From.Do("CLUSTER", "GETKEYSINSLOT", strconv.Itoa(m.Slot), "100")
	if err != nil {
		return nil, err
	}
	array, ok := reply.([]any)
	if !ok {
		return nil, errors.New("redistest: CLUSTER GETKEYSINSLOT did not reply with keys")
	}
	var keys []string
	for _, key := range array {
		keys = append(keys, fmt.Sprint(key))
	}
	return keys, nil
}

// setSlot sets a node's state of the slot: CLUSTER SETSLOT slot state id.
func (m *Migration) setSlot(n *Node, state string, of *Node) error {
	id, err := of.text("CLUSTER", "MYID")
	if err != nil {
		return err
	}
	_, err = n.Do("CLUSTER", "SETSLOT", strconv.Itoa(m.Slot), state, id)
	return err
}
