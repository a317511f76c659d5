package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

const exitHelp = `Exit codes:
  0 done                  5 executed and failed      9 no permission
  1 any other error       6 cancelled or expired   130 interrupted
  2 wrong usage           7 timed out waiting
  3 not found             8 NATS unreachable
  4 lost arbitration`

// silent ends the program with an exit code and no further word: what there is
// to say has been said.
type silent int

// Error is for those who expect one.
func (s silent) Error() string { return fmt.Sprintf("exit code %d", int(s)) }

func silently(code int) error {
	if code == daemon.ExitDone {
		return nil
	}
	return silent(code)
}

func exitWith(code int, format string, args ...any) error {
	return daemon.Exit(code, fmt.Errorf(format, args...))
}

// hinted is an error with a word on how to mend it.
type hinted struct {
	error
	hint string
}

// Unwrap returns the error inside.
func (h *hinted) Unwrap() error { return h.error }

// withHint gives err a hint; nil stays nil.
func withHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &hinted{err, hint}
}

func usagef(format string, args ...any) error { return exitWith(daemon.ExitUsage, format, args...) }

// exit prints what went wrong and returns the exit code. ctx is the one that a
// signal ends.
func (a *app) exit(ctx context.Context, err error) int {
	if err == nil {
		return daemon.ExitDone
	}
	var code silent
	if errors.As(err, &code) {
		return int(code)
	}
	n := daemon.ExitCode(err)
	if ctx.Err() != nil && n != daemon.ExitUsage {
		fmt.Fprintln(a.errs, "hierarchy: interrupted")
		return daemon.ExitInterrupted
	}
	fmt.Fprintln(a.errs, "hierarchy:", err)
	if hint := hintFor(err, n); hint != "" {
		fmt.Fprintln(a.errs, "hint:", hint)
	}
	return n
}

func hintFor(err error, code int) string {
	var own *hinted
	if errors.As(err, &own) {
		return own.hint
	}
	if e := op.AsError(err); e != nil {
		return e.Hint
	}
	switch {
	case errors.Is(err, bus.ErrNotSetUp):
		return "`hierarchy setup` creates what is missing on this server"
	case code == daemon.ExitUnreachable:
		return "is a server running there? `hierarchy dev` starts one; --server, --context or NATS_URL say where to look"
	case code == daemon.ExitPermission:
		return "--creds, --nkey, --user and --context choose who you are"
	}
	return ""
}

// exitOf is the exit code for the end of one operation.
func exitOf(s op.Status, r op.Reason) int {
	switch s {
	case op.Succeeded:
		return daemon.ExitDone
	case op.Cancelled:
		return daemon.ExitCancelled
	case op.Rejected:
	case op.Pending, op.Executing, op.Failed:
		return daemon.ExitTimeout
	}
	switch r {
	case op.LowerPriority, op.LaterSubmission, op.StagingFull, op.Overloaded, op.Paused, op.Superseded, op.Coalesced:
		return daemon.ExitLost
	case op.MaxRetries, op.TerminalError, op.StaleVersion, op.Preempted:
		return daemon.ExitFailed
	case op.Expired, op.CancelledByRequest, op.CancelledWithParent:
		return daemon.ExitCancelled
	case op.Invalid, op.UnknownType:
		return daemon.ExitUsage
	}
	return daemon.ExitOther
}

// worst is the exit code for operations that ended with these codes: the one
// that asks most of whoever reads it.
func worst(codes map[int]bool) int {
	for _, code := range []int{
		daemon.ExitUsage, daemon.ExitOther, daemon.ExitTimeout, daemon.ExitFailed, daemon.ExitCancelled, daemon.ExitLost,
	} {
		if codes[code] {
			return code
		}
	}
	return daemon.ExitDone
}
