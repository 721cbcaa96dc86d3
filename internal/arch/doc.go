// Package arch has no code, only tests: of the repository as a whole. They hold what a compiler does not check: which package may
// import which, and why; that each package and each exported name says what it is; the exported API; sizes; that documents
// quote code that is there.
//
// The tests read the source as it lies in the repository, all modules and all platforms, so a package that is added later is
// covered from its first day.
package arch
