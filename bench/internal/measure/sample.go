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

// watched is the number of requests that are sent one by one, to count their Redis commands.
const watched = 20

// site is a server that was started on an empty Redis, and connections to it.
type site struct {
	server *child.Process
	client *load.Client
}

// open starts a system on an empty Redis and connects to it. Each measurement has a server of its
// own. No idle server runs at the same time, and no earlier case has changed the heap.
func (b *bench) open(ctx context.Context, system app.System, connections int) (*site, error) {
	if err := b.observer.Empty(ctx); err != nil {
		return nil, err
	}
	if err := b.use(ctx, system.Advised); err != nil {
		return nil, err
	}
	pool := b.Pool
	if pool == 0 {
		pool = connections
	}
	return b.connect(ctx, system.Name, app.Options{Redis: b.redis, Pool: pool}, connections)
}

// connect starts a system and connects to it.
func (b *bench) connect(ctx context.Context, name string, o app.Options, connections int) (*site, error) {
	server, err := app.Start(ctx, name, o)
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

// fill creates n sessions and returns their cookies.
func (s *site) fill(n int) ([]string, error) {
	return s.client.Cookies(load.Request("POST", app.FillPath(app.Long, 0), ""), n)
}

// measure takes one sample of a system.
func (b *bench) measure(ctx context.Context, system app.System, kind string, connections int) (report.Sample, error) {
	site, err := b.open(ctx, system, connections)
	if err != nil {
		return report.Sample{}, err
	}
	defer site.close()
	sample, err := b.sample(ctx, site, kind, connections)
	if text := site.server.Stderr(); err != nil && text != "" {
		err = fmt.Errorf("%w; the server printed: %s", err, text)
	}
	return sample, err
}

// sample loads a server and returns the cost per request.
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

// counters are counts that grow with the requests.
type counters struct {
	server time.Duration
	redis  redisd.Figures
}

func (c counters) sub(before counters) counters {
	return counters{c.server - before.server, c.redis.Sub(before.redis)}
}

// read reads the counters.
func (b *bench) read(ctx context.Context, site *site) (c counters, err error) {
	if c.redis, err = b.observer.Figures(ctx); err != nil {
		return c, err
	}
	c.server, err = site.server.CPU()
	return c, err
}

// calibrate returns the counters, and how much one reading adds to them.
func (b *bench) calibrate(ctx context.Context, site *site) (now, cost counters, err error) {
	first, err := b.read(ctx, site)
	if err != nil {
		return now, cost, err
	}
	now, err = b.read(ctx, site)
	return now, now.sub(first), err
}

// perRequest divides the used resources by the number of requests.
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
