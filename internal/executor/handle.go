package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"unicode/utf8"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// outcome is what came of an attempt: a change or a failure, or ended, which says
// why nobody waits for either any more.
type outcome struct {
	change  *entity.Change
	failure *op.Failure
	nobody  bool // the failure is that there is no handler
	ended   error
}

// run computes the effect of the attempt. The handler's slot is free when the
// handler is really done, which may be after run has returned.
func (e *executor) run(h *hold, m bus.WorkItem) outcome {
	s := e.enter(h.w.Operation.Type, h.w.Operation.ID)
	if _, ok := e.builtin[h.w.Operation.Type]; ok && e.cfg.Before == nil {
		// Pure, except for a bounded lookup: no goroutine, and no heartbeat.
		defer s.leave()
		return e.guarded(h)
	}
	done := make(chan outcome, 1)
	e.world.Go(func() {
		defer s.leave()
		o := outcome{failure: &op.Failure{Code: CodePanic, Message: "the handler ended its goroutine"}}
		defer func() { done <- o }()
		o = e.guarded(h)
	})
	o := h.watch(done, m)
	if o.ended != nil {
		s.overdue()
	}
	if errors.Is(o.ended, ErrLeaseOver) {
		e.stats.Timeouts.Add(1)
		o.failure = &op.Failure{Code: CodeTimeout, Message: "the attempt's time was over before its handler returned"}
	}
	return o
}

// guarded computes the effect and turns a panic into a failure.
func (e *executor) guarded(h *hold) (o outcome) {
	w := h.w
	defer func() {
		if r := recover(); r != nil {
			e.stats.Panics.Add(1)
			e.metrics.Panics.WithLabelValues(w.Operation.Type).Inc()
			e.log.Error("a handler panicked", "op_type", w.Operation.Type, "op_id", w.Operation.ID, "panic", r, "stack", string(debug.Stack()))
			o = outcome{failure: &op.Failure{Code: CodePanic, Message: fmt.Sprintf("the handler panicked: %.200v", r)}}
		}
	}()
	if e.cfg.Before != nil {
		if err := e.cfg.Before(*w); err != nil {
			return outcome{failure: failureOf(err)}
		}
	}
	var before *entity.Entity
	if len(w.Entity) > 0 {
		before = new(entity.Entity)
		if err := json.Unmarshal(w.Entity, before); err != nil {
			return outcome{failure: &op.Failure{Code: CodeSnapshot, Message: "the entity's snapshot cannot be read: " + err.Error()}}
		}
	}
	if _, ok := e.builtin[w.Operation.Type]; ok {
		o.change, o.failure = e.compute(h, before)
	} else {
		o = e.handle(h, before)
	}
	return o
}

// compute runs a built-in type. An entity that cannot be read is no fault of the
// operation: the attempt fails and is tried again.
func (e *executor) compute(h *hold, before *entity.Entity) (*entity.Change, *op.Failure) {
	return entity.Compute(&h.w.Operation, before, func(id string) (*entity.Entity, error) {
		_, ends := h.until()
		ctx, cancel := context.WithDeadline(h.ctx, ends)
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
func (e *executor) handle(h *hold, before *entity.Entity) outcome {
	w := h.w
	run := e.cfg.Handlers[w.Operation.Type]
	if run == nil && e.types.serves(h.ctx, w.Operation.Type) {
		run = e.remote.handle
	}
	if run == nil {
		return nobody("executor %s has no handler for type %s", e.cfg.Name, w.Operation.Type)
	}
	if f := stale(&w.Operation, before); f != nil {
		return outcome{failure: f}
	}
	c, err := run(h.ctx, &Task{Operation: &w.Operation, Entity: before, Attempt: w.Attempt, CausedBy: w.CausedBy, hold: h})
	switch {
	case errors.Is(err, errNobody):
		return nobody("nobody listens on %s", HandlerSubject(w.Operation.Type))
	case err != nil:
		return outcome{failure: failureOf(err)}
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
	if f := unfit(c); f != nil {
		return outcome{failure: f}
	}
	if _, err := entity.Apply(before, c, w.Operation.ID, e.world.Now().UTC()); err != nil {
		return outcome{failure: &op.Failure{Code: CodeBadChange, Message: err.Error(), Terminal: true}}
	}
	return outcome{change: c}
}

func nobody(format string, args ...any) outcome {
	return outcome{failure: &op.Failure{Code: CodeNoHandler, Message: fmt.Sprintf(format, args...)}, nobody: true}
}

// unfit says what is wrong with the values of a change before anybody looks into
// them: too large for an entity, or nested or encoded as no submission may be.
func unfit(c *entity.Change) *op.Failure {
	size := 0
	for name, value := range c.Set {
		size += len(name) + len(value)
	}
	if size > entity.MaxSize {
		return &op.Failure{
			Code: CodeTooLarge, Terminal: true,
			Message: fmt.Sprintf("the fields of the change have %d bytes, an entity has at most %d", size, entity.MaxSize),
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Set)) {
		why := ""
		switch value := c.Set[name]; {
		case !utf8.Valid(value):
			why = "not UTF-8"
		case op.Depth(value) > op.MaxDepth:
			why = fmt.Sprintf("nested deeper than %d levels", op.MaxDepth)
		}
		if why != "" {
			return &op.Failure{Code: CodeBadChange, Message: fmt.Sprintf("the value of %.40q is %s", name, why), Terminal: true}
		}
	}
	return nil
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
