package redisd

import (
	"context"
	"maps"
	"slices"

	"github.com/redis/rueidis"
)

// SetStrings stores values with a time limit, like a library that stores a session as one string.
func (o *Observer) SetStrings(ctx context.Context, values map[string]string) error {
	for keys := range slices.Chunk(slices.Collect(maps.Keys(values)), 500) {
		var batch []rueidis.Completed
		for _, key := range keys {
			batch = append(batch, o.client.B().Set().Key(key).Value(values[key]).ExSeconds(3600).Build())
		}
		for _, reply := range o.client.DoMulti(ctx, batch...) {
			if err := reply.Error(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Keys returns the number of keys.
func (o *Observer) Keys(ctx context.Context) (int64, error) {
	return o.client.Do(ctx, o.client.B().Dbsize().Build()).AsInt64()
}

// SizeOf returns the bytes that one key takes, with its name, but without its time limit.
func (o *Observer) SizeOf(ctx context.Context, key string) (int64, error) {
	return o.client.Do(ctx, o.client.B().MemoryUsage().Key(key).Samples(0).Build()).AsInt64()
}

// KeysOfType returns the keys of one type, such as "zset".
func (o *Observer) KeysOfType(ctx context.Context, kind string) ([]string, error) {
	var all []string
	for cursor := uint64(0); ; {
		scan := o.client.B().Scan().Cursor(cursor).Count(1000).Type(kind).Build()
		page, err := o.client.Do(ctx, scan).AsScanEntry()
		if err != nil {
			return nil, err
		}
		all = append(all, page.Elements...)
		if cursor = page.Cursor; cursor == 0 {
			return all, nil
		}
	}
}

// Delete removes keys.
func (o *Observer) Delete(ctx context.Context, keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	return o.client.Do(ctx, o.client.B().Del().Key(keys...).Build()).Error()
}
