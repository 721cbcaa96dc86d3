// Package driver is for authors of stores. Applications need it only for
// the name of the interface Store.
//
// A store keeps records and replaces them atomically. It has no rules of its own: this package
// decides what each call means, as pure functions of values. Each method of a store is then one
// transaction: read the records, call a function of this package, write what it returns.
//
//	method     function             what the store writes
//	Load       LiveRecord           nothing
//	Create     PlanCreate           the new record
//	Apply      Record.Apply         the next version of the record
//	Touch      Record.Touch         the next version of the record
//	End        Record.Live          the record is removed; a live one leaves an ended marker
//	SignIn     PlanSignIn           what SignInPlan says
//	Sessions   LiveSessions         nothing
//	EndUser    Selection.Matches    as End for the matching records, and the time of a revocation
//	EndAll                          all records are removed, and the time of the revocation
//
// The file storetest/examplestore_test.go is such a store, with users, in less than 200 lines. A
// store whose server does the work itself, such as Redis with scripts, follows the same rules.
// Package storetest checks both kinds.
//
// The types:
//
//   - [Store] is the contract of a store. [UserStore] adds sign-in and the sessions of a user.
//   - [FreshLoader], [StaleLoader], [Clock], [EndReporter], [ExpiryReporter] and [Feed] are
//     optional abilities. Each says what happens without it.
//   - [Record] is a stored session: [Tokens], [Principal], limits and [Fields].
//   - [Change] is what one commit does: a list of [Op], all applied or none.
//   - [Hash], [ID] and [Key] name things. A store never sees a token.
//   - [Encode] and [Decode] convert a record to named values and back. All languages share this
//     form.
//
// Records are immutable. A change makes a new record, which shares what did not change. A store may
// hand one record to many readers.
package driver
