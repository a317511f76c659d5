// Package resolver is the role that decides. A process owns some of the
// partitions; for each it feeds the inputs (submissions, cancels, results of
// attempts, answers about ancestors, the passing of time) to the pure machine of
// internal/arbiter, makes each step durable as one fenced message of the journal,
// and only then publishes what follows from it.
//
// The order is the whole safety argument, and it stands in one place
// ([partition.commit]): decide, append, emit.
//
//   - Append refused: another resolver has taken the partition over. Everything
//     in memory is thrown away; a system.stale_commit_refused event says so.
//   - Append's outcome unknown: the partition is taken over again, by ourselves
//     or by somebody else. The take-over step settles whether the unknown one is
//     in the journal, and it never will be afterwards.
//   - Killed after the append and before the emission: the next owner replays the
//     journal and emits again whatever lies behind the last recorded emission.
//     Every output can be repeated without harm.
//
// Beside that a partition answers dry runs from its machine, and says on ops.load
// when it fills up. Neither is stored, and neither waits for anything. What handlers
// report of a target that is crowded may wait some milliseconds, so that the others
// have processor time (ADR 0019).
//
// What decides is sequential and knows the log only as [Log]: [Run] puts it into
// goroutines, with timers and subscriptions, and internal/sim drives the same code
// step by step, see [Reign].
//
// Which resolver owns which partition follows from the live members by
// rendezvous hashing; a member lives as long as its lease in OPS_LEASES. Two
// resolvers that both believe they own a partition are harmless: the fence lets
// only one of them commit. See contract §8.4 and ADR 0001 and 0002.
package resolver
