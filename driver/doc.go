// Package driver is what authors of stores implement and users of sessions never import.
//
// A store keeps records and changes them atomically. What a change means is decided here, once, for every store that
// holds a record in a transaction: [NewRecord] makes a record, [Record.Apply] and [Record.Touch] give the next version of
// one. Such a store is some sixty lines: load, call, save. A store whose server does the work itself (Redis, with
// scripts) follows the same rules, and the suite in package storetest tells whether it does.
//
//   - [Store] is the contract; its comments say what not-found, moved, conflict, ownership and concurrency mean.
//   - [Record] is a session at rest: [Tokens], [Principal], limits and [Fields].
//   - [Change] is what one commit does: [Op] by [Op], all or none.
//   - [UserStore] knows whose sessions it keeps; abilities that a store may have besides are [FreshLoader], [StaleLoader], [Clock],
//     [EndReporter], [ExpiryReporter] and [Feed].
//   - [Encode] and [Decode] are the form of a record that all languages share: named values, metadata under "@".
//   - [Hash], [ID] and [Key] are its names. A store never sees a token.
//
// A record is immutable: stores may hand one to many readers, and a change makes a new one that shares what it did not
// touch.
package driver
