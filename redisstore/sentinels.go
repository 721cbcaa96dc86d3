package redisstore

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// sentinels keeps asking all sentinels which node is the primary. A deposed primary that does not
// know it yet answers health checks well, so the lease needs the sentinels' majority.
type sentinels struct {
	name    string
	options []rueidis.ClientOption // one a sentinel

	mu      sync.Mutex
	answers []sentinelAnswer // as options
}

type sentinelAnswer struct {
	primary string
	asked   time.Time
}

const askSentinelsEvery = 250 * time.Millisecond

func newSentinels(opt rueidis.ClientOption) *sentinels {
	s := &sentinels{name: opt.Sentinel.MasterSet}
	for _, addr := range opt.InitAddress {
		s.options = append(s.options, rueidis.ClientOption{
			InitAddress: []string{addr}, ConnWriteTimeout: opt.ConnWriteTimeout,
			DialCtxFn: opt.DialCtxFn, Dialer: opt.Sentinel.Dialer, TLSConfig: opt.Sentinel.TLSConfig,
			AuthCredentialsFn: opt.AuthCredentialsFn, Username: opt.Sentinel.Username, Password: opt.Sentinel.Password,
			ForceSingleClient: true, DisableCache: true, PipelineMultiplex: -1,
			ReadBufferEachConn: 4 << 10, WriteBufferEachConn: 4 << 10,
		})
	}
	s.answers = make([]sentinelAnswer, len(s.options))
	return s
}

func (s *sentinels) start(ctx context.Context, work *sync.WaitGroup) {
	for i := range s.options {
		work.Go(func() { s.runAsking(ctx, i) })
	}
}

// runAsking asks one sentinel until ctx is done.
func (s *sentinels) runAsking(ctx context.Context, i int) {
	var client rueidis.Client
	defer func() {
		if client != nil {
			client.Close()
		}
	}()
	tick := time.NewTicker(askSentinelsEvery)
	defer tick.Stop()
	for {
		if client == nil {
			client, _ = rueidis.NewClient(s.options[i]) // on an error the next tick tries again
		}
		if client != nil {
			asked := time.Now()
			limit, cancel := context.WithTimeout(ctx, time.Second)
			addr, err := client.Do(limit, client.B().SentinelGetMasterAddrByName().Master(s.name).Build()).AsStrSlice()
			cancel()
			if err == nil && len(addr) == 2 {
				s.mu.Lock()
				s.answers[i] = sentinelAnswer{net.JoinHostPort(addr[0], addr[1]), asked}
				s.mu.Unlock()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// confirm reports whether a majority of the sentinels names addr as the primary, and when the
// oldest answer of that majority was asked for.
func (s *sentinels) confirm(addr string) (asked time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var times []time.Time
	for _, a := range s.answers {
		if a.primary == addr {
			times = append(times, a.asked)
		}
	}
	majority := len(s.answers)/2 + 1
	if len(times) < majority {
		return time.Time{}, false
	}
	slices.SortFunc(times, func(a, b time.Time) int { return b.Compare(a) })
	return times[majority-1], true
}
