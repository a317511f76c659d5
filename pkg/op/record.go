package op

import "time"

// Record is what OPS_OPERATIONS holds for one operation: its status, verdict
// and where in the journal to read the rest (contract §5, §8.5). It is a view:
// the journal is the truth.
type Record struct {
	Type        string     `json:"type"` // RecordType
	OpID        string     `json:"op_id"`
	OpType      string     `json:"op_type"`
	Target      string     `json:"target_entity_id"`
	Status      Status     `json:"status"`
	Reason      Reason     `json:"reason,omitempty"`
	Code        string     `json:"code,omitempty"` // of the reason
	Priority    Priority   `json:"priority"`
	Asked       Priority   `json:"asked_priority,omitempty"` // where the policy did not allow it
	Effective   Priority   `json:"effective_priority,omitempty"`
	Parent      string     `json:"parent_op_id,omitempty"`
	Winner      string     `json:"winner,omitempty"`      // who won when this one lost
	Decision    string     `json:"decision_id,omitempty"` // the last decision that named it
	DecisionSeq uint64     `json:"decision_seq,omitempty"`
	Attempt     int        `json:"attempt,omitempty"`
	RetryCount  int        `json:"retry_count"`
	MaxRetries  int        `json:"max_retries"`
	Preemptions int        `json:"preemptions,omitempty"`
	RetryOf     string     `json:"retry_of,omitempty"`
	CancelAt    *time.Time `json:"cancel_at,omitempty"` // a cancel waits for the end of grace
	RetryAt     *time.Time `json:"retry_at,omitempty"`
	// RetryAfterMS is when it is worth submitting again, in milliseconds, for
	// overloaded and staging_full.
	RetryAfterMS int64     `json:"retry_after_ms,omitempty"`
	Error        *Failure  `json:"error,omitempty"`       // the last real error
	Version      uint64    `json:"version,omitempty"`     // of the entity after success
	Revision     uint64    `json:"revision,omitempty"`    // of the entity after success
	CausedBy     string    `json:"caused_by,omitempty"`   // follow-ups: the operation that caused this one
	Submitter    string    `json:"submitter,omitempty"`   //
	Seq          uint64    `json:"seq"`                   // intake sequence
	Partition    int       `json:"partition"`             //
	Step         uint64    `json:"step"`                  // the step this record reflects
	JournalSeq   uint64    `json:"journal_seq,omitempty"` // and its stream sequence
	AcceptedAt   time.Time `json:"accepted_at"`           //
	UpdatedAt    time.Time `json:"updated_at"`            //
	ExecutionMS  float64   `json:"execution_duration_ms,omitempty"`
}

// RecordType is the value of "type" in a [Record].
const RecordType = "ops.v1.status"

// Failure is an error of a handler as data.
type Failure struct {
	Code     string `json:"code,omitempty"` // a token of the handler's choice, for machines
	Message  string `json:"message"`
	Terminal bool   `json:"terminal,omitempty"` // trying again cannot help
	Reason   Reason `json:"reason,omitempty"`   // a more exact reason than terminal_error, such as stale_version
	// CurrentVersion is the entity's version for a stale expected_version.
	CurrentVersion *uint64 `json:"current_version,omitempty"`
}

// Error returns the message.
func (f *Failure) Error() string { return f.Message }
