package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Codes of failures that are the executor's own words. A handler is free to use
// any other.
const (
	CodeNoHandler   = "no_handler" // the executor that took the work has none, or nobody listens
	CodePanic       = "panic"
	CodeTimeout     = "timeout"      // the lease was over before the handler was done
	CodeSnapshot    = "bad_snapshot" // the entity in the work cannot be read
	CodeBadChange   = "bad_change"   // the handler's change does not fit the entity
	CodeTooLarge    = "too_large"    // nor would any entity hold it, or no message carry it
	CodeBadResponse = "bad_response" // a handler in another language answered something else
)

// Limits of what is reported, in bytes. A result becomes a part of one message of
// the journal, and its failure a part of a record and of events. The largest
// change of a built-in type is below.
const (
	MaxChange         = 300 << 10 // as JSON; a larger one is a terminal failure
	MaxFailureMessage = 4 << 10   // the rest is cut off
	MaxFailureCode    = 64        // likewise, and of a failure's reason
)

// Work without a handler here is given back so often, each time after twice as
// long, before the attempt fails.
const (
	passOn      = 3
	passOnAfter = 50 * time.Millisecond
)

// attempt takes one work message to its end: run, report, acknowledge. It comes
// with a handler's slot, which it frees before it reports.
func (e *executor) attempt(ctx context.Context, m bus.WorkItem, received time.Time) {
	e.stats.Received.Add(1)
	e.stats.InFlight.Add(1)
	defer e.stats.InFlight.Add(-1)
	var w op.Work
	if err := decodeWork(m.Data, &w); err != nil {
		e.stats.Garbage.Add(1)
		e.metrics.Dropped.WithLabelValues("unreadable").Inc()
		e.log.Warn("work that cannot be read is dropped", "subject", m.Subject, "error", err)
		<-e.handlers
		m.Ack()
		return
	}
	if (m.Delivered > 1 || received.After(w.LeaseEnds)) && e.superseded(ctx, &w) {
		e.stats.Superseded.Add(1)
		e.metrics.Dropped.WithLabelValues("lease_over").Inc()
		<-e.handlers
		m.Ack()
		return
	}
	h := e.take(ctx, &w, received)
	defer h.cancel(errHandled)
	started := e.world.Now()
	o := e.run(h, m)
	if o.nobody && m.Delivered <= passOn {
		// The pool may have an executor that knows the type: a release is being
		// rolled out, or the handler is about to start.
		e.metrics.Dropped.WithLabelValues("no_handler").Inc()
		m.Nak(passOnAfter << (m.Delivered - 1))
		return
	}
	took := e.world.Now().Sub(started)
	e.metrics.HandlerSeconds.WithLabelValues(w.Operation.Type).Observe(took.Seconds())
	outcome := e.finish(ctx, h, o, took, m)
	e.metrics.Attempts.WithLabelValues(w.Operation.Type, outcome).Inc()
	if outcome == unreported && ctx.Err() != nil {
		// The drain ran out of time, the lease has not: somebody else may make
		// it. Handlers may run more than once.
		e.giveBack(m)
		return
	}
	// Answered or not, the attempt is over: what comes next is a new grant.
	m.Ack()
}

// How an attempt ended, for the metrics.
const (
	succeeded  = "succeeded"
	failed     = "failed"
	refused    = "refused"    // its report came too late
	revoked    = "revoked"    // it was taken away and is not reported
	unreported = "unreported" // nobody answered its report
)

// finish reports what came of an attempt, if anybody wants to know.
func (e *executor) finish(ctx context.Context, h *hold, o outcome, took time.Duration, m bus.WorkItem) string {
	switch {
	case errors.Is(o.ended, ErrRevoked):
		e.stats.Revoked.Add(1)
		e.log.Debug("an attempt was taken away, and its handler told to stop", "op_id", h.w.Operation.ID, "attempt", h.w.Attempt)
		return revoked
	case o.ended != nil && o.failure == nil:
		return unreported // the drain is over
	}
	data, isFailure := e.result(h.w, o.change, o.failure, took)
	how := succeeded
	if isFailure {
		how = failed
		e.stats.Failed.Add(1)
	} else {
		e.stats.Succeeded.Add(1)
	}
	_, ends := h.until()
	switch accepted, answered := e.report(ctx, h.w, data, ends.Add(reportMargin), m.Touch); {
	case !answered:
		return unreported
	case !accepted:
		return refused
	}
	return how
}

// decodeWork reads a work message and refuses what could not be reported on.
func decodeWork(data []byte, w *op.Work) error {
	if err := json.Unmarshal(data, w); err != nil {
		return err
	}
	switch o := &w.Operation; {
	case w.Type != op.WorkType:
		return fmt.Errorf("type %.40q is not %s", w.Type, op.WorkType)
	case !op.Token(o.ID) || !op.Token(o.Target) || o.Type == "":
		return errors.New("an operation without id, target or type")
	case w.Attempt < 1 || w.Partition < 0:
		return fmt.Errorf("attempt %d of partition %d", w.Attempt, w.Partition)
	}
	return nil
}

// superseded asks the record whether an attempt is over that probably is: it was
// delivered before, or it has waited in the queue until its lease ended, as far as
// this clock knows. It saves work and decides nothing: when in doubt the attempt
// runs, and the resolver refuses its result. A wrong clock costs a read or a
// needless attempt.
func (e *executor) superseded(ctx context.Context, w *op.Work) bool {
	data, found, err := e.bus.Record(ctx, w.Operation.ID)
	if err != nil || !found {
		return false
	}
	var r struct {
		Status  op.Status `json:"status"`
		Attempt int       `json:"attempt"`
	}
	if json.Unmarshal(data, &r) != nil || r.Attempt < w.Attempt {
		return false // the record lags behind the grant
	}
	return r.Attempt > w.Attempt || r.Status != op.Executing
}

// result encodes what is reported, and says whether it is a failure. A change
// that cannot be encoded or is too large is one.
func (e *executor) result(w *op.Work, c *entity.Change, f *op.Failure, took time.Duration) (data []byte, failed bool) {
	r := op.Result{
		Type: op.ResultType, OpID: w.Operation.ID, Target: w.Operation.Target, Attempt: w.Attempt,
		Executor: e.cfg.Name, Duration: took, Failure: bounded(f),
	}
	if f == nil {
		raw, err := op.Marshal(c)
		switch {
		case err != nil: // it is not JSON where it claims to be
			r.Failure = &op.Failure{Code: CodeBadChange, Message: "the change cannot be encoded: " + err.Error(), Terminal: true}
		case len(raw) > MaxChange:
			r.Failure = &op.Failure{
				Code: CodeTooLarge, Message: fmt.Sprintf("the change has %d bytes as JSON, the limit is %d", len(raw), MaxChange), Terminal: true,
			}
		default:
			r.Change = raw
		}
	}
	data, _ = op.Marshal(&r) // the change is JSON, and the rest strings and numbers
	return data, r.Failure != nil
}

// bounded returns the failure within the limits of a report. The handler's own is
// left as it is: it may be used again.
func bounded(f *op.Failure) *op.Failure {
	if f == nil {
		return nil
	}
	b := *f
	b.Code, b.Message = cut(f.Code, MaxFailureCode), cut(f.Message, MaxFailureMessage)
	b.Reason = op.Reason(cut(string(f.Reason), MaxFailureCode))
	return &b
}

// cut keeps s to n bytes of valid UTF-8, with an ellipsis where something is
// missing.
func cut(s string, n int) string {
	const mark = "…"
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= n {
		return s
	}
	for n -= len(mark); !utf8.RuneStart(s[n]); {
		n--
	}
	return s[:n] + mark
}
