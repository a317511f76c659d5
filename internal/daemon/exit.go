package daemon

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Exit codes of every program. They are public: scripts depend on them.
const (
	ExitDone        = 0   // done
	ExitOther       = 1   // any other error
	ExitUsage       = 2   // the command line or the input makes no sense
	ExitNotFound    = 3   // no such operation or entity
	ExitLost        = 4   // the operation lost arbitration
	ExitFailed      = 5   // the operation was executed and failed
	ExitCancelled   = 6   // the operation was cancelled or expired
	ExitTimeout     = 7   // timed out waiting
	ExitUnreachable = 8   // NATS cannot be reached
	ExitPermission  = 9   // NATS refused the user, or what the user wanted
	ExitInterrupted = 130 // ended by a signal before it was done
)

// ExitError is an error that knows its exit code.
type ExitError struct {
	Code int
	Err  error
}

// Error returns the text of the error inside.
func (e *ExitError) Error() string { return e.Err.Error() }

// Unwrap returns the error inside.
func (e *ExitError) Unwrap() error { return e.Err }

// Exit gives err an exit code; nil stays nil.
func Exit(code int, err error) error {
	if err == nil {
		return nil
	}
	return &ExitError{code, err}
}

// ExitCode is the exit code for err.
func ExitCode(err error) int {
	if err == nil {
		return ExitDone
	}
	if own, ok := errors.AsType[*ExitError](err); ok {
		return own.Code
	}
	if e := op.AsError(err); e != nil {
		switch e.Code {
		case op.CodeNotFound:
			return ExitNotFound
		case op.CodeUnavailable:
			return ExitUnreachable
		}
		return ExitUsage
	}
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrAccountAuthExpired), errors.Is(err, nats.ErrPermissionViolation):
		return ExitPermission
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrDisconnected):
		return ExitUnreachable
	case errors.Is(err, bus.ErrNotFound):
		return ExitNotFound
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return ExitTimeout
	}
	return ExitOther
}
