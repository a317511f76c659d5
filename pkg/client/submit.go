package client

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Params is JSON for [op.Operation.Params]: a map, a struct, whatever
// encoding/json writes as an object. It panics for a value that JSON cannot hold,
// such as a channel, which is a mistake of the program and not of its input.
func Params(v any) json.RawMessage {
	data, err := op.Marshal(v)
	if err != nil {
		panic("client: " + err.Error())
	}
	return data
}

// Handle is one accepted operation.
type Handle struct {
	ID     string // of the operation
	Target string
	// Seq is where the submission stands in the log of submissions: the earlier
	// one wins a tie.
	Seq uint64

	c *Client
}

// Await is [Client.Await] for this operation. It does not mistake a record that
// is still to come for one that does not exist.
func (h *Handle) Await(ctx context.Context) (Outcome, error) {
	return h.c.await(ctx, &sought{id: h.ID, target: h.Target, accepted: true})
}

// Cancel is [Client.Cancel] for this operation.
func (h *Handle) Cancel(ctx context.Context, opts ...CancelOption) error {
	return h.c.cancel(ctx, &cancelRequest{OpID: h.ID, Target: h.Target}, opts)
}

// Explain is [Client.Explain] for this operation.
func (h *Handle) Explain(ctx context.Context) (*Explanation, error) { return h.c.Explain(ctx, h.ID) }

// Submit submits one operation and returns when it is durable. Where the
// operation has no id, it gets one here, before anything is sent. What is left
// out gets the defaults of its type.
//
// A mistake is [ErrInvalid] with the field, or [ErrOverloaded], [ErrPaused],
// [ErrNotAllowed]: nothing was stored. While nobody answers, the same operation is
// sent again under the same id until ctx ends; then the error is [ErrUnknown], or
// [ErrUnavailable] if nobody can have got it. The handle is not nil with
// [ErrUnknown], since the operation may run: await it, or submit it again with the
// handle's ID.
func (c *Client) Submit(ctx context.Context, o op.Operation) (*Handle, error) {
	c.name(&o)
	body, err := encode(&o)
	if err != nil {
		return nil, err
	}
	all, err := c.send(ctx, body, []op.Operation{o})
	if len(all) == 0 {
		return nil, err
	}
	return all[0], err
}

// SubmitBatch submits operations on one target together: all of them are
// accepted, or none, and they are staged together, so they compete with each other
// unless their on_conflict says otherwise. At most 256 operations and 32 KiB.
// Errors are those of [Client.Submit]; the field of a mistake names the operation,
// as in [2].priority.
func (c *Client) SubmitBatch(ctx context.Context, ops []op.Operation) ([]*Handle, error) {
	if len(ops) == 0 || len(ops) > op.MaxArray {
		return nil, mistake("", op.CodeBadArray, "", "a batch has 1 to %d operations, not %d", op.MaxArray, len(ops))
	}
	named := make([]op.Operation, len(ops))
	body := []byte{'['}
	for i := range ops {
		named[i] = ops[i]
		c.name(&named[i])
		one, err := encode(&named[i])
		if err != nil {
			return nil, err
		}
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, one...)
	}
	return c.send(ctx, append(body, ']'), named)
}

// Do submits one operation, waits for its end and returns it. The error is nil
// exactly when it succeeded; otherwise it is that of [Client.Submit] or
// [Client.Await], or [Outcome.Err].
func (c *Client) Do(ctx context.Context, o op.Operation) (Outcome, error) {
	h, err := c.Submit(ctx, o)
	if err != nil {
		return Outcome{}, err
	}
	out, err := h.Await(ctx)
	if err == nil {
		err = out.Err()
	}
	return out, err
}

// send submits a body that holds ops and returns their handles: with an error
// when their outcome is unknown, else with or without one.
func (c *Client) send(ctx context.Context, body []byte, ops []op.Operation) ([]*Handle, error) {
	q := &question{verb: "submit", body: body, write: true}
	if len(ops) == 1 {
		q.opID = ops[0].ID
	}
	acc, err := ask[op.Accepted](ctx, c, q)
	if err != nil && !isUnknown(err) {
		return nil, err
	}
	all := make([]*Handle, len(ops))
	for i := range ops {
		all[i] = &Handle{ID: ops[i].ID, Target: ops[i].Target, Seq: acc.Seq, c: c}
	}
	return all, err
}

// name gives an operation what it needs to be sent more than once.
func (c *Client) name(o *op.Operation) {
	if o.ID == "" {
		o.ID = op.NewID()
	}
	if o.Submitter == "" {
		o.Submitter = c.submitter
	}
}

// encode writes an operation for the edge, which fills in the defaults: a
// priority of zero is left out.
func encode(o *op.Operation) ([]byte, error) {
	body, err := op.Marshal(struct {
		op.Operation
		Target   string      `json:"target_entity_id,omitempty"`
		Priority op.Priority `json:"priority,omitempty"`
	}{*o, o.Target, o.Priority})
	if err != nil {
		return nil, mistake(o.ID, op.CodeBadJSON, "params", "the operation cannot be written as JSON: %v", err)
	}
	return body, nil
}

// Submission is what became of one operation of [Client.SubmitAll].
type Submission struct {
	Handle *Handle // as [Client.Submit] returns it
	Err    error   // nil: durable
}

// bulkResult is one element of an answer of ops.api.bulk.
type bulkResult struct {
	OpID  string    `json:"op_id"`
	Seq   uint64    `json:"seq"`
	Error *op.Error `json:"error"`
}

type bulkAnswer struct {
	Results []bulkResult `json:"results"`
}

// SubmitAll submits many independent operations, on any targets, in few messages.
// Each is accepted or refused by itself. Operations on one target reach the log in
// the order of ops, and a parent before its child, unless one of them is refused.
// It waits while there is no room, and repeats what nobody answered, until ctx
// ends; without a deadline it goes on for as long as it takes. The result has an
// element for each operation; the error is the first of theirs.
func (c *Client) SubmitAll(ctx context.Context, ops []op.Operation) ([]Submission, error) {
	l := &load{c: c, ops: make([]op.Operation, len(ops)), bodies: make([][]byte, len(ops)), done: make([]Submission, len(ops))}
	for i := range ops {
		l.ops[i] = ops[i]
		c.name(&l.ops[i])
		body, err := encode(&l.ops[i])
		if err == nil && len(body) > op.MaxBody {
			err = mistake(l.ops[i].ID, op.CodeTooLarge, "", "the operation has %d bytes, the limit is %d", len(body), op.MaxBody)
		}
		if l.bodies[i], l.done[i].Err = body, err; err == nil {
			l.open = append(l.open, i)
		}
	}
	for len(l.open) > 0 && l.round(ctx) {
	}
	var first error
	for i := range l.done {
		if l.done[i].Err != nil {
			first = fmt.Errorf("operation %d of %d: %w", i, len(ops), l.done[i].Err)
			break
		}
	}
	return l.done, first
}

// load is a bulk under way.
type load struct {
	c      *Client
	ops    []op.Operation
	bodies [][]byte
	done   []Submission
	open   []int // not durable yet and not refused, in order
	pause  time.Duration
	sent   map[int]bool // an attempt had no answer
}

// bulkBytes leaves room for the names that a submitter adds to a body.
const bulkBytes = op.MaxBulkBody / 2

// round sends the next message and books what became of it. It reports whether to
// go on.
func (l *load) round(ctx context.Context) bool {
	part, body := l.next()
	tctx, cancel := context.WithTimeout(ctx, 3*writePatience)
	ans, err := ask[bulkAnswer](tctx, l.c, &question{verb: "bulk", body: body, write: true})
	cancel()
	if err == nil && len(ans.Results) != len(part) {
		err = trouble("", ErrUnknown, nil, fmt.Sprintf("an answer about %d of %d operations", len(ans.Results), len(part)))
	}
	left, hold := part[:0:0], time.Duration(0)
	for n, i := range part {
		why := err
		if err == nil {
			why = l.verdict(i, &ans.Results[n])
		}
		again := isUnknown(why) || isAny(why, ErrOverloaded, ErrUnavailable)
		if isUnknown(why) || why == nil {
			l.done[i].Handle = &Handle{ID: l.ops[i].ID, Target: l.ops[i].Target, c: l.c}
			if err == nil {
				l.done[i].Handle.Seq = ans.Results[n].Seq
			}
		}
		l.done[i].Err = why
		if again {
			left = append(left, i)
			hold = max(hold, RetryAfter(why))
		}
	}
	l.open = append(left, l.open[len(part):]...)
	if len(left) < len(part) {
		l.pause = 0
	}
	if len(left) == 0 {
		return true
	}
	l.pause = min(max(2*l.pause, firstPause), lastPause)
	if !l.c.nc.IsClosed() && sleep(ctx, max(hold, l.pause)) {
		return true
	}
	l.giveUp(ctx)
	return false
}

// verdict is what an answer says about one operation; nil: durable.
func (l *load) verdict(i int, r *bulkResult) error {
	if r.Error == nil {
		return nil
	}
	e := refusal(l.ops[i].ID, r.Error)
	if r.Error.Code == op.CodeUnavailable {
		e.kinds = []error{ErrUnknown}
	}
	if e.Is(ErrUnknown) {
		l.mark(i)
	} else if l.sent[i] && !e.Is(ErrInvalid) {
		e.kinds = append(e.kinds, ErrUnknown)
	}
	return e
}

func (l *load) mark(i int) {
	if l.sent == nil {
		l.sent = map[int]bool{}
	}
	l.sent[i] = true
}

// giveUp tells those that were never sent.
func (l *load) giveUp(ctx context.Context) {
	for _, i := range l.open {
		if l.done[i].Err == nil {
			l.done[i].Err = trouble(l.ops[i].ID, ErrUnavailable, context.Cause(ctx), "not sent")
		}
	}
}

// next takes what fits into one message.
func (l *load) next() (part []int, body []byte) {
	body = []byte{'['}
	for _, i := range l.open {
		if len(part) == op.MaxBulk || len(part) > 0 && len(body)+len(l.bodies[i])+1 > bulkBytes {
			break
		}
		if len(part) > 0 {
			body = append(body, ',')
		}
		body = append(body, l.bodies[i]...)
		part = append(part, i)
	}
	return part, append(body, ']')
}
