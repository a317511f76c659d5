package submitter

import (
	"cmp"
	"context"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// BulkType is the value of "type" in a [BulkAnswer].
const BulkType = "ops.v1.bulk_response"

// BulkAnswer says what became of each operation of a bulk, in its order.
type BulkAnswer struct {
	Type    string       `json:"type"` // BulkType
	Results []BulkResult `json:"results"`
}

// BulkResult is what became of one operation: it is durable at Seq of the intake,
// or Error says why not. With OPS-1019 nothing is known about it, with any other
// code nothing of it is stored.
type BulkResult struct {
	OpID  string    `json:"op_id,omitempty"`
	Seq   uint64    `json:"seq,omitempty"`
	Error *op.Error `json:"error,omitempty"`
}

// Bulk submits an array of independent operations on any targets (see [Packer]),
// each of which is accepted or refused by itself. While there is no room it waits,
// until ctx ends; what did not get in by then is refused with OPS-1021. The error
// is for a bulk that cannot be told apart into operations, an [*op.Error].
func (s *Submitter) Bulk(ctx context.Context, data []byte, traceparent string) (BulkAnswer, error) {
	var ops []op.Operation
	var bad []*op.Error
	err := s.book.under(ctx, func(r *rules) (err error) {
		ops, bad, err = op.DecodeBulk(data, r.types.Types())
		for i := range bad {
			if err == nil && stale(bad[i]) {
				return bad[i] // maybe a newer policy knows the type
			}
		}
		return err
	})
	if err != nil && bad == nil {
		s.count("nats", err)
		return BulkAnswer{}, err
	}
	a := BulkAnswer{Type: BulkType, Results: make([]BulkResult, len(ops))}
	s.pack(ctx, ops, bad, a.Results, traceparent)
	for i := range a.Results {
		if e := a.Results[i].Error; e != nil {
			s.count("nats", e)
		} else {
			s.count("nats", nil)
		}
	}
	return a, nil
}

// pack sends those operations that are not bad, and books what becomes of each.
func (s *Submitter) pack(ctx context.Context, ops []op.Operation, bad []*op.Error, results []BulkResult, traceparent string) {
	var added []int // places in ops, in the order of Add
	p := s.NewPacker(PackOptions{Trace: traceparent, ended: func(nth []int, seq uint64, err error) {
		for _, n := range nth {
			results[added[n]].Seq = seq
			if err != nil {
				results[added[n]].Error = told(err)
			}
		}
	}})
	for i := range ops { // fewer than a packer's window: nothing is sent before Flush
		results[i].OpID = ops[i].ID
		if results[i].Error = bad[i]; bad[i] != nil {
			continue
		}
		ops[i].ID = cmp.Or(ops[i].ID, s.newID())
		results[i].OpID = ops[i].ID
		if _, err := p.Add(ctx, ops[i]); err != nil {
			results[i].Error = told(err)
		} else {
			added = append(added, i)
		}
	}
	if err := p.Flush(ctx); err != nil {
		for _, i := range added {
			if r := &results[i]; r.Seq == 0 && r.Error == nil { // never sent
				r.Error = told(err)
			}
		}
	}
}

// told is an error as the answer has it.
func told(err error) *op.Error {
	if e := op.AsError(err); e != nil {
		return e
	}
	return op.Errorf(op.CodeUnavailable, "", "the operation was not stored, as far as is known: %v", err)
}
