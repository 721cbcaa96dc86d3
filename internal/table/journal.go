package table

import (
	"context"

	"github.com/coatcheck-go/session/driver"
)

// Journal makes changes durable, in the order in which they are appended.
type Journal interface {
	// Append takes the next version of a record, nil for its end, and returns what tells the outcome. It must not block and must
	// not call the table: it is called under a lock. Once a version is durable the journal calls Table.Publish with it.
	Append(id driver.ID, r *driver.Record) Receipt
}

// Receipt tells when an append is durable.
type Receipt interface {
	// Wait returns nil once it is, driver.ErrUnknown when ctx is done first, another error if it will not be.
	Wait(ctx context.Context) error
}

// noJournal is the journal of memory: all is as durable as it will ever be.
type noJournal struct{}

func (noJournal) Append(driver.ID, *driver.Record) Receipt { return done{} }

type done struct{}

func (done) Wait(context.Context) error { return nil }
