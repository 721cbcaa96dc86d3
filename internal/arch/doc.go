// Package arch contains tests of the repository as a whole, and no other code. They enforce what
// the compiler does not check:
//
//   - which package may import which, and why;
//   - the exported API, as golden files in api/;
//   - a doc comment on each package and each exported name;
//   - the sizes of files and functions, and the width of comments;
//   - that the documents quote code, tests and files that exist.
//
// The tests read the source files of all modules and all platforms. A new package is therefore
// covered from its first commit.
package arch
