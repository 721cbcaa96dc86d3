package redisstore

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck-go/session/driver"
)

var (
	//go:embed lua/apply.lua
	applySource string
	//go:embed lua/create.lua
	createSource string
	//go:embed lua/touch.lua
	touchSource string
	//go:embed lua/end.lua
	endSource string
	//go:embed lua/join.lua
	joinSource string

	//go:embed lua/move.lua
	moveSource string
	//go:embed lua/signin.lua
	signInSource string
	//go:embed lua/enduser.lua
	endUserSource string
	//go:embed lua/revokeall.lua
	revokeAllSource string
	//go:embed lua/clean.lua
	cleanSource string
	//go:embed lua/publish.lua
	publishSource string

	applyScript  = rueidis.NewLuaScript(applySource)
	createScript = rueidis.NewLuaScript(createSource)
	touchScript  = rueidis.NewLuaScript(touchSource)
	endScript    = rueidis.NewLuaScript(endSource)
	joinScript   = rueidis.NewLuaScript(joinSource)

	moveScript      = rueidis.NewLuaScript(moveSource)
	signInScript    = rueidis.NewLuaScript(signInSource)
	endUserScript   = rueidis.NewLuaScript(endUserSource)
	revokeAllScript = rueidis.NewLuaScript(revokeAllSource)
	cleanScript     = rueidis.NewLuaScript(cleanSource)
	publishScript   = rueidis.NewLuaScript(publishSource)
)

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// exec runs a script.
//
// Use s.tracked for scripts on one session: they end with a read of its key, which keeps a copy
// tracked. Use s.plain for scripts of many keys: with each read in a script, Redis 7.0 tracks all
// the script's keys, which took 11 s for 10,000 keys.
func (s *Store) exec(ctx context.Context, client rueidis.Client, script *rueidis.Lua, keys, args []string) (reply, error) {
	asked := time.Now()
	return s.parseReply(script.Exec(ctx, client, keys, args), asked)
}

// execOnSession runs a script on one session and, if keys has a second one, on the revocations of
// its bucket. The reply has a revision.
func (s *Store) execOnSession(ctx context.Context, script *rueidis.Lua, id driver.ID, keys, args []string) (r reply, err error) {
	r, err = s.exec(ctx, s.tracked, script, keys, args)
	if len(keys) > 1 && slotMoving(err) {
		r, err = s.execWhileSlotMoves(ctx, script, id, keys[:1], args)
	}
	if err != nil || r.status != "ok" {
		return r, err
	}
	return r.withRevision()
}

// slotMoving reports that a server has some of a script's keys and not the others, because their
// slot is moving to another server.
func slotMoving(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "TRYAGAIN")
}

// execWhileSlotMoves runs a script on a session whose slot is moving. It leaves out the
// revocations, which may be on the other server, and reads them afterwards. If the session was
// revoked, the change is made, but nobody ever sees it.
func (s *Store) execWhileSlotMoves(
	ctx context.Context, script *rueidis.Lua, id driver.ID, keys, args []string,
) (reply, error) {
	r, err := s.exec(ctx, s.tracked, script, keys, args)
	if err != nil || r.status != "ok" {
		return r, err
	}
	_, _, err = s.readRecord(ctx, s.plain, id)
	over := new(endedAtError)
	switch {
	case errors.As(err, &over) && over.stored:
		return reply{status: "gone"}, nil
	case err == nil, errors.Is(err, driver.ErrNotFound), errors.Is(err, driver.ErrMoved):
		return r, nil
	}
	return r, fmt.Errorf("%w: %v", driver.ErrUnknown, err)
}
