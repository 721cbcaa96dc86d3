package measure

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/coatcheck-go/session/bench/internal/app"
	"github.com/coatcheck-go/session/bench/internal/load"
	"github.com/coatcheck-go/session/bench/internal/report"
)

// facts tests once what the systems keep and lose. This does not depend on speed.
func (b *bench) facts(ctx context.Context, r *report.Report) error {
	for _, system := range b.Systems {
		if !system.Tests.Updates && !system.Tests.SignOut {
			continue
		}
		b.progress("correctness: %s", system.Name)
		f := report.Facts{System: system.Name}
		var err error
		if system.Tests.Updates {
			err = b.lostUpdates(ctx, system, &f)
		}
		if err == nil && system.Tests.SignOut {
			err = b.backAfterSignOut(ctx, system, &f)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", system.Name, err)
		}
		r.Facts = append(r.Facts, f)
	}
	return nil
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
