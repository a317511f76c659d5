package worker

import (
	"errors"

	"github.com/hierarchy-bus/hierarchy/internal/executor"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Why the context of a handler ended, for [context.Cause] and errors.Is.
var (
	// ErrLeaseOver: the attempt has used its time. It is also
	// [context.DeadlineExceeded].
	ErrLeaseOver = executor.ErrLeaseOver
	// ErrRevoked: the operation was cancelled, preempted or granted anew.
	ErrRevoked = executor.ErrRevoked
	// ErrDrained: the worker ends and has waited for as long as it may. Another
	// worker makes the attempt.
	ErrDrained = executor.ErrDrained
)

// ErrStuck: so many handlers do not return, although their attempts are over, that
// no other can run. Only a new process gets rid of them.
var ErrStuck = executor.ErrStuck

// codeBadParams is the code of params that do not fit the handler's type.
const codeBadParams = "bad_params"

// Terminal says that trying again cannot help: the operation ends as REJECTED with
// the reason terminal_error and err's message. Of nil it is nil.
func Terminal(err error) error {
	if err == nil {
		return nil
	}
	return &terminalError{err}
}

// WithCode gives err a name for machines, which stands in the operation's record:
// a short word such as no_paint, at most 64 bytes. Of nil it is nil.
func WithCode(code string, err error) error {
	if err == nil {
		return nil
	}
	return &codedError{code, err}
}

type terminalError struct{ err error }

// Error is the message of what is terminal.
func (e *terminalError) Error() string { return e.err.Error() }

// Unwrap returns what is terminal.
func (e *terminalError) Unwrap() error { return e.err }

type codedError struct {
	code string
	err  error
}

// Error is the message of what has the code.
func (e *codedError) Error() string { return e.err.Error() }

// Unwrap returns what has the code.
func (e *codedError) Unwrap() error { return e.err }

// failure turns a handler's error into what is reported. The outermost code
// counts. A [*op.Failure] in the chain keeps what it says.
func failure(err error) *op.Failure {
	f := &op.Failure{}
	var own *op.Failure
	if errors.As(err, &own) {
		*f = *own
	}
	f.Message = err.Error()
	var coded *codedError
	if errors.As(err, &coded) {
		f.Code = coded.code
	}
	var terminal *terminalError
	if errors.As(err, &terminal) {
		f.Terminal = true
	}
	return f
}
