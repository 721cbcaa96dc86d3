// Package polyglot has no code of its own. Its tests run the contract suite of the native format
// with the Go library, with each client in clients/, and with all of them on the same sessions.
// format/contract/README.md describes the suite and the step protocol.
//
// The tests find a client by its program clients/<language>/contract, and skip none that exists.
// COATCHECK_CLIENTS adds folders to search, separated by colons.
package polyglot
