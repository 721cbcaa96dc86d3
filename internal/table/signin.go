package table

import (
	"context"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// SignIn implements driver.UserStore.
func (t *Table) SignIn(ctx context.Context, id driver.ID, in *driver.SignIn) (*driver.Result, error) {
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	t.sweeper.arm(t)
	res, receipt, err := t.signIn(id, in, t.Now())
	if err != nil {
		return nil, err
	}
	if err := wait(ctx, receipt); err != nil {
		return nil, err
	}
	return res, nil
}

func (t *Table) signIn(id driver.ID, in *driver.SignIn, called time.Time) (*driver.Result, Receipt, error) {
	owner := in.Spec.Principal.Owner
	defer t.lockOwner(owner)()
	owned := t.owners.sessions(owner)
	involved := append([]driver.ID{id}, owned...)
	if in.From != nil {
		involved = append(involved, in.From.ID)
	}
	defer t.lockShards(involved)()

	existing := t.record(id)
	if t.shard(id).ended(id, t.Now()) {
		return nil, nil, driver.ErrExists
	}
	state := driver.SignInState{
		Called: called, Now: t.Now(), RevokedAt: t.revocations.last(owner), Existing: existing,
	}
	if in.From != nil {
		state.From = t.record(in.From.ID)
	}
	if in.MaxSessions > 0 {
		state.Sessions = t.records(owned)
	}
	plan, err := driver.PlanSignIn(in, state)
	if err != nil {
		return nil, nil, err
	}
	if plan.Result.Record == existing { // a repeated sign-in
		return plan.Result, t.journal.Append(id, existing), nil
	}
	return plan.Result, t.execute(id, in, &plan, state.Now), nil
}

// execute writes the plan of a sign-in. The caller holds the locks of all involved shards.
func (t *Table) execute(id driver.ID, in *driver.SignIn, plan *driver.SignInPlan, now time.Time) Receipt {
	versions := []Version{{id, plan.Result.Record}}
	if !plan.MovedUntil.IsZero() {
		from := t.shard(in.From.ID)
		from.remove(from.entries[in.From.ID])
		from.markers.add(in.From.ID, marker{movedUntil: plan.MovedUntil}, now)
		versions = append(versions, Version{in.From.ID, nil})
	}
	for _, evicted := range plan.Result.Evicted {
		s := t.shard(evicted)
		s.end(s.entries[evicted], driver.Attempt{}, now)
		versions = append(versions, Version{evicted, nil})
	}
	receipt := t.journal.AppendAll(versions)
	t.insert(id, plan.Result.Record, receipt)
	return receipt
}

// record returns the record at id, also an expired one, or nil. The caller holds the
// shard's lock.
func (t *Table) record(id driver.ID) *driver.Record {
	if e := t.shard(id).entries[id]; e != nil {
		return e.latest
	}
	return nil
}

// records returns the sessions with these ids that have a record. The caller holds the shards'
// locks.
func (t *Table) records(ids []driver.ID) []driver.UserSession {
	sessions := make([]driver.UserSession, 0, len(ids))
	for _, id := range ids {
		if r := t.record(id); r != nil {
			sessions = append(sessions, driver.UserSession{ID: id, Record: r})
		}
	}
	return sessions
}
