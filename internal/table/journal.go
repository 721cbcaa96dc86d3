package table

import (
	"context"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Journal makes changes durable, in the order in which they are handed over. Append and Note are called under a lock: they
// must neither block nor call the table.
type Journal interface {
	// Append takes the next version of a record, nil for its end, and returns what tells the outcome: nil if the change counts
	// as done already, and readers may see it. Otherwise the journal calls Table.Publish once the version is durable, before
	// the receipt says so.
	Append(id driver.ID, r *driver.Record) Receipt

	// AppendAll is Append of several versions, which become durable together or not at all. Of none, it is a receipt for what was appended
	// before.
	AppendAll(versions []Version) Receipt

	// Revoke takes the time at which sessions of somebody were revoked. It becomes durable with the append that follows.
	Revoke(at time.Time)

	// Note takes a version that nobody waits for: a touch, or the removal of a record that has expired. It may be lost.
	Note(id driver.ID, r *driver.Record)

	// Err is why nothing is taken any more, nil while all is well.
	Err() error
}

// Version is the next version of a record, nil for its end.
type Version struct {
	ID     driver.ID
	Record *driver.Record
}

// Receipt tells when an append is durable.
type Receipt interface {
	// Wait returns nil once it is, driver.ErrUnknown when ctx is done first, another error if it will not be.
	Wait(ctx context.Context) error
}

// noJournal is the journal of memory: all is as durable as it will ever be.
type noJournal struct{}

func (noJournal) Append(driver.ID, *driver.Record) Receipt { return nil }
func (noJournal) AppendAll([]Version) Receipt              { return nil }
func (noJournal) Revoke(time.Time)                         {}
func (noJournal) Note(driver.ID, *driver.Record)           {}
func (noJournal) Err() error                               { return nil }

// wait waits for a receipt, if there is one.
func wait(ctx context.Context, r Receipt) error {
	if r == nil {
		return nil
	}
	return r.Wait(ctx)
}
