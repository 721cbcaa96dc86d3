package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coatcheck-go/session/driver"
	"github.com/coatcheck-go/session/internal/ticket"
)

// userData makes a Session the data of a user. The Session is live if the data is stored, and
// anonymous if it is not: then the first commit stores it.
//
// Locks: a call that holds the locks of the data may take those of the session through which it was
// opened, and never the other way round.
type userData struct {
	user    string
	owner   driver.Hash
	through *Session // the session that opened it; nil: Manager.UserData did
	// followed says that the request found no data, and another request has stored some before the
	// request could watch. The next Watch yields it.
	followed bool
	before   *Session // the data of another user that the request had opened before; or nil
}

var errUserData = fmt.Errorf("%w: this is the data of a user, not a session", ErrInvalid)

// UserData returns the data of the user who is signed in: fields that are the same in all sessions
// of the user, such as a cart on two devices. Its fields are read and changed as those of a
// session. The middleware commits its changes, after those of s; the Commit of s does not. While
// nobody is signed in, UserData returns s, so that a page is written once:
//
//	data, err := s.UserData(ctx)
//	cart.Add(data, "apple", 1)
//
// The first call of a request reads the data: at most one round trip, none if this process has a
// current copy. If the session holds Config.UserFields from before the sign-in, UserData moves them
// to the user's data, in one atomic step.
//
// Before data is changed, the session is read again. If it has ended, the change fails with
// [ErrEnded]. The middleware commits the session first, and then the data: these are two steps.
// After an error the data is unchanged, or the error is [ErrUnknownOutcome].
//
// Revoking sessions does not change user data; [Manager.DeleteUser] empties it. It is deleted after
// Config.UserDataTimeout without use. The methods SignIn, SignOut, Renew, Adopt, Resume,
// BearerToken, CSRFToken and CheckCSRF of user data return [ErrInvalid].
//
// Errors: those of [From]; [ErrEnded]; errors.ErrUnsupported if the store keeps no user data. If
// the fields of the session do not fit into the data, the error is [ErrTooLarge], [ErrInvalid] or
// [ErrDecode], and they stay in the session until it ends. [Manager.UserData] opens the data
// without them.
func (s *Session) UserData(ctx context.Context) (*Session, error) {
	if s.owned != nil {
		return s, nil
	}
	d, err := s.dataOfUser()
	if d == nil || err != nil {
		return s, err
	}
	d.lock()
	defer d.unlock(ctx)
	if d.state == unread {
		d.readData(ctx)
	}
	if d.state == failed { // nothing was handed out that could be committed
		d.state = unread
		d.outcome.forgive()
		return nil, d.readErr
	}
	if err := d.join(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// dataOfUser returns the data of the user who is signed in, perhaps not read yet. It is nil if
// nobody is.
func (s *Session) dataOfUser() (*Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.identity.principal
	switch {
	case s.state == failed:
		return nil, s.readErr
	case p == nil:
		return nil, nil
	}
	for d := s.data; d != nil; d = d.owned.before {
		if d.owned.owner == p.Owner {
			return d, nil
		}
	}
	if err := s.m.keepsUserData(); err != nil {
		return nil, err
	}
	d := s.m.openUserData(p.User, p.Owner, s)
	d.mode, d.owned.before = s.mode, s.data
	if s.outcome.phase != phaseOpen {
		d.outcome = s.outcome
	}
	s.data = d
	return d, nil
}

// UserData returns the data of a user for a program that acts for the user without a session, such
// as a worker. Changes are stored by [Session.Commit] of the returned Session. See
// [Session.UserData].
//
// Errors: [ErrInvalid] if user is empty; [ErrUnavailable]; [ErrSealed]; errors.ErrUnsupported if
// the store keeps no user data.
func (m *Manager) UserData(ctx context.Context, user string) (*Session, error) {
	if user == "" {
		return nil, errNoUser
	}
	if err := m.keepsUserData(); err != nil {
		return nil, err
	}
	d := m.openUserData(user, m.owner(user), nil)
	d.lock()
	defer d.unlock(ctx)
	if d.readData(ctx); d.state == failed {
		return nil, d.readErr
	}
	return d, nil
}

// DeleteUser ends all sessions of user, as [Manager.RevokeUser] does, and then empties the user's
// data. It returns how many sessions it ended.
//
// A request that found its session alive before the call may still store a change a moment later.
// To be sure, call DeleteUser again after Config.CommitTimeout.
//
// Errors: those of RevokeUser and of [Session.Commit]. After an error call DeleteUser again.
func (m *Manager) DeleteUser(ctx context.Context, user string) (n int, err error) {
	if n, err = m.RevokeUser(ctx, user); err != nil || m.keepsUserData() != nil {
		return n, err
	}
	return n, m.emptyUserData(ctx, m.owner(user))
}

// emptyUserData removes all fields of the data of a user. It does not read them: data whose key was
// dropped from Config.Keys is emptied, too.
func (m *Manager) emptyUserData(ctx context.Context, owner driver.Hash) error {
	d := m.openUserData("", owner, nil)
	d.lock()
	defer d.unlock(ctx)
	ctx, cancel := m.detached(ctx)
	defer cancel()
	_, err := d.storeApply(ctx, &driver.Change{Verifier: owner, Ops: []driver.Op{{Kind: driver.Clear}}})
	if err == nil || errors.Is(err, driver.ErrNotFound) {
		return nil
	}
	return fromStore(err)
}

func (m *Manager) keepsUserData() error {
	if _, ok := m.store.(driver.Joiner); ok {
		return nil
	}
	return fmt.Errorf("session: the store keeps no user data: %w", errors.ErrUnsupported)
}

func (m *Manager) openUserData(user string, owner driver.Hash, through *Session) *Session {
	d := &Session{m: m, began: time.Now(), owned: &userData{user: user, owner: owner, through: through}}
	d.cred.id, d.cred.verifier = driver.UserDataID(owner), owner
	d.view.limit, d.identity.m = m.cfg.MaxSize, m
	d.identity.bind(owner)
	return d
}

// opened returns the user data that the request has opened last, or nil. What it has opened before
// is in userData.before.
func (s *Session) opened() *Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data
}

// readData reads user data. The caller holds both locks, as for all functions below.
func (s *Session) readData(ctx context.Context) {
	returned := false
	defer func() {
		if !returned {
			s.cannotRead(fmt.Errorf("%w: it panicked", ErrUnavailable))
		}
	}()
	r, now, err := s.load(ctx, s.cred.id, s.cred.verifier)
	returned = true
	s.reset()
	switch {
	case err == nil:
		s.openStored(ctx, r, now)
	case errors.Is(err, driver.ErrNotFound):
		s.state = anonymous
	case s.mode.down == DownAnonymous:
		s.degrade(ctx, err)
	case s.mode.down == DownReadOnly && s.openCopy(ctx):
		s.m.cfg.Logger.ErrorContext(ctx, "session: the store is down; user data is served from a copy", "error", err)
	default:
		s.cannotRead(fmt.Errorf("%w: %v", ErrUnavailable, err))
	}
}

// openStored makes r the user data.
func (s *Session) openStored(ctx context.Context, r *driver.Record, now time.Time) {
	err := s.identity.recognize(r)
	switch {
	case err == nil && r.Tokens == (driver.Tokens{Current: s.owned.owner}) && r.Principal == nil:
		s.become(r, now)
	case err == nil:
		s.cannotRead(fmt.Errorf("%w: the user data %s is malformed", ErrUnavailable, s.cred.id))
	case s.mode.down == DownAnonymous:
		s.degrade(ctx, err)
	default:
		s.cannotRead(err)
	}
}

// leastTouch bounds how exactly the use of user data is noted.
const leastTouch = time.Hour

// touchIsDue reports that a use is worth a write, which makes all nodes drop their copies.
func (u *userData) touchIsDue(r *driver.Record, now time.Time) bool {
	return r != nil && now.Sub(r.Seen) > min(r.Idle/20, leastTouch)
}

// mayWriteData returns ErrEnded if the session through which the data was opened is over: a
// request, or a WebSocket, of a revoked session does not change user data.
func (s *Session) mayWriteData(ctx context.Context) error {
	u := s.owned
	if u.through == nil {
		return nil
	}
	s.mu.Unlock()
	defer s.mu.Lock()
	return u.through.admits(ctx, u.owner)
}

// admits returns ErrEnded unless the session is alive and the owner is signed in.
func (s *Session) admits(ctx context.Context, owner driver.Hash) error {
	s.calls.Lock()
	defer s.calls.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refusal(); err != nil {
		return err
	}
	if p := s.identity.principal; s.state != live || p == nil || p.Owner != owner {
		return ErrEnded
	}
	ctx, cancel := s.m.detached(ctx)
	defer cancel()
	for {
		r, now, err := s.load(ctx, s.cred.id, s.cred.verifier)
		if err != nil {
			s.lost(err)
			return fromStore(err)
		}
		status := r.Tokens.Status(s.cred.verifier, now)
		if status == driver.Current || status == driver.Grace {
			return nil
		}
		if !s.adoptRotated() {
			s.leave(moved)
			return ErrEnded
		}
	}
}

// sendData commits c. Data that is not stored is created, also if it expired since it was read.
func (s *Session) sendData(ctx context.Context, c *driver.Change) (*driver.Result, error) {
	var err error
	for attempt := range maxAttempts { // others may create the data, and it may expire
		if attempt > 1 { // what another request has created may not be durable yet
			time.Sleep(jitter(attempt))
		}
		var res *driver.Result
		if s.state == anonymous {
			res, err = s.createData(ctx, c)
		} else {
			res, err = s.storeApply(ctx, c)
		}
		switch {
		case errors.Is(err, driver.ErrExists):
			err = s.followData(ctx)
		case errors.Is(err, driver.ErrNotFound):
			err = s.replaceData(nil)
		default:
			return res, err
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, errors.New("the user data is created and deleted again and again")
}

// createData stores user data for the first time.
func (s *Session) createData(ctx context.Context, c *driver.Change) (*driver.Result, error) {
	spec := driver.RecordSpec{
		Secret: ticket.NewSecret(), Verifier: s.owned.owner,
		Idle: s.m.cfg.UserDataTimeout, Lifetime: driver.UserDataLifetime,
	}
	res, err := s.storeCreate(ctx, s.cred.id, &spec, c)
	if err != nil || res.Record != nil {
		return res, err
	}
	return driver.NewRecord(res.Now, &spec, c)
}

// followData goes on with the data that another request has stored first.
func (s *Session) followData(ctx context.Context) error {
	r, now, err := s.load(ctx, s.cred.id, s.cred.verifier)
	if errors.Is(err, driver.ErrNotFound) {
		return nil // it has expired: create it
	}
	if err != nil {
		return err
	}
	s.view.now = now
	return s.replaceData(r)
}

// replaceData puts the changes of the request on top of r. If r is nil, the data begins anew.
func (s *Session) replaceData(r *driver.Record) error {
	s.state = anonymous
	if r != nil {
		if err := s.identity.recognize(r); err != nil {
			return err
		}
		s.state = live
	}
	s.view.replace(r, s.view.now)
	return nil
}

// commitData commits the changes of the user data, after those of the session. Its error is that of
// the session, too.
func (s *Session) commitData(ctx context.Context) error {
	for d := s.opened(); d != nil; d = d.owned.before {
		d.mu.Lock()
		reported := d.outcome.err != nil && d.outcome.reported
		d.mu.Unlock()
		if err := d.Commit(ctx); err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.outcome.fail(err)
			s.outcome.reported = s.outcome.reported || reported
			return err
		}
	}
	return nil
}

// closeData commits the changes of the user data before another sign-in.
func (s *Session) closeData(ctx context.Context) error {
	if s.owned != nil {
		return errUserData
	}
	for d := s.opened(); d != nil; d = d.owned.before {
		err := d.Commit(ctx)
		if errors.Is(err, ErrEnded) { // SignIn is how to go on after an end
			d.discard()
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// holdWatch returns the context of a Watch. That of user data is cancelled when the session ends
// through which the data was opened. It stores data that is not stored yet.
func (s *Session) holdWatch(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if s.owned == nil {
		return ctx, func() {}, nil
	}
	if err := s.ensureStored(ctx); err != nil {
		return ctx, nil, err
	}
	from := s.owned.through
	if from == nil {
		return ctx, func() {}, nil
	}
	from.mu.Lock()
	err := from.refusal()
	if p := from.identity.principal; err == nil && (from.state != live || p == nil || p.Owner != s.owned.owner) {
		err = ErrEnded
	}
	if err != nil {
		from.mu.Unlock()
		return ctx, nil, err
	}
	w := from.newWatcher()
	from.mu.Unlock()
	w.start()
	held, cancel := context.WithCancelCause(ctx)
	go w.hold(held, cancel, nil)
	return held, func() { cancel(context.Canceled) }, nil
}

// ensureStored stores user data that is not stored yet.
func (s *Session) ensureStored(ctx context.Context) error {
	s.lock()
	defer s.unlock(ctx)
	if s.state != anonymous {
		return nil
	}
	if err := s.mayWriteData(ctx); err != nil {
		return err
	}
	ctx, cancel := s.m.detached(ctx)
	defer cancel()
	err := s.createEmpty(ctx)
	s.owned.followed = err == nil && s.state == live && len(s.view.record.Fields) > 0
	return err
}
