package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// The exit codes. They are public: scripts depend on them.
const (
	exitDone        = 0
	exitOther       = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitLost        = 4
	exitFailed      = 5
	exitCancelled   = 6
	exitTimeout     = 7
	exitUnreachable = 8
	exitPermission  = 9
	exitInterrupted = 130
)

const exitHelp = `Exit codes:
  0 done                  5 executed and failed      9 no permission
  1 any other error       6 cancelled or expired   130 interrupted
  2 wrong usage           7 timed out waiting
  3 not found             8 NATS unreachable
  4 lost arbitration`

// exitError is an error with an exit code of its own. Without an error it ends
// the program silently: what there is to say has been said.
type exitError struct {
	code int
	err  error
}

// Error returns the text of the error inside.
func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

// Unwrap returns the error inside.
func (e *exitError) Unwrap() error { return e.err }

func exitWith(code int, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...)}
}

// silently ends the program with code and no further word.
func silently(code int) error {
	if code == exitDone {
		return nil
	}
	return &exitError{code: code}
}

func usagef(format string, args ...any) error { return exitWith(exitUsage, format, args...) }

// exit prints what went wrong and returns the exit code. ctx is the one that a
// signal ends.
func (a *app) exit(ctx context.Context, err error) int {
	if err == nil {
		return exitDone
	}
	code := exitCode(err)
	if ctx.Err() != nil && code != exitUsage {
		fmt.Fprintln(a.errs, "hierarchy: interrupted")
		return exitInterrupted
	}
	var own *exitError
	if errors.As(err, &own) && own.err == nil {
		return own.code
	}
	fmt.Fprintln(a.errs, "hierarchy:", err)
	if e := op.AsError(err); e != nil && e.Hint != "" {
		fmt.Fprintln(a.errs, "hint:", e.Hint)
	} else if hint := hints[code]; hint != "" {
		fmt.Fprintln(a.errs, "hint:", hint)
	}
	return code
}

var hints = map[int]string{
	exitUnreachable: "is a server running there? `hierarchy dev` starts one; --server or NATS_URL say where to look",
	exitPermission:  "--creds, --user and --context choose who you are",
}

func exitCode(err error) int {
	var own *exitError
	if errors.As(err, &own) {
		return own.code
	}
	if e := op.AsError(err); e != nil {
		switch e.Code {
		case op.CodeNotFound:
			return exitNotFound
		case op.CodeUnavailable:
			return exitUnreachable
		}
		return exitUsage
	}
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrPermissionViolation), errors.Is(err, nats.ErrAuthExpired):
		return exitPermission
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrDisconnected):
		return exitUnreachable
	case errors.Is(err, bus.ErrNotFound):
		return exitNotFound
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return exitTimeout
	}
	return exitOther
}

// exitOf is the exit code for the end of one operation.
func exitOf(s op.Status, r op.Reason) int {
	switch s {
	case op.Succeeded:
		return exitDone
	case op.Cancelled:
		return exitCancelled
	case op.Rejected:
	case op.Pending, op.Executing, op.Failed:
		return exitTimeout
	}
	switch r {
	case op.LowerPriority, op.LaterSubmission, op.StagingFull, op.Overloaded, op.Paused:
		return exitLost
	case op.MaxRetries, op.TerminalError, op.StaleVersion, op.Preempted:
		return exitFailed
	case op.Expired, op.CancelledByRequest, op.CancelledWithParent:
		return exitCancelled
	case op.Invalid, op.UnknownType:
		return exitUsage
	}
	return exitOther
}
