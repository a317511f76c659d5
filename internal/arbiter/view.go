package arbiter

import (
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// View is what the machine knows of one operation. It is a copy but for the
// operation's own maps and slices, which nobody may change.
type View struct {
	Operation   op.Operation
	Place       op.Place
	CausedBy    string
	Traceparent string
	Status      op.Status
	Reason      op.Reason
	Asked       op.Priority // what the submitter wanted, where the policy did not allow it
	Effective   op.Priority
	Inheritance op.Inheritance
	Winner      string
	Decision    string
	Attempt     int
	Retries     int
	Preemptions int
	Due         time.Time
	CancelAt    *time.Time // a cancel waits for the end of grace
	RetryAfter  time.Duration
	Failure     *op.Failure
	Accepted    time.Time
}

// Describe returns an open operation, or one that ended in the last step.
func (m *Machine) Describe(opID string) (View, bool) {
	e := m.ops[opID]
	if e == nil {
		e = m.finished[opID]
	}
	if e == nil {
		return View{}, false
	}
	v := View{
		Operation: e.op, Place: e.place, CausedBy: e.causedBy, Traceparent: e.traceparent, Status: e.status, Reason: e.reason,
		Asked: e.asked, Effective: e.total(), Inheritance: e.inherit, Winner: e.winner, Decision: e.decision,
		Attempt: e.attempt, Retries: e.retries, Preemptions: e.preemptions,
		Due: e.due, RetryAfter: e.retryAfter, Failure: e.failure, Accepted: e.accepted,
	}
	if e.stop != nil && e.status == op.Executing {
		at := e.stop.at
		v.CancelAt = &at
	}
	return v, true
}

// Executing returns the targets that have an executing operation, sorted.
func (m *Machine) Executing() []string {
	var ids []string
	for _, e := range m.sorted() {
		if e.status == op.Executing {
			ids = append(ids, e.op.Target)
		}
	}
	slices.Sort(ids)
	return ids
}
