package redisstore

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// sentinels ask all sentinels, again and again, who the primary is: one that was deposed and does not know it yet answers in good
// health.
type sentinels struct {
	name    string
	options []rueidis.ClientOption // one a sentinel

	mu      sync.Mutex
	answers []opinion
}

type opinion struct {
	primary string
	asked   time.Time
}

func newSentinels(opt rueidis.ClientOption) *sentinels {
	p := &sentinels{name: opt.Sentinel.MasterSet}
	for _, addr := range opt.InitAddress {
		p.options = append(p.options, rueidis.ClientOption{
			InitAddress: []string{addr}, Dialer: opt.Dialer, ConnWriteTimeout: opt.ConnWriteTimeout, TLSConfig: opt.Sentinel.TLSConfig,
			Username: opt.Sentinel.Username, Password: opt.Sentinel.Password,
			ForceSingleClient: true, DisableCache: true, PipelineMultiplex: -1, ReadBufferEachConn: 4 << 10, WriteBufferEachConn: 4 << 10,
		})
	}
	p.answers = make([]opinion, len(p.options))
	return p
}

func (p *sentinels) start(ctx context.Context, work *sync.WaitGroup) {
	for i := range p.options {
		work.Go(func() { p.ask(ctx, i) })
	}
}

func (p *sentinels) ask(ctx context.Context, i int) {
	var client rueidis.Client
	defer func() {
		if client != nil {
			client.Close()
		}
	}()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		if client == nil {
			client, _ = rueidis.NewClient(p.options[i]) // a sentinel that is away is asked again
		}
		if client != nil {
			asked := time.Now()
			limit, cancel := context.WithTimeout(ctx, time.Second)
			addr, err := client.Do(limit, client.B().SentinelGetMasterAddrByName().Master(p.name).Build()).AsStrSlice()
			cancel()
			if err == nil && len(addr) == 2 {
				p.mu.Lock()
				p.answers[i] = opinion{net.JoinHostPort(addr[0], addr[1]), asked}
				p.mu.Unlock()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// confirm returns since when a majority of the sentinels has held addr to be the primary.
func (p *sentinels) confirm(addr string) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var asked []time.Time
	for _, o := range p.answers {
		if o.primary == addr {
			asked = append(asked, o.asked)
		}
	}
	majority := len(p.answers)/2 + 1
	if len(asked) < majority {
		return time.Time{}, false
	}
	slices.SortFunc(asked, func(a, b time.Time) int { return b.Compare(a) })
	return asked[majority-1], true
}
