// Package torture does to a system what operators fear, on purpose and from a
// seed: it starts servers and roles as processes of their own, puts a load on
// them, kills, stops and restarts them at named and at random moments, and in the
// end proves from the log that nothing was lost or done twice.
//
// [Run] is a run at random: faults drawn from the seed, one at a time or
// overlapping. [Matrix] drives a process into every failpoint with every action, so
// many times each. Both end the same way: everything is healed, the operations
// that were acknowledged have to end, `verify` checks the whole history, and the
// book of acknowledgements that the load has kept is compared with the log.
//
// The same seed draws the same faults and the same operations. When exactly they
// meet is for the machine to decide, so a seed is where to look, and the history
// that a failed run leaves behind is the proof.
//
// Nothing that is reported depends on the wall clock being right, except for the
// gaps: they compare instants of the server with instants of this process.
package torture
