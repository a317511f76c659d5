package audit

import (
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// runs reports whether the given attempt of o is the one under way.
func (v *visit) runs(o *operation, attempt int, what string) bool {
	switch {
	case o.status != op.Executing:
		v.bad(LifeTransition, o.id, "attempt %d %s out of %s", attempt, what, o.status)
	case o.attempt != attempt:
		v.bad(EffectsSuperseded, o.id, "attempt %d %s, the current one is %d", attempt, what, o.attempt)
	default:
		return true
	}
	return false
}

// leaseEnd is the end of a lease that is granted or prolonged now: nothing is
// executed after its deadline.
func (v *visit) leaseEnd(o *operation) time.Time {
	ends := v.s.At.Add(leaseFor(&v.p.policy, o.kind))
	if o.over(ends) {
		return o.expires
	}
	return ends
}

// leased takes a lease that is granted or prolonged.
func (v *visit) leased(o *operation, ends time.Time) {
	if want := v.leaseEnd(o); !ends.Equal(want) {
		v.bad(LifeLease, o.id, "the lease ends at %s, not at %s", ends.Format(timeFormat), want.Format(timeFormat))
	}
	o.lease = ends
	v.p.set(&v.p.alarms, alarm{at: ends, kind: alarmLease, o: o, attempt: o.attempt})
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
	} else if want := v.total(o); g.Effective != want {
		v.bad(ResolutionEffective, g.OpID, "granted with effective priority %d, on record is %d", g.Effective, want)
	}
	if t.executing != nil && t.executing != o {
		v.bad(EffectsOverlap, g.OpID, "attempt %d on target %s while attempt %d of %s runs", g.Attempt, t.id, t.executing.attempt, t.executing.id)
	}
	if g.Attempt != o.attempt+1 {
		v.bad(LifeAttemptNumber, g.OpID, "attempt %d after attempt %d", g.Attempt, o.attempt)
	}
	if g.Attempt > 1+o.maxRetries+o.unclaimed+o.preemptions {
		v.bad(LifeAttempts, g.OpID, "attempt %d with max_retries %d, %d lapses that nobody had claimed and %d preemptions", g.Attempt, o.maxRetries, o.unclaimed, o.preemptions)
	}
	if o.over(v.s.At) {
		v.bad(LifeGrantedExpired, g.OpID, "granted after its end at %s", o.expires.Format(timeFormat))
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
	o.attempt, o.granted, o.winner, o.reason = g.Attempt, v.s.At, "", ""
	o.claimed, o.told = false, struct{ grace, execution bool }{}
	o.effective = v.total(o)
	v.leased(o, g.LeaseEnds)
	v.stir(t) // who is left may be stronger, without what waiting adds
}

func beatOf(opID string, attempt int, in *arbiter.Input) bool {
	return in != nil && in.Beat != nil && in.Beat.OpID == opID && in.Beat.Attempt == attempt
}

// extended checks that a heartbeat prolongs a lease.
func (v *visit) extended(e *arbiter.Extended) {
	v.a.report.Extended++
	in := v.named(e.Input)
	o := v.subject(e.OpID, e.Target, "Extended")
	if o == nil {
		return
	}
	if !beatOf(e.OpID, e.Attempt, in) || o.status != op.Executing || o.attempt != e.Attempt {
		v.bad(LifeExtended, e.OpID, "attempt %d is prolonged out of %s (attempt %d), input %d is not its heartbeat", e.Attempt, o.status, o.attempt, e.Input)
		return
	}
	o.claimed = true
	v.leased(o, e.LeaseEnds)
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
	v.runs(o, e.Attempt, "failed")
	o.status, o.failure = op.Failed, e.Failure
	v.release(o)
	v.undone = append(v.undone, o)
}

func (v *visit) lapsed(e *arbiter.Lapsed) {
	v.a.report.Lapsed++
	v.advance(len(v.s.In))
	o := v.subject(e.OpID, e.Target, "Lapsed")
	if o == nil {
		return
	}
	if v.runs(o, e.Attempt, "lapsed") && v.s.At.Before(o.lease) {
		v.bad(LifeLapseEarly, e.OpID, "attempt %d lapsed before the end of its lease at %s", e.Attempt, o.lease.Format(timeFormat))
	}
	if e.Claimed != o.claimed {
		v.bad(LifeClaimed, e.OpID, "attempt %d lapsed as claimed: %t, a heartbeat came for it: %t", e.Attempt, e.Claimed, o.claimed)
	}
	o.status = op.Pending
	v.release(o)
	v.undone = append(v.undone, o)
	if e.RetryCount != o.retries {
		v.bad(LifeRetryCount, e.OpID, "a lapse with retry count %d, not %d: what it costs comes after it", e.RetryCount, o.retries)
	}
	o.lapses++
	o.lapsed = true
	if o.claimed {
		o.failure = &op.Failure{Code: arbiter.CodeLeaseOver}
	} else {
		o.unclaimed++
	}
}

func (v *visit) retry(e *arbiter.Retry) {
	v.a.report.Retries++
	o := v.subject(e.OpID, e.Target, "Retry")
	if o == nil {
		return
	}
	n, want := o.retries, o.retries+1
	switch {
	case o.lapsed && o.status == op.Pending:
		if !o.claimed {
			n, want = o.lapses-1, o.retries
		}
	case o.status == op.Pending:
		v.sentBack(e, o)
	default:
		v.move(o, op.Pending)
	}
	if e.RetryCount != want {
		v.bad(LifeRetryCount, e.OpID, "retry %d after retry %d", e.RetryCount, o.retries)
	}
	if e.RetryCount > o.maxRetries {
		v.bad(LifeRetryBound, e.OpID, "retry %d with max_retries %d", e.RetryCount, o.maxRetries)
	}
	if e.N != n {
		v.bad(LifeBackoffNumber, e.OpID, "waits as number %d, right is %d", e.N, n)
	}
	v.backoff(e, n)
	v.p.unstage(o)
	o.retries, o.due, o.waiting, o.lapsed = e.RetryCount, e.Due, true, false
	v.p.set(&v.p.backoffs, alarm{at: o.due, kind: alarmBackoff, o: o})
	if o.over(v.s.At) { // asked again when it comes back
		v.p.set(&v.p.alarms, alarm{at: o.due, kind: alarmExpiry, o: o})
	}
}

// sentBack checks that a decision sends a loser away.
func (v *visit) sentBack(e *arbiter.Retry, o *operation) {
	r := v.carry(e.Decision, e.OpID, op.VerdictRetry)
	if r == nil {
		v.bad(ResolutionNoDecision, e.OpID, "sent back without a decision of this step that it lost")
	} else {
		v.informed(r, o, e.Winner, e.Reason)
	}
	o.winner = e.Winner
}

// preempted checks that an executing operation had to yield.
func (v *visit) preempted(e *arbiter.Preempted) {
	v.a.report.Preempted++
	v.decides()
	o := v.subject(e.OpID, e.Target, "Preempted")
	if o == nil || !v.runs(o, e.Attempt, "was preempted") {
		return
	}
	p := &v.p.policy
	if ends := o.granted.Add(p.GracePeriod); v.s.At.Before(ends) {
		v.bad(LifeGrace, e.OpID, "preempted before the end of its grace at %s", ends.Format(timeFormat))
	}
	if e.Count != o.preemptions+1 || e.Count > p.MaxPreemptions {
		v.bad(LifePreemptions, e.OpID, "preemption %d after %d, at most %d are allowed", e.Count, o.preemptions, p.MaxPreemptions)
	}
	t := o.target
	switch {
	case !p.Preemption || !o.preemptible || o.followUp():
		v.bad(ResolutionPreemption, e.OpID, "preempted, though the policy (%t) or the operation (%t) does not allow it", p.Preemption, o.preemptible)
	case !v.stronger(e.By, o):
		v.bad(ResolutionPreemption, e.OpID, "preempted by %s, which is not staged on target %s, waits for an operator, or is no stronger than %d", e.By, t.id, v.p.rankOf(o).effective)
	case !t.unsure && t.closes.After(v.s.At):
		v.bad(ResolutionPreemption, e.OpID, "preempted by %s, whose window closes at %s", e.By, t.closes.Format(timeFormat))
	case v.asking(t):
		v.bad(ResolutionPreemption, e.OpID, "preempted by %s, though an ancestor is being looked for", e.By)
	}
	if v.winsAgain(o) {
		v.bad(ResolutionPreemption, e.OpID, "preempted by %s, though it has waited long enough to win again", e.By)
	}
	if o.stop != nil {
		v.bad(LifeCancelLost, e.OpID, "preempted, though a cancel waits for %s", o.stop.at.Format(timeFormat))
	}
	o.status, v.freed = op.Pending, true
	v.release(o)
	o.preemptions, o.reason, o.winner = e.Count, op.Preempted, e.By
	v.restage(o)
}

// stronger reports whether an operation is staged against o with a strictly higher
// effective priority, its waiting not counted.
func (v *visit) stronger(opID string, o *operation) bool {
	by := v.p.open[keyOf(opID)]
	if by == nil || by.target != o.target {
		return false
	}
	v.comeBack(by)
	return by.slot >= 0 && !held(&v.p.policy, by) && v.p.rankOf(by).effective > v.p.rankOf(o).effective
}

// winsAgain reports whether an executing operation would win the decision that
// follows its preemption, because of what its waiting adds.
func (v *visit) winsAgain(o *operation) bool {
	list := v.contending(o.target)
	if v.p.policy.Aging.Every <= 0 || len(list) == 0 {
		return false
	}
	return v.better(o, v.first(list))
}

// asking reports whether ancestors of somebody staged are still looked for.
func (v *visit) asking(t *target) bool {
	for _, o := range t.staged {
		if r := v.p.rankOf(o); r.unknown != (key{}) && !o.settled {
			return true
		}
	}
	return false
}

// protected checks what keeps an executing operation in its place.
func (v *visit) protected(e *arbiter.Protected) {
	v.a.report.Protected++
	o := v.subject(e.OpID, e.Target, "Protected")
	if o == nil {
		return
	}
	if e.Cancel {
		v.postponed(e, o)
		return
	}
	v.decides()
	if !v.runs(o, e.Attempt, "is protected") {
		return
	}
	ends, yields := o.granted.Add(v.p.policy.GracePeriod), yields(&v.p.policy, o)
	right := false
	switch e.Kind {
	case arbiter.ProtectedByGrace:
		right = yields && ends.After(v.s.At) && e.Until.Equal(ends) && !o.told.grace
		o.told.grace = true
		v.p.set(&v.p.alarms, alarm{at: ends, kind: alarmContest, o: o, attempt: o.attempt})
	case arbiter.ProtectedByExecution:
		right = !yields && e.Until.Equal(o.lease) && !o.told.execution
		o.told.execution = true
	}
	if !right {
		v.bad(LifeProtected, e.OpID, "protected by %s until %s: it may be preempted: %t, its grace ends at %s, its lease at %s, or this was told before",
			e.Kind, e.Until.Format(timeFormat), yields, ends.Format(timeFormat), o.lease.Format(timeFormat))
	}
	if !v.stronger(e.By, o) {
		v.bad(LifeProtected, e.OpID, "protected from %s, which is not staged, waits for an operator or is no stronger", e.By)
	}
}

// contested checks that somebody stronger who is staged behind o takes its place
// or is told why not.
func (v *visit) contested(t *target) {
	o, p := t.executing, &v.p.policy
	if o == nil || v.p.rankOf(o).old {
		return
	}
	var by *operation
	for _, x := range t.staged {
		if v.p.rankOf(x).old {
			return
		}
		if !held(p, x) && v.p.rankOf(x).effective > v.p.rankOf(o).effective {
			by = x
		}
	}
	if by == nil {
		return
	}
	switch ends := o.granted.Add(p.GracePeriod); {
	case !yields(p, o):
		if !o.told.execution {
			v.bad(LifeProtected, o.id, "attempt %d is not said to be protected from %s, which is stronger", o.attempt, by.id)
		}
	case ends.After(v.s.At):
		if !o.told.grace {
			v.bad(LifeProtected, o.id, "attempt %d is not said to be protected by its grace from %s, which is stronger", o.attempt, by.id)
		}
	case !t.unsure && !t.closes.After(v.s.At) && !v.asking(t) && o.stop == nil && !v.winsAgain(o):
		v.bad(ResolutionNotPreempted, o.id, "attempt %d goes on after its grace, though %s is stronger and it may be preempted", o.attempt, by.id)
	}
}
