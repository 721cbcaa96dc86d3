// Package table keeps records in process memory: what memstore is, and what filestore is in front of its journal.
//
// [Table] has the methods of driver.Store. A [Journal] makes their effects durable; with none they are done at once.
// A record has two versions while the journal writes: the latest, which further changes build on, and the published one,
// which readers see. Ends and touches are published at once, everything else once the journal says so.
package table
