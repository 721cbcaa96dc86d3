package driver_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// TestListSessionsReturnsPages: pages of any size, put together, are the live sessions, with
// metadata only. The input stays as it is.
func TestListSessionsReturnsPages(t *testing.T) {
	var all []driver.UserSession
	for i := range 40 {
		s := userSession(fmt.Sprint(i), time.Duration(i/8)*time.Minute) // eight of each millisecond
		s.Record.Fields, s.Record.Size = driver.Fields{{Key: "n", Value: []byte("1")}}, 2
		all = append(all, s, userSession(fmt.Sprint("expired", i), time.Hour))
	}
	before := slices.Clone(all)
	want := idsOf(driver.LiveSessions(signInNow, all)...)
	for _, limit := range []int{1, 2, 3, 8, 39, 40, 41, math.MaxInt} {
		var list []driver.UserSession
		var after driver.SessionCursor
		for {
			page := driver.ListSessions(signInNow, all, after, limit)
			if list = append(list, page...); len(page) < limit {
				break
			}
			after = page[len(page)-1].Cursor()
		}
		if got := idsOf(list...); !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %d sessions, want %d in the order of LiveSessions", limit, len(got), len(want))
		}
		for _, s := range list {
			if s.Record.Fields != nil || s.Record.Size == 0 {
				t.Fatalf("%v is listed with %d fields, size %d", s.ID, len(s.Record.Fields), s.Record.Size)
			}
		}
	}
	if !slices.Equal(idsOf(all...), idsOf(before...)) || all[0].Record.Fields == nil {
		t.Error("ListSessions has modified its argument")
	}
}

// TestListSessionsAtTheEdges: limits below 1, no sessions, and cursors of sessions that are not
// there, before and after all others.
func TestListSessionsAtTheEdges(t *testing.T) {
	newest, oldest, gone := userSession("a", 0), userSession("b", 2*time.Minute), userSession("c", time.Minute)
	all := []driver.UserSession{oldest, newest}
	at := func(created time.Time) driver.SessionCursor { return driver.SessionCursor{Created: created} }
	for _, tt := range []struct {
		name  string
		after driver.SessionCursor
		limit int
		want  []driver.ID
	}{
		{"limit 0", driver.SessionCursor{}, 0, nil},
		{"negative limit", driver.SessionCursor{}, math.MinInt, nil},
		{"first page", driver.SessionCursor{}, 1, idsOf(newest)},
		{"after a session that has ended", gone.Cursor(), 5, idsOf(oldest)},
		{"after the oldest", oldest.Cursor(), 5, nil},
		{"before the newest", at(newest.Record.Created.Add(time.Hour)), 5, idsOf(newest, oldest)},
		{"at the beginning of time", at(time.UnixMilli(0)), 5, nil},
	} {
		if got := idsOf(driver.ListSessions(signInNow, all, tt.after, tt.limit)...); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if page := driver.ListSessions(signInNow, nil, newest.Cursor(), 5); len(page) != 0 {
		t.Errorf("of no sessions: %v", page)
	}
}
