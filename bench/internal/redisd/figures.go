package redisd

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Observer reads statistics of a Redis server, on one connection of its own.
type Observer struct{ client rueidis.Client }

// Observe connects to the server at addr.
func Observe(addr string) (*Observer, error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{addr}, ForceSingleClient: true, DisableCache: true, PipelineMultiplex: -1,
	})
	return &Observer{client}, err
}

// Close closes the connection.
func (o *Observer) Close() { o.client.Close() }

// Empty removes every key.
func (o *Observer) Empty(ctx context.Context) error {
	return o.client.Do(ctx, o.client.B().Flushall().Sync().Build()).Error()
}

// Configure sets one parameter of the server.
func (o *Observer) Configure(ctx context.Context, name, value string) error {
	set := o.client.B().ConfigSet().ParameterValue().ParameterValue(name, value).Build()
	if err := o.client.Do(ctx, set).Error(); err != nil {
		return fmt.Errorf("setting %s to %q: %w", name, value, err)
	}
	return nil
}

// Parameter returns a parameter of the server.
func (o *Observer) Parameter(ctx context.Context, name string) (string, error) {
	values, err := o.client.Do(ctx, o.client.B().ConfigGet().Parameter(name).Build()).AsStrMap()
	return values[name], err
}

// Server returns the server's product and version, such as "Redis 7.0.15".
func (o *Observer) Server(ctx context.Context) (string, error) {
	info, err := o.info(ctx, "server")
	if version, ok := info["valkey_version"]; ok {
		return "Valkey " + version, err
	}
	return "Redis " + info["redis_version"], err
}

// Memory returns the bytes that the server has allocated, except for its clients.
func (o *Observer) Memory(ctx context.Context) (int64, error) {
	info, err := o.info(ctx, "memory")
	if err != nil {
		return 0, err
	}
	used, err := strconv.ParseInt(info["used_memory"], 10, 64)
	if err != nil {
		return 0, err
	}
	clients, err := strconv.ParseInt(info["mem_clients_normal"], 10, 64)
	return used - clients, err
}

// Clients returns the number of connections of the server, including this one.
func (o *Observer) Clients(ctx context.Context) (int, error) {
	info, err := o.info(ctx, "clients")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(info["connected_clients"])
}

// Figures are the counts of the server since its start.
type Figures struct {
	CPU      time.Duration // user and system
	Commands int64         // including those that scripts ran
	In, Out  int64         // bytes from and to the network
}

// Sub returns the difference between f and an earlier reading.
func (f Figures) Sub(before Figures) Figures {
	return Figures{f.CPU - before.CPU, f.Commands - before.Commands, f.In - before.In, f.Out - before.Out}
}

// Figures reads the counts. Reading them raises them as well.
func (o *Observer) Figures(ctx context.Context) (Figures, error) {
	var f Figures
	info, err := o.info(ctx, "stats", "cpu")
	if err != nil {
		return f, err
	}
	for name, to := range map[string]*int64{
		"total_commands_processed": &f.Commands, "total_net_input_bytes": &f.In, "total_net_output_bytes": &f.Out,
	} {
		if *to, err = strconv.ParseInt(info[name], 10, 64); err != nil {
			return f, fmt.Errorf("reading %s of Redis: %w", name, err)
		}
	}
	for _, name := range []string{"used_cpu_user", "used_cpu_sys"} {
		seconds, err := strconv.ParseFloat(info[name], 64)
		if err != nil {
			return f, fmt.Errorf("reading %s of Redis: %w", name, err)
		}
		f.CPU += time.Duration(seconds * float64(time.Second))
	}
	return f, nil
}

// info reads sections of INFO.
func (o *Observer) info(ctx context.Context, sections ...string) (map[string]string, error) {
	text, err := o.client.Do(ctx, o.client.B().Info().Section(sections...).Build()).ToString()
	if err != nil {
		return nil, err
	}
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info, nil
}
