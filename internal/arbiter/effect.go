package arbiter

import (
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Effect is one consequence of a step: exactly one field is set.
type Effect struct {
	Accepted  *Accepted    `json:"accepted,omitempty"`
	Repeated  *Repeated    `json:"repeated,omitempty"`
	Decision  *op.Decision `json:"decision,omitempty"`
	Granted   *Granted     `json:"granted,omitempty"`
	Succeeded *Succeeded   `json:"succeeded,omitempty"`
	Failed    *Failed      `json:"failed,omitempty"`
	Retry     *Retry       `json:"retry,omitempty"`
	Lapsed    *Lapsed      `json:"lapsed,omitempty"`
	Rejected  *Rejected    `json:"rejected,omitempty"`
	Cancelled *Cancelled   `json:"cancelled,omitempty"`
	Refused   *Refused     `json:"refused,omitempty"`
	Extended  *Extended    `json:"extended,omitempty"`
	Preempted *Preempted   `json:"preempted,omitempty"`
	Protected *Protected   `json:"protected,omitempty"`
	Coalesced *Coalesced   `json:"coalesced,omitempty"`
	Shared    *Shared      `json:"shared,omitempty"`
	Parted    *Parted      `json:"parted,omitempty"`
}

// Accepted: the operation is PENDING and staged.
type Accepted struct {
	OpID string `json:"op_id"`
	// Asked is the priority that was asked for, where the policy allowed less or
	// demanded more; Priority is what it became.
	Asked    op.Priority `json:"asked_priority,omitempty"`
	Priority op.Priority `json:"priority,omitempty"`
}

// Repeated: an operation of this id was submitted before; this submission is
// the same one and changes nothing.
type Repeated struct {
	OpID string `json:"op_id"`
	op.Place
}

// Granted: the winner is promoted and one attempt may run (PENDING → EXECUTING).
type Granted struct {
	OpID      string      `json:"op_id"`
	Target    string      `json:"target_entity_id"`
	Attempt   int         `json:"attempt"`
	Effective op.Priority `json:"effective_priority"`
	Decision  string      `json:"decision_id"`
	LeaseEnds time.Time   `json:"lease_ends"`
}

// Succeeded: the current attempt's change is applied (EXECUTING → SUCCEEDED).
// The change itself stands in the Result input of the same step.
type Succeeded struct {
	OpID     string        `json:"op_id"`
	Target   string        `json:"target_entity_id"`
	Attempt  int           `json:"attempt"`
	Input    int           `json:"input"` // index of the Result among the step's inputs
	Duration time.Duration `json:"duration"`
}

// Failed: the current attempt failed (EXECUTING → FAILED). A Retry or a
// Rejected follows in the same step.
type Failed struct {
	OpID     string        `json:"op_id"`
	Target   string        `json:"target_entity_id"`
	Attempt  int           `json:"attempt"`
	Failure  *op.Failure   `json:"failure"`
	Duration time.Duration `json:"duration"`
}

// Retry: the operation comes back to arbitration at Due (FAILED → PENDING, or
// PENDING → PENDING for a loser with on_conflict retry and after a lapse).
type Retry struct {
	OpID       string        `json:"op_id"`
	Target     string        `json:"target_entity_id"`
	RetryCount int           `json:"retry_count"`
	N          int           `json:"n"` // of the delay: the n-th time it goes away, from 0
	Delay      time.Duration `json:"delay"`
	Due        time.Time     `json:"due"`
	Reason     op.Reason     `json:"reason,omitempty"` // of a loser; empty after a failure
	Winner     string        `json:"winner,omitempty"`
	Decision   string        `json:"decision_id,omitempty"`
}

// Lapsed: the attempt's lease ran out and its executor is fenced off
// (EXECUTING → PENDING). A Retry follows in the same step, or a Rejected: the
// target is free for others meanwhile.
type Lapsed struct {
	OpID       string `json:"op_id"`
	Target     string `json:"target_entity_id"`
	Attempt    int    `json:"attempt"`
	RetryCount int    `json:"retry_count"`
	// Claimed: an executor had said that it works on it, so the lapse counts
	// as a failure. Otherwise it costs no retry.
	Claimed bool `json:"claimed,omitempty"`
}

// Rejected is a terminal record.
type Rejected struct {
	OpID           string      `json:"op_id"`
	Target         string      `json:"target_entity_id"`
	From           op.Status   `json:"from"`
	Reason         op.Reason   `json:"reason"`
	Winner         string      `json:"winner,omitempty"`
	Decision       string      `json:"decision_id,omitempty"`
	Failure        *op.Failure `json:"failure,omitempty"` // the last real error
	CurrentVersion *uint64     `json:"current_version,omitempty"`
	// RetryAfter is when it is worth submitting again: overloaded, staging_full.
	RetryAfter time.Duration `json:"retry_after,omitempty"`
}

// Cancelled is a terminal record.
type Cancelled struct {
	OpID    string    `json:"op_id"`
	Target  string    `json:"target_entity_id"`
	From    op.Status `json:"from"`
	Reason  op.Reason `json:"reason"`
	Attempt int       `json:"attempt,omitempty"` // the one that was stopped, of an executing operation
	// Ancestor is the operation whose cancellation took this one with it.
	Ancestor string `json:"ancestor,omitempty"`
	// Cascade: the pending descendants in other partitions are to be cancelled.
	Cascade bool `json:"cascade,omitempty"`
}

// Refused: a result that was not the current attempt's, or a cancel that came
// too late. Nothing changed; it is recorded so that a zombie can be seen.
type Refused struct {
	OpID     string `json:"op_id"`
	Target   string `json:"target_entity_id"`
	Attempt  int    `json:"attempt"`
	Executor string `json:"executor,omitempty"`
	Input    int    `json:"input"` // index of the Result or Cancel among the step's inputs
	Why      string `json:"why"`
}

// Extended: the current attempt's executor gave a sign of life, so its lease
// ends later.
type Extended struct {
	OpID      string    `json:"op_id"`
	Target    string    `json:"target_entity_id"`
	Attempt   int       `json:"attempt"`
	LeaseEnds time.Time `json:"lease_ends"`
	Input     int       `json:"input"` // index of the Beat among the step's inputs
}

// Preempted: after its grace an executing operation had to yield to one of
// strictly higher effective priority (EXECUTING → PENDING). It loses no retry.
type Preempted struct {
	OpID    string `json:"op_id"`
	Target  string `json:"target_entity_id"`
	Attempt int    `json:"attempt"`
	By      string `json:"by"`
	Count   int    `json:"count"` // how often it has been preempted
}

// Protection names what kept an executing operation in its place.
type Protection string

// The protections (contract §3.2). They are counted apart.
const (
	ProtectedByGrace     Protection = "grace"     // for a time: what was asked for takes effect when grace ends
	ProtectedByExecution Protection = "executing" // until its attempt ends
)

// Protected: an executing operation was asked to go and stays. Of what contends
// for its target it is told once an attempt and protection, of cancels each time.
type Protected struct {
	OpID    string     `json:"op_id"`
	Target  string     `json:"target_entity_id"`
	Attempt int        `json:"attempt"`
	By      string     `json:"by,omitempty"`     // the contender
	Cancel  bool       `json:"cancel,omitempty"` // somebody asked to cancel it
	Kind    Protection `json:"kind"`
	Until   time.Time  `json:"until"` // end of grace, or of the lease
}

// Coalesced: the operation is identical to the winner of this decision, leaves
// the staging area and will share the winner's outcome. It stays PENDING.
type Coalesced struct {
	OpID     string `json:"op_id"`
	Target   string `json:"target_entity_id"`
	Into     string `json:"into"`
	Decision string `json:"decision_id"`
}

// Shared is a terminal record: the operation that this one was coalesced into
// has succeeded (PENDING → SUCCEEDED, with no effect of its own). It stands in
// the same step, or in the ones right after it when that is full.
type Shared struct {
	OpID    string `json:"op_id"`
	Target  string `json:"target_entity_id"`
	With    string `json:"with"`
	Attempt int    `json:"attempt"` // of the other one
}

// Parted: the operation that this one was coalesced into ended in a way of its
// own, cancelled or expired, so this one is staged again.
type Parted struct {
	OpID   string `json:"op_id"`
	Target string `json:"target_entity_id"`
	From   string `json:"from"`
}
