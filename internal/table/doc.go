// Package table keeps records in process memory. It is the core of memstore, and of filestore in
// front of its journal.
//
// A [Table] implements driver.UserStore. Package driver makes the decisions; the table stores. A
// [Journal] makes changes durable; without one they count as durable at once.
//
// While the journal writes, a record has two versions. The latest is the one that further changes
// apply to. The published one is the one that readers see. The table publishes ends and touches at
// once, and other changes when the journal reports that they are durable.
//
// The files: table.go has the methods of driver.Store; signin.go and users.go have those of
// driver.UserStore, on the indexes in owners.go, revocations.go and markers.go; expiry.go and
// expired.go remove and report expired sessions; clock.go and journal.go are what their names say.
package table
