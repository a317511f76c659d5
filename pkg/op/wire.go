package op

import (
	"encoding/json"
	"time"
)

// Types of the bodies that the roles exchange.
const (
	WorkType     = "ops.v1.work"
	ResultType   = "ops.v1.result"
	AckType      = "ops.v1.result_ack"
	BeatType     = "ops.v1.heartbeat"
	AcceptedType = "ops.v1.submit_response"
)

// Work tells an executor about one granted attempt. It is a hint: the grant is
// in the journal, and only the current attempt's result counts.
type Work struct {
	Type      string    `json:"type"`
	Partition int       `json:"partition"`
	Attempt   int       `json:"attempt"` // fencing token together with op_id
	LeaseEnds time.Time `json:"lease_ends"`
	// Lease is the same as a duration, so that an executor with a wrong clock
	// still knows how long it may work.
	Lease     time.Duration   `json:"lease"`
	Operation Operation       `json:"operation"`
	CausedBy  string          `json:"caused_by,omitempty"`
	Entity    json.RawMessage `json:"entity,omitempty"` // snapshot the attempt works on; absent when there is none
}

// Result is what an executor reports about one attempt.
type Result struct {
	Type     string          `json:"type"`
	OpID     string          `json:"op_id"`
	Target   string          `json:"target_entity_id"`
	Attempt  int             `json:"attempt"`
	Executor string          `json:"executor"`
	Duration time.Duration   `json:"duration"` // of the execution, not of the wait
	Change   json.RawMessage `json:"change,omitempty"`
	Failure  *Failure        `json:"failure,omitempty"`
}

// Beat says that an attempt is being worked on. It goes where results go, and
// prolongs the attempt's lease by another attempt_timeout from the instant at
// which the owner records it, never past the operation's deadline (contract §5).
type Beat struct {
	Type     string `json:"type"`
	OpID     string `json:"op_id"`
	Target   string `json:"target_entity_id"`
	Attempt  int    `json:"attempt"`
	Executor string `json:"executor"`
}

// ResultAck answers a [Result] or a [Beat] once it is durable.
type ResultAck struct {
	Type     string `json:"type"`
	OpID     string `json:"op_id"`
	Attempt  int    `json:"attempt"`
	Accepted bool   `json:"accepted"` // false: the attempt was not the current one, nothing changed
	Why      string `json:"why,omitempty"`
	// Lease answers a Beat: how long the attempt may go on from now.
	Lease time.Duration `json:"lease,omitempty"`
}

// Accepted answers a submission once it is durable in the log.
type Accepted struct {
	Type   string   `json:"type"`
	OpIDs  []string `json:"op_ids"`
	Stream string   `json:"stream"`
	Seq    uint64   `json:"seq"`
}
