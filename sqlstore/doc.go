// Package sqlstore keeps sessions in PostgreSQL or SQLite. Use it for an application that has one
// of them and no Redis.
//
//	store, err := sqlstore.Open(ctx, "postgres://app@localhost/app", sqlstore.Options{})
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer store.Close()
//	sessions, err := session.New(store, session.Config{})
//
// Package driver makes all decisions. Each method is one transaction: it locks the rows, reads
// them, calls package driver, and writes what it returns.
//
// The store has no near cache, so each read is a query. It passes no events between processes:
// Manager.Events returns errors.ErrUnsupported. docs/sql.md says when to choose this store, and how
// to set the database.
package sqlstore
