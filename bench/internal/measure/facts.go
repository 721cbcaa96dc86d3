package measure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck-go/session/bench/internal/app"
	"github.com/coatcheck-go/session/bench/internal/load"
	"github.com/coatcheck-go/session/bench/internal/report"
)

// facts tests once what the systems keep and lose. This does not depend on speed.
func (b *bench) facts(ctx context.Context, r *report.Report) error {
	for _, system := range b.Systems {
		b.progress("correctness and memory: %s", system.Name)
		f := report.Facts{System: system.Name}
		if !system.Forgets {
			for _, test := range []func(context.Context, app.System, *report.Facts) error{
				b.lostUpdates, b.backAfterSignOut, b.bytesPerSession,
			} {
				if err := test(ctx, system, &f); err != nil {
					return fmt.Errorf("%s: %w", system.Name, err)
				}
			}
		}
		r.Facts = append(r.Facts, f)
	}
	var err error
	r.JSONSize, err = b.jsonSize(ctx)
	return err
}

// openWithSession starts a server with one session, and returns the cookie.
func (b *bench) openWithSession(ctx context.Context, system app.System, connections int) (*site, string, error) {
	site, err := b.open(ctx, system, connections)
	if err != nil {
		return nil, "", err
	}
	cookies, err := site.fill(1)
	if err != nil {
		site.close()
		return nil, "", err
	}
	return site, cookies[0], nil
}

// lostUpdates increments the counter of one session with concurrent requests, and counts the lost
// ones.
func (b *bench) lostUpdates(ctx context.Context, system app.System, f *report.Facts) error {
	site, cookie, err := b.openWithSession(ctx, system, b.AtATime)
	if err != nil {
		return err
	}
	defer site.close()
	value := load.Request("GET", app.PathValue, cookie)
	start, err := site.counter(value)
	if err != nil {
		return err
	}
	outcome, err := site.client.Run(requests(report.Write, []string{cookie}), load.Limit{Requests: b.Updates})
	if err != nil {
		return err
	}
	end, err := site.counter(value)
	if err != nil {
		return err
	}
	done := outcome.Requests - outcome.Errors
	lost := done - (end - start)
	f.Updates, f.LostUpdates = &done, &lost
	return nil
}

// counter reads the value of the counter.
func (s *site) counter(request []byte) (int, error) {
	response, err := s.client.Do(request)
	if err != nil {
		return 0, err
	}
	if response.Status != 200 {
		return 0, fmt.Errorf("reading the counter: status %d: %s", response.Status, response.Body)
	}
	return strconv.Atoi(strings.TrimSpace(string(response.Body)))
}

// backAfterSignOut signs out while a slow request runs, which has read the session and then writes
// to it. Then it tests whether the old cookie finds the session again.
func (b *bench) backAfterSignOut(ctx context.Context, system app.System, f *report.Facts) error {
	site, cookie, err := b.openWithSession(ctx, system, 1)
	if err != nil {
		return err
	}
	defer site.close()
	slow, err := load.Dial(ctx, site.server.Addr, 1)
	if err != nil {
		return err
	}
	defer slow.Close()
	slowDone := make(chan error, 1)
	go func() {
		// The status does not matter: a correct library reports here that the session has ended.
		_, err := slow.Do(load.Request("POST", app.PathSlow, cookie))
		slowDone <- err
	}()
	for _, request := range [][]byte{
		load.Request("POST", app.PathGateWait, ""),
		load.Request("POST", app.PathSignOut, cookie),
		load.Request("POST", app.PathGateOpen, ""),
	} {
		response, err := site.client.Do(request)
		if err != nil {
			return err
		}
		if response.Status != 200 {
			return fmt.Errorf("signing out during a slow request: status %d: %s", response.Status, response.Body)
		}
	}
	if err := <-slowDone; err != nil {
		return err
	}
	response, err := site.client.Do(load.Request("GET", app.PathValue, cookie))
	back := response.Status == 200
	f.BackAfterSignOut = &back
	return err
}

// bytesPerSession compares the memory of Redis before and after many sessions are stored. The
// server does not run at either time, so that the buffers of its connections do not count.
func (b *bench) bytesPerSession(ctx context.Context, system app.System, f *report.Facts) error {
	if b.MemorySessions == 0 {
		return nil
	}
	bytes, err := b.memoryOf(ctx, func() error {
		site, err := b.open(ctx, system, b.AtATime)
		if err != nil {
			return err
		}
		defer site.close()
		_, err = site.fill(b.MemorySessions)
		return err
	})
	f.BytesPerSession = &bytes
	return err
}

// jsonSize measures the same data as one JSON string with a time limit, for comparison.
func (b *bench) jsonSize(ctx context.Context) (float64, error) {
	if b.MemorySessions == 0 {
		return 0, nil
	}
	data := map[string]any{app.CounterName: 1}
	for name, value := range app.Payload {
		data[name] = value
	}
	text, err := json.Marshal(data)
	if err != nil {
		return 0, err
	}
	return b.memoryOf(ctx, func() error {
		for i := range b.MemorySessions {
			if err := b.observer.SetString(ctx, fmt.Sprintf("session:%043d", i), string(text)); err != nil {
				return err
			}
		}
		return nil
	})
}

// memoryOf returns the bytes per session in Redis. fill stores MemorySessions sessions.
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
	after, err := b.memoryAlone(ctx)
	return float64(after-before) / float64(b.MemorySessions), err
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
