package entity

import (
	"fmt"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Codes of the failures that [Compute] gives ([op.Failure].Code). They are public
// and never reused.
const (
	FailNotFound    = "not_found"         // retryable: a creation may be on its way
	FailLookup      = "lookup_failed"     // retryable: another entity could not be read
	FailExists      = "exists"            // creation of what is there
	FailDeleted     = "deleted"           // the entity is a tombstone
	FailStale       = "stale_version"     // expected_version is not the current one
	FailBadParams   = "bad_params"        // params do not fit the type
	FailWrongType   = "wrong_type"        // the field has another JSON type
	FailNoField     = "no_such_field"     // the source has no such field
	FailCycle       = "cycle"             // the parent lies below the child
	FailTooDeep     = "too_deep"          // the tree would have more than MaxDepth levels
	FailChildren    = "has_children"      // only leaves can be deleted
	FailTooMany     = "too_many_children" // the parent has MaxChildren children
	FailTooLarge    = "too_large"         // the entity would pass MaxFields or MaxSize
	FailOutOfRange  = "out_of_range"      // the sum is not a number that JSON readers share
	FailUnknownType = "unknown_type"      // no built-in type of that name
)

// terminal is a failure that trying again cannot mend.
func terminal(code, format string, args ...any) *op.Failure {
	return &op.Failure{Code: code, Message: fmt.Sprintf(format, args...), Terminal: true}
}

// retryable is a failure that may be gone at the next attempt.
func retryable(code, format string, args ...any) *op.Failure {
	return &op.Failure{Code: code, Message: fmt.Sprintf(format, args...)}
}

// badParams is what an edge should have refused.
func badParams(err *op.Error) *op.Failure {
	f := terminal(FailBadParams, "%s", err.Message)
	f.Reason = op.Invalid
	return f
}

// stale is the failure of optimistic concurrency; it names the current version.
func stale(id string, expected int64, current uint64) *op.Failure {
	f := terminal(FailStale, "%s is at version %d, the operation expected %d", id, current, expected)
	f.Reason, f.CurrentVersion = op.StaleVersion, &current
	return f
}
