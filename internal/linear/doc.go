// Package linear checks that the system behaves as one copy of each entity that
// answers one request after the other (contract §8.3, reliability §1 "clients").
//
// Many clients write to and read from the same entities while things break. What
// each of them asked, when, and what it was told is a [History]. [Check] looks for
// an order of the calls, entity by entity, that a single register with
// compare-and-set would answer in the same way, each call between its beginning
// and its end. Where there is none, somebody has seen what no such register could
// have shown: a stale read, a lost update, an effect that happened twice.
//
// A call whose outcome nobody knows may take effect at any time after its
// beginning, or never. An operation that is submitted again under its id is one
// operation: see [Merge].
//
// The search is that of github.com/anishathalye/porcupine.
package linear
