package client

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Filter selects what a handler is called for. The zero value selects all.
type Filter struct {
	Target     string               // the entity; "": any
	Types      []string             // of the operations; none: any
	Reasons    []op.Reason          // none: any
	Submitters []string             // none: any
	Where      func(*op.Event) bool // nil: yes
	Since      time.Time            // as in [WatchOptions]; zero: from now on
}

func (f *Filter) options(name op.EventName) *WatchOptions {
	return &WatchOptions{Pattern: string(name), Target: f.Target, Since: f.Since, Where: func(e *op.Event) bool {
		return in(f.Types, e.OpType) && in(f.Reasons, e.Reason) && in(f.Submitters, e.Submitter) && (f.Where == nil || f.Where(e))
	}}
}

func in[T comparable](list []T, v T) bool { return len(list) == 0 || slices.Contains(list, v) }

// Rejection is an operation that was rejected.
type Rejection struct {
	op.Event
	c *Client
}

// Kind is the sentinel for the rejection, such as [ErrLost] or [ErrFailed].
func (r *Rejection) Kind() error {
	return kindOfEnd(&op.Record{Status: op.Rejected, Reason: r.Reason, Error: r.Error})
}

// RetryAfter is when it is worth submitting again, as the system has told; 0 where
// it has not.
func (r *Rejection) RetryAfter() time.Duration {
	return time.Duration(r.RetryAfterMS) * time.Millisecond
}

// Operation is what was submitted, with its params and labels.
func (r *Rejection) Operation(ctx context.Context) (op.Operation, error) {
	return r.c.Operation(ctx, r.OpID)
}

// Resubmissions is how often an operation was submitted again by answers to its
// rejection and to those of its predecessors.
func Resubmissions(o *op.Operation) int {
	n, err := strconv.Atoi(o.Labels[LabelResubmissions])
	if err != nil {
		return 0
	}
	return n
}

// Labels of an operation that was submitted again because another was rejected.
const (
	LabelResubmissionOf = "resubmission_of" // the id of the rejected one
	LabelResubmissions  = "resubmissions"   // how many times by now
)

// Conflict is a decision between two or more operations on one entity.
type Conflict struct {
	op.Event // of the winner: Contenders and Total say who else took part
}

// Answer is what a handler wants to be done. The zero value is nothing.
type Answer struct {
	resubmit bool
	instead  *op.Operation
	again    bool
	after    time.Duration
	most     int
	change   []func(*op.Operation)
}

// Nothing is the answer that changes nothing.
func Nothing() Answer { return Answer{} }

// Again is the answer to be asked again about the same event, after a while. It
// counts as a failure of the handler: after five times the event is let go.
func Again() Answer { return Answer{again: true} }

// Instead is the answer to submit another operation. Its id, if it has none,
// follows from the event and the name of the handler, so that an event that is
// delivered twice leads to one operation.
func Instead(o op.Operation) Answer { return Answer{instead: &o} }

// DefaultResubmissions is how often an operation is submitted again unless
// [AtMost] says otherwise, counted from its first submission.
const DefaultResubmissions = 3

// ResubmitOption changes the operation that is submitted again.
type ResubmitOption func(*Answer)

// Resubmit is the answer to submit a rejected operation again: under another id,
// since its own has ended for good, and with the old id in the label
// resubmission_of. The new id follows from the event and the name of the handler,
// so that an event that is delivered twice leads to one operation. An operation
// that was submitted again three times by such answers is let go; see [AtMost].
func Resubmit(opts ...ResubmitOption) Answer {
	a := Answer{resubmit: true, most: DefaultResubmissions}
	for _, set := range opts {
		set(&a)
	}
	return a
}

// After waits before it submits again. The event is not done until then: a process
// that dies meanwhile leaves it to another one of the same name, which asks its
// handler again.
func After(d time.Duration) ResubmitOption { return func(a *Answer) { a.after = d } }

// AtPriority submits again with another priority of its own.
func AtPriority(p op.Priority) ResubmitOption {
	return Changed(func(o *op.Operation) { o.Priority = p })
}

// WithParams submits again with other params, as [Params] writes them.
func WithParams(v any) ResubmitOption {
	p := Params(v)
	return Changed(func(o *op.Operation) { o.Params = p })
}

// Changed submits again with whatever f changes. The id and the labels of the
// resubmission are set afterwards.
func Changed(f func(*op.Operation)) ResubmitOption {
	return func(a *Answer) { a.change = append(a.change, f) }
}

// AtMost lets an operation go that was submitted again n times already.
func AtMost(n int) ResubmitOption { return func(a *Answer) { a.most = n } }

// OnRejected has handle called for operations that were rejected and carries out
// its answer. Delivery, names and failures are those of [Client.On]; an answer that
// cannot be carried out counts as a failure, and one that the system refuses for
// good (a mistake in the operation, a right that is missing) is logged and let go.
func (c *Client) OnRejected(ctx context.Context, f Filter, handle func(context.Context, Rejection) Answer, opts ...HandlerOption) (*Subscription, error) {
	return c.react(ctx, f.options(op.EventRejected), opts, func(ctx context.Context, e op.Event) Answer {
		return handle(ctx, Rejection{Event: e, c: c})
	})
}

// OnConflict has handle called for decisions between two or more operations, after
// they were made: nothing that a handler does can change them. Otherwise it is as
// [Client.OnRejected]; [Resubmit] is no answer to a conflict, since the event is the
// winner's.
func (c *Client) OnConflict(ctx context.Context, f Filter, handle func(context.Context, Conflict) Answer, opts ...HandlerOption) (*Subscription, error) {
	return c.react(ctx, f.options(op.EventConflict), opts, func(ctx context.Context, e op.Event) Answer { return handle(ctx, Conflict{e}) })
}

func (c *Client) react(ctx context.Context, o *WatchOptions, opts []HandlerOption, handle func(context.Context, op.Event) Answer) (*Subscription, error) {
	var set handlers
	for _, f := range opts {
		f(&set)
	}
	return c.subscribe(ctx, o, opts, func(ctx context.Context, d *delivery) error {
		a := handle(ctx, d.event)
		if a.after > 0 && !d.park(a.after) {
			return context.Canceled
		}
		for pause := firstHold; ; pause = min(2*pause, lastHold) {
			err := c.carryOut(ctx, &a, &d.event, set.name)
			switch {
			case isAny(err, ErrOverloaded, ErrUnavailable, ErrUnknown): // not the handler's fault: the answer stands
				if ctx.Err() != nil || !d.park(max(pause, RetryAfter(err))) {
					return err
				}
				continue
			case isAny(err, ErrInvalid, ErrNotAllowed, ErrPermission, ErrNotFound):
				c.log.Error("an answer was refused", "event", string(d.event.Name), "event_id", d.event.ID, "op_id", d.event.OpID, "error", err)
				return nil
			}
			return err
		}
	})
}

// carryOut does what a handler wants. It may be done twice.
func (c *Client) carryOut(ctx context.Context, a *Answer, e *op.Event, name string) error {
	switch {
	case a.again:
		return fmt.Errorf("client: the handler wants to be asked again about %s", e.ID)
	case a.instead != nil:
		o := *a.instead
		if o.ID == "" {
			o.ID = followUpID(name, e)
		}
		_, err := c.Submit(ctx, o)
		return err
	case !a.resubmit:
		return nil
	case e.Name != op.EventRejected:
		return mistake(e.OpID, op.CodeBadValue, "", "a %s has nothing to submit again", e.Name)
	}
	o, err := c.Operation(ctx, e.OpID)
	if err != nil {
		return err
	}
	n := Resubmissions(&o)
	if n >= a.most {
		c.log.Info("not submitted again", "op_id", e.OpID, "resubmissions", n)
		return nil
	}
	o.Labels = maps.Clone(o.Labels)
	for _, change := range a.change {
		change(&o)
	}
	if o.Labels == nil {
		o.Labels = map[string]string{}
	}
	o.ID, o.RetryOf = followUpID(name, e), ""
	o.Labels[LabelResubmissionOf], o.Labels[LabelResubmissions] = e.OpID, strconv.Itoa(n+1)
	_, err = c.Submit(ctx, o)
	return err
}

// followUpID is the id of the operation that a handler answers an event with.
func followUpID(handler string, e *op.Event) string {
	return "n-" + uuid.NewSHA1(answers, []byte(handler+"\x00"+e.ID)).String()
}

// answers keeps the ids of answers apart from other derived ids.
var answers = uuid.NewSHA1(uuid.NameSpaceOID, []byte("hierarchy answer"))

// Operation returns an operation as it was submitted, with its params, labels and
// defaults. It is read from the journal, where a record does not keep it. The error
// is [ErrNotFound] where there is no record of it.
func (c *Client) Operation(ctx context.Context, opID string) (op.Operation, error) {
	if !op.Token(opID) {
		return op.Operation{}, mistake("", op.CodeBadID, "op_id", "op_id %.80q is not an id", opID)
	}
	data, err := ask[json.RawMessage](ctx, c, &question{verb: "operation", arg: opID, opID: opID})
	if err != nil {
		return op.Operation{}, err
	}
	var o op.Operation
	if err := json.Unmarshal(data, &o); err != nil {
		return o, trouble(opID, ErrUnavailable, err, "the answer cannot be read")
	}
	return o, nil
}
