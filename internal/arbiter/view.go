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
	Effective   op.Priority
	Inheritance op.Inheritance
	Winner      string
	Decision    string
	Attempt     int
	Retries     int
	Due         time.Time
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
	return View{
		Operation: e.op, Place: e.place, CausedBy: e.causedBy, Traceparent: e.traceparent, Status: e.status, Reason: e.reason,
		Effective: e.effective, Inheritance: e.inherit, Winner: e.winner, Decision: e.decision,
		Attempt: e.attempt, Retries: e.retries, Due: e.due, Failure: e.failure, Accepted: e.accepted,
	}, true
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
