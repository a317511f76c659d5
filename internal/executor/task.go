package executor

import (
	"context"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Handler computes the effect of one attempt of a custom type. It may be called
// more than once for one operation, also at the same time in two processes;
// [Task.Key] names the operation for idempotency outside the entity store.
//
// ctx ends when nothing that the handler says can count any more;
// [context.Cause] is [ErrLeaseOver], [ErrRevoked] or [ErrDrained]. It has no
// deadline of its own because [Task.Heartbeat] can put the end off, and a
// deadline must not move; [Task.Deadline] is the end as it is now.
//
// The change applies to the snapshot in the task: a Base of 0 is filled in. A nil
// change succeeds without changing a field. An error is retried unless it is, or
// wraps, an [op.Failure] that is Terminal.
type Handler func(ctx context.Context, t *Task) (*entity.Change, error)

// Task is one attempt as its handler sees it. The handler must not keep it.
type Task struct {
	Operation *op.Operation
	Entity    *entity.Entity // the snapshot to work on; nil: there is no such entity
	Attempt   int            // from 1
	CausedBy  string         // follow-ups: the operation that caused this one

	hold *hold // nil in a test of a handler alone
}

// Key is the same for all attempts of the operation, and for no other operation:
// the operation's id.
func (t *Task) Key() string { return t.Operation.ID }

// Heartbeat says that the handler is alive, which prolongs the attempt by another
// attempt_timeout. It costs nothing to call often: the owner hears of it at most
// three times a lease. A handler that calls it never has one attempt_timeout and
// no more. The error says that the attempt is over, as ctx does.
func (t *Task) Heartbeat() error {
	if t.hold == nil {
		return nil
	}
	return t.hold.heartbeat()
}

// KeepAlive has the attempt prolonged for as long as the handler runs, without
// signs of life: attempt_timeout no longer bounds a handler that hangs. It is for
// handlers that bound themselves.
func (t *Task) KeepAlive() {
	if t.hold != nil {
		t.hold.tell(&t.hold.always)
	}
}

// Deadline is when the handler has to be done, on this process' clock. A
// heartbeat puts it off once the owner has answered it.
func (t *Task) Deadline() time.Time {
	if t.hold == nil {
		return time.Now().Add(DefaultLease)
	}
	deadline, _ := t.hold.until()
	return deadline
}
