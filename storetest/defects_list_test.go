package storetest_test

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/session/driver"
)

var listDefects = []userDefect{
	{"the list has all fields", []string{"sign-in/new"}, func(b *brokenUsers) {
		b.sessions = func(
			ctx context.Context, owner driver.Hash, after driver.SessionCursor, limit int,
		) ([]driver.UserSession, error) {
			list, err := b.Store.Sessions(ctx, owner, after, limit)
			for i, s := range list {
				if r, _, err := b.Load(ctx, s.ID); err == nil {
					list[i].Record = r
				}
			}
			return list, err
		}
	}},
	{"sealed sessions are not listed", []string{"sign-in/sealed-principal"}, func(b *brokenUsers) {
		b.sessions = func(
			ctx context.Context, owner driver.Hash, after driver.SessionCursor, limit int,
		) ([]driver.UserSession, error) {
			list, err := b.Store.Sessions(ctx, owner, after, limit)
			return slices.DeleteFunc(list, func(o driver.UserSession) bool { return o.Record.Principal.User == "" }), err
		}
	}},
	{"the list is oldest first", []string{"user/sessions", "user/listed-while-ending"}, func(b *brokenUsers) {
		b.sessions = func(
			ctx context.Context, owner driver.Hash, after driver.SessionCursor, limit int,
		) ([]driver.UserSession, error) {
			list, err := b.Store.Sessions(ctx, owner, after, limit)
			slices.Reverse(list)
			return list, err
		}
	}},
	{"a restart loses the index", []string{"user/reopen"}, func(b *brokenUsers) {
		var lost atomic.Bool
		b.onReopen = func() { lost.Store(true) }
		b.sessions = func(
			ctx context.Context, owner driver.Hash, after driver.SessionCursor, limit int,
		) ([]driver.UserSession, error) {
			if lost.Load() {
				return nil, nil
			}
			return b.Store.Sessions(ctx, owner, after, limit)
		}
	}},
	{"the limit of a page is ignored", []string{"user/pages"}, func(b *brokenUsers) {
		b.sessions = func(
			ctx context.Context, owner driver.Hash, after driver.SessionCursor, _ int,
		) ([]driver.UserSession, error) {
			list, err := b.all(ctx, owner)
			return slices.DeleteFunc(list, func(s driver.UserSession) bool {
				return !after.Created.IsZero() && s.Record.Created.After(after.Created)
			}), err
		}
	}},
	{"a page ends among sessions of the same millisecond", []string{"user/pages", "user/thousand-sessions"},
		func(b *brokenUsers) {
			b.sessions = func(
				ctx context.Context, owner driver.Hash, after driver.SessionCursor, limit int,
			) ([]driver.UserSession, error) {
				list, err := b.all(ctx, owner)
				list = slices.DeleteFunc(list, func(s driver.UserSession) bool {
					return !after.Created.IsZero() && !s.Record.Created.Before(after.Created)
				})
				return list[:min(max(limit, 0), len(list))], err
			}
		}},
	{"the session of the cursor must still live", []string{"user/pages-while-changing"}, func(b *brokenUsers) {
		b.sessions = func(
			ctx context.Context, owner driver.Hash, after driver.SessionCursor, limit int,
		) ([]driver.UserSession, error) {
			if !after.Created.IsZero() {
				if _, _, err := b.Load(ctx, after.ID); err != nil {
					return nil, nil
				}
			}
			return b.Store.Sessions(ctx, owner, after, limit)
		}
	}},
	{"a page is a number of sessions to skip", []string{"user/pages-while-changing"}, func(b *brokenUsers) {
		var skip int
		b.sessions = func(
			ctx context.Context, owner driver.Hash, after driver.SessionCursor, limit int,
		) ([]driver.UserSession, error) {
			if after.Created.IsZero() {
				skip = 0
			}
			list, err := b.all(ctx, owner)
			list = list[min(skip, len(list)):]
			list = list[:min(max(limit, 0), len(list))]
			skip += len(list)
			return list, err
		}
	}},
	{"expired sessions count for a page", []string{"user/pages-skip-expired"}, func(b *brokenUsers) {
		var created []driver.UserSession // also the expired ones, oldest first
		b.signIn = func(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
			res, err := b.Store.SignIn(ctx, id, in)
			if err == nil {
				created = append(created, driver.UserSession{ID: id, Record: res.Record})
			}
			return res, err
		}
		b.sessions = func(
			ctx context.Context, owner driver.Hash, after driver.SessionCursor, limit int,
		) ([]driver.UserSession, error) {
			page, err := b.Store.Sessions(ctx, owner, after, limit)
			expired := 0
			for _, s := range created {
				if s.Record.Owner() == owner && !s.Record.Live(time.Now()) {
					expired++
				}
			}
			return page[:max(0, len(page)-expired)], err
		}
	}},
}
