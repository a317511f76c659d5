package submitter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Cancellation asks for the end of open operations. Exactly one of OpID, All and
// Submitter says of which; OpID and All need the Target. It is the body of
// ops.api.cancel, where the target of an OpID may be left out.
type Cancellation struct {
	OpID      string `json:"op_id,omitempty"`
	Target    string `json:"target_entity_id,omitempty"`
	All       bool   `json:"all,omitempty"`
	Submitter string `json:"submitter,omitempty"`
	// Cascade: false spares the pending descendants of what is cancelled.
	Cascade *bool `json:"cascade,omitempty"`
}

// check asks whether c says what it wants.
func (c *Cancellation) check() *op.Error {
	ways := 0
	for _, given := range []bool{c.OpID != "", c.All, c.Submitter != ""} {
		if given {
			ways++
		}
	}
	switch {
	case ways == 0 && c.Target != "":
		return op.Errorf(op.CodeMissingField, "all", `a target alone says nothing: "all": true cancels whatever is open on it`)
	case ways == 0:
		return op.Errorf(op.CodeMissingField, "op_id", "op_id is missing, and so are all and submitter")
	case ways > 1:
		return op.Errorf(op.CodeBadValue, "", "a cancellation has one of op_id, all and submitter")
	case c.OpID != "" && !op.Token(c.OpID):
		return op.Errorf(op.CodeBadID, "op_id", "op_id %.80q is not an id", c.OpID)
	case c.Target != "" && !op.Token(c.Target):
		return op.Errorf(op.CodeBadID, "target_entity_id", "target_entity_id %.80q is not an id", c.Target)
	case c.All && c.Target == "":
		return op.Errorf(op.CodeMissingField, "target_entity_id", "all of which target?")
	case c.Submitter != "" && c.Target != "":
		return op.Errorf(op.CodeBadValue, "target_entity_id", "a submitter's operations are cancelled on all targets")
	case len(c.Submitter) > op.MaxString:
		return op.Errorf(op.CodeStringTooLong, "submitter", "submitter has %d bytes, the limit is %d", len(c.Submitter), op.MaxString)
	}
	return nil
}

func decodeCancel(body []byte) (c Cancellation, err error) {
	if err := decodeStrict(body, &c, "a cancellation is an object with op_id, with target_entity_id and all, or with submitter"); err != nil {
		return c, err
	}
	if e := c.check(); e != nil {
		return c, e
	}
	return c, nil
}

// decodeStrict reads one JSON object without unknown fields.
func decodeStrict(body []byte, v any, what string) error {
	if len(body) > op.MaxBody {
		return op.Errorf(op.CodeTooLarge, "", "the body has %d bytes, the limit is %d", len(body), op.MaxBody)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return op.Errorf(op.CodeBadJSON, "", "%s: %v", what, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return op.Errorf(op.CodeBadJSON, "", "there is text after the object")
	}
	return nil
}

// Cancel asks for the cancellation of an operation, and of its pending
// descendants, and returns when the request is durable. Whether it came in time is
// told by the operation's record. Errors are those of [Submitter.Do].
func (s *Submitter) Cancel(ctx context.Context, target, opID string) (op.Accepted, error) {
	return s.CancelAll(ctx, Cancellation{OpID: opID, Target: target})
}

// CancelAll asks for what c says and returns when that is durable: for a submitter,
// in every partition. Where that did not succeed everywhere, the error is OPS-1019;
// asking again is safe. Errors are those of [Submitter.Do].
func (s *Submitter) CancelAll(ctx context.Context, c Cancellation) (op.Accepted, error) {
	if e := c.check(); e != nil {
		return op.Accepted{}, e
	}
	if c.Submitter != "" {
		return s.cancelSubmitter(ctx, c)
	}
	if c.Target == "" {
		return op.Accepted{}, op.Errorf(op.CodeMissingField, "target_entity_id", "the target of the operation is missing")
	}
	acc := op.Accepted{Type: op.AcceptedType, OpIDs: []string{}}
	if c.OpID != "" {
		acc.OpIDs = append(acc.OpIDs, c.OpID)
	}
	subject := bus.CancelSubject(c.Target)
	c.Target = "" // the subject has it
	body, err := op.Marshal(c)
	if err != nil {
		return op.Accepted{}, fmt.Errorf("submitter: cancel: %w", err)
	}
	ack, err := s.publish(ctx, subject, body, op.NewID(), nil, nil)
	acc.Stream, acc.Seq = ack.Stream, ack.Seq
	return acc, err
}

// cancelSubmitter asks every partition.
func (s *Submitter) cancelSubmitter(ctx context.Context, c Cancellation) (op.Accepted, error) {
	body, err := op.Marshal(bus.Control{Submitter: c.Submitter, Cascade: c.Cascade})
	if err != nil {
		return op.Accepted{}, fmt.Errorf("submitter: cancel: %w", err)
	}
	acks := make([]bus.Ack, s.partitions)
	var g errgroup.Group // each partition is asked, whatever becomes of another
	g.SetLimit(16)
	for p := range acks {
		g.Go(func() (err error) {
			acks[p], err = s.publish(ctx, s.bus.ControlSubject(p), body, op.NewID(), nil, nil)
			return err
		})
	}
	err = g.Wait()
	acc, asked := op.Accepted{Type: op.AcceptedType, OpIDs: []string{}}, 0
	for _, a := range acks {
		if a.Seq > 0 {
			asked++
		}
		if a.Seq > acc.Seq {
			acc.Stream, acc.Seq = a.Stream, a.Seq
		}
	}
	if err != nil && asked > 0 {
		e := op.Errorf(op.CodeUnavailable, "", "%d of %d partitions were asked; ask again", asked, len(acks))
		e.Hint = "Asking again is safe: what is cancelled stays cancelled."
		return op.Accepted{}, fmt.Errorf("%w: %w", e, err)
	}
	return acc, err
}
