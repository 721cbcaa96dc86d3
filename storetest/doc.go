// Package storetest is the contract of [driver.Store] as a suite that anyone can run on their own
// store. Where a comment and the suite differ, the suite is right: it is the specification.
//
// A store's test is a harness:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, storetest.Harness{
//			Open: func(testing.TB) driver.Store { return mystore.New() },
//		})
//	}
//
// As it stands, each case runs in a bubble of testing/synctest, where hours pass in no time and
// limits hold to the millisecond. A store that talks to a server cannot be in a bubble, since a
// socket stops its clock: it sets Wait to time.Sleep, Unit to a second or less, and Slack. A store
// that outlives its process sets Reopen, one that many processes share sets Second.
//
// Each case names the promise of docs/design.md that it belongs to: P1 no write is lost, P2 ended
// is ended, P3 only our tickets, P4 a dump opens no door, P5 time limits hold, P9 a user's sessions
// exactly, P10 everything is bounded. When one fails it prints what is at stake.
package storetest
