// Package storetest is the contract of [driver.Store] as a test suite, which you run on your own
// store. It is the specification: if a comment and the suite differ, the suite is right.
//
// The test of a store is a harness:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, storetest.Harness{
//			Open: func(testing.TB) driver.Store { return mystore.New() },
//		})
//	}
//
// With this harness each case runs in a bubble of testing/synctest, where hours pass in no time and
// limits hold to the millisecond. A store that talks to a server cannot run in a bubble, because a
// socket stops the bubble's clock. Set Wait to time.Sleep, Unit to a second or two, and Slack for
// such a store. Set Reopen for a store that outlives its process, and Second for a store that
// several processes share.
//
// The file examplestore_test.go has a complete store that passes the suite. Copy it as a start.
//
// Each case names the promise of docs/design.md that it tests, and prints the promise when it
// fails:
//
//   - P1: No write is lost.
//   - P2: An ended session stays ended.
//   - P3: Only tokens that were issued here are accepted.
//   - P4: A dump of the store gives no access.
//   - P5: Time limits hold.
//   - P8: Reading an unchanged session costs no round trip.
//   - P9: The sessions of a user are exact.
//   - P10: Everything is bounded.
package storetest
