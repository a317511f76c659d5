// Package worker runs operation types of your own, written in Go.
//
// An operation type is a name, a schema of its params and a pool, which an
// operator writes into the policy, and a handler, which a worker brings: a
// function from the params and the entity as it is to an [Effect] or an error.
// Who may run, and when, is settled before a handler hears of it.
//
//	type Greet struct {
//		Name string `json:"name"`
//	}
//
//	func (Greet) Kind() string { return "greet" }
//
//	w := worker.New(nc)
//	worker.Register(w, worker.HandlerFunc[Greet](func(ctx context.Context, job *worker.Job[Greet]) (worker.Effect, error) {
//		return worker.Set("greeting", "Hello, "+job.Args.Name).Note("Greeted"), nil
//	}))
//	err := w.Run(ctx)
//
// The policy gives the type to the worker's pool:
//
//	{"types": {"greet": {"pool": "workers", "schema": {"type": "object", "required": ["name"]}}}}
//
// All workers of a pool share its work, so each of them should know all its types.
// Executors of the default pool are everybody's; types of your own are better off
// in a pool of their own, which is why [DefaultPool] is another one.
//
// # What is promised
//
// The effect of a successful attempt is applied exactly once. The handler may run
// more than once: after an error, a crash or a lost connection, and at worst in
// two processes at the same time. What it does outside the entity is its own
// affair; [Task].IdempotencyKey is the same in every attempt of an operation and
// in no other operation.
//
// # Time
//
// A handler may take attempt_timeout (30 s unless the policy says otherwise).
// [Heartbeat] says that it is alive, and gives it as long again from now on; a
// handler that never calls it and hangs is a failure with the code timeout, and
// its entity goes on with the next operation. [KeepAlive] is for handlers that
// bound themselves and cannot call Heartbeat.
//
// ctx ends when nothing that the handler says can count any more: its time is
// over, or the operation was cancelled, preempted or granted anew, or the process
// ends and has waited for as long as it may. [context.Cause] tells which:
// [ErrLeaseOver], [ErrRevoked], [ErrDrained]. ctx has no deadline, since a
// heartbeat can put it off.
//
// # What can go wrong
//
//   - An error is tried again after a while, as often as the operation allows.
//     [Terminal] says that trying again cannot help, [WithCode] gives the error a
//     name for machines.
//   - A panic is an error with the code panic.
//   - Params that do not fit the handler's type are a mistake of the submitter: the
//     operation ends as REJECTED with the reason invalid and the code bad_params,
//     and the message names the field.
//   - An effect that does not fit the entity is a terminal error with the code
//     bad_change, one that is too large with the code too_large.
//   - A handler that does not return when its time is over is left behind, and its
//     place goes to others. When too many do that, [Worker.Run] ends with an error,
//     because only a new process gets rid of them.
//   - The connection is lost: what runs goes on, and its result is reported when
//     the connection is back, if the attempt still counts by then.
package worker
