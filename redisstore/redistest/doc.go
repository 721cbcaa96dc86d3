// Package redistest starts real servers, Redis or Valkey, for tests and benchmarks.
//
// In a test, call [Start], [StartSentinel] or [StartCluster]. They close the servers when the test
// ends, and fail the test if no server program is installed:
//
//	node := redistest.Start(t, redistest.Options{Config: []string{"appendonly yes"}})
//	client := dial(node.Addr())
//	node.Kill()    // SIGKILL
//	node.Restart() // the same port and data
//
// Elsewhere, call [New], [NewSentinel] or [NewCluster]. They return an error, and the caller closes
// the servers.
//
// Every server listens on loopback only, and works in a temporary directory of its own. By default
// it stores nothing on disk. It ends with [Node.Close]. On Linux it also ends with the process that
// started it, even if that process is killed. In that case the directory, redistest… in
// [os.TempDir], is left behind.
//
// [Options.Server] selects the server program. Without it, the environment variable
// COATCHECK_SERVER does. Without both, redis-server on PATH runs. [Servers] lists the programs that
// were found. The script servers/install.sh installs versions that the system does not have.
//
// All methods are safe for concurrent use. Nothing here works inside a testing/synctest bubble.
package redistest
