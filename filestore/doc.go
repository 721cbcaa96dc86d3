// Package filestore keeps sessions in process memory, as package memstore does, and in a file, so that they survive the
// process, kill -9 and a power cut included. It is the store for one process with no server at hand.
//
//	store, err := filestore.Open("./data", filestore.Options{})
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer store.Close()
//	sessions, err := session.New(store, session.Config{})
//
// Not for several processes: a lock refuses the second one. Sessions that processes share belong in package redisstore.
// Nor for a network file system: locks and memory maps do not hold there.
//
// # Durability
//
// With [Always], the default, a change is on the disk when the method returns and before any reader sees it. One goroutine
// writes: it takes all the changes that wait, writes them in one transaction, acknowledges them, and takes what came
// meanwhile. So the writes of concurrent requests share the cost, and a lone one waits for no timer. With [Interval] a
// change is done at once and on the disk a second later, unless Options.Every says otherwise: a crash loses what was
// acknowledged since. Touches, which only prolong a session, are written within the interval in both.
//
// An end is seen by all readers from the moment it is asked for, in both.
//
// # When the disk fails
//
// After the first error of writing (a full disk, a failed fsync) nothing more is written: every change is refused with that
// error until the store is opened again, and reading goes on. A failed fsync is not tried again, since the system may have
// dropped what it could not write. The changes that were being written are answered with driver.ErrUnknown: they may be
// there after reopening. What was acknowledged is.
//
// # The file
//
// Open reads everything into memory; the file is not read after that. All pages and records are checked: a file that is cut
// short, damaged, or of another program or version is an error that says so and changes nothing. There is no repair.
//
// The file, sessions.db, is a bbolt database: its tools (go.etcd.io/bbolt/cmd/bbolt) read it. It does not shrink; the space
// of sessions that ended is used again. It takes about twice the bytes of the sessions. While no process has it open,
// "bbolt compact" makes it small.
//
// Only [Store.Backup], or a copy while the store is closed, is a backup: a plain copy of a file in use is not.
// To restore one, put it in the place of sessions.db.
package filestore
