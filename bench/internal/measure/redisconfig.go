package measure

import (
	"context"
	"fmt"
	"strings"
)

// The setting of Redis that docs/operations.md recommends.
const (
	advisedName  = "hash-max-listpack-value"
	advisedValue = "1024"
)

// configure applies Config.RedisConfig, and notes the value of the recommended setting.
func (b *bench) configure(ctx context.Context) (err error) {
	for _, setting := range b.RedisConfig {
		name, value, ok := strings.Cut(setting, " ")
		if !ok {
			return fmt.Errorf("the Redis setting %q is not NAME VALUE", setting)
		}
		if err := b.observer.Configure(ctx, name, value); err != nil {
			return err
		}
	}
	b.defaultValue, err = b.observer.Parameter(ctx, advisedName)
	return err
}

// use applies the recommended setting, or goes back to the value before.
func (b *bench) use(ctx context.Context, advised bool) error {
	value := b.defaultValue
	if advised {
		value = advisedValue
	}
	return b.observer.Configure(ctx, advisedName, value)
}
