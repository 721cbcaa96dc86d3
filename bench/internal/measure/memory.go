package measure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/coatcheck-go/session/bench/internal/app"
	"github.com/coatcheck-go/session/bench/internal/load"
	"github.com/coatcheck-go/session/bench/internal/report"
)

// sessionsPerUser is how many sessions a user has while memory is measured. The index of a user is
// measured separately. Few users make the hash table of all keys as large as without indexes.
const sessionsPerUser = 50

// memory measures the memory of sessions: with the server's own setting, then with the recommended
// one.
func (b *bench) memory(ctx context.Context, r *report.Report) error {
	b.progress("memory: warm-up")
	rows := b.memoryRows()
	if err := b.warmUpMemory(ctx, rows); err != nil {
		return err
	}
	for _, row := range rows {
		b.progress("memory: %s, %s", row.Data, row.Holder)
		for i, to := range []*float64{&row.Default, &row.Advised} {
			var err error
			if *to, err = b.bytesPerSession(ctx, row, i == 1); err != nil {
				return fmt.Errorf("memory of %s: %w", row.Holder, err)
			}
		}
		r.Memory = append(r.Memory, row)
	}
	if slices.ContainsFunc(b.Systems, func(s app.System) bool { return s.Name == app.Coatcheck }) {
		var err error
		if r.IndexSize, err = b.indexSize(ctx); err != nil {
			return err
		}
	}
	return b.use(ctx, false)
}

// warmUpMemory stores sessions once as in the rows with these holders. The server allocates some
// memory only once, which must not count for the first row.
func (b *bench) warmUpMemory(ctx context.Context, rows []report.Memory) error {
	seen := map[string]bool{}
	for _, row := range rows {
		if seen[row.Holder] {
			continue
		}
		seen[row.Holder] = true
		if _, err := b.bytesPerSession(ctx, row, false); err != nil {
			return fmt.Errorf("memory of %s: %w", row.Holder, err)
		}
	}
	return nil
}

// memoryRows returns the rows to measure. Only coatcheck has sessions with a user.
func (b *bench) memoryRows() []report.Memory {
	var rows []report.Memory
	for _, data := range []app.Data{app.Short, app.Long} {
		for _, signedIn := range []bool{false, true} {
			add := func(holder string, tracked bool) {
				rows = append(rows, report.Memory{Data: data.Name, Holder: holder, SignedIn: signedIn, Tracked: tracked})
			}
			add(report.OneJSON, false)
			for _, system := range b.Systems {
				own := system.Role == app.Own
				if system.Tests.Memory && (own || data.Name == app.Long.Name && !signedIn) {
					add(system.Name, false)
				}
				if system.Tests.Memory && own && !signedIn { // a sign-in makes no copy
					add(system.Name, true)
				}
			}
		}
	}
	return rows
}

// bytesPerSession measures the memory of one row.
func (b *bench) bytesPerSession(ctx context.Context, row report.Memory, advised bool) (float64, error) {
	if err := b.use(ctx, advised); err != nil {
		return 0, err
	}
	return b.memoryOf(ctx, func() error {
		if row.Holder == report.OneJSON {
			return b.storeJSON(ctx, row)
		}
		users := 0
		if row.SignedIn {
			users = max(1, b.MemorySessions/sessionsPerUser)
		}
		return b.storeSessions(ctx, row, app.FillPath(app.DataNamed(row.Data), users))
	})
}

// memoryOf returns the bytes per session in Redis. fill stores MemorySessions sessions. No
// application server runs before and after that, so the buffers of its connections do not count.
func (b *bench) memoryOf(ctx context.Context, fill func() error) (float64, error) {
	if err := b.observer.Empty(ctx); err != nil {
		return 0, err
	}
	before, err := b.memoryAlone(ctx)
	if err != nil {
		return 0, err
	}
	if err := fill(); err != nil {
		return 0, err
	}
	sessions, err := b.dropIndexes(ctx)
	if err != nil {
		return 0, err
	}
	after, err := b.memoryAlone(ctx)
	return float64(after-before) / float64(sessions), err
}

// storeJSON stores the data of each session as one JSON string with a time limit.
func (b *bench) storeJSON(ctx context.Context, row report.Memory) error {
	values := map[string]string{}
	for i := range b.MemorySessions {
		user := ""
		if row.SignedIn {
			user = fmt.Sprintf("user-%08d", i)
		}
		text, err := app.DataNamed(row.Data).JSON(user)
		if err != nil {
			return err
		}
		values[fmt.Sprintf("session:%043d", i)] = string(text)
	}
	return b.observer.SetStrings(ctx, values)
}

// storeSessions lets a system store the sessions.
func (b *bench) storeSessions(ctx context.Context, row report.Memory, path string) error {
	o := app.Options{Redis: b.redis, Pool: b.AtATime, NoNearCache: !row.Tracked}
	site, err := b.connect(ctx, row.Holder, o, b.AtATime)
	if err != nil {
		return err
	}
	defer site.close()
	_, err = site.client.Cookies(load.Request("POST", path, ""), b.MemorySessions)
	return err
}

// dropIndexes removes the indexes of users, and returns the number of keys that remain: the
// sessions. There may be a few more than MemorySessions, because a request that got no clear answer
// is repeated.
func (b *bench) dropIndexes(ctx context.Context) (int64, error) {
	indexes, err := b.observer.KeysOfType(ctx, indexType)
	if err != nil {
		return 0, err
	}
	if err := b.observer.Delete(ctx, indexes...); err != nil {
		return 0, err
	}
	keys, err := b.observer.Keys(ctx)
	if want := int64(b.MemorySessions); err == nil && (keys < want || keys > want+want/100) {
		err = fmt.Errorf("the server has %d keys besides the indexes of users, want %d", keys, b.MemorySessions)
	}
	return keys, err
}

// indexType is the type of the index of a user's sessions. No system stores a session in this type.
const indexType = "zset"

// indexSize returns the bytes of the index of a user with one session.
func (b *bench) indexSize(ctx context.Context) (float64, error) {
	if err := b.observer.Empty(ctx); err != nil {
		return 0, err
	}
	site, err := b.connect(ctx, app.Coatcheck, app.Options{Redis: b.redis}, 1)
	if err != nil {
		return 0, err
	}
	defer site.close()
	if _, err := site.client.Cookies(load.Request("POST", app.FillPath(app.Short, 1), ""), 1); err != nil {
		return 0, err
	}
	indexes, err := b.observer.KeysOfType(ctx, indexType)
	if err == nil && len(indexes) != 1 {
		err = fmt.Errorf("one user has %d indexes, want 1", len(indexes))
	}
	if err != nil {
		return 0, err
	}
	size, err := b.observer.SizeOf(ctx, indexes[0])
	return float64(size), err
}

// memoryAlone reads the memory of Redis when no other client is connected.
func (b *bench) memoryAlone(ctx context.Context) (int64, error) {
	for range 100 {
		clients, err := b.observer.Clients(ctx)
		if err != nil {
			return 0, err
		}
		if clients == 1 {
			return b.observer.Memory(ctx)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return 0, errors.New("the server has ended, but its connections to Redis are still open")
}
