// Package op is the vocabulary of Hierarchy: operations, priorities, statuses,
// reasons, decisions and events, with the one transition table of an
// operation's life and the strict codec of the wire format.
//
// It is a leaf: it knows no NATS, reads no clock and logs nothing, so that a
// client, a role and a test can all speak it. Everything here is a plain value;
// values are safe to share between goroutines as long as nobody writes to them.
//
// What goes wrong is told as an [Error] with a stable code OPS-1xxx (a mistake in
// a request) or as a [Reason] with a stable code OPS-2xxx (why an accepted
// operation did not succeed). The wire format is versioned by [Schema]; unknown
// fields are refused, never ignored.
package op
