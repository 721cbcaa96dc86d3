package table

import (
	"context"
	"time"

	"github.com/coatcheck-go/session/driver"
)

// Journal makes changes durable, in the order of the calls. The table calls Append, AppendAll,
// Revoke and Note with a lock held: they must neither block nor call the table.
type Journal interface {
	// Append takes the next version of a record, or nil for its end. It returns nil if the change
	// counts as durable already and readers may see it. Otherwise the journal calls Table.Publish
	// when the version is durable, and then completes the receipt.
	Append(id driver.ID, r *driver.Record) Receipt

	// AppendAll appends several versions, which become durable together or not at all. Without
	// versions, its receipt is for everything that was appended before.
	AppendAll(versions []Version) Receipt

	// Revoke takes the time of a revocation. It becomes durable with the next append.
	Revoke(at time.Time)

	// Note takes a version that no caller waits for: a touch, or the removal of an expired record.
	// The version may be lost.
	Note(id driver.ID, r *driver.Record)

	// Err returns the error after which the journal takes no more changes, or nil.
	Err() error
}

// Version is the next version of a record, nil for its end.
type Version struct {
	ID     driver.ID
	Record *driver.Record
}

// Receipt is a pending append.
type Receipt interface {
	// Wait returns nil when the append is durable, driver.ErrUnknown if ctx is done before that,
	// and another error if the append failed.
	Wait(ctx context.Context) error
}

// noJournal is the journal of a table in memory: nothing is durable, and nothing is waited for.
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
