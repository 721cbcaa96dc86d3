// Package peers tests package migrate against the libraries that it migrates from, on real servers.
// It is a module of its own, so that package migrate does not require these libraries: an
// application keeps the version that it has.
package peers
