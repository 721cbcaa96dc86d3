package measure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coatcheck-go/session/bench/internal/app"
	"github.com/coatcheck-go/session/bench/internal/child"
	"github.com/coatcheck-go/session/bench/internal/load"
	"github.com/coatcheck-go/session/bench/internal/redisd"
	"github.com/coatcheck-go/session/bench/internal/report"
)

// watched is how many requests are sent one by one to see which commands they send.
const watched = 20

// site is a server that has just been started on an empty Redis, with connections to it.
type site struct {
	server *child.Process
	client *load.Client
}

// open starts system on an empty Redis and connects to it. Every measurement has a server of its own, so that none runs
// beside the idle rest of another, or with a heap that another case has grown.
func (b *bench) open(ctx context.Context, system app.System, connections int) (*site, error) {
	if err := b.observer.Empty(ctx); err != nil {
		return nil, err
	}
	pool := b.Pool
	if pool == 0 {
		pool = connections
	}
	server, err := app.Start(ctx, system.Name, app.Options{Redis: b.redis, Pool: pool})
	if err != nil {
		return nil, err
	}
	client, err := load.Dial(ctx, server.Addr, connections)
	if err != nil {
		server.Stop()
		return nil, err
	}
	return &site{server, client}, nil
}

func (s *site) close() {
	s.client.Close()
	s.server.Stop()
}

// fill starts n sessions and returns their cookies.
func (s *site) fill(n int) ([]string, error) {
	return s.client.Cookies(load.Request("POST", app.PathFill, ""), n)
}

// measure takes one sample.
func (b *bench) measure(ctx context.Context, system app.System, kind string, connections int) (report.Sample, error) {
	site, err := b.open(ctx, system, connections)
	if err != nil {
		return report.Sample{}, err
	}
	defer site.close()
	sample, err := b.sample(ctx, site, kind, connections)
	if said := site.server.Complaints(); err != nil && said != "" {
		err = fmt.Errorf("%w; the server said: %s", err, said)
	}
	return sample, err
}

func (b *bench) sample(ctx context.Context, site *site, kind string, connections int) (s report.Sample, err error) {
	var cookies []string
	if kind != report.SignIn {
		if cookies, err = site.fill(max(b.Sessions, connections)); err != nil {
			return s, err
		}
	}
	list := requests(kind, cookies)
	if _, err := site.client.Run(list, load.Limit{Duration: b.Warmup}); err != nil {
		return s, err
	}
	before, cost, err := b.calibrate(ctx, site)
	if err != nil {
		return s, err
	}
	outcome, err := site.client.Run(list, b.Limit)
	if err != nil {
		return s, err
	}
	after, err := b.read(ctx, site)
	if err != nil {
		return s, err
	}
	if outcome.Errors == outcome.Requests {
		return s, errors.New("no request succeeded: " + outcome.FirstError)
	}
	s = perRequest(outcome, after.sub(before).sub(cost))
	s.Commands, s.CommandNames, err = redisd.Watch(ctx, b.redis, watched, func() error {
		for i := range watched {
			if _, err := site.client.Do(list[i%len(list)]); err != nil {
				return err
			}
		}
		return nil
	})
	return s, err
}

// counters are the counts that grow with the requests.
type counters struct {
	server time.Duration
	redis  redisd.Figures
}

func (c counters) sub(before counters) counters {
	return counters{c.server - before.server, c.redis.Sub(before.redis)}
}

func (b *bench) read(ctx context.Context, site *site) (c counters, err error) {
	if c.redis, err = b.observer.Figures(ctx); err != nil {
		return c, err
	}
	c.server, err = site.server.CPU()
	return c, err
}

// calibrate reads the counters, and what reading them adds to them.
func (b *bench) calibrate(ctx context.Context, site *site) (now, cost counters, err error) {
	first, err := b.read(ctx, site)
	if err != nil {
		return now, cost, err
	}
	now, err = b.read(ctx, site)
	return now, now.sub(first), err
}

// perRequest divides what was used by the requests that it was used for.
func perRequest(o load.Outcome, used counters) report.Sample {
	n, redis := float64(o.Requests), used.redis
	return report.Sample{
		ServerCPU:         max(0, report.Micros(used.server)/n),
		RedisCPU:          max(0, report.Micros(redis.CPU)/n),
		RequestsPerSecond: n / o.Elapsed.Seconds(),
		P50:               report.Micros(o.Percentile(50)),
		P99:               report.Micros(o.Percentile(99)),
		CommandsProcessed: max(0, float64(redis.Commands)/n),
		RedisIn:           max(0, float64(redis.In)/n),
		RedisOut:          max(0, float64(redis.Out)/n),
		RequestSize:       float64(o.Sent) / n,
		Response:          float64(o.Received) / n,
		Requests:          o.Requests,
		Errors:            o.Errors,
	}
}
