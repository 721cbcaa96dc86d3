package redisstore

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// place says where an operation's keys lie: the number of a bucket, globalPlace or anywhere. On a
// Cluster, each place belongs to one primary.
type place int32

const (
	globalPlace place = 1 << 16 // the key of the global revocation
	eventsPlace place = 1<<16 + 1
	anywhere    place = -1 // the operation asks the servers one by one

	places = 1<<16 + 2
)

// placeSet is a set of places. The zero placeSet is empty.
type placeSet [(places + 63) / 64]uint64

func (p *placeSet) has(at place) bool { return p[at>>6]&(1<<(at&63)) != 0 }
func (p *placeSet) add(at place)      { p[at>>6] |= 1 << (at & 63) }

func (p *placeSet) addAll(other *placeSet) {
	for i := range p {
		p[i] |= other[i]
	}
}

// everyPlace returns the set of all places.
func everyPlace() *placeSet {
	all := new(placeSet)
	for i := range all {
		all[i] = ^uint64(0)
	}
	return all
}

// slotOf returns the Cluster slot of a hash tag, or of a key that has none.
func slotOf(tag string) int {
	var crc uint16
	for _, b := range []byte(tag) {
		crc ^= uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc % clusterSlots)
}

const clusterSlots = 16384

// slotsOfPlaces returns the slot of each place. It is computed once.
func (s *Store) slotsOfPlaces() *[places]uint16 {
	s.outage.slots.Do(func() {
		for bucket := range 1 << 16 {
			s.outage.slotOf[bucket] = uint16(slotOf(fmt.Sprintf("%04x", bucket)))
		}
		s.outage.slotOf[globalPlace] = uint16(slotOf(s.keys.globalRevocation()))
		s.outage.slotOf[eventsPlace] = uint16(slotOf(s.keys.events()))
	})
	return &s.outage.slotOf
}

// slotRange is a range of slots that one primary owns.
type slotRange struct {
	first, last int64
	owner       string // address
}

// slotOwners asks the nodes of a Cluster who owns which slots. It returns the first answer. A node
// that does not answer delays it by half a second at most.
func (s *Store) slotOwners(ctx context.Context) []slotRange {
	ctx, cancel := context.WithTimeout(ctx, min(s.opt.Timeout, 500*time.Millisecond))
	defer cancel()
	nodes := s.plain.Nodes()
	found := make(chan []slotRange, len(nodes))
	var all sync.WaitGroup
	for addr, node := range nodes {
		all.Go(func() {
			if ranges := askSlotOwners(ctx, addr, node); len(ranges) > 0 {
				found <- ranges
			}
		})
	}
	go func() { all.Wait(); close(found) }()
	return <-found
}

// askSlotOwners is slotOwners for one node. It returns nil if the node does not answer.
func askSlotOwners(ctx context.Context, addr string, node rueidis.Client) (ranges []slotRange) {
	host, _, _ := net.SplitHostPort(addr)
	entries, err := node.Do(ctx, node.B().ClusterSlots().Build()).ToArray()
	if err != nil {
		return nil
	}
	for i := range entries {
		entry, err := entries[i].ToArray()
		if err != nil || len(entry) < 3 {
			return nil
		}
		primary, err := entry[2].ToArray()
		if err != nil || len(primary) < 2 {
			return nil
		}
		first, err1 := entry[0].AsInt64()
		last, err2 := entry[1].AsInt64()
		name, err3 := primary[0].ToString()
		port, err4 := primary[1].AsInt64()
		if err1 != nil || err2 != nil || err4 != nil {
			return nil
		}
		if err3 != nil || name == "" || name == "?" { // the node does not know its own address
			name = host
		}
		ranges = append(ranges, slotRange{first, last, net.JoinHostPort(name, strconv.FormatInt(port, 10))})
	}
	return ranges
}

// ownerOfPlace returns the address of the primary that owns a place, or "".
func (s *Store) ownerOfPlace(ranges []slotRange, at place) string {
	slot := int64(s.slotsOfPlaces()[at])
	for _, r := range ranges {
		if r.first <= slot && slot <= r.last {
			return r.owner
		}
	}
	return ""
}

// placesOf returns the places of a primary, or nil if it owns none.
func (s *Store) placesOf(ranges []slotRange, owner string) *placeSet {
	var owned [clusterSlots]bool
	owns := false
	for _, r := range ranges {
		if r.owner != owner || r.first < 0 || r.last >= clusterSlots {
			continue
		}
		for slot := r.first; slot <= r.last; slot++ {
			owned[slot], owns = true, true
		}
	}
	if !owns {
		return nil
	}
	set := new(placeSet)
	for at, slot := range s.slotsOfPlaces() {
		if owned[slot] {
			set.add(place(at))
		}
	}
	return set
}
