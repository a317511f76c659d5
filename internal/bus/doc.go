// Package bus is the only importer of JetStream: subjects, provisioning, the
// fenced journal, consuming, views and leases. It decides nothing; it says
// exactly what the server did, or that nobody knows.
//
// # The fence
//
// [Bus.JournalAppend] publishes one message a step with the expected last
// sequence of the partition's subject. That compare-and-set is the only thing
// that keeps a deposed owner from committing; leases and membership only decide
// who tries. An append has three outcomes: it is committed, somebody else has
// appended, or nobody knows because the caller's context ended first.
//
// # Reads
//
// Direct reads are off on every stream that a decision depends on, so each read
// here, and each `nats kv get` of a user, is answered by the leader of the
// stream: a direct read may lag behind the caller's own writes. A leader that
// has just been deposed may still answer for a moment, which is why writes carry
// what they expect.
//
// # Feeds
//
// Every feed ([Bus.Intake], [Bus.JournalFollow], [Bus.Events], the views) is an
// ordered consumer that this package keeps alive itself: it checks that no
// delivery is missing, and starts again behind the last message it passed on.
//
// # When things go wrong
//
// Reads and appends repeat themselves while the cluster has no leader, until
// their context ends. A context without a deadline is waited for: give one where
// nobody else would.
package bus
