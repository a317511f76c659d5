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
	CodeNoHandler = "no_handler" // no executor that took the work serves the type
	CodePanic     = "panic"
	CodeTimeout   = "timeout"      // the lease ended first
	CodeSnapshot  = "bad_snapshot" // the entity in the work cannot be read
	CodeBadChange = "bad_change"   // the handler's change does not fit the entity
	CodeTooLarge  = "change_too_large"
)

// Limits of what is reported, in bytes. A result becomes a part of one message of
// the journal, and its failure a part of a record and of events. The largest
// change of a built-in type is below.
const (
	MaxChange         = 300 << 10 // as JSON; a larger one is a terminal failure
	MaxFailureMessage = 4 << 10   // the rest is cut off
	MaxFailureCode    = 64        // likewise, and of a failure's reason
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
	lease := w.Lease
	if lease <= 0 {
		lease = DefaultLease
	}
	started := time.Now()
	change, failure := e.run(ctx, &w, received.Add(lease), m.Touch)
	took := time.Since(started)
	e.metrics.HandlerSeconds.WithLabelValues(w.Operation.Type).Observe(took.Seconds())

	data, failed := e.result(&w, change, failure, took)
	outcome := "succeeded"
	if failed {
		outcome = "failed"
		e.stats.Failed.Add(1)
	} else {
		e.stats.Succeeded.Add(1)
	}
	switch accepted, answered := e.report(ctx, &w, data, received.Add(lease+reportMargin), m.Touch); {
	case !answered:
		outcome = "unreported"
	case !accepted:
		outcome = "refused"
	}
	e.metrics.Attempts.WithLabelValues(w.Operation.Type, outcome).Inc()
	if outcome == "unreported" && ctx.Err() != nil {
		// The drain ran out of time, the lease has not: somebody else may make
		// it. Handlers may run more than once.
		e.giveBack(m)
		return
	}
	// Answered or not, the attempt is over: what comes next is a new grant.
	m.Ack()
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
