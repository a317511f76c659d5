package op

import "slices"

import "fmt"

// Status is where an operation is in its life (contract §5). The zero value is
// not a status.
type Status string

// The six statuses. The [Reason] of a record says the rest.
const (
	Pending   Status = "PENDING"
	Executing Status = "EXECUTING"
	Succeeded Status = "SUCCEEDED"
	Failed    Status = "FAILED"
	Rejected  Status = "REJECTED"
	Cancelled Status = "CANCELLED"
)

// transitions is the whole life of an operation; nothing else may change a
// Status, and everything that wants to know asks here.
var transitions = map[Status][]Status{
	Pending:   {Executing, Rejected, Cancelled, Succeeded}, // Succeeded: with the identical one that it waited for (ADR 0008)
	Executing: {Succeeded, Failed, Pending, Cancelled},
	Failed:    {Pending, Rejected},
	Succeeded: nil,
	Rejected:  nil,
	Cancelled: nil,
}

// Statuses lists every status in the order of an operation's life.
func Statuses() []Status {
	return []Status{Pending, Executing, Failed, Succeeded, Rejected, Cancelled}
}

// Valid reports whether s is one of the six statuses.
func (s Status) Valid() bool { _, ok := transitions[s]; return ok }

// Terminal reports whether no transition leaves s. FAILED is not terminal: it
// becomes PENDING (retry) or REJECTED.
func (s Status) Terminal() bool { next, ok := transitions[s]; return ok && len(next) == 0 }

// CanBecome reports whether the move from s to next is in the table.
func (s Status) CanBecome(next Status) bool {
	return slices.Contains(transitions[s], next)
}

// To returns next when the move from s is legal, and an error naming both
// statuses when it is not. An illegal move is a bug in Hierarchy, never a
// mistake of a client.
func (s Status) To(next Status) (Status, error) {
	if !s.CanBecome(next) {
		return s, fmt.Errorf("op: no transition from %s to %s", s, next)
	}
	return next, nil
}
