// Package submitter brings operations into the log: the one place where a
// client's mistakes become errors instead of records (architecture §4).
//
// [Submitter.Submit] takes one operation, or an array on one target, and returns
// when it is durable. [Packer] takes many and packs those of one partition into
// one message, which is what makes bulk loads fast; [Submitter.ReadNDJSON] feeds
// it from a reader. [Serve] offers Submit as NATS endpoints under ops.api.
//
// An unknown outcome is settled by sending the same message again, which the
// server recognises by its message id. Submitting an op_id again is a new message
// in the log, and the resolver finds that it is the same submission. Only when the context ends first is the caller told
// that nothing is known, with code OPS-1019. A full log is told with OPS-2004
// to single submissions; bulk loads wait for room.
package submitter
