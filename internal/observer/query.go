package observer

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Status returns the record of an operation as the leader has it. Records age
// out; the journal keeps everything.
func Status(ctx context.Context, b *bus.Bus, opID string) (op.Record, error) {
	if !op.Token(opID) {
		return op.Record{}, op.Errorf(op.CodeBadID, "op_id", "%.80q is not the id of an operation", opID)
	}
	data, found, err := b.Record(ctx, opID)
	if err != nil {
		return op.Record{}, fmt.Errorf("observer: record of %s: %w", opID, err)
	}
	if !found {
		return op.Record{}, op.Errorf(op.CodeNotFound, "op_id", "there is no record of the operation %s", opID)
	}
	var r op.Record
	if err := json.Unmarshal(data, &r); err != nil {
		return op.Record{}, fmt.Errorf("observer: record of %s: %w", opID, err)
	}
	return r, nil
}

// parseStep reads a journal step of the schema that this release knows.
func parseStep(data []byte) (*arbiter.Step, error) {
	var s arbiter.Step
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	if s.Schema != arbiter.StepSchema {
		return nil, fmt.Errorf("the schema is %.40q, this release knows %s", s.Schema, arbiter.StepSchema)
	}
	return &s, nil
}
