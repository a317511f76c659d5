// Package sim makes histories: the real rules of internal/arbiter, the real code
// of internal/resolver that takes over, gathers, commits and tells, and the real
// attempts of internal/executor, against a model of the log and under one seed.
//
// A history has up to three resolvers, executors and clients each, one to three
// partitions and a few targets that everybody wants. All of it runs in one
// goroutine at a time: whatever waits for the log, for time or for somebody else is
// a coroutine, and what happens next is drawn from the seed. A seed is therefore a
// complete report: `make sim SEED=…` makes the same history again, action by
// action.
//
// # What goes wrong
//
// Requests are lost, arrive after their sender has given up, are told that the
// stream is busy, or their answers are lost; leaders change, writes that were under
// way then are found by the next leader or never, and a former leader goes on
// answering reads of the journal for a while; the intake stands still or comes
// twice, work comes again although somebody has it, acknowledgements are lost or
// late, reports come twice and seconds later. Processes stand still, have wrong
// clocks that drift, believe to own what belongs to another, and die at any call
// of the log: before it, or between it and its answer. [Faults] has the list, and
// each seed draws how much of each.
//
// # What is checked
//
// Every step goes through internal/audit and through the machine that recomputes
// it as soon as it is stored: that is the safety of a history. After a while the
// faults end, though some processes are gone for good and others wake up much
// later; then everything accepted must end within a bounded time, and every output
// be told: that is its liveness. In the end nothing acknowledged may be missing,
// what readers and executors were told must be what the journal says, and every
// view must be what internal/rebuild makes of the journal, byte for byte.
//
// # What it is not
//
// The model of the log is itself compared with a real server, call by call, in the
// tests of this package; they say what cannot be compared. What stands between the
// roles and the log in internal/bus is modelled, too: the protocol of its appends,
// reads, snapshots and emitter is the same, its connections are not here. The same
// is true of a resolver's lease and of an executor's queue. Dry runs, handlers in
// other languages and the submitter are not simulated.
//
// Reads of entities, of records and of the intake's end are taken to come from a
// leader that is one. The resolver relies on that: [Options.StaleViews] makes
// histories in which it is not so, and they do break invariants.
package sim
