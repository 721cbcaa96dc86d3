// Package matrix tests that sessions behave alike in each web framework and on each store. It runs
// the same handlers everywhere and writes the table of docs/frameworks.md. It is never released.
package matrix
