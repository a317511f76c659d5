package executor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Why the context of a handler ended, for [context.Cause].
var (
	// ErrLeaseOver: the attempt has used its time. It wraps
	// [context.DeadlineExceeded].
	ErrLeaseOver = fmt.Errorf("executor: the lease of the attempt is over: %w", context.DeadlineExceeded)
	// ErrRevoked: the attempt was taken away, because its operation was
	// cancelled, preempted or granted anew. Nothing that the handler says counts
	// any more.
	ErrRevoked = errors.New("executor: the attempt was taken away")
	// ErrDrained: the process ends and has waited for as long as it may. Another
	// executor makes the attempt.
	ErrDrained = errors.New("executor: the process ends")

	errHandled = errors.New("executor: the handler has returned")
)

const (
	// claimAfter is when the owner hears for the first time that somebody works
	// on an attempt. What is quicker costs no message.
	claimAfter = time.Second
	// leastClaim keeps quick attempts free of heartbeats where an attempt has
	// waited long, or a clock is wrong.
	leastClaim = 50 * time.Millisecond
	// listenAfter is when an attempt listens for being taken away. During the
	// grace period it cannot be.
	listenAfter = 100 * time.Millisecond
	// touchEvery is how often the queue is told that an attempt is still in
	// hand; it would give the work to somebody else after a minute.
	touchEvery = 20 * time.Second
)

// margin is how long before the end of its lease an attempt has to be done, so
// that its failure is reported while the report counts: then it is a failure with
// a reason and a retry, and not a silence.
func margin(lease time.Duration) time.Duration { return min(lease/10, 250*time.Millisecond) }

// hold is an attempt in hand, from its receipt to the end of its handler: how
// long it may go on, and whether it was taken away.
//
// Its clock is this process' own. The lease counts from the receipt, and once it
// is prolonged from the sending of the heartbeat, which is before the owner's
// count in either case.
type hold struct {
	e      *executor
	w      *op.Work
	ctx    context.Context //nolint:containedctx // the handler's: its life is the hold's
	cancel context.CancelCauseFunc
	nudge  chan struct{} // something below has changed

	mu       sync.Mutex
	lease    time.Duration // granted, or the last one that prolonged it
	ends     time.Time     // the lease: a report counts until then
	deadline time.Time     // the handler: a margin before the lease ends
	alive    bool          // it has shown signs of life since the last heartbeat
	always   bool          // the passing of time is a sign of life
	doubt    bool          // it may have been taken away: ask

	// The rest belongs to watch.
	due     time.Time // of the next heartbeat at the earliest
	claimed bool      // the first heartbeat is on its way
	flying  bool      // a heartbeat is on its way
	vital   bool      // and it tells of life
	touched time.Time
	listens time.Time // zero: it does already
}

// take makes the hold of an attempt that was received at an instant.
func (e *executor) take(ctx context.Context, w *op.Work, received time.Time) *hold {
	lease := w.Lease
	if lease <= 0 {
		lease = DefaultLease
	}
	h := &hold{e: e, w: w, nudge: make(chan struct{}, 1), lease: lease, touched: received, listens: received.Add(listenAfter)}
	h.ctx, h.cancel = context.WithCancelCause(ctx)
	h.ends = received.Add(lease)
	h.deadline = h.ends.Add(-margin(lease))
	first := min(claimAfter, lease/3)
	if !w.LeaseEnds.IsZero() {
		// It has waited in the queue with its lease running at the owner's, so
		// far as this clock knows. A wrong clock costs a heartbeat.
		first = min(first, max(w.LeaseEnds.Sub(received)/3, leastClaim))
	}
	h.due = received.Add(first)
	return h
}

// heartbeat notes that the handler is alive. The error is [ErrRevoked],
// [ErrLeaseOver] or [ErrDrained] when it need not go on.
func (h *hold) heartbeat() error {
	h.tell(&h.alive)
	if h.ctx.Err() != nil {
		return context.Cause(h.ctx)
	}
	return nil
}

// tell sets a flag that watch looks at.
func (h *hold) tell(flag *bool) {
	h.mu.Lock()
	news := !*flag
	*flag = true
	h.mu.Unlock()
	if news {
		select {
		case h.nudge <- struct{}{}:
		default:
		}
	}
}

// left is the time until the handler must be done, as it is now.
func (h *hold) until() (deadline, ends time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.deadline, h.ends
}

// watch waits until the handler is done or its attempt is over, and keeps the
// attempt meanwhile: it sends heartbeats, and touches the work in the queue.
func (h *hold) watch(done <-chan outcome, m bus.WorkItem) outcome {
	answers := make(chan pulse, 1) // at most one is on its way
	hush := func() {}
	defer func() { hush() }()
	for {
		now := h.e.world.Now()
		if h.over(now) {
			return h.settle(done, ErrLeaseOver)
		}
		if h.wants(now) {
			h.send(answers)
		}
		if now.Sub(h.touched) >= touchEvery {
			h.touched = now
			m.Touch()
		}
		if !h.listens.IsZero() && !now.Before(h.listens) {
			h.listens = time.Time{}
			hush = h.e.hear(h)
		}
		if o, over := h.e.stir(h, done, answers, h.next().Sub(now)); over {
			return o
		}
	}
}

// stir waits until something happens, or d is over.
func (h *hold) stir(done <-chan outcome, answers <-chan pulse, d time.Duration) (o outcome, over bool) {
	alarm := time.NewTimer(d)
	defer alarm.Stop()
	select {
	case o := <-done:
		return o, true
	case <-h.ctx.Done():
		return h.settle(done, nil), true
	case p := <-answers:
		h.heard(p)
	case <-h.nudge:
	case <-alarm.C:
	}
	return outcome{}, false
}

// settle ends the attempt for why, or for why its context has ended.
func (h *hold) settle(done <-chan outcome, why error) outcome {
	if why != nil {
		select {
		case o := <-done: // both at once: what is done counts
			return o
		default:
		}
		h.cancel(why)
	}
	return outcome{ended: context.Cause(h.ctx)}
}

// over reports whether the time is up. A handler that has just said that it is
// alive has until the very end to be heard.
func (h *hold) over(now time.Time) bool {
	deadline, ends := h.until()
	if h.flying && h.vital {
		deadline = ends
	}
	return !now.Before(deadline)
}

// wants reports whether a heartbeat is due. The first claims the attempt: the
// owner learns that somebody works on it. After that only signs of life count,
// so that a handler that hangs is not prolonged for ever.
func (h *hold) wants(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.flying:
		return false
	case h.doubt:
		return true
	}
	return (!h.claimed || h.alive || h.always) && !now.Before(h.due)
}

// next is when watch has to look again by itself.
func (h *hold) next() time.Time {
	at, ends := h.until()
	if h.flying && h.vital {
		at = ends
	}
	at = earlier(at, h.touched.Add(touchEvery))
	if !h.listens.IsZero() {
		at = earlier(at, h.listens)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.flying && (!h.claimed || h.alive || h.always) {
		at = earlier(at, h.due)
	}
	return at
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
