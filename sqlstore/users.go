package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"math"
	"strings"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// markEnded leaves ended markers in place of sessions.
func (tx *transaction) markEnded(now time.Time, attempt driver.Attempt, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	var tag []byte
	if attempt != (driver.Attempt{}) {
		tag = attempt[:]
	}
	return tx.exec(tx.s.q.mark, strings.Join(ids, ","), micros(now.Add(driver.SupersededFor)), nil, micros(now), tag)
}

// ownerRow is a row that was read with all sessions of an owner.
type ownerRow struct {
	id               driver.ID
	epoch            int64
	owner            sql.NullString
	created, expires int64
	metadata, fields []byte // only for the ids that were asked for
}

// ownerRows are the rows of an owner, and those with some ids.
type ownerRows []ownerRow

// loadOwner reads and locks the rows of an owner, none if owner is nil, and those with two ids.
func (tx *transaction) loadOwner(id, from string, owner any) (rows ownerRows, err error) {
	err = tx.query(tx.s.q.loadOwner, func(in *sql.Rows) error {
		var r ownerRow
		var text string
		if err := scan(in, &text, &r.epoch, &r.owner, &r.created, &r.expires, &r.metadata, &r.fields); err != nil {
			return err
		}
		if r.id, err = driver.ParseID(text); err != nil {
			return err
		}
		rows = append(rows, r)
		return nil
	}, id, from, owner)
	return rows, err
}

// find reports whether there is a row with an id, and returns its record.
func (rows ownerRows) find(id driver.ID, st *state) (r *driver.Record, found bool, err error) {
	for _, o := range rows {
		if o.id == id {
			row := row{id: id.String(), epoch: o.epoch, metadata: o.metadata, fields: o.fields}
			r, err = row.record(st)
			return r, true, err
		}
	}
	return nil, false, nil
}

// sessions returns the owner's sessions. Their records have times only: deciding which of them end
// takes no more.
func (rows ownerRows) sessions(owner string, st *state) (list []driver.UserSession) {
	for _, o := range rows {
		if o.owner.String != owner || o.epoch != st.epoch {
			continue
		}
		created, expires := fromMicros(o.created), fromMicros(o.expires)
		list = append(list, driver.UserSession{ID: o.id, Record: &driver.Record{
			Created: created, Seen: created, Idle: math.MaxInt64, Deadline: expires,
		}})
	}
	return list
}

// readState reads the state, and when the sessions of an owner were last revoked, by EndUser or by
// EndAll. It was asked for at a time of this process.
func (s *Store) readState(in scanner, asked time.Time) (st state, revokedAt time.Time, err error) {
	var now, revoked int64
	var own sql.NullInt64
	if err := scan(in, &st.epoch, &revoked, &now, &own); err != nil {
		return st, revokedAt, err
	}
	st.now, st.revoked = s.timeOf(now, asked), fromMicros(revoked)
	return st, fromMicros(max(revoked, own.Int64)), nil
}

// loadState reads the state after the transaction has its locks.
func (tx *transaction) loadState(owner string) (st state, revokedAt time.Time, err error) {
	asked := time.Now()
	return tx.s.readState(tx.tx.QueryRowContext(tx.ctx, tx.s.q.state, owner), asked)
}

// SignIn implements driver.UserStore.
func (s *Store) SignIn(ctx context.Context, id driver.ID, in *driver.SignIn) (res *driver.Result, err error) {
	called := time.Now()
	owner := in.Spec.Principal.Owner.String()
	err = s.transactOwner(ctx, owner, true, func(tx *transaction) error {
		var from string
		if in.From != nil {
			from = in.From.ID.String()
		}
		var all any // the owner whose sessions count
		if in.MaxSessions > 0 {
			all = owner
		}
		rows, err := tx.loadOwner(id.String(), from, all)
		if err != nil {
			return err
		}
		st, revokedAt, err := tx.loadState(owner)
		if err != nil {
			return err
		}
		// The sign-in has waited for a connection and for locks since it was called.
		state := driver.SignInState{Called: s.clock.at(called), Now: st.now, RevokedAt: revokedAt}
		var found bool
		if state.Existing, found, err = rows.find(id, &st); err != nil {
			return err
		}
		if found { // a new id is rarely taken
			if r, _, err := tx.loadLocked(id); err != nil || r.over(&st) {
				return cmp.Or(err, driver.ErrExists)
			}
		}
		if in.From != nil {
			if state.From, _, err = rows.find(in.From.ID, &st); err != nil {
				return err
			}
		}
		if in.MaxSessions > 0 {
			state.Sessions = rows.sessions(owner, &st)
		}
		plan, err := driver.PlanSignIn(in, state)
		if err != nil {
			return err
		}
		if plan.Result.Record == state.Existing { // a repeated sign-in
			if res == nil { // otherwise this call has repeated itself, and res has what it evicted
				res = plan.Result
			}
			return nil
		}
		res = plan.Result
		return tx.execute(id, in, &plan, found, &st)
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// execute writes the plan of a sign-in.
func (tx *transaction) execute(id driver.ID, in *driver.SignIn, plan *driver.SignInPlan, found bool, st *state) error {
	if err := tx.save(id, found, st, plan.Result.Record); err != nil {
		return err
	}
	if !plan.MovedUntil.IsZero() {
		until := micros(plan.MovedUntil)
		if err := tx.exec(tx.s.q.mark, in.From.ID.String(), until, until, nil, nil); err != nil {
			return err
		}
	}
	return tx.markEnded(st.now, driver.Attempt{}, handles(plan.Result.Evicted)...)
}

func handles(ids []driver.ID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id.String()
	}
	return out
}

// Sessions implements driver.UserStore. It is two queries, and reads no fields.
func (s *Store) Sessions(
	ctx context.Context, owner driver.Hash, after driver.SessionCursor, limit int,
) (page []driver.UserSession, err error) {
	if limit < 1 {
		return nil, ctx.Err()
	}
	created, id := int64(math.MaxInt64), ""
	if !after.Created.IsZero() {
		created, id = micros(after.Created), after.ID.String()
	}
	err = s.read(ctx, func(ctx context.Context) error {
		asked := time.Now()
		st, _, err := s.readState(s.db.QueryRowContext(ctx, s.q.state, owner.String()), asked)
		if err != nil {
			return err
		}
		page = nil
		rows, err := s.db.QueryContext(ctx, s.q.list, owner.String(), st.epoch, micros(st.now), created, id, limit)
		return eachRow(rows, err, func(in *sql.Rows) error {
			var handle string
			var metadata []byte
			if err := scan(in, &handle, &metadata); err != nil {
				return err
			}
			id, err := driver.ParseID(handle)
			if err != nil {
				return err
			}
			r, err := decodeMetadata(handle, metadata)
			page = append(page, driver.UserSession{ID: id, Record: r})
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}

// EndUser implements driver.UserStore.
func (s *Store) EndUser(
	ctx context.Context, owner driver.Hash, sel driver.Selection,
) (ended []driver.ID, err error) {
	text := owner.String()
	// A repetition would not know which sessions the first call has ended.
	err = s.transactOwner(ctx, text, false, func(tx *transaction) error {
		ended = nil
		rows, err := tx.loadOwner("", "", text)
		if err != nil {
			return err
		}
		st, _, err := tx.loadState(text)
		if err != nil {
			return err
		}
		for _, session := range driver.LiveSessions(st.now, rows.sessions(text, &st)) {
			if sel.Matches(session.ID) {
				ended = append(ended, session.ID)
			}
		}
		if sel.Revokes() {
			if err := tx.exec(s.q.revoke, text, micros(st.now)); err != nil {
				return err
			}
		}
		return tx.markEnded(st.now, driver.Attempt{}, handles(ended)...)
	})
	if err != nil {
		return nil, err
	}
	return ended, nil
}

// EndAll implements driver.UserStore. It is one write, however many sessions there are: they end
// with the epoch. They are removed in the background.
func (s *Store) EndAll(ctx context.Context) error {
	err := s.transact(ctx, s.q.lockAll, true, func(tx *transaction) error {
		st, _, err := tx.loadState("")
		if err != nil {
			return err
		}
		return tx.exec(s.q.revokeAll, st.epoch+1, max(micros(st.now), micros(st.revoked)))
	})
	select {
	case s.ended <- struct{}{}:
	default:
	}
	return err
}

// transactOwner is transact with the lock of an owner.
func (s *Store) transactOwner(
	ctx context.Context, owner string, repeatable bool, f func(tx *transaction) error,
) error {
	return s.transact(ctx, "", repeatable, func(tx *transaction) error {
		if err := tx.exec(s.q.lockOwner, lockKey(&s.opt, owner)); err != nil {
			return err
		}
		return f(tx)
	})
}
