// Package redistest starts real servers, Redis or Valkey, for tests and benchmarks.
//
// In a test, [Start], [StartSentinel] and [StartCluster] fail the test when there is no server, and
// close what they started when it ends:
//
//	node := redistest.Start(t, redistest.Options{Config: []string{"appendonly yes"}})
//	client := dial(node.Addr())
//	node.Kill()    // SIGKILL
//	node.Restart() // the same port and data
//
// Elsewhere, [New], [NewSentinel] and [NewCluster] return an error, and the caller closes.
//
// Every server listens on loopback only and works in a temporary directory of its own. By default
// it keeps nothing on disk. It ends with [Node.Close]; on Linux also with the process that started
// it, however that one ends (only the directory, redistest… in [os.TempDir], is then left).
//
// Which program runs is decided by [Options.Server], else by the environment variable
// COATCHECK_SERVER, else it is the redis-server on PATH. [Servers] lists what there is;
// servers/install.sh adds versions that the system does not have.
//
// All methods may be called by several goroutines. Nothing here works inside a testing/synctest
// bubble.
package redistest
