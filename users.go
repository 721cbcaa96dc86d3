package session

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/coatcheck-go/session/driver"
)

// sessionsPage is how many sessions of a user one call of the store reads.
const sessionsPage = 100

// Sessions returns an iterator over the live sessions of a user, the newest first. To find the
// session of the current request, compare Handle with that of [Session.Info].
//
// The iterator reads the store, not a copy, in pages of 100 sessions, and holds one page at a time.
// If the loop breaks, no further page is read. Each loop over the iterator is a new listing.
//
// A session that lives during the whole listing is yielded exactly once. A session that begins or
// ends meanwhile may be yielded or not. A session that had ended before the listing is not yielded.
// A session that is sealed with a missing key is yielded without its sealed parts, such as Device,
// and can be revoked.
//
// After an error, the iterator yields it with an empty Info and stops. Sessions that were yielded
// before are valid, but the list is incomplete. To collect a user's sessions in a slice:
//
//	var list []session.Info
//	for info, err := range sessions.Sessions(ctx, user) {
//		if err != nil {
//			return err
//		}
//		list = append(list, info)
//	}
//
// Errors: [ErrInvalid] if user is empty; [ErrUnavailable]; errors.ErrUnsupported if the store does
// not support users.
func (m *Manager) Sessions(ctx context.Context, user string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		store, err := m.users()
		if err == nil && user == "" {
			err = errNoUser
		}
		if err != nil {
			yield(Info{}, err)
			return
		}
		owner := m.owner(user)
		for after := (driver.SessionCursor{}); ; {
			page, err := m.listPage(ctx, store, owner, after)
			if err != nil {
				yield(Info{}, fromStore(err))
				return
			}
			for _, s := range page {
				if !yield(m.listed(ctx, s, user), nil) {
					return
				}
			}
			if len(page) < sessionsPage {
				return
			}
			after = page[len(page)-1].Cursor()
		}
	}
}

// listPage reads one page of the owner's sessions.
func (m *Manager) listPage(
	ctx context.Context, store driver.UserStore, owner driver.Hash, after driver.SessionCursor,
) ([]driver.UserSession, error) {
	ctx, o := m.observers.observe(ctx, OperationList, driver.ID{})
	defer o.abandon()
	page, err := store.Sessions(ctx, owner, after, sessionsPage)
	o.end(err)
	return page, err
}

// listed returns what a list has of a session of user.
func (m *Manager) listed(ctx context.Context, s driver.UserSession, user string) Info {
	p, err := m.keys.Sealer(s.Record.Secret).OpenPrincipal(s.Record.Principal)
	if err != nil {
		m.cfg.Logger.ErrorContext(ctx, "session: a session is listed without its sealed parts",
			"session", s.ID.String(), "error", err)
		p = withoutSealed(s.Record.Principal, user)
	}
	return infoOf(s.ID, s.Record, p)
}

// Revoke ends the session of user with this handle, permanently and for all requests.
//
// Errors: [ErrNotFound] if the user has no session with this handle, even if another user has one;
// [ErrUnavailable], and the session may then still be live; errors.ErrUnsupported if the store does
// not support users.
func (m *Manager) Revoke(ctx context.Context, user, handle string) error {
	if _, err := m.users(); err != nil {
		return err
	}
	id, err := driver.ParseID(handle)
	if err != nil || user == "" {
		return ErrNotFound
	}
	n, err := m.revoke(ctx, user, driver.Selection{Only: []driver.ID{id}})
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// RevokeUser ends all sessions of user in one atomic step, except those with a handle in keep. keep
// has at most 100 handles. A sign-in of the user that began before the call fails with
// [ErrRevoked], because it may have checked the old password.
//
// RevokeUser returns the number of sessions that it ended. The number may be too low if a reply
// from the store was lost.
//
// Errors: [ErrInvalid] if user is empty or keep is not valid, and then no session has ended;
// [ErrUnavailable]; errors.ErrUnsupported if the store does not support users. After
// ErrUnavailable, n sessions have certainly ended; call RevokeUser again to end the rest.
func (m *Manager) RevokeUser(ctx context.Context, user string, keep ...string) (n int, err error) {
	if user == "" {
		return 0, errNoUser
	}
	var which driver.Selection
	for _, handle := range keep {
		id, err := driver.ParseID(handle)
		if err != nil {
			// A mistyped handle must not end the session that it was meant to keep.
			return 0, fmt.Errorf("%w: %v", ErrInvalid, err)
		}
		which.Except = append(which.Except, id)
	}
	if len(which.Except) > driver.MaxExcept {
		return 0, fmt.Errorf("%w: %d handles to keep, at most %d are allowed",
			ErrInvalid, len(which.Except), driver.MaxExcept)
	}
	return m.revoke(ctx, user, which)
}

// revoke ends the selected sessions of a user and reports the events. It returns how many have
// ended.
func (m *Manager) revoke(ctx context.Context, user string, which driver.Selection) (int, error) {
	store, err := m.users()
	if err != nil {
		return 0, err
	}
	observed, o := m.observers.observe(ctx, OperationEndUser, driver.ID{})
	defer o.abandon()
	limited, cancel := m.detached(observed)
	defer cancel()
	which.MaxLifetime = max(m.cfg.Lifetime, m.cfg.MaxRemember)
	ended, err := store.EndUser(limited, m.owner(user), which)
	o.end(err)
	m.emitRevoked(ctx, user, ended)
	return len(ended), fromStore(err)
}

var errNoUser = fmt.Errorf("%w: the user is empty", ErrInvalid)

// RevokeAll ends every session in the store. It is for an incident. A sign-in that began before the
// call fails with [ErrRevoked]. RevokeAll returns when the store has removed all sessions, even if
// ctx is done before.
//
// Errors: [ErrUnavailable], and some sessions may then still be live; errors.ErrUnsupported if the
// store does not support users. After ErrUnavailable, call RevokeAll again, from any process, to
// end the rest.
func (m *Manager) RevokeAll(ctx context.Context) error {
	store, err := m.users()
	if err != nil {
		return err
	}
	observed, o := m.observers.observe(ctx, OperationEndAll, driver.ID{})
	defer o.abandon()
	err = store.EndAll(context.WithoutCancel(observed))
	o.end(err)
	if err != nil {
		return fromStore(err)
	}
	m.emitAll(ctx, []Event{{Kind: EventRevoked, Time: m.now()}})
	return nil
}

// users returns the store if it supports users.
func (m *Manager) users() (driver.UserStore, error) {
	if store, ok := m.store.(driver.UserStore); ok {
		return store, nil
	}
	return nil, fmt.Errorf("session: the store does not support users: %w", errors.ErrUnsupported)
}

// withoutSealed returns a principal that does not open as a plain one, without its sealed parts.
func withoutSealed(p *driver.Principal, user string) *driver.Principal {
	out := *p
	out.User, out.Sealed = user, ""
	return &out
}
