package executor

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
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

	// The patience with one report doubles likewise. A commit may wait for an
	// election of the server, which takes seconds: asking more often would only
	// pile up refused copies in the journal. That a partition has a new owner is
	// heard at once, see reigns.
	firstPatience = 4 * time.Second
	lastPatience  = 8 * time.Second
)

// report tells the owner what became of the attempt until it answers, ctx ends
// or the time is over.
func (e *executor) report(ctx context.Context, w *op.Work, data []byte, until time.Time, touch func()) (accepted, answered bool) {
	pause, patience := firstPause, firstPatience
	started := e.world.Now()
	touched := started
	for n := 0; ; n++ {
		if n > 0 {
			e.stats.Repeats.Add(1)
			e.metrics.ReportRetries.Inc()
		}
		ack, err := e.ask(ctx, w, data, patience)
		if err == nil {
			e.metrics.ReportSeconds.Observe(e.world.Now().Sub(started).Seconds())
			return e.answered(w, ack), true
		}
		if ctx.Err() != nil || e.world.Sleep(ctx, pause) != nil || e.world.Now().After(until) {
			e.stats.Unanswered.Add(1)
			level := slog.LevelWarn
			if ctx.Err() != nil {
				level = slog.LevelDebug // the drain has one line for all of them
			}
			e.log.Log(ctx, level, "no owner answered the report; the attempt will lapse", "op_id", w.Operation.ID, "attempt", w.Attempt,
				"partition", w.Partition, "reports", n+1, "error", err)
			return false, false
		}
		if e.world.Now().Sub(touched) > touchEvery {
			touch()
			touched = e.world.Now()
		}
		pause = min(2*pause, lastPause)
		patience = min(2*patience, lastPatience)
	}
}

// ask sends one report or heartbeat and reads its answer. An answer about something else is
// an error like none at all.
func (e *executor) ask(ctx context.Context, w *op.Work, data []byte, patience time.Duration) (*op.ResultAck, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	defer context.AfterFunc(e.reigns.of(w.Partition), cancel)()
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
	e.log.Debug("report refused, nothing changed", "op_id", w.Operation.ID, "attempt", w.Attempt, "why", ack.Why)
	return false
}

// reigns ends the wait for an answer of an owner that has been deposed. A dead
// owner never answers, and whoever takes over says so in an event; without that
// news a report is repeated when the patience with it is over.
type reigns struct {
	mu sync.Mutex
	by map[int]reign
}

type reign struct {
	ctx context.Context //nolint:containedctx // it is what a reign is: a time
	end context.CancelFunc
}

// of is the present reign over a partition.
func (r *reigns) of(partition int) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.by[partition]
	if !ok {
		v.ctx, v.end = context.WithCancel(context.Background())
		if r.by == nil {
			r.by = map[int]reign{}
		}
		r.by[partition] = v
	}
	return v.ctx
}

func (r *reigns) over(partition int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, ok := r.by[partition]; ok {
		v.end()
		delete(r.by, partition)
	}
}

// listen hears of take-overs until stop is called.
func (e *executor) listen() (stop func()) {
	sub, err := e.cfg.Bus.Conn().Subscribe(bus.EventFilter(string(op.EventTakeover), ""), func(m *nats.Msg) {
		if _, token, err := bus.ParseEvent(m.Subject); err == nil {
			if p, err := strconv.Atoi(token); err == nil {
				e.reigns.over(p)
			}
		}
	})
	if err != nil {
		e.log.Warn("take-overs are not heard of, so reports are repeated later", "error", err)
		return func() {}
	}
	return func() { _ = sub.Unsubscribe() } // fails when the connection is closed, which is as good
}
