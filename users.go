package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/coatcheck-go/session/driver"
)

// Sessions lists a user's live sessions, all of them, the newest first. The one of the request that asks has the Handle of [Session.Info]. It is
// read from the store, not from a copy: a session that had ended when it was called is not in it; one that ends meanwhile may be. One whose key
// Config.Keys lacks is in it without what is sealed, its device for one: it can be revoked like the others. Errors: [ErrUnavailable];
// errors.ErrUnsupported if the store does not know users.
func (m *Manager) Sessions(ctx context.Context, user string) ([]Info, error) {
	store, err := m.users()
	if err != nil || user == "" {
		return nil, err
	}
	owned, err := store.Sessions(ctx, m.owner(user))
	if err != nil {
		return nil, fromStore(err)
	}
	list := make([]Info, len(owned))
	for i, o := range owned {
		p, err := m.keys.Sealer(o.Record.Secret).OpenPrincipal(o.Record.Principal)
		if err != nil {
			m.cfg.Logger.ErrorContext(ctx, "session: a session is listed without its device", "session", o.ID.String(), "error", err)
			p = withoutSealed(o.Record.Principal, user)
		}
		list[i] = infoOf(o.ID, o.Record, p)
	}
	return list, nil
}

// Revoke ends one session of user, for good and for all requests. [ErrNotFound] if user has none of that handle, whoever else may: who asks
// does not learn of other users' sessions. Other errors: [ErrUnavailable], and the session may then be alive; errors.ErrUnsupported if the
// store does not know users.
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

// RevokeUser ends all sessions of user but those of the handles in except, 100 at most, in one atomic step, and returns how many there
// were; fewer where an answer of the store was lost that may have named more. A sign-in of the user that began before is refused with
// [ErrRevoked]: the password it was checked against may be the old one.
//
// Errors: [ErrInvalid] for what is no handle, and nothing has ended; [ErrUnavailable], and n are those that have certainly ended: call it again,
// and those that are left are ended then; errors.ErrUnsupported if the store does not know users.
func (m *Manager) RevokeUser(ctx context.Context, user string, except ...string) (n int, err error) {
	var which driver.Selection
	for _, handle := range except {
		id, err := driver.ParseID(handle)
		if err != nil {
			return 0, fmt.Errorf("%w: %v", ErrInvalid, err) // a typing error must not end the session that was to stay
		}
		which.Except = append(which.Except, id)
	}
	if len(which.Except) > driver.MaxExcept {
		return 0, fmt.Errorf("%w: %d sessions are to stay, at most %d may", ErrInvalid, len(which.Except), driver.MaxExcept)
	}
	if user == "" {
		return 0, nil
	}
	return m.revoke(ctx, user, which)
}

func (m *Manager) revoke(ctx context.Context, user string, which driver.Selection) (int, error) {
	store, err := m.users()
	if err != nil {
		return 0, err
	}
	limited, cancel := m.detached(ctx)
	defer cancel()
	which.Longest = max(m.cfg.Lifetime, m.cfg.MaxRemember)
	ended, err := store.EndUser(limited, m.owner(user), which)
	m.emitRevoked(ctx, user, ended)
	return len(ended), fromStore(err)
}

// RevokeAll ends every session of the store: for an incident. A sign-in that began before is refused with [ErrRevoked]. It takes as long as the
// store needs to remove them, whatever becomes of ctx. Errors: [ErrUnavailable]: call it again, from any process, and what is left is ended
// then; errors.ErrUnsupported if the store does not know users.
func (m *Manager) RevokeAll(ctx context.Context) error {
	store, err := m.users()
	if err != nil {
		return err
	}
	if err := store.EndAll(context.WithoutCancel(ctx)); err != nil {
		return fromStore(err)
	}
	m.emit(ctx, Event{Kind: EventRevoked, Time: m.now()})
	return nil
}

func (m *Manager) users() (driver.UserStore, error) {
	if store, ok := m.store.(driver.UserStore); ok {
		return store, nil
	}
	return nil, fmt.Errorf("session: the store does not know users: %w", errors.ErrUnsupported)
}

// withoutSealed returns a principal that does not open, with the parts that are known.
func withoutSealed(p *driver.Principal, user string) *driver.Principal {
	out := *p
	out.User, out.Sealed = user, ""
	return &out
}
