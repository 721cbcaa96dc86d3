package redisstore_test

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/session"
	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/redisstore"
	"github.com/coatcheck-go/session/redisstore/redistest"
)

// listAll returns the user's sessions in one slice.
func listAll(ctx context.Context, m *session.Manager, user string) (list []session.Info, err error) {
	for info, err := range m.Sessions(ctx, user) {
		if err != nil {
			return list, err
		}
		list = append(list, info)
	}
	return list, nil
}

// listInPages returns the user's sessions, read limit at a time. It checks that none is listed
// twice.
func listInPages(t *testing.T, s *redisstore.Store, owner driver.Hash, limit int) (list []driver.UserSession) {
	t.Helper()
	listed := map[driver.ID]bool{}
	for after := (driver.SessionCursor{}); ; {
		page, err := s.Sessions(t.Context(), owner, after, limit)
		must(t, err)
		if len(page) > limit {
			t.Fatalf("a page has %d sessions, want at most %d", len(page), limit)
		}
		for _, one := range page {
			if listed[one.ID] {
				t.Fatalf("%v is listed twice", one.ID)
			}
			listed[one.ID] = true
		}
		if list = append(list, page...); len(page) < limit {
			return list
		}
		after = page[limit-1].Cursor()
	}
}

// mustSignInTimes signs a user in n times, a few at the same time.
func mustSignInTimes(t *testing.T, s *redisstore.Store, user string, n int) []driver.ID {
	t.Helper()
	ids := make([]driver.ID, n)
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := worker; i < n; i += 8 {
				id, in := newSignIn(user, 0)
				if _, err := s.SignIn(t.Context(), id, in); err != nil {
					t.Error(err)
				}
				ids[i] = id
			}
		})
	}
	all.Wait()
	return ids
}

// countedPages counts the pages that a Manager reads. They are those of the owner that newSignIn
// makes of ada: a Manager's hash of a user has a key.
type countedPages struct {
	*redisstore.Store
	pages, largest int
}

func (c *countedPages) Sessions(
	ctx context.Context, _ driver.Hash, after driver.SessionCursor, limit int,
) ([]driver.UserSession, error) {
	page, err := c.Store.Sessions(ctx, ownerOf("ada"), after, limit)
	c.pages, c.largest = c.pages+1, max(c.largest, len(page))
	return page, err
}

// TestManySessionsAreListedInPages lists 2,500 sessions of one user. No page has more than 100 of
// them, and the server gets one command for each page of the index. A loop that breaks reads no
// further page.
func TestManySessionsAreListedInPages(t *testing.T) {
	limitParallel(t)
	const many, pageSize = 2500, 100
	node := redistest.Start(t, redistest.Options{})
	s := &countedPages{Store: mustOpen(t, "redis://"+node.Addr(), patient(redisstore.Options{}))}
	m, err := session.New(s, session.Config{})
	must(t, err)
	mustSignInTimes(t, s.Store, "ada", many)
	before, read := callsOf(t, node, "zrange"), callsOf(t, node, "hmget")
	list, err := listAll(t.Context(), m, "ada")
	must(t, err)
	handles := map[string]bool{}
	for i, info := range list {
		handles[info.Handle] = true
		if i > 0 && info.Created.After(list[i-1].Created) {
			t.Fatalf("session %d is newer than the session before it", i)
		}
	}
	if len(list) != many || len(handles) != many {
		t.Errorf("%d sessions are listed, %d different ones, want %d", len(list), len(handles), many)
	}
	if s.pages != many/pageSize+1 || s.largest != pageSize {
		t.Errorf("%d pages of up to %d sessions, want %d of %d", s.pages, s.largest, many/pageSize+1, pageSize)
	}
	commands, records := callsOf(t, node, "zrange")-before, callsOf(t, node, "hmget")-read
	t.Logf("%d ZRANGE and %d HMGET for %d pages", commands, records, s.pages)
	// The store repeats the ends of Open's trial meanwhile, and their scripts send HMGET, too. That
	// is some for each repetition, and they are the more the slower the machine is.
	const repeatedEnds = many / 10
	if commands != s.pages || records < many || records > many+repeatedEnds {
		t.Errorf("%d ZRANGE and %d HMGET for %d pages of %d sessions", commands, records, s.pages, many)
	}
	s.pages = 0
	for _, err := range m.Sessions(t.Context(), "ada") {
		must(t, err)
		break
	}
	if s.pages != 1 {
		t.Errorf("a loop that breaks at once reads %d pages, want 1", s.pages)
	}
}

// callsOf returns how often the server has run a command.
func callsOf(t *testing.T, node *redistest.Node, command string) int {
	t.Helper()
	v, err := node.Do("INFO", "commandstats")
	must(t, err)
	found := regexp.MustCompile(`cmdstat_` + command + `:calls=(\d+)`).FindStringSubmatch(fmt.Sprint(v))
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(found[1])
	must(t, err)
	return n
}

// TestListGoesOnAfterExpiredSessions removes several pages of sessions, as when they expire. The
// next page has the older session that lives, and the index names only living sessions.
func TestListGoesOnAfterExpiredSessions(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), patient(redisstore.Options{}))
	for limit := 1; limit < 200; limit *= 3 {
		user := fmt.Sprint("user", limit)
		owner := ownerOf(user)
		oldest := mustSignInTimes(t, s, user, 1)[0]
		time.Sleep(2 * time.Millisecond) // the server's clock goes on
		for _, id := range mustSignInTimes(t, s, user, 5*limit) {
			_, err := node.Do("DEL", sessionKey(id))
			must(t, err)
		}
		time.Sleep(2 * time.Millisecond)
		newest := mustSignInTimes(t, s, user, 1)[0]
		list := listInPages(t, s, owner, limit)
		if len(list) != 2 || list[0].ID != newest || list[1].ID != oldest {
			t.Errorf("in pages of %d: %d sessions, want the newest and the oldest", limit, len(list))
		}
		n, err := node.Do("ZCARD", indexKey(owner))
		if n != int64(3) { // with "@rev"
			t.Errorf("the index has %v members after the list, error %v, want 3", n, err)
		}
	}
}

// TestListHasAllSessionsOfOneMillisecond gives 50 sessions the same time of creation. Pages of any
// size have each of them once.
func TestListHasAllSessionsOfOneMillisecond(t *testing.T) {
	limitParallel(t)
	const twins = 50
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), patient(redisstore.Options{}))
	owner := ownerOf("ada")
	mustSignInTimes(t, s, "ada", 1)
	ids := mustSignInTimes(t, s, "ada", twins)
	created, err := node.Do("ZSCORE", indexKey(owner), ids[0].Selector.String())
	must(t, err)
	ms, err := strconv.ParseInt(created.(string), 10, 64)
	must(t, err)
	for _, id := range ids {
		life, err := node.Do("HGET", sessionKey(id), "@l")
		must(t, err)
		text := life.(string)
		_, err1 := node.Do("HSET", sessionKey(id), "@l", fmt.Sprintf("%s%012x%s", text[:22], ms, text[34:]))
		_, err2 := node.Do("ZADD", indexKey(owner), created.(string), id.Selector.String())
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
	}
	mustSignInTimes(t, s, "ada", 1)
	for _, limit := range []int{1, 2, 3, 7, twins - 1, twins, twins + 1, twins + 2, 1000} {
		if list := listInPages(t, s, owner, limit); len(list) != twins+2 {
			t.Errorf("in pages of %d: %d sessions, want %d", limit, len(list), twins+2)
		}
	}
}

// TestListRefusesIndexWithOtherTimes gives a session another time of creation than the index has. A
// position in the list would then be wrong, and the list might not end. The error has the handle.
func TestListRefusesIndexWithOtherTimes(t *testing.T) {
	limitParallel(t)
	node := redistest.Start(t, redistest.Options{})
	s := mustOpen(t, "redis://"+node.Addr(), patient(redisstore.Options{}))
	owner := ownerOf("ada")
	ids := mustSignInTimes(t, s, "ada", 3)
	for _, score := range []string{"1", "1.5", "-inf", "+inf", "9007199254740993"} {
		_, err := node.Do("ZADD", indexKey(owner), score, ids[1].Selector.String())
		must(t, err)
		for after, pages := (driver.SessionCursor{}), 0; ; pages++ {
			page, err := s.Sessions(t.Context(), owner, after, 1)
			if err != nil {
				if !strings.Contains(err.Error(), ids[1].String()) {
					t.Errorf("the error does not name the session: %v", err)
				}
				break
			}
			if len(page) == 0 || pages > 3 {
				t.Fatalf("score %s: no error after %d pages", score, pages+1)
			}
			after = page[0].Cursor()
		}
	}
}
