package op

import "time"

// ForecastType is the value of "type" in a [Forecast].
const ForecastType = "ops.v1.forecast"

// Outlook is what would become of an operation if it were submitted now.
type Outlook string

// The outlooks.
const (
	WouldWin     Outlook = "win"     // it would be promoted when the window closes
	WouldWait    Outlook = "wait"    // for the executing operation, or for its turn
	WouldLose    Outlook = "lose"    // it would be rejected in favour of another
	WouldRefuse  Outlook = "refused" // it would not even be staged
	WouldPreempt Outlook = "preempt" // it would take the place of the executing operation after grace
)

// Forecast answers a dry run: what would happen if nothing else came. Nothing is
// written for it (contract §3; experience: submit --dry-run).
type Forecast struct {
	Type      string   `json:"type"` // ForecastType
	OpID      string   `json:"op_id"`
	Target    string   `json:"target_entity_id"`
	Outlook   Outlook  `json:"outlook"`
	Verdict   Verdict  `json:"verdict,omitempty"` // of the next decision about the target
	Reason    Reason   `json:"reason,omitempty"`
	Code      string   `json:"code,omitempty"`
	Priority  Priority `json:"priority"`
	Effective Priority `json:"effective_priority"`
	Asked     Priority `json:"asked_priority,omitempty"` // where the policy does not allow it
	Inheritance
	Against          string    `json:"against,omitempty"` // the winner, or the executing operation it waits for
	AgainstEffective Priority  `json:"against_effective_priority,omitempty"`
	Rule             Rule      `json:"rule,omitempty"`
	Staged           int       `json:"staged"`              // operations staged on the target now
	Executing        string    `json:"executing,omitempty"` // the operation that executes there now
	PolicyRevision   uint64    `json:"policy_revision"`
	RetryAfterMS     int64     `json:"retry_after_ms,omitempty"`
	Message          string    `json:"message,omitempty"` // why it would be refused
	At               time.Time `json:"at"`
}

// Remedy is the smallest change with which a loser would have won its decision
// (experience: explain). Priority is the own priority it would have needed; with
// Before it would also have had to stand before that place in the log. The zero
// value says that its own priority was enough already.
type Remedy struct {
	Priority Priority `json:"priority,omitempty"`
	Before   *Place   `json:"before,omitempty"`
}
