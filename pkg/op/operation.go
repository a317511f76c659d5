package op

import (
	"encoding/json"
	"time"
)

// Schema names the one version of the wire format of an operation.
const Schema = "ops.v1.operation"

// Limits of a submission (contract §2). Each is refused with a code, never
// silently cut.
const (
	MaxBody   = 32 << 10 // bytes
	MaxDepth  = 16       // nested objects and arrays
	MaxString = 4 << 10  // bytes of one decoded string
	MaxToken  = 64       // characters of an id
	MaxArray  = 256      // operations of one array
	MaxRetry  = 1000     // upper bound of max_retries
	MaxLabels = 64       // labels of one operation
)

// Conflict says what becomes of an operation that lost (contract §3.5).
type Conflict string

// The policies for losers.
const (
	OnConflictReject Conflict = "reject" // REJECTED with reason, winner and decision
	OnConflictQueue  Conflict = "queue"  // stays staged for the next round
	OnConflictRetry  Conflict = "retry"  // leaves and comes back after backoff, counted as a retry
)

// The policies that an operator may choose by type instead (ADR 0008). They are
// not for submitters to ask for.
const (
	OnConflictSupersede Conflict = "supersede" // queued; a newer one of the same submitter and type replaces it
	OnConflictCoalesce  Conflict = "coalesce"  // queued; one identical to the winner shares its outcome
)

// Operation is one request to change one target (contract §2).
type Operation struct {
	ID              string            `json:"op_id"`
	Type            string            `json:"op_type"`
	Target          string            `json:"target_entity_id"`
	Params          json.RawMessage   `json:"params,omitempty"`
	Priority        Priority          `json:"priority"`
	Parent          string            `json:"parent_op_id,omitempty"`
	RetryOf         string            `json:"retry_of,omitempty"` // data: the exhausted operation that this one tries again
	Source          string            `json:"source_entity_id,omitempty"`
	MaxRetries      *int              `json:"max_retries,omitempty"`
	OnConflict      Conflict          `json:"on_conflict,omitempty"`
	Preemptible     bool              `json:"preemptible,omitempty"`
	Deadline        *Deadline         `json:"deadline,omitempty"`
	ExpectedVersion *int64            `json:"expected_version,omitempty"`
	CreatedAt       json.RawMessage   `json:"created_at,omitempty"` // data: never used to decide anything
	Submitter       string            `json:"submitter,omitempty"`  // data
	Labels          map[string]string `json:"labels,omitempty"`     // data
}

// Retries returns how often the operation may be tried again after a failure:
// n retries are at most n+1 attempts.
func (o *Operation) Retries() int {
	if o.MaxRetries == nil {
		return 0
	}
	return *o.MaxRetries
}

// Deadline is an instant, or a duration from the acceptance of the operation.
// Exactly one of the two is set. On the wire it is an RFC 3339 string or a Go
// duration string such as "90s".
type Deadline struct {
	At    time.Time
	After time.Duration
}

// Resolve returns the instant for an operation accepted at t.
func (d *Deadline) Resolve(t time.Time) time.Time {
	if d.After > 0 {
		return t.Add(d.After)
	}
	return d.At
}

// MarshalJSON writes the RFC 3339 instant or the duration.
func (d Deadline) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads an RFC 3339 instant or a positive duration. Its errors are
// of type [*Error].
func (d *Deadline) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return Errorf(CodeWrongType, fieldDeadline, "deadline must be a string: an RFC 3339 instant or a duration")
	}
	v, err := parseDeadline(s)
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// Token reports whether s can be an id: 1 to 64 characters out of
// [A-Za-z0-9_-], so that it can never become a subject wildcard.
func Token(s string) bool {
	if len(s) == 0 || len(s) > MaxToken {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
