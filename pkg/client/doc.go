// Package client is for Go programs that use a running Hierarchy: they submit
// operations, wait for their ends, watch events, react to them, and read entities.
//
//	c, err := client.Connect(ctx, "nats://127.0.0.1:4222")
//	...
//	out, err := c.Do(ctx, op.Operation{
//		Type: op.TypeModifyField, Target: "user-42", Priority: op.High,
//		Params: client.Params(map[string]any{"field_name": "name", "new_value": "Bob"}),
//	})
//	switch {
//	case err == nil: // it succeeded
//	case errors.Is(err, client.ErrLost): // out.Winner has won; c.Explain says why
//	case errors.Is(err, client.ErrOverloaded): // again after client.RetryAfter(err)
//	case errors.Is(err, client.ErrUnknown): // nobody knows: the same id again
//	}
//
// [Client.Submit] returns when an operation is durable, [Handle.Await] when it has
// ended, [Client.Do] does both. [Client.SubmitBatch] is for operations on one entity
// that are accepted or refused as a whole, [Client.SubmitAll] for many independent
// ones. A [Client] is safe for concurrent use and meant to be shared.
//
// # What an error means
//
// A rejection is an outcome and no error: [Client.Await] returns it with a nil
// error, and [Outcome.Err] turns it into one for those who like to return it. What
// the calls themselves return falls into three groups.
//
// Refused: [ErrInvalid], [ErrOverloaded], [ErrPaused], [ErrNotAllowed],
// [ErrPermission]. Nothing was stored and nothing will happen. The error says which
// rule of which field was broken, how to mend it, and when it is worth trying again
// ([RetryAfter]).
//
// Not answered: [ErrUnavailable] from a question, which can be asked again; from a
// submission it means that nobody can have got it. Calls repeat themselves while
// nobody answers, until their context ends (30 s where it has no deadline), so a
// role that is replaced meanwhile is not noticed.
//
// Unknown: [ErrUnknown]. The request was sent, and the answer did not come: the
// operation may or may not be in the log. Submit it again with the same id, now or
// after a restart, in this process or another. If it is there, it is the same
// submission: there is one effect, and its outcome is the first one's. Give your
// operations ids of your own, and write them down before you submit, where it has to
// survive your process: an id that was made for you stands in the handle that comes
// with the error. That holds for as long as the record is kept, seven days unless
// set up otherwise. An id is for one operation on one entity.
//
// The end of a context while something waits is neither of them: the error is the
// context's, and the operation goes on.
//
// # Ends
//
// An operation that was accepted ends exactly once. What did not succeed is one of
// [ErrLost], [ErrFailed], [ErrStale], [ErrCancelled], [ErrExpired], [ErrOverloaded],
// [ErrPaused], [ErrNotAllowed] and [ErrInvalid], by its reason. An end is final, so
// trying again takes another id: by hand, with [Client.Retry] for an operation that
// was given up after its retries, or with [Resubmit] in answer to a rejection.
//
// # Events
//
// [Client.Watch] is an iterator over events. [Client.On], [Client.OnRejected] and
// [Client.OnConflict] call a handler for them, with a name from where the last
// process of that name ended: each event at least once, none twice unless a process
// died over it or took too long. [Client.Trace] keeps the last events in memory.
// Handlers react; they do not take part in a decision, which is durable before
// anybody hears of it.
//
// # Rights
//
// A client publishes on ops.api.> and receives on its inbox. To wait it subscribes
// to ops.event.>, without which it asks now and then instead. The feed needs the
// JetStream API of the stream OPS_EVENTS: STREAM.INFO, CONSUMER.CREATE, INFO, DELETE
// and MSG.NEXT, and $JS.ACK for named handlers; and STREAM.INFO of OPS_INTAKE and
// OBJ_OPS_SNAPSHOTS, by which it learns that there is a system. Only
// [WatchOptions.FromSeq] looks at the journal, and does without if it may not.
package client
