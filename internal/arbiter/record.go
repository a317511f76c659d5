package arbiter

import (
	"encoding/json"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// StepSchema is the value of "schema" in every journal step; a reader refuses
// what it does not know.
const StepSchema = "ops.v1.step"

// Step is one message of the journal: what a partition consumed at one instant
// and what followed from it. Outputs are a pure function of the state before
// and the inputs, so anyone can recompute them (contract §3).
type Step struct {
	Schema    string    `json:"schema"`
	ID        string    `json:"id"`                 // random and unique: settles an unknown outcome and seeds the step's jitter
	Partition int       `json:"partition"`          //
	Number    uint64    `json:"step"`               // 1, 2, 3 … in the partition, without gaps
	Epoch     uint64    `json:"epoch"`              // one up with each take-over
	Owner     string    `json:"owner"`              // the resolver that owned the epoch
	At        time.Time `json:"at"`                 // the instant; never before the one of the step before
	Cursor    uint64    `json:"cursor"`             // every intake message of the partition up to here is consumed
	Takeover  bool      `json:"takeover,omitempty"` // only marks the new epoch: no inputs, no effects
	In        []Input   `json:"in,omitempty"`
	Out       []Effect  `json:"out,omitempty"`
}

// Input is one thing that a step consumed: exactly one field is set.
type Input struct {
	Submit  *Submit  `json:"submit,omitempty"`
	Invalid *Invalid `json:"invalid,omitempty"`
	Cancel  *Cancel  `json:"cancel,omitempty"`
	Result  *Result  `json:"result,omitempty"`
	Kin     *Kin     `json:"kin,omitempty"`
	Policy  *Policy  `json:"policy,omitempty"`
}

// Submit is one operation of an intake message, validated and normalised. An
// array becomes one Submit an operation, all in the same step.
type Submit struct {
	op.Place
	Operation   op.Operation `json:"operation"`
	CausedBy    string       `json:"caused_by,omitempty"`
	Traceparent string       `json:"traceparent,omitempty"`
	// Known: a record says that the id was accepted before, longer ago than
	// the machine remembers.
	Known bool `json:"known,omitempty"`
}

// Invalid is an intake message that broke a rule of the wire format. Nothing of
// it is lost silently: it becomes a system.invalid_submission event.
type Invalid struct {
	op.Place
	Target string    `json:"target_entity_id,omitempty"` // the subject's
	OpID   string    `json:"op_id,omitempty"`            // where it could be read
	Error  *op.Error `json:"error"`
}

// Cancel asks to cancel a pending operation.
type Cancel struct {
	op.Place
	Target string `json:"target_entity_id"`
	OpID   string `json:"op_id"`
}

// Result is what an executor reported about an attempt.
type Result struct {
	OpID     string          `json:"op_id"`
	Target   string          `json:"target_entity_id"`
	Attempt  int             `json:"attempt"`
	Executor string          `json:"executor"`
	Duration time.Duration   `json:"duration"`
	Change   json.RawMessage `json:"change,omitempty"` // an entity.Change; opaque to the arbiter
	Failure  *op.Failure     `json:"failure,omitempty"`
}

// Kin tells the machine about an ancestor that its own partition does not hold:
// found with its priority and its own parent, or looked for everywhere and
// unknown.
type Kin struct {
	OpID     string      `json:"op_id"`
	Unknown  bool        `json:"unknown,omitempty"`
	Upto     uint64      `json:"upto,omitempty"` // with Unknown: the intake sequence up to which every partition was asked
	Priority op.Priority `json:"priority,omitempty"`
	Parent   string      `json:"parent_op_id,omitempty"`

	foreign bool // of another partition: an ancestor, not a submission seen here
}

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
}

// Accepted: the operation is PENDING and staged.
type Accepted struct {
	OpID string `json:"op_id"`
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
// PENDING → PENDING for a loser with on_conflict retry).
type Retry struct {
	OpID       string        `json:"op_id"`
	Target     string        `json:"target_entity_id"`
	RetryCount int           `json:"retry_count"`
	Delay      time.Duration `json:"delay"`
	Due        time.Time     `json:"due"`
	Reason     op.Reason     `json:"reason,omitempty"` // of a loser; empty after a failure
	Winner     string        `json:"winner,omitempty"`
	Decision   string        `json:"decision_id,omitempty"`
}

// Lapsed: the attempt's lease ran out; its executor is fenced off and the
// operation is staged again (EXECUTING → PENDING). It loses no retry.
type Lapsed struct {
	OpID       string `json:"op_id"`
	Target     string `json:"target_entity_id"`
	Attempt    int    `json:"attempt"`
	RetryCount int    `json:"retry_count"`
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
}

// Cancelled is a terminal record.
type Cancelled struct {
	OpID   string    `json:"op_id"`
	Target string    `json:"target_entity_id"`
	Reason op.Reason `json:"reason"`
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
