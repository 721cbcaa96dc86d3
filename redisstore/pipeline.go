package redisstore

import (
	"context"
	"crypto/sha1" //nolint:gosec // names a script, as Redis does
	"encoding/hex"
	"time"

	"github.com/redis/rueidis"
)

// pipelinedScript is a script that runs in a pipeline. rueidis does not say how it names a script.
type pipelinedScript struct {
	lua *rueidis.Lua
	sha string
}

func newPipelinedScript(lua *rueidis.Lua, source string) *pipelinedScript {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // see above
	return &pipelinedScript{lua, hex.EncodeToString(sum[:])}
}

var (
	pipelinedMove   = newPipelinedScript(moveScript, moveSource)
	pipelinedSignIn = newPipelinedScript(signInScript, signInSource)
	pipelinedTouch  = newPipelinedScript(touchScript, touchSource)
)

// call is one command of a pipeline: a script, or what command builds.
type call struct {
	script     *pipelinedScript
	keys, args []string
	command    func(rueidis.Builder) rueidis.Completed
}

func (c *call) build(b rueidis.Builder) rueidis.Completed {
	if c.script == nil {
		return c.command(b)
	}
	return b.Evalsha().Sha1(c.script.sha).Numkeys(int64(len(c.keys))).Key(c.keys...).Arg(c.args...).Build()
}

func (c *call) do(ctx context.Context, client rueidis.Client) rueidis.RedisResult {
	if c.script == nil {
		return client.Do(ctx, c.command(client.B()))
	}
	return c.script.lua.Exec(ctx, client, c.keys, c.args)
}

// pipeline runs calls in one round trip, one after the other, and returns when it sent them. It
// needs the keys of all calls on one server, so it must not be used on a Cluster. The calls must be
// idempotent. If the server does not have a script, the calls from there on run again.
func (s *Store) pipeline(ctx context.Context, calls ...call) (replies []rueidis.RedisResult, asked time.Time) {
	asked = time.Now()
	commands := make([]rueidis.Completed, len(calls))
	for i := range calls {
		commands[i] = calls[i].build(s.plain.B())
	}
	replies = s.plain.DoMulti(ctx, commands...)
	for i := range replies {
		if redisErr, ok := rueidis.IsRedisErr(replies[i].Error()); ok && redisErr.IsNoScript() {
			for j := i; j < len(calls); j++ {
				replies[j] = calls[j].do(ctx, s.plain)
			}
			break
		}
	}
	return replies, asked
}
