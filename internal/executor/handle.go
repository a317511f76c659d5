package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// touchEvery is how often the queue is told that an attempt is still in hand; it
// would give the work to somebody else after a minute.
const touchEvery = 20 * time.Second

// run computes the effect of the attempt and frees the handler's slot when the
// handler is really done, which may be after run has returned.
func (e *executor) run(ctx context.Context, w *op.Work, ends time.Time, touch func()) (*entity.Change, *op.Failure) {
	free := func() {
		e.stats.Running.Add(-1)
		e.metrics.Running.Dec()
		<-e.handlers
	}
	e.stats.Running.Add(1)
	e.metrics.Running.Inc()
	if _, ok := e.builtin[w.Operation.Type]; ok && e.cfg.Before == nil {
		// Pure, except for a bounded lookup: no goroutine and no deadline.
		defer free()
		return e.guarded(ctx, w, ends)
	}
	type outcome struct {
		change  *entity.Change
		failure *op.Failure
	}
	done := make(chan outcome, 1)
	hctx, cancel := context.WithDeadline(ctx, ends)
	defer cancel()
	go func() {
		defer free()
		c, f := e.guarded(hctx, w, ends)
		done <- outcome{c, f}
	}()
	tick := time.NewTicker(touchEvery)
	defer tick.Stop()
	for {
		select {
		case o := <-done:
			return o.change, o.failure
		case <-tick.C:
			touch()
			continue
		case <-hctx.Done():
		}
		select {
		case o := <-done: // both at once: what is done counts
			return o.change, o.failure
		default:
		}
		// The handler may be about to answer in its own words, but the lease is
		// over: whatever it says comes too late.
		if ctx.Err() == nil {
			e.stats.Timeouts.Add(1)
		}
		return nil, &op.Failure{Code: CodeTimeout, Message: "the attempt's lease ended before its handler did"}
	}
}

// guarded computes the effect and turns a panic into a failure.
func (e *executor) guarded(ctx context.Context, w *op.Work, ends time.Time) (c *entity.Change, f *op.Failure) {
	defer func() {
		if r := recover(); r != nil {
			e.stats.Panics.Add(1)
			e.metrics.Panics.WithLabelValues(w.Operation.Type).Inc()
			e.log.Error("a handler panicked", "op_type", w.Operation.Type, "op_id", w.Operation.ID, "panic", r, "stack", string(debug.Stack()))
			c, f = nil, &op.Failure{Code: CodePanic, Message: fmt.Sprintf("the handler panicked: %.200v", r)}
		}
	}()
	if e.cfg.Before != nil {
		if err := e.cfg.Before(*w); err != nil {
			return nil, failureOf(err)
		}
	}
	var before *entity.Entity
	if len(w.Entity) > 0 {
		before = new(entity.Entity)
		if err := json.Unmarshal(w.Entity, before); err != nil {
			return nil, &op.Failure{Code: CodeSnapshot, Message: "the entity's snapshot cannot be read: " + err.Error()}
		}
	}
	if _, ok := e.builtin[w.Operation.Type]; ok {
		return e.compute(ctx, w, before, ends)
	}
	return e.handle(ctx, w, before)
}

// compute runs a built-in type. An entity that cannot be read is no fault of the
// operation: the attempt fails and is tried again.
func (e *executor) compute(ctx context.Context, w *op.Work, before *entity.Entity, ends time.Time) (*entity.Change, *op.Failure) {
	return entity.Compute(&w.Operation, before, func(id string) (*entity.Entity, error) {
		ctx, cancel := context.WithDeadline(ctx, ends)
		defer cancel()
		return e.lookup(ctx, id)
	})
}

// lookup reads another entity from the leader; nil when there is none.
func (e *executor) lookup(ctx context.Context, id string) (*entity.Entity, error) {
	data, found, err := e.bus.Entity(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("entity %s: %w", id, err)
	}
	if !found {
		return nil, nil //nolint:nilnil // no entity is an ordinary answer
	}
	v := new(entity.Entity)
	if err := json.Unmarshal(data, v); err != nil {
		return nil, fmt.Errorf("entity %s: %w", id, err)
	}
	return v, nil
}

// handle runs a custom type and tries its change on the snapshot, so that a
// mistake of the handler is told in its own attempt.
func (e *executor) handle(ctx context.Context, w *op.Work, before *entity.Entity) (*entity.Change, *op.Failure) {
	h := e.cfg.Handlers[w.Operation.Type]
	if h == nil {
		return nil, &op.Failure{Code: CodeNoHandler, Message: fmt.Sprintf("executor %s has no handler for type %s", e.cfg.Name, w.Operation.Type)}
	}
	if f := stale(&w.Operation, before); f != nil {
		return nil, f
	}
	c, err := h(ctx, &Task{Operation: &w.Operation, Entity: before, Attempt: w.Attempt, CausedBy: w.CausedBy})
	if err != nil {
		return nil, failureOf(err)
	}
	if c == nil {
		c = &entity.Change{Kind: entity.Noted}
	}
	if c.Base == 0 && before != nil {
		c.Base, c.From = before.Revision, before.Version
	}
	if c.Kind == entity.Created && c.ID == "" {
		c.ID = w.Operation.Target
	}
	if _, err := entity.Apply(before, c, w.Operation.ID, time.Now().UTC()); err != nil {
		return nil, &op.Failure{Code: CodeBadChange, Message: err.Error(), Terminal: true}
	}
	return c, nil
}

// stale compares expected_version for a custom type, as entity.Compute does for
// a built-in one. To expect 0 is to expect that there is nothing.
func stale(o *op.Operation, before *entity.Entity) *op.Failure {
	if o.ExpectedVersion == nil {
		return nil
	}
	want, current, gone := *o.ExpectedVersion, uint64(0), before == nil || before.Deleted
	if before != nil {
		current = before.Version
	}
	if want >= 0 && uint64(want) == current || want == 0 && gone {
		return nil
	}
	return &op.Failure{
		Code: entity.FailStale, Message: fmt.Sprintf("%s is at version %d, not %d", o.Target, current, want),
		Terminal: true, Reason: op.StaleVersion, CurrentVersion: &current,
	}
}

// failureOf keeps a handler's own failure and wraps any other error into a
// retryable one.
func failureOf(err error) *op.Failure {
	if f, ok := errors.AsType[*op.Failure](err); ok {
		return f
	}
	return &op.Failure{Message: err.Error()}
}
