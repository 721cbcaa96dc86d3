package redisstore

import (
	"time"

	"github.com/redis/rueidis"
)

// invalidationReceiver is the receiving end of client tracking on one connection: a sign-out on
// another node drops this node's copy here. The connection's reader calls it, so it must not
// block. The rueidis client takes it for its cache. That cache stays empty: nearCache is used.
type invalidationReceiver struct {
	near   *nearCache
	ends   *tombstones
	global *globalRevocation
}

func (s *Store) newInvalidationReceiver(rueidis.CacheStoreOption) rueidis.CacheStore {
	return &invalidationReceiver{s.near, s.ends, &s.global}
}

// Delete handles an invalidation message: these keys changed, and another node changed them.
func (i *invalidationReceiver) Delete(keys []rueidis.RedisMessage) {
	if keys == nil { // FLUSHALL, or the server emptied its tracking table
		i.near.distrust()
		i.global.invalidations.Add(1)
		return
	}
	for k := range keys {
		key, err := keys[k].ToString()
		if err != nil {
			continue
		}
		if id, ok := i.near.keys.parseRecord(key); ok {
			i.near.drop(id)
		} else if bucket, ok := i.near.keys.parseRevocations(key); ok {
			i.near.revocationsChanged(bucket)
		} else if key == i.near.keys.globalRevocation() {
			i.global.invalidations.Add(1)
			i.near.lease.checkNow()
			i.near.watchers.WakeAll()
		}
	}
}

// Close handles the loss of the connection: later changes send no message.
func (i *invalidationReceiver) Close(error) {
	i.near.distrust()
	i.near.lease.end()
	i.ends.reassertAll()
}

// Flight, Update and Cancel belong to the client's own cache.
func (i *invalidationReceiver) Flight(
	string, string, time.Duration, time.Time,
) (m rueidis.RedisMessage, e rueidis.CacheEntry) {
	return m, e
}
func (i *invalidationReceiver) Update(string, string, rueidis.RedisMessage) int64 { return 0 }
func (i *invalidationReceiver) Cancel(string, string, error)                      {}
