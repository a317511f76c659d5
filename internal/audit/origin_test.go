package audit_test

import (
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// What an event tells of a submission, and the words of its retry_reason, are those
// that the history leads to.
func TestEventsTellWhereAnOperationComesFrom(t *testing.T) {
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	one, three, zero := 1, 3, 0
	complexUpdate := func(e op.Event, id, target string, priority op.Priority) op.Event {
		e.OpID, e.OpType, e.Target, e.Priority = id, op.TypeComplexUpdate, target, priority
		return e
	}
	for _, c := range []struct {
		name  string
		step  uint64 // of partition 0
		seq   uint64
		event op.Event
		spoil func(e *op.Event)
	}{
		{
			"tried again", 18, 23, complexUpdate(op.Event{ID: "0-18-1", Name: op.EventSubmitted, Status: op.Pending, RetryOf: "old", Traceparent: trace}, "x", "e3", 5),
			func(e *op.Event) { e.RetryOf = "" },
		},
		{
			"traced", 19, 24, complexUpdate(op.Event{
				ID: "0-19-1", Name: op.EventPromoted, Attempt: 1, From: op.Pending, Status: op.Executing, Winner: "x", Decision: "d17", Effective: 9, Traceparent: trace,
			}, "x", "e3", 5),
			func(e *op.Event) { e.Traceparent = "" },
		},
		{
			"by the priority it was granted with", 20, 25, complexUpdate(op.Event{
				ID: "0-20-1", Name: op.EventCompleted, Attempt: 1, From: op.Executing, Status: op.Succeeded, Effective: 9, Traceparent: trace,
				ExecutionMS: new(float64), Version: 1, Revision: 1,
			}, "x", "e3", 5),
			func(e *op.Event) { e.Effective = 5 },
		},
		{
			"caused", 21, 26,
			op.Event{
				ID: "0-21-1", Name: op.EventSubmitted, OpID: "z", OpType: op.TypeFollowUp, Target: "e1", Priority: 10, Status: op.Pending, CausedBy: "f",
			},
			func(e *op.Event) { e.CausedBy = "" },
		},
		{
			"failed", 5, 5, complexUpdate(op.Event{
				ID: "0-5-2", Name: op.EventRetry, From: op.Failed, Status: op.Pending, RetryCount: &one, MaxRetries: &three, BackoffMS: 100, RetryReason: "the attempt failed",
			}, "d", "e1", 5),
			func(e *op.Event) { e.RetryReason = "the attempt's lease ran out" },
		},
		{
			"lapsed", 10, 10, complexUpdate(op.Event{
				ID: "0-10-1", Name: op.EventRetry, Attempt: 2, From: op.Executing, Status: op.Pending, RetryCount: &one, MaxRetries: &three, BackoffMS: 90,
				RetryReason: "the attempt's lease ran out",
			}, "d", "e1", 5),
			func(e *op.Event) { e.RetryReason = "the attempt failed" },
		},
		{
			"came too late", 14, 14,
			op.Event{
				ID: "0-14-1", Name: op.EventStaleCommit, OpID: "d", Target: "e1", Attempt: 2, Partition: &zero, RetryReason: "the current attempt is 3",
			},
			func(e *op.Event) { e.RetryReason = "" },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := story()
			x := h.get(0, 18).In[0].Submit
			x.Traceparent, x.Operation.RetryOf = trace, "old"
			s := h.get(0, c.step)
			e := c.event
			e.Type, e.At, e.Process, e.Seq = op.EventType, s.At, s.Owner, c.seq
			a := h.read(t, audit.Options{Events: true})
			a.CheckEvent(e.Name, e.Target, &e)
			wantOnly(t, a.Finish(true))
			c.spoil(&e)
			a.CheckEvent(e.Name, e.Target, &e)
			wantOnly(t, a.Finish(true), audit.ViewsEvent)
		})
	}
}
