// Package executor runs the attempts that resolvers grant (architecture §4).
//
// An executor takes work from the queue that all executors of its pool share,
// computes what the operation changes, reports that to the owner of the partition,
// and repeats the report until it is answered. It decides nothing and stores
// nothing: the grant is in the journal, and the journal takes the result of the
// current attempt only. So an executor may be killed at any instant, be slow, run
// an attempt twice or believe in a wrong time, and no effect is lost or doubled.
//
// # Leases and heartbeats
//
// An attempt may take attempt_timeout. A handler that has run for a second (or a
// third of its lease) claims its attempt with one heartbeat, so that the owner
// knows that somebody works on it. The claim gives the handler no more time. More
// time is for handlers that show signs of life: [Task.Heartbeat] in Go, a message
// to heartbeat_subject in any other language. Those are passed on at most three
// times a lease, however many there are. A handler that never says anything ends
// after one attempt_timeout, a little before its lease does, as a failure with the
// code timeout; so its key serves the next operation and nobody has to look after
// it. [Task.KeepAlive] has heartbeats sent without signs of life, and then nothing
// but the handler itself bounds a hang.
//
// # Handlers elsewhere
//
// A type that the policy gives to the pool and that has no Go handler here is
// asked for by a request to ops.handler.<op_type>, see [HandlerSubject]. Whoever
// answers first within the lease is heard, once.
//
// # The unhappy paths
//
//   - A handler that fails, panics or outlives its attempt becomes a failure of
//     the attempt, which is tried again as the operation says. So does one that
//     answers what cannot be used; the code says which.
//   - A handler that minds neither its context nor its time is abandoned after a
//     second: its slot goes to others. How many may be abandoned is bounded, and
//     an executor whose slots are all taken by such handlers ends with [ErrStuck].
//   - The operation is cancelled, preempted or granted anew: the handler's context
//     ends with [ErrRevoked], told by a public event or by the refusal of a
//     heartbeat. Nothing is reported; if something is, because the news came too
//     late, it is refused.
//   - No owner answers: the report is repeated until half a minute after the
//     lease; by then the attempt has lapsed and a new one is granted.
//   - The report is refused: the attempt was superseded; nothing changed, and the
//     work is done with.
//   - Work that cannot be read is dropped with a warning; its attempt lapses.
//
// An attempt knows the substrate only as [Log]: [Run] feeds it from the queue, and
// internal/sim drives the same code one attempt at a time, see [Solo].
package executor
