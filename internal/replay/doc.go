// Package replay says what a recorded history would have been under another
// policy (ADR 0010). It is pure: the steps of a journal go in, and a [Report] of
// the verdicts and decisions that would have differed comes out. The same steps
// give the same report.
//
// A partition is replayed by a machine of internal/arbiter that gets the recorded
// inputs at the recorded instants, with the policy exchanged. What people and
// other partitions asked for is taken from the record as it is: submissions,
// cancels, answers about ancestors. What executors did depends on who was
// promoted and when:
//
//   - An attempt that begins in the step in which the record has one begin ends
//     as that one did: its heartbeats and its result come at their instants.
//   - Any other attempt takes what the record has next for the operation, a
//     success, a failure or a silence, each once and in order, and it takes as
//     long as it took there.
//   - When nothing is left, or the record took the attempt back before it could
//     end, it succeeds after the time that an attempt of the operation took, else
//     after the median of its type so far, else after a millisecond.
//
// The replay has a step at each recorded instant. In between it has one when
// something is due that was not due in the record, as long as nothing was due
// there: then the resolver was waiting, and would have been punctual. A history
// replayed under its own policy is therefore the same, step for step. After the
// last step the replay goes on until nothing is under way. What the machine could
// not fit into a step is told in further steps at the same instant.
//
// What the record cannot tell is how entities would have looked: a result is what
// it was, although a change might fit or not fit another state. Partitions are
// replayed one by one: a cancel that one partition passed on to another, and the
// other side of a structural operation, come as they came.
//
// # When it goes wrong
//
// A journal that does not begin at its first step, has a gap, or says something
// else than its inputs lead to cannot be replayed: [Replay.Step] returns an error,
// and the replay is worth nothing from then on.
package replay
