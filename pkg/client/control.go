package client

import (
	"context"

	"github.com/hierarchy-bus/hierarchy/internal/submitter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// CancelOption says how far a cancellation goes.
type CancelOption func(*cancelRequest)

// Alone spares the pending descendants, which are cancelled otherwise.
func Alone() CancelOption {
	return func(r *cancelRequest) {
		no := false
		r.Cascade = &no
	}
}

// cancelRequest is the body of ops.api.cancel.
type cancelRequest struct {
	OpID      string `json:"op_id,omitempty"`
	Target    string `json:"target_entity_id,omitempty"`
	All       bool   `json:"all,omitempty"`
	Submitter string `json:"submitter,omitempty"`
	Cascade   *bool  `json:"cascade,omitempty"`
}

// cancelAnswer is that of a request which waits for nothing. It has records where
// the operation had ended before.
type cancelAnswer struct {
	op.Accepted
	Records []op.Record `json:"records"`
}

// Cancel asks for the end of an operation and returns when the request is durable.
// A pending operation ends, and so do its pending descendants, unless [Alone] is
// given. One that executes ends when its grace period does, if it is not done by
// then. What became of it is for [Client.Await] to tell. The error is [ErrEnded]
// where there is nothing to cancel, and [ErrNotFound] where there never was.
func (c *Client) Cancel(ctx context.Context, opID string, opts ...CancelOption) error {
	return c.cancel(ctx, &cancelRequest{OpID: opID}, opts)
}

// CancelTarget cancels every open operation on an entity, as [Client.Cancel] does.
// What is submitted later is not touched.
func (c *Client) CancelTarget(ctx context.Context, target string, opts ...CancelOption) error {
	return c.cancel(ctx, &cancelRequest{Target: target, All: true}, opts)
}

// CancelSubmitter cancels every open operation of a submitter, on all entities. It
// is one request a partition: when only some of them got through, the error is
// [ErrUnknown], and the same call again is safe.
func (c *Client) CancelSubmitter(ctx context.Context, submitter string, opts ...CancelOption) error {
	if submitter == "" {
		return mistake("", op.CodeMissingField, "submitter", "submitter is missing")
	}
	return c.cancel(ctx, &cancelRequest{Submitter: submitter}, opts)
}

func (c *Client) cancel(ctx context.Context, r *cancelRequest, opts []CancelOption) error {
	for _, set := range opts {
		set(r)
	}
	body, err := op.Marshal(r)
	if err != nil {
		return mistake(r.OpID, op.CodeBadJSON, "", "%v", err)
	}
	ans, err := ask[cancelAnswer](ctx, c, &question{verb: "cancel", body: body, opID: r.OpID, write: true})
	if err != nil {
		return err
	}
	if len(ans.Records) == 1 && ans.Records[0].Status.Terminal() {
		return trouble(r.OpID, ErrEnded, nil, "it is "+string(ans.Records[0].Status)+" already")
	}
	return nil
}

// Retry submits a dead operation again: one that was REJECTED because its retries
// were used up or its handler said that trying cannot help. The new operation has
// an id of its own, which follows from the dead one's, and the dead one's id in
// retry_of; accepting it takes the dead letter away. So retrying twice is retrying
// once. The error is [ErrNotFound] where there is no such dead letter; otherwise it
// is that of [Client.Submit], with a handle where the outcome is unknown.
func (c *Client) Retry(ctx context.Context, deadOpID string) (*Handle, error) {
	body, err := op.Marshal(struct {
		OpID string `json:"op_id"`
	}{deadOpID})
	if err != nil {
		return nil, mistake(deadOpID, op.CodeBadJSON, "", "%v", err)
	}
	ans, err := ask[retryAnswer](ctx, c, &question{verb: "retry", body: body, opID: deadOpID, write: true})
	if err != nil && !isUnknown(err) {
		return nil, err
	}
	return &Handle{ID: submitter.RetryID(deadOpID), Target: ans.Target, Seq: ans.Seq, c: c}, err
}

// retryAnswer is that of ops.api.retry.
type retryAnswer struct {
	op.Accepted
	Target string `json:"target_entity_id"`
}

// DryRun says what would become of an operation if it were submitted now and
// nothing else came. Nothing is written. A mistake in the operation is
// [ErrInvalid], as it is for [Client.Submit]; what the system would refuse for
// other reasons stands in the forecast. The error is [ErrUnavailable] while nobody
// owns the partition of the target.
func (c *Client) DryRun(ctx context.Context, o op.Operation) (op.Forecast, error) {
	c.name(&o)
	body, err := encode(&o)
	if err != nil {
		return op.Forecast{}, err
	}
	return ask[op.Forecast](ctx, c, &question{verb: "whatif", body: body, opID: o.ID})
}
