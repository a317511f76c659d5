package op

import "time"

// EventName is the name of a public event (contract §6).
type EventName string

// The events.
const (
	EventSubmitted       EventName = "operation.submitted"
	EventConflict        EventName = "operation.conflict"
	EventPromoted        EventName = "operation.promoted"
	EventStarted         EventName = "operation.started"
	EventCompleted       EventName = "operation.completed"
	EventFailed          EventName = "operation.failed"
	EventRetry           EventName = "operation.retry"
	EventRejected        EventName = "operation.rejected"
	EventPreempted       EventName = "operation.preempted"
	EventCancelled       EventName = "operation.cancelled"
	EventEntityModified  EventName = "entity.modified"
	EventEntityVersioned EventName = "entity.versioned"
	EventEntityBorrowed  EventName = "entity.borrowed"
	EventEntityPromoted  EventName = "entity.promoted"
	EventEntityDetached  EventName = "entity.detached"
	EventEntityAttached  EventName = "entity.attached"
	EventEntityCreated   EventName = "entity.created"
	EventEntityDeleted   EventName = "entity.deleted"
	EventTakeover        EventName = "system.resolver_takeover"
	EventStaleCommit     EventName = "system.stale_commit_refused"
	EventInvalid         EventName = "system.invalid_submission"
	EventViolated        EventName = "system.invariant_violated"
)

// EventNames lists every event.
func EventNames() []EventName {
	return []EventName{
		EventSubmitted, EventConflict, EventPromoted, EventStarted, EventCompleted, EventFailed, EventRetry,
		EventRejected, EventPreempted, EventCancelled, EventEntityModified, EventEntityVersioned,
		EventEntityBorrowed, EventEntityPromoted, EventEntityDetached, EventEntityAttached,
		EventEntityCreated, EventEntityDeleted, EventTakeover, EventStaleCommit, EventInvalid, EventViolated,
	}
}

// EventType is the value of "type" in every event body.
const EventType = "ops.v1.event"

// Event is one transition, told to whoever listens. Its id is a function of the
// journal step and its place in it, so a repeated emission is recognised.
type Event struct {
	Type        string    `json:"type"`
	Name        EventName `json:"event"`
	ID          string    `json:"event_id"`
	OpID        string    `json:"op_id,omitempty"`
	OpType      string    `json:"op_type,omitempty"`
	Target      string    `json:"target_entity_id,omitempty"`
	Priority    Priority  `json:"priority,omitempty"`
	Effective   Priority  `json:"effective_priority,omitempty"`
	At          time.Time `json:"at"`
	Process     string    `json:"process_name"`
	Seq         uint64    `json:"seq"` // stream sequence of the journal step
	Traceparent string    `json:"traceparent,omitempty"`

	Attempt     int            `json:"attempt,omitempty"`
	Status      Status         `json:"to_state,omitempty"`
	From        Status         `json:"from_state,omitempty"`
	Reason      Reason         `json:"reason,omitempty"`
	Code        string         `json:"code,omitempty"`
	Winner      string         `json:"winner,omitempty"`
	Decision    string         `json:"decision_id,omitempty"`
	Contenders  []ContenderRef `json:"contenders,omitempty"`
	Total       int            `json:"total,omitempty"`
	Error       *Failure       `json:"error,omitempty"`
	RetryCount  *int           `json:"retry_count,omitempty"`
	MaxRetries  *int           `json:"max_retries,omitempty"`
	BackoffMS   float64        `json:"backoff_delay_ms,omitempty"`
	RetryReason string         `json:"retry_reason,omitempty"`
	ExecutionMS *float64       `json:"execution_duration_ms,omitempty"`
	Version     uint64         `json:"version,omitempty"`
	Revision    uint64         `json:"revision,omitempty"`
	CausedBy    string         `json:"caused_by,omitempty"`
	Partition   *int           `json:"partition,omitempty"` // system events
	Epoch       uint64         `json:"epoch,omitempty"`     // system events
	Detail      *Error         `json:"detail,omitempty"`    // system.invalid_submission
	Submitter   string         `json:"submitter,omitempty"`
	RetryOf     string         `json:"retry_of,omitempty"`
	Preemptions int            `json:"preemptions,omitempty"`
	// RetryAfterMS: when it is worth submitting again (overloaded, staging_full).
	RetryAfterMS int64 `json:"retry_after_ms,omitempty"`
	// Invariant and Text: which rule an observer found broken, and how. Such an
	// event is told by an observer, at its own time, and by no step.
	Invariant string `json:"invariant,omitempty"`
	Text      string `json:"text,omitempty"`
}

// ContenderRef names a contender in an operation.conflict event.
type ContenderRef struct {
	OpID      string   `json:"op_id"`
	Priority  Priority `json:"priority"`
	Effective Priority `json:"effective_priority"`
}
