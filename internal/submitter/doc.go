// Package submitter brings operations into the log: the one place where a
// client's mistakes become errors instead of records (architecture §4).
//
// [Submitter.Submit] takes one operation, or an array on one target, and returns
// when it is durable. [Packer] takes many and packs those of one partition into
// one message, which is what makes bulk loads fast; [Submitter.ReadNDJSON] feeds
// it from a reader. [Serve] offers this, and cancellations, retries of dead
// operations and dry runs, as NATS endpoints under ops.api.
//
// Operations are judged by the policy in force: its types and the schemas of their
// params, what is paused, what priority is refused. The resolver judges again, under
// the policy of its instant, and its word counts.
//
// An unknown outcome is settled by sending the same message again. An op_id that is
// stored twice that way, or because a client submits it again, is a new message in the
// log, and the resolver finds that it is the same submission; the repetition of a
// cancellation is recognised by the server. Only when the context ends first is the
// caller told that nothing is known, with code OPS-1019.
//
// Where there is no room (the log is full, or the owner of a partition says that it
// or the target is) single submissions are refused with OPS-1021 and
// retry_after_ms, before anything is stored; bulk loads wait and go on.
package submitter
