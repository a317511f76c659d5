package submitter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// retryRequest is the body of ops.api.retry.
type retryRequest struct {
	OpID string `json:"op_id"`
}

func decodeRetry(body []byte) (r retryRequest, err error) {
	if err := decodeStrict(body, &r, "a retry is an object with op_id"); err != nil {
		return r, err
	}
	switch {
	case r.OpID == "":
		return r, op.Errorf(op.CodeMissingField, "op_id", "op_id is missing")
	case !op.Token(r.OpID):
		return r, op.Errorf(op.CodeBadID, "op_id", "op_id %.80q is not an id", r.OpID)
	}
	return r, nil
}

// Retried is the answer to a retry: the new operation and where it is.
type Retried struct {
	op.Accepted
	Target  string `json:"target_entity_id"`
	RetryOf string `json:"retry_of"`
}

// deadLetter is a value of OPS_DEAD.
type deadLetter struct {
	Record    op.Record    `json:"record"`
	Operation op.Operation `json:"operation"`
}

// RetryID is the id of the operation that tries a dead one again. It follows from
// the dead one's, since an operation dies once: two people who retry it at the same
// moment have submitted one operation, and so has one who got no answer and asks
// again. When the new one dies, too, it is retried by its own id.
func RetryID(deadOpID string) string {
	return "r-" + uuid.NewSHA1(retrySpace, []byte(deadOpID)).String()
}

// retrySpace keeps the ids of retries apart from other derived ids.
var retrySpace = uuid.NewSHA1(uuid.NameSpaceOID, []byte("hierarchy retry_of"))

// Retry submits an operation again that was given up, as it was, under another id
// ([RetryID]) and with its id in retry_of. The error is OPS-1018 where there is no
// dead letter of it; otherwise it is that of [Submitter.Do].
func (s *Submitter) Retry(ctx context.Context, deadOpID, traceparent string) (Retried, error) {
	data, found, err := s.bus.DeadLetter(ctx, deadOpID)
	if err != nil {
		return Retried{}, fmt.Errorf("%w: %w", op.Errorf(op.CodeUnavailable, "", "the dead letter could not be read"), err)
	}
	if !found {
		return s.retriedBefore(ctx, deadOpID)
	}
	var letter deadLetter
	if err := json.Unmarshal(data, &letter); err != nil {
		return Retried{}, op.Errorf(op.CodeNotFound, "op_id", "the dead letter of %s cannot be read: %v", deadOpID, err)
	}
	o := letter.Operation
	o.ID, o.RetryOf = RetryID(deadOpID), deadOpID
	body, err := op.Encode(&o)
	if err != nil {
		return Retried{}, err
	}
	ops, body, err := s.prepare(ctx, body, "")
	if err != nil {
		return Retried{}, err
	}
	acc, err := s.store(ctx, ops, body, traceparent)
	return Retried{Accepted: acc, Target: o.Target, RetryOf: deadOpID}, err
}

// retriedBefore answers where there is no dead letter: accepting the retry has
// taken it away, or there never was one.
func (s *Submitter) retriedBefore(ctx context.Context, deadOpID string) (Retried, error) {
	id := RetryID(deadOpID)
	r, found, err := s.record(ctx, id)
	if err != nil {
		return Retried{}, fmt.Errorf("%w: %w", op.Errorf(op.CodeUnavailable, "", "the record of the retry could not be read"), err)
	}
	if found && r.RetryOf == deadOpID {
		acc := op.Accepted{Type: op.AcceptedType, OpIDs: []string{id}, Stream: bus.StreamIntake, Seq: r.Seq}
		return Retried{Accepted: acc, Target: r.Target, RetryOf: deadOpID}, nil
	}
	e := op.Errorf(op.CodeNotFound, "op_id", "there is no dead letter of %s", deadOpID)
	e.Hint = "Only an operation that was REJECTED with max_retries or terminal_error can be retried, and for as long as its record is kept."
	return Retried{}, e
}

// WhatIf asks the owner of a partition what would become of an operation. Nothing
// is stored. The error is an [*op.Error]: a mistake in the operation, or OPS-1019
// while nobody owns the partition. What the policy turns away stands in the
// forecast.
func (s *Submitter) WhatIf(ctx context.Context, data []byte) (op.Forecast, error) {
	var ops []op.Operation
	err := s.book.under(ctx, func(r *rules) (err error) {
		ops, err = read(data, "", r, r.params)
		return err
	})
	switch {
	case err != nil:
		return op.Forecast{}, err
	case len(ops) != 1:
		return op.Forecast{}, op.Errorf(op.CodeBadArray, "", "one operation at a time, not %d", len(ops))
	}
	op.Normalize(ops, s.newID)
	body, err := op.Encode(&ops[0])
	if err != nil {
		return op.Forecast{}, err
	}
	partition := bus.PartitionOf(ops[0].Target, s.partitions)
	answer, err := s.askOwner(ctx, partition, body)
	if err != nil {
		return op.Forecast{}, fmt.Errorf("%w: %w", op.Errorf(op.CodeUnavailable, "", "nobody owns partition %d now", partition), err)
	}
	var f op.Forecast
	var refused op.Error
	if json.Unmarshal(answer, &refused) == nil && refused.Type == op.ErrorType {
		return f, &refused
	}
	if err := json.Unmarshal(answer, &f); err != nil {
		return f, op.Errorf(op.CodeUnavailable, "", "the owner of partition %d answered what is no forecast: %v", partition, err)
	}
	if e := s.news.full(partition, ops[0].Target); e != nil && f.Outlook != op.WouldRefuse {
		f.Outlook, f.Verdict, f.Rule = op.WouldRefuse, "", ""
		f.Reason, f.Code, f.RetryAfterMS, f.Message = op.Overloaded, op.Overloaded.Code(), e.RetryAfterMS, e.Message
	}
	return f, nil
}

// askOwner asks until somebody answers or ctx ends: a take-over takes a moment.
func (s *Submitter) askOwner(ctx context.Context, partition int, body []byte) ([]byte, error) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		tctx, cancel := context.WithTimeout(ctx, patience)
		answer, err := s.bus.WhatIf(tctx, partition, body)
		cancel()
		if err == nil || errors.Is(err, nats.ErrConnectionClosed) || !wait(ctx, pause) {
			return answer, err
		}
	}
}
