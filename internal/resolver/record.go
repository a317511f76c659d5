package resolver

import (
	"fmt"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// record publishes the view of one operation as it is after the step.
func (t *teller) record(id string) error {
	v, ok := t.p.machine.Describe(id)
	if !ok {
		return fmt.Errorf("resolver: step %d changes %s, which is not open", t.s.Number, id)
	}
	r := t.recordOf(&v)
	body, err := op.Marshal(r)
	if err != nil {
		return fmt.Errorf("resolver: encode record of %s: %w", id, err)
	}
	t.p.cfg.Metrics.Outputs.WithLabelValues("record").Inc()
	t.out.views = append(t.out.views, bus.RecordMsg(id, body))
	return nil
}

func (t *teller) recordOf(v *arbiter.View) *op.Record {
	r := &op.Record{
		Type: op.RecordType, OpID: v.Operation.ID, OpType: v.Operation.Type, Target: v.Operation.Target,
		Status: v.Status, Reason: v.Reason, Code: v.Reason.Code(), Priority: v.Operation.Priority, Effective: v.Effective,
		Parent: v.Operation.Parent, Winner: v.Winner, Decision: v.Decision, DecisionSeq: t.p.decisions[v.Operation.ID],
		Attempt: v.Attempt, RetryCount: v.Retries, MaxRetries: v.Operation.Retries(), Error: v.Failure, CausedBy: v.CausedBy,
		Submitter: v.Operation.Submitter, Seq: v.Place.Seq, Partition: t.p.id, Step: t.s.Number, JournalSeq: t.seq,
		AcceptedAt: v.Accepted, UpdatedAt: t.s.At,
		Asked: v.Asked, Preemptions: v.Preemptions, RetryOf: v.Operation.RetryOf, CancelAt: v.CancelAt,
		RetryAfterMS: v.RetryAfter.Milliseconds(),
	}
	if v.Status == op.Pending && v.Due.After(t.s.At) {
		due := v.Due
		r.RetryAt = &due
	}
	if o, ok := t.done[v.Operation.ID]; ok {
		r.Version, r.Revision = o.Version, o.Revision
		r.ExecutionMS = float64(t.took[v.Operation.ID]) / float64(time.Millisecond)
	}
	return r
}
