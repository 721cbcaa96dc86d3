package storetest

import "testing"

// RunTimed runs the cases that depend on limits of a few Units.
func RunTimed(t *testing.T, h Harness) {
	var timed []testCase
	for _, c := range cases() {
		if c.timed {
			timed = append(timed, c)
		}
	}
	run(t, h, timed)
}

// CaseNames returns the names of all cases in the suite.
func CaseNames() []string {
	var names []string
	for _, c := range cases() {
		names = append(names, c.name)
	}
	return names
}
