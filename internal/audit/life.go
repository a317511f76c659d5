package audit

import (
	"slices"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// effect checks one consequence of the step and folds it.
func (v *visit) effect(e *arbiter.Effect) {
	n := count(e.Accepted != nil, e.Repeated != nil, e.Decision != nil, e.Granted != nil, e.Succeeded != nil, e.Failed != nil,
		e.Retry != nil, e.Lapsed != nil, e.Rejected != nil, e.Cancelled != nil, e.Refused != nil)
	if n != 1 {
		v.bad(LogShape, "", "an effect says %d things", n)
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
	}
}

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
	case what == "Succeeded" || what == "Rejected" || what == "Cancelled":
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

func submitOf(opID string) func(in *arbiter.Input) bool {
	return func(in *arbiter.Input) bool { return in.Submit != nil && in.Submit.Operation.ID == opID }
}

func (v *visit) accepted(e *arbiter.Accepted) {
	in := v.claim(submitOf(e.OpID))
	if in == nil {
		v.bad(LifeUnasked, e.OpID, "accepted without a submission in the step")
		return
	}
	k := keyOf(e.OpID)
	if _, ended := v.p.done[k]; ended || v.p.open[k] != nil {
		v.bad(LifeAcceptedTwice, e.OpID, "accepted, but it was submitted before")
		return
	}
	o := v.open(in.Submit)
	v.caused(in.Submit)
	if o.over(v.s.At) {
		v.undone = append(v.undone, o)
	} else {
		v.stage(o)
	}
}

// open registers a submission.
func (v *visit) open(s *arbiter.Submit) *operation {
	v.a.report.Operations++
	p := v.p
	o := &operation{
		id: s.Operation.ID, key: keyOf(s.Operation.ID), kind: s.Operation.Type, target: p.target(s.Operation.Target),
		place: s.Place, priority: s.Operation.Priority, parent: keyOf(s.Operation.Parent), onConflict: s.Operation.OnConflict,
		maxRetries: s.Operation.Retries(), expected: s.Operation.ExpectedVersion,
		accepted: v.s.At, status: op.Pending, slot: -1,
	}
	if !o.followUp() {
		o.expires = v.s.At.Add(p.policy.MaxOperationAge)
		if d := s.Operation.Deadline; d != nil && d.Resolve(v.s.At).Before(o.expires) {
			o.expires = d.Resolve(v.s.At)
		}
		p.set(&p.alarms, alarm{at: o.expires, kind: alarmExpiry, o: o})
	}
	delete(p.kin, o.key) // a submission outweighs an older answer
	p.open[o.key] = o
	v.newcomer = nil
	if v.appeared(o.key) {
		v.newcomer = o
	}
	return o
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
	if _, ended := v.p.done[k]; !ended && v.p.open[k] == nil {
		v.bad(LifeRepeatedUnknown, e.OpID, "repeated, but it was never accepted")
	}
}

func (v *visit) granted(g *arbiter.Granted) {
	v.a.report.Attempts++
	o := v.subject(g.OpID, g.Target, "Granted")
	if o == nil {
		return
	}
	t := o.target
	if r := v.carry(g.Decision, g.OpID, op.VerdictWon); r == nil {
		v.bad(ResolutionNoDecision, g.OpID, "granted without a decision of this step that it won")
	} else if rank := v.p.rankOf(o); g.Effective != rank.effective {
		v.bad(ResolutionEffective, g.OpID, "granted with effective priority %d, on record is %d", g.Effective, rank.effective)
	}
	if t.executing != nil && t.executing != o {
		v.bad(EffectsOverlap, g.OpID, "attempt %d on target %s while attempt %d of %s runs", g.Attempt, t.id, t.executing.attempt, t.executing.id)
	}
	if g.Attempt != o.attempt+1 {
		v.bad(LifeAttemptNumber, g.OpID, "attempt %d after attempt %d", g.Attempt, o.attempt)
	}
	if g.Attempt > 1+o.maxRetries+o.lapses {
		v.bad(LifeAttempts, g.OpID, "attempt %d with max_retries %d and %d lapses", g.Attempt, o.maxRetries, o.lapses)
	}
	if o.over(v.s.At) {
		v.bad(LifeGrantedExpired, g.OpID, "granted after its end at %s", o.expires.Format(timeFormat))
	}
	want := v.s.At.Add(v.p.policy.AttemptTimeout)
	if o.over(want) {
		want = o.expires
	}
	if !g.LeaseEnds.Equal(want) {
		v.bad(LifeLease, g.OpID, "the lease ends at %s, not at %s", g.LeaseEnds.Format(timeFormat), want.Format(timeFormat))
	}
	v.move(o, op.Executing)
	v.p.unstage(o)
	if t.executing == nil {
		v.p.running++
		if most := v.p.policy.MaxExecuting; most > 0 && v.p.running > most {
			v.bad(ResolutionExecutingBound, g.OpID, "%d operations execute, the maximum is %d", v.p.running, most)
		}
	}
	t.executing = o
	o.attempt, o.granted, o.lease, o.winner = g.Attempt, v.s.At, g.LeaseEnds, ""
	v.p.set(&v.p.alarms, alarm{at: o.lease, kind: alarmLease, o: o, attempt: o.attempt})
}

// release takes o off its target, which may be decided again.
func (v *visit) release(o *operation) {
	if o.target.executing == o {
		o.target.executing = nil
		v.p.running--
	}
	v.touch(o.target)
}

func (v *visit) failed(e *arbiter.Failed) {
	in := v.claim(resultOf(e.OpID, e.Attempt))
	o := v.subject(e.OpID, e.Target, "Failed")
	if o == nil {
		return
	}
	if in == nil || in.Result.Failure == nil {
		v.bad(EffectsNoResult, e.OpID, "attempt %d failed without a failure among the inputs", e.Attempt)
	}
	if e.Attempt != o.attempt {
		v.bad(EffectsSuperseded, e.OpID, "attempt %d failed, the current one is %d", e.Attempt, o.attempt)
	}
	v.move(o, op.Failed)
	o.failure = e.Failure
	v.release(o)
	v.undone = append(v.undone, o)
}

func (v *visit) retry(e *arbiter.Retry) {
	v.a.report.Retries++
	o := v.subject(e.OpID, e.Target, "Retry")
	if o == nil {
		return
	}
	if o.status == op.Pending {
		r := v.carry(e.Decision, e.OpID, op.VerdictRetry)
		if r == nil {
			v.bad(ResolutionNoDecision, e.OpID, "sent back without a decision of this step that it lost")
		} else {
			v.told(r, o, e.Winner, e.Reason)
		}
		o.winner = e.Winner
	} else {
		v.move(o, op.Pending)
	}
	if e.RetryCount != o.retries+1 {
		v.bad(LifeRetryCount, e.OpID, "retry %d after retry %d", e.RetryCount, o.retries)
	}
	if e.RetryCount > o.maxRetries {
		v.bad(LifeRetryBound, e.OpID, "retry %d with max_retries %d", e.RetryCount, o.maxRetries)
	}
	v.backoff(e)
	v.p.unstage(o)
	o.retries, o.due, o.waiting = e.RetryCount, e.Due, true
	v.p.set(&v.p.backoffs, alarm{at: o.due, kind: alarmBackoff, o: o})
	if o.over(v.s.At) { // asked again when it comes back
		v.p.set(&v.p.alarms, alarm{at: o.due, kind: alarmExpiry, o: o})
	}
}

func (v *visit) lapsed(e *arbiter.Lapsed) {
	v.a.report.Lapsed++
	v.advance(len(v.s.In))
	o := v.subject(e.OpID, e.Target, "Lapsed")
	if o == nil {
		return
	}
	if e.Attempt != o.attempt {
		v.bad(EffectsSuperseded, e.OpID, "attempt %d lapsed, the current one is %d", e.Attempt, o.attempt)
	}
	if v.s.At.Before(o.lease) {
		v.bad(LifeLapseEarly, e.OpID, "attempt %d lapsed before the end of its lease at %s", e.Attempt, o.lease.Format(timeFormat))
	}
	v.move(o, op.Pending)
	v.release(o)
	v.undone = append(v.undone, o)
	if e.RetryCount != o.retries {
		v.bad(LifeRetryCount, e.OpID, "a lapse with retry count %d, not %d: it costs none", e.RetryCount, o.retries)
	}
	o.lapses++
	if !o.over(v.s.At) {
		v.stage(o)
	}
}

func (v *visit) cancelled(e *arbiter.Cancelled) {
	in := v.claim(func(in *arbiter.Input) bool { return in.Cancel != nil && in.Cancel.OpID == e.OpID })
	v.a.terminal++
	o := v.subject(e.OpID, e.Target, "Cancelled")
	if o == nil {
		return
	}
	v.kept(o, "cancelled")
	switch {
	case e.Reason != op.CancelledByRequest && e.Reason != op.CancelledWithParent:
		v.bad(LifeReason, e.OpID, "cancelled for %q", e.Reason)
	case e.Reason == op.CancelledByRequest && in == nil:
		v.bad(CausesCancel, e.OpID, "cancelled without a request in the step")
	}
	if o.status == op.Executing {
		if end := o.granted.Add(v.p.policy.GracePeriod); v.s.At.Before(end) {
			v.bad(LifeGrace, e.OpID, "cancelled before the end of its grace at %s", end.Format(timeFormat))
		}
		v.release(o)
	}
	v.move(o, op.Cancelled)
	v.a.report.Cancelled++
	v.finish(o, e.Reason, o.winner)
}

// finish ends o.
func (v *visit) finish(o *operation, reason op.Reason, winner string) {
	t := o.target
	if o.slot >= 0 {
		v.touch(t)
		// Whether a backoff ended before this left the area empty is not recorded.
		t.doubtful = t.doubtful || len(t.staged) == 1 && !v.settled && v.p.backoffs.due(v.s.At)
	}
	v.p.unstage(o)
	if t.executing == o {
		v.release(o)
	}
	heard := v.p.hear(o.key)
	delete(v.p.open, o.key)
	v.p.done[o.key] = past{
		parent: o.parent, winner: keyOf(winner), seq: o.place.Seq, ended: v.s.At.UnixNano(), heard: heard,
		retries: uint16(o.retries), attempts: uint16(o.attempt), priority: uint8(o.priority),
		status: uint8(slices.Index(statuses, o.status)), reason: uint8(1 + slices.Index(reasons, reason)),
	}
}
