package client

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// How a call or an operation can go wrong, for errors.Is. Each may be wrapped in
// an [*Error] that says more. They fall into three groups.
//
// An operation ended, and not with SUCCEEDED. The end is final, and repeating the
// same id returns the same end:
var (
	// ErrLost: another operation won, or a newer one of the same submitter took
	// its place. The entity was not touched. The error names the winner.
	ErrLost = errors.New("the operation lost to another")
	// ErrFailed: it was executed and failed, for good or as often as it may be
	// tried. The error wraps the last [*op.Failure].
	ErrFailed = errors.New("the operation was executed and failed")
	// ErrStale: the entity was not at the expected version.
	ErrStale = errors.New("the entity is not at the expected version")
	// ErrCancelled: somebody cancelled it, or one of its ancestors.
	ErrCancelled = errors.New("the operation was cancelled")
	// ErrExpired: its deadline, or the greatest age of a pending operation,
	// passed before it could be executed.
	ErrExpired = errors.New("the operation expired")
)

// The system refused. Nothing was stored, and nothing will happen; where an
// operation was accepted and then refused by the resolver, its end says so:
var (
	// ErrOverloaded: no room now; see [RetryAfter].
	ErrOverloaded = errors.New("there is no room for another operation")
	// ErrPaused: an operator has stopped the type or the target.
	ErrPaused = errors.New("paused by an operator")
	// ErrNotAllowed: the policy does not allow the priority to this submitter or
	// this type.
	ErrNotAllowed = errors.New("not allowed by the policy")
	// ErrInvalid: the request broke a rule; the error names the field, and how to
	// mend it.
	ErrInvalid = errors.New("the request is not valid")
	// ErrNotFound: there is no such operation, entity, version or field, or its
	// record has aged out.
	ErrNotFound = errors.New("not found")
	// ErrEnded: the operation has ended, so that there is nothing to cancel.
	ErrEnded = errors.New("the operation has ended already")
)

// Nobody can say, or nobody answered:
var (
	// ErrUnknown: the request was sent and nobody said what became of it. It may
	// or may not be stored. Send the same operation with the same id again: it is
	// the same submission, whichever it was.
	ErrUnknown = errors.New("the outcome is unknown")
	// ErrUnavailable: nobody answered. A question can be asked again, and of a
	// submission nothing was stored.
	ErrUnavailable = errors.New("nobody answered")
	// ErrPermission: this connection may not do that. Nothing was stored.
	ErrPermission = errors.New("no permission")
	// ErrClosed: the client or its connection is closed.
	ErrClosed = errors.New("the client is closed")
)

// Error says what went wrong. It is one of the sentinels of this package, or two
// (a refusal after an attempt that nobody answered is [ErrUnknown] as well).
type Error struct {
	OpID    string    // the operation, where it is about one
	Code    string    // OPS-1xxx of a refusal, OPS-2xxx of an end; "" where there is none
	Reason  op.Reason // of an end
	Field   string    // of a refusal: where the mistake is, such as params.new_value or [3].priority
	Message string
	Hint    string // how to mend it
	// RetryAfter is when it is worth trying again; 0: nobody said.
	RetryAfter time.Duration
	Winner     string // of ErrLost

	kinds []error
	cause error
}

// Error names the operation, the code and what happened.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("client: ")
	if e.OpID != "" {
		b.WriteString(e.OpID + ": ")
	}
	if e.Code != "" {
		b.WriteString(e.Code + ": ")
	}
	b.WriteString(e.Message)
	if e.Winner != "" {
		b.WriteString(" (" + e.Winner + " won)")
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, "; try again in %s", e.RetryAfter)
	}
	return b.String()
}

// Is reports whether target is one of the sentinels that e stands for.
func (e *Error) Is(target error) bool { return slices.Contains(e.kinds, target) }

// Unwrap returns the cause: an [*op.Error], an [*op.Failure], the error of a
// context or of the connection; nil where there is none.
func (e *Error) Unwrap() error { return e.cause }

// RetryAfter says when it is worth trying again, as the system has told; 0 where
// it has not. What was refused is sent again under the same id. What was accepted
// and has ended needs another id: the same one has the same end for ever.
func RetryAfter(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

// refusal is the error for what a role answered.
func refusal(opID string, e *op.Error) *Error {
	return &Error{
		OpID: opID, Code: e.Code, Field: e.Field, Message: e.Message, Hint: e.Hint,
		RetryAfter: time.Duration(e.RetryAfterMS) * time.Millisecond,
		kinds:      []error{kindOfCode(e.Code)}, cause: e,
	}
}

// kindOfCode is the sentinel for a code in an answer. Whatever has no case of its
// own is a mistake of the request, also in a release that knows more of them.
func kindOfCode(code string) error {
	switch code {
	case op.CodeNotFound:
		return ErrNotFound
	case op.CodeUnavailable:
		return ErrUnavailable
	case op.CodeOverloaded, op.Overloaded.Code():
		return ErrOverloaded
	case op.CodePaused:
		return ErrPaused
	case op.CodeNotAllowed:
		return ErrNotAllowed
	}
	return ErrInvalid
}

// mistake is a refusal that needs no server.
func mistake(opID, code, field, format string, args ...any) *Error {
	return refusal(opID, op.Errorf(code, field, format, args...))
}

// trouble is an error about the way, not about the request.
func trouble(opID string, kind, cause error, message string) *Error {
	if cause != nil {
		message += ": " + cause.Error()
	}
	e := &Error{OpID: opID, Message: message, kinds: []error{kind}, cause: cause}
	if errors.Is(kind, ErrUnknown) {
		e.Code, e.Hint = op.CodeUnavailable, op.Errorf(op.CodeUnavailable, "", "").Hint
	}
	return e
}

// kindOfEnd is the sentinel for an operation that has ended; nil for SUCCEEDED.
func kindOfEnd(r *op.Record) error {
	switch r.Status {
	case op.Succeeded:
		return nil
	case op.Cancelled:
		return ErrCancelled
	case op.Rejected, op.Pending, op.Executing, op.Failed:
	}
	switch r.Reason {
	case op.StagingFull, op.Overloaded:
		return ErrOverloaded
	case op.Expired:
		return ErrExpired
	case op.CancelledByRequest, op.CancelledWithParent:
		return ErrCancelled
	case op.MaxRetries, op.TerminalError:
		return ErrFailed
	case op.StaleVersion:
		return ErrStale
	case op.Paused:
		return ErrPaused
	case op.Invalid:
		if r.Error != nil && r.Error.Code == notAllowed {
			return ErrNotAllowed
		}
		return ErrInvalid
	case op.UnknownType:
		return ErrInvalid
	case op.LowerPriority, op.LaterSubmission, op.Superseded, op.Preempted, op.Coalesced:
	}
	return ErrLost
}

// notAllowed is the code of the failure with which a resolver refuses a priority.
const notAllowed = "priority_not_allowed"
