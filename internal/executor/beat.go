package executor

import (
	"context"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// pulse is what came of a heartbeat.
type pulse struct {
	sent time.Time // when the one that was answered was sent
	ack  *op.ResultAck
}

// send sends a heartbeat in the background; what comes of it goes to answers.
func (h *hold) send(answers chan<- pulse) {
	h.mu.Lock()
	h.vital = h.alive || h.always
	h.alive, h.doubt = false, false
	until := h.ends
	h.mu.Unlock()
	h.flying, h.claimed = true, true
	h.e.spawn(func() { answers <- h.e.beat(h.ctx, h.w, until) })
}

// heard takes the owner's answer. Only a handler that is alive gets more time: the
// claim alone prolongs the lease at the owner's, and attempt_timeout still bounds
// a handler that hangs.
func (h *hold) heard(p pulse) {
	h.flying = false
	switch {
	case p.ack == nil: // nobody answered while the lease lasted
		h.due = h.e.world.Now().Add(h.lease / 3)
		return
	case !p.ack.Accepted:
		h.cancel(ErrRevoked)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.ack.Lease > 0 {
		h.lease = p.ack.Lease
	}
	h.ends = p.sent.Add(h.lease)
	if last := h.ends.Add(-margin(h.lease)); h.vital || last.Before(h.deadline) { // a new policy may be shorter
		h.deadline = last
	}
	h.due = p.sent.Add(h.lease / 3)
}

// beat tells the owner that the attempt is being worked on, until it is answered,
// the time is over or ctx ends.
func (e *executor) beat(ctx context.Context, w *op.Work, until time.Time) pulse {
	body, _ := op.Marshal(op.Beat{ // strings and numbers
		Type: op.BeatType, OpID: w.Operation.ID, Target: w.Operation.Target, Attempt: w.Attempt, Executor: e.cfg.Name,
	})
	pause := firstPause
	for {
		sent := e.world.Now()
		// A lease that is shorter than the usual patience leaves room for a repeat.
		ack, err := e.ask(ctx, w, body, min(firstPatience, max(until.Sub(sent)/3, firstPause)))
		if err == nil {
			e.stats.Beats.Add(1)
			outcome := "accepted"
			if !ack.Accepted {
				outcome = "refused"
			}
			e.metrics.Heartbeats.WithLabelValues(outcome).Inc()
			return pulse{sent: sent, ack: ack}
		}
		if ctx.Err() != nil {
			return pulse{}
		}
		if e.world.Sleep(ctx, pause) != nil || !e.world.Now().Before(until) {
			e.metrics.Heartbeats.WithLabelValues("unanswered").Inc()
			return pulse{}
		}
		pause = min(2*pause, lastPause)
	}
}
