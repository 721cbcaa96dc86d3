package migrate

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// Redis sends one command to the server of the old sessions and returns its reply: an int64, a
// string or a []byte. It must have a timeout of its own. With go-redis:
//
//	func(ctx context.Context, args ...any) (any, error) {
//		return client.Do(ctx, args...).Result()
//	}
//
// Package migrate sends GETRANGE, PTTL, SET and DEL, each with one key, so a Cluster works, too.
type Redis func(ctx context.Context, args ...any) (any, error)

// keptPrefix begins the keys that say which old session a new one continues.
const keptPrefix = "coatcheck:migrated:"

// noTTL is how long an old session without an expiry of its own counts.
const noTTL = 30 * 24 * time.Hour

// text sends a command whose reply is a text.
func (do Redis) text(ctx context.Context, args ...any) (string, error) {
	reply, err := do(ctx, args...)
	if err != nil {
		return "", err
	}
	switch v := reply.(type) {
	case string:
		return v, nil
	case []byte:
		return string(v), nil
	}
	return "", fmt.Errorf("migrate: the reply to %v is a %T, not a text", args[0], reply)
}

// get returns the value under a key and when it expires. Errors: [ErrNone], [ErrDecode] if it is
// too large.
func (do Redis) get(ctx context.Context, key string) (string, time.Time, error) {
	value, err := do.text(ctx, "GETRANGE", key, "0", strconv.Itoa(maxOld))
	if err != nil {
		return "", time.Time{}, err
	}
	reply, err := do(ctx, "PTTL", key)
	if err != nil {
		return "", time.Time{}, err
	}
	left, ok := reply.(int64)
	switch {
	case !ok:
		return "", time.Time{}, fmt.Errorf("migrate: the reply to PTTL is a %T, not an integer", reply)
	case value == "", left == -2:
		return "", time.Time{}, ErrNone
	case len(value) > maxOld:
		return "", time.Time{}, fmt.Errorf("%w: it has more than %d bytes", ErrDecode, maxOld)
	case left == -1:
		return value, time.Now().Add(noTTL), nil
	}
	return value, time.Now().Add(time.Duration(left) * time.Millisecond), nil
}

func (do Redis) del(ctx context.Context, key string) error {
	_, err := do(ctx, "DEL", key)
	return err
}

// keep stores the key of the old session that a new one continues.
func (do Redis) keep(ctx context.Context, handle, key string, until time.Time) error {
	ttl := max(time.Until(until).Milliseconds(), 1)
	_, err := do(ctx, "SET", keptPrefix+handle, key, "PX", strconv.FormatInt(ttl, 10))
	return err
}

// endKept ends the old session that a new one continues.
func (do Redis) endKept(ctx context.Context, handle string) error {
	key, err := do.text(ctx, "GETRANGE", keptPrefix+handle, "0", "-1")
	if err != nil || key == "" {
		return err
	}
	if err := do.del(ctx, key); err != nil {
		return err
	}
	return do.del(ctx, keptPrefix+handle)
}
