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
	Beat    *Beat    `json:"beat,omitempty"`
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

// Cancel asks for the end of open operations. Exactly one of OpID, All,
// Submitter and Ancestors says of which: one operation of the target, all of the
// target, all of one submitter in this partition, or the pending descendants of
// operations that another partition has cancelled.
type Cancel struct {
	op.Place
	Target    string   `json:"target_entity_id,omitempty"`
	OpID      string   `json:"op_id,omitempty"`
	All       bool     `json:"all,omitempty"`
	Submitter string   `json:"submitter,omitempty"`
	Ancestors []string `json:"ancestors,omitempty"`
	// Alone spares the pending descendants (cascade: false).
	Alone bool `json:"alone,omitempty"`
}

// Beat is the heartbeat of an attempt.
type Beat struct {
	OpID     string `json:"op_id"`
	Target   string `json:"target_entity_id"`
	Attempt  int    `json:"attempt"`
	Executor string `json:"executor"`
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
