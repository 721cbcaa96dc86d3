package table

import (
	"context"

	"github.com/coatcheck-go/session/driver"
)

// Join implements driver.Joiner.
func (t *Table) Join(
	ctx context.Context, from driver.ID, take *driver.Change, into driver.ID, put *driver.Change,
) (taken, stored *driver.Result, err error) {
	if err := t.ready(ctx); err != nil {
		return nil, nil, err
	}
	taken, stored, receipt, err := t.join(from, take, into, put)
	if err != nil {
		return nil, nil, err
	}
	if err := wait(ctx, receipt); err != nil {
		return nil, nil, err
	}
	return taken, stored, nil
}

func (t *Table) join(
	from driver.ID, take *driver.Change, into driver.ID, put *driver.Change,
) (taken, stored *driver.Result, receipt Receipt, err error) {
	defer t.lockShards([]driver.ID{from, into})()
	now := t.clock.now()
	session, err := t.live(t.shard(from), from, now)
	if err != nil {
		return nil, nil, nil, err
	}
	data, err := t.live(t.shard(into), into, now)
	if err != nil {
		return nil, nil, nil, driver.ErrNoUserData
	}
	taken, stored, err = driver.PlanJoin(now, session.latest, take, data.latest, put)
	if err != nil {
		return nil, nil, nil, err
	}
	session.latest, data.latest = taken.Record, stored.Record
	receipt = t.journal.AppendAll([]Version{{from, taken.Record}, {into, stored.Record}})
	if receipt == nil {
		t.shard(from).publish(session, taken.Record)
		t.shard(into).publish(data, stored.Record)
	}
	return taken, stored, receipt, nil
}
