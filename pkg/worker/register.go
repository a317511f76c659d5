package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/internal/executor"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Args are the params of an operation type, and its name. Kind must not depend on
// the value. Where the type has a method Validate() error, it is called before the
// handler, and its error is a mistake of the submitter like params that do not fit.
type Args interface {
	Kind() string
}

// Task is one attempt, whatever its type.
type Task struct {
	Operation op.Operation
	Entity    *Entity // nil: there is no such entity
	Attempt   int     // from 1
	// IdempotencyKey is the same in every attempt of the operation and in no other
	// operation.
	IdempotencyKey string
}

// Job is one attempt with its params.
type Job[A Args] struct {
	Task
	Args A
}

// Handler computes the effect of a job. It may be called more than once for one
// operation, and from many goroutines at the same time.
type Handler[A Args] interface {
	Handle(ctx context.Context, job *Job[A]) (Effect, error)
}

// HandlerFunc is a function as a [Handler].
type HandlerFunc[A Args] func(ctx context.Context, job *Job[A]) (Effect, error)

// Handle calls the function.
func (f HandlerFunc[A]) Handle(ctx context.Context, job *Job[A]) (Effect, error) { return f(ctx, job) }

// Func is a handler of any type, as [Middleware] sees it.
type Func func(ctx context.Context, task *Task) (Effect, error)

// Middleware puts something around handlers: logging, tracing, a transaction. It
// sees an effect before it is checked against the entity, and errors of params as
// the handler's.
type Middleware func(next Func) Func

// HandlerOption changes how handlers of one type are run.
type HandlerOption func(*registration)

// KeepAlive prolongs attempts for as long as the handler runs, without calls of
// [Heartbeat]. Nothing but the handler itself bounds one that hangs then, so it is
// for handlers that bound what they wait for.
func KeepAlive() HandlerOption { return func(r *registration) { r.keepAlive = true } }

type registration struct {
	run       Func
	keepAlive bool
}

// Register adds the handler of a type, before [Worker.Run]. A type that is built
// in, has a handler already or has a name that is no token is a mistake that Run
// reports.
func Register[A Args](w *Worker, h Handler[A], opts ...HandlerOption) {
	var zero A
	r := &registration{run: func(ctx context.Context, task *Task) (Effect, error) {
		args, err := decode[A](task.Operation.Params)
		if err != nil {
			return Effect{}, &op.Failure{Code: codeBadParams, Message: err.Error(), Terminal: true, Reason: op.Invalid}
		}
		return h.Handle(ctx, &Job[A]{Task: *task, Args: args})
	}}
	for _, set := range opts {
		set(r)
	}
	w.register(zero.Kind(), r)
}

// decode reads params strictly: what the type does not know is a mistake of the
// submitter that nobody would notice otherwise.
func decode[A Args](params json.RawMessage) (args A, err error) {
	if len(params) == 0 {
		params = json.RawMessage("{}")
	}
	dec := json.NewDecoder(bytes.NewReader(params))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&args); err != nil {
		return args, misfit(args.Kind(), err)
	}
	if v, ok := any(args).(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return args, fmt.Errorf("params of %s: %w", args.Kind(), err)
		}
	}
	return args, nil
}

// misfit names the field that does not fit.
func misfit(kind string, err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		return fmt.Errorf("params.%s of %s cannot be of the JSON type %s", wrong.Field, kind, wrong.Value)
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fmt.Errorf("params of %s have no field %s", kind, name)
	}
	return fmt.Errorf("params of %s: %w", kind, err)
}

// key is where the context of a handler has its attempt.
type key struct{}

// Heartbeat says that the handler is alive, and gives it another attempt_timeout
// from now on. It sends nothing by itself and may be called as often as is
// convenient: the system hears of it at most three times a lease. The error says
// that nothing counts any more, and why: [ErrLeaseOver], [ErrRevoked] or
// [ErrDrained]. With a context that is no handler's it does nothing but return
// that context's error.
func Heartbeat(ctx context.Context) error {
	if t, ok := ctx.Value(key{}).(*executor.Task); ok {
		if err := t.Heartbeat(); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// handler is the registration as an executor runs it.
func (r *registration) handler(around []Middleware) executor.Handler {
	run := r.run
	for _, m := range slices.Backward(around) {
		run = m(run)
	}
	return func(ctx context.Context, t *executor.Task) (*entity.Change, error) {
		if r.keepAlive {
			t.KeepAlive()
		}
		effect, err := run(context.WithValue(ctx, key{}, t), &Task{
			Operation: *t.Operation, Entity: entityOf(t.Entity), Attempt: t.Attempt, IdempotencyKey: t.Key(),
		})
		if err != nil {
			return nil, failure(err)
		}
		return effect.change(t.Entity)
	}
}
