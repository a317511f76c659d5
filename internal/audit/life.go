package audit

import (
	"math"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// effect checks one consequence of the step and folds it.
func (v *visit) effect(e *arbiter.Effect) {
	n := count(e.Accepted != nil, e.Repeated != nil, e.Decision != nil, e.Granted != nil, e.Succeeded != nil, e.Failed != nil,
		e.Retry != nil, e.Lapsed != nil, e.Rejected != nil, e.Cancelled != nil, e.Refused != nil, e.Extended != nil,
		e.Preempted != nil, e.Protected != nil, e.Coalesced != nil, e.Shared != nil, e.Parted != nil)
	if n != 1 {
		v.bad(LogShape, "", "an effect says %d things", n)
	}
	if v.arriving != nil && !v.waits(e) {
		v.arrive()
	}
	if v.a.opts.Events {
		v.change = nil
		defer v.tell(e, v.about(e))
	}
	switch {
	case e.Accepted != nil:
		v.accepted(e.Accepted)
	case e.Repeated != nil:
		v.repeated(e.Repeated)
	case e.Decision != nil:
		v.decision(e.Decision)
	case e.Granted != nil:
		v.granted(e.Granted)
	case e.Succeeded != nil:
		v.succeeded(e.Succeeded)
	case e.Failed != nil:
		v.failed(e.Failed)
	case e.Retry != nil:
		v.retry(e.Retry)
	case e.Lapsed != nil:
		v.lapsed(e.Lapsed)
	case e.Rejected != nil:
		v.rejected(e.Rejected)
	case e.Cancelled != nil:
		v.cancelled(e.Cancelled)
	case e.Refused != nil:
		v.refused(e.Refused)
	default:
		v.newer(e)
	}
}

// newer checks the effects that came with preemption, heartbeats and coalescing.
func (v *visit) newer(e *arbiter.Effect) {
	switch {
	case e.Extended != nil:
		v.extended(e.Extended)
	case e.Preempted != nil:
		v.preempted(e.Preempted)
	case e.Protected != nil:
		v.protected(e.Protected)
	case e.Coalesced != nil:
		v.coalesced(e.Coalesced)
	case e.Shared != nil:
		v.shared(e.Shared)
	case e.Parted != nil:
		v.parted(e.Parted)
	}
}

// terminal are the effects that end an operation.
var terminal = []string{"Succeeded", "Shared", "Rejected", "Cancelled"}

// subject returns the open operation that an effect is about. Where there is
// none it reports why, and returns nil.
func (v *visit) subject(opID, targetID, what string) *operation {
	k := keyOf(opID)
	if o := v.p.open[k]; o != nil {
		if o.target.id != targetID {
			v.bad(LifeTarget, opID, "%s on target %s, its target is %s", what, targetID, o.target.id)
		}
		return o
	}
	d, ended := v.p.done[k]
	switch {
	case !ended:
		v.bad(LifeUnknownOperation, opID, "%s of an operation that was never accepted", what)
	case slices.Contains(terminal, what):
		v.bad(LifeTerminalTwice, opID, "%s, but it was %s before", what, d.became())
	default:
		v.bad(LifeAfterTerminal, opID, "%s, but it was %s before", what, d.became())
	}
	return nil
}

// move changes the status of o, by the table.
func (v *visit) move(o *operation, next op.Status) {
	if _, err := o.status.To(next); err != nil {
		v.bad(LifeTransition, o.id, "%v", err)
	}
	o.status = next
}

func (v *visit) repeated(e *arbiter.Repeated) {
	v.a.report.Repeated++
	in := v.claim(func(in *arbiter.Input) bool {
		return in.Submit != nil && in.Submit.Operation.ID == e.OpID && in.Submit.Place == e.Place
	})
	if in == nil {
		v.bad(LifeUnasked, e.OpID, "repeated without a submission in the step")
	}
	k := keyOf(e.OpID)
	if _, ended := v.p.done[k]; !ended && v.p.open[k] == nil && !v.p.memory.lost {
		v.bad(LifeRepeatedUnknown, e.OpID, "repeated, but it was never accepted")
	}
}

// release takes o off its target, which may be decided again.
func (v *visit) release(o *operation) {
	if o.target.executing == o {
		o.target.executing = nil
		v.p.running--
	}
	v.stir(o.target)
}

// end is how an operation ended.
type end struct {
	reason     op.Reason
	winner     string
	retryAfter time.Duration
	failure    *op.Failure
	riders     doom // what becomes of those that were coalesced into it
	cascade    bool // its descendants go with it
}

// finish ends o.
func (v *visit) finish(o *operation, e *end) {
	t, p := o.target, v.p
	if o.slot >= 0 {
		v.stir(t)
		// Whether a backoff ended before this left the area empty is not recorded.
		t.doubtful = t.doubtful || len(t.staged) == 1 && !v.settled && p.backoffs.due(v.s.At)
	}
	p.unstage(o)
	if t.executing == o {
		v.release(o)
	}
	if l := o.leader; l != nil {
		l.riders = slices.DeleteFunc(l.riders, func(r *operation) bool { return r == o })
		o.leader = nil
	}
	v.bequeath(o, e.riders)
	p.disinherit(o)
	if o.submitter != "" {
		delist(p.rivals, o.rivalry, o)
	}
	p.belongs(o, false)
	if e.failure == nil {
		e.failure = o.failure
	}
	heard := p.hear(o.key)
	delete(p.open, o.key)
	o.target.open--
	p.done[o.key] = past{
		parent: o.parent, winner: keyOf(e.winner).long(), seq: o.place.Seq, ended: uint32(v.s.At.Unix()), heard: heard, last: p.heard, //nolint:gosec // until 2106
		retryAfter: uint32(min(e.retryAfter.Milliseconds(), math.MaxUint32)), retryOf: o.retryOf, failure: errorOf(e.failure), //nolint:gosec // bounded
		retries: uint16(o.retries), attempts: uint16(o.attempt), preemptions: uint16(o.preemptions), //nolint:gosec // bounded by max_retries and what costs none
		priority: uint8(o.priority), asked: uint8(o.asked), //nolint:gosec // 1 to 10
		status: uint8(slices.Index(statuses, o.status)), reason: uint8(1 + slices.Index(reasons, e.reason)), //nolint:gosec // short lists
		cascade: e.cascade,
	}
}
