package executor

import (
	"context"
	"encoding/json"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

const (
	// reportMargin is how long after its lease an attempt is still reported. The
	// owner may have been dead for a part of the lease; once it is back, it
	// grants anew and refuses what is late.
	reportMargin = 30 * time.Second

	// The pause between two reports doubles from the first to the last.
	firstPause = 5 * time.Millisecond
	lastPause  = 500 * time.Millisecond

	// The patience with one report doubles likewise. A commit waits for an
	// election of the server in the worst case, which takes seconds: asking
	// more often would only pile up refused copies in the journal.
	firstPatience = time.Second
	lastPatience  = 8 * time.Second
)

// report tells the owner what became of the attempt until it answers, ctx ends
// or the time is over.
func (e *executor) report(ctx context.Context, w *op.Work, data []byte, until time.Time, touch func()) (accepted, answered bool) {
	pause, patience := firstPause, firstPatience
	started := time.Now()
	touched := started
	for n := 0; ; n++ {
		if n > 0 {
			e.stats.Repeats.Add(1)
			e.metrics.ReportRetries.Inc()
		}
		ack, err := e.ask(ctx, w, data, patience)
		if err == nil {
			e.metrics.ReportSeconds.Observe(time.Since(started).Seconds())
			return e.answered(w, ack), true
		}
		if ctx.Err() != nil || !wait(ctx, pause) || time.Now().After(until) {
			e.stats.Unanswered.Add(1)
			e.log.Warn("no owner answered the report; the attempt will lapse", "op_id", w.Operation.ID, "attempt", w.Attempt,
				"partition", w.Partition, "reports", n+1, "error", err)
			return false, false
		}
		if time.Since(touched) > touchEvery {
			touch()
			touched = time.Now()
		}
		pause = min(2*pause, lastPause)
		patience = min(2*patience, lastPatience)
	}
}

// ask sends one report and reads its answer. An answer about something else is
// an error like none at all.
func (e *executor) ask(ctx context.Context, w *op.Work, data []byte, patience time.Duration) (*op.ResultAck, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	body, err := e.bus.Report(ctx, w.Partition, data)
	if err != nil {
		return nil, err
	}
	var answer struct {
		op.ResultAck
		Message string `json:"message"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	ack := &answer.ResultAck
	if ack.Type == op.ErrorType {
		// The owner cannot read it, and never will.
		return &op.ResultAck{OpID: w.Operation.ID, Attempt: w.Attempt, Why: answer.Message}, nil
	}
	if ack.Type != op.AckType || ack.OpID != w.Operation.ID || ack.Attempt != w.Attempt {
		return nil, op.Errorf(op.CodeWrongType, "type", "the answer is not an acknowledgement of this report")
	}
	return ack, nil
}

func (e *executor) answered(w *op.Work, ack *op.ResultAck) bool {
	if ack.Accepted {
		e.stats.Accepted.Add(1)
		return true
	}
	e.stats.Refused.Add(1)
	e.log.Info("report refused, nothing changed", "op_id", w.Operation.ID, "attempt", w.Attempt, "why", ack.Why)
	return false
}

// wait reports false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
