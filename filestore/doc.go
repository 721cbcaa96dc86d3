// Package filestore keeps sessions in process memory, as package memstore does, and in a file. The
// sessions survive the process, including kill -9 and a power failure. Use it for one process
// without a server.
//
//	store, err := filestore.Open("./data", filestore.Options{})
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer store.Close()
//	sessions, err := session.New(store, session.Config{})
//
// Do not use it for several processes: a lock refuses the second one. Sessions that processes share
// belong in package redisstore. Do not use it on a network file system either: locks and memory
// maps do not work reliably there.
//
// # Durability
//
// With [Always], the default, a change is on the disk when the method returns and before any reader
// sees it. One goroutine writes. It takes all waiting changes, writes them in one transaction,
// acknowledges them, and takes the changes that arrived in the meantime. So concurrent requests
// share the cost of a write, and a single request does not wait for a timer.
//
// With [Interval] a change takes effect at once and is on the disk a second later (Options.Every).
// A crash loses what was acknowledged since the last write.
//
// In both modes touches, which only extend a session, are written within the interval, and readers
// see an end from the moment of the call.
//
// # When the disk fails
//
// After the first write error, such as a full disk or a failed fsync, the store writes nothing
// more. It refuses every change with that error until it is opened again. Reading continues. It
// does not repeat a failed fsync, because the system may have dropped the data. The changes that
// were being written return driver.ErrUnknown: they may be there after the store is opened again.
// With Always, all acknowledged changes are there.
//
// # The file
//
// Open reads everything into memory, and the file is not read again. Open checks all pages and
// records. It returns an error for a file that is truncated, damaged, or of another program or
// version, and does not change the file. There is no repair.
//
// The file, sessions.db, is a bbolt database, and bbolt's tools (go.etcd.io/bbolt/cmd/bbolt) can
// read it. It takes about twice the bytes of the sessions. It does not shrink, but the space of
// ended sessions is used again. While no process has the file open, "bbolt compact" makes it
// smaller.
//
// Only this user may read the file and the directory that Open creates. A program that can write
// one of them can sign in as any user. So Open refuses a file or directory that all users may
// write, and it follows no symbolic link to a file. Members of the file's group may have access, as
// in a Kubernetes volume with fsGroup: choose a group that you trust. Open does not check
// permissions on Windows.
//
// Make a backup with [Store.Backup], or copy the file while the store is closed. A plain copy of a
// file in use is no backup. To restore a backup, replace sessions.db with it.
package filestore
