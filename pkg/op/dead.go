package op

// DeadType is the value of "type" in a [Dead].
const DeadType = "ops.v1.dead"

// Dead is what OPS_DEAD holds for an operation that was given up (REJECTED as
// max_retries or terminal_error): its record and the operation itself, so that
// somebody can look at it and try it again, with retry_of. It goes when such an
// operation is accepted, or ages out like its record.
type Dead struct {
	Type      string    `json:"type"` // DeadType
	Record    Record    `json:"record"`
	Operation Operation `json:"operation"`
}
