// Package executor runs the attempts that resolvers grant (architecture §4).
//
// An executor takes work from the queue that all executors share, computes what
// the operation changes, reports that to the owner of the partition, and repeats
// the report until it is answered. It decides nothing and stores nothing: the
// grant is in the journal, and the journal takes the result of the current
// attempt only. So an executor may be killed at any instant, be slow, run an
// attempt twice or believe in a wrong time, and no effect is lost or doubled.
//
// The unhappy paths:
//   - a handler that fails, panics or outlives the lease becomes a failure of
//     the attempt, which is tried again as the operation says;
//   - no owner answers: the report is repeated until half a minute after the
//     lease; by then the attempt has lapsed and a new one is granted;
//   - the report is refused: the attempt was superseded; nothing changed, and
//     the work is done with;
//   - work that cannot be read is dropped with a warning; its attempt lapses.
package executor
