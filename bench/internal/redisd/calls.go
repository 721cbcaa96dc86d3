package redisd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Calls is how often the server has run a command, and how long it took: without the network, and
// with the commands that a script ran.
type Calls struct {
	N    int64
	Time time.Duration
}

// Sub returns the difference between c and an earlier reading.
func (c Calls) Sub(before Calls) Calls { return Calls{c.N - before.N, c.Time - before.Time} }

// Calls reads the calls of a command, such as "evalsha", since the server's start.
func (o *Observer) Calls(ctx context.Context, command string) (Calls, error) {
	info, err := o.info(ctx, "commandstats")
	if err != nil {
		return Calls{}, err
	}
	return parseCalls(info["cmdstat_"+command])
}

// parseCalls parses a line of INFO commandstats:
//
//	calls=1,usec=22,usec_per_call=22.00,rejected_calls=0,failed_calls=0
//
// There is no line for a command that was never called.
func parseCalls(line string) (c Calls, err error) {
	if line == "" {
		return c, nil
	}
	var micros int64
	if _, err := fmt.Sscanf(line, "calls=%d,usec=%d,", &c.N, &micros); err != nil {
		return c, fmt.Errorf("reading the calls of a command: %q: %w", strings.TrimSpace(line), err)
	}
	c.Time = time.Duration(micros) * time.Microsecond
	return c, nil
}

// Script returns a function that runs a Lua script on one key.
func (o *Observer) Script(source, key string) func(context.Context) error {
	script := rueidis.NewLuaScript(source)
	return func(ctx context.Context) error {
		return script.Exec(ctx, o.client, []string{key}, nil).Error()
	}
}
