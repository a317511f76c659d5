package audit

import (
	"fmt"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// rejected checks the rejection of an open operation.
func (v *visit) rejected(e *arbiter.Rejected) {
	v.a.terminal++
	o := v.subject(e.OpID, e.Target, "Rejected")
	if o == nil {
		return
	}
	if e.From != o.status {
		v.bad(LifeFrom, e.OpID, "rejected from %s, its status was %s", e.From, o.status)
	}
	inherited := v.reason(e, o)
	if !inherited {
		v.lastError(e, o)
	}
	v.retryAfter(e)
	switch {
	case o.status != op.Executing:
		v.move(o, op.Rejected)
	case e.Winner != "" || e.Reason == op.LowerPriority || e.Reason == op.LaterSubmission:
		v.bad(ResolutionExecutingLost, e.OpID, "attempt %d executes, and %s is said to have won", o.attempt, e.Winner)
		o.status = op.Rejected
	default:
		v.move(o, op.Rejected)
	}
	riders := doom{kind: doomPart}
	if e.Failure != nil && (e.From == op.Failed || e.Reason == op.MaxRetries || inherited) {
		riders = doom{kind: doomFail, reason: e.Reason, failure: e.Failure}
	}
	v.a.report.Rejected++
	v.finish(o, &end{reason: e.Reason, winner: e.Winner, retryAfter: e.RetryAfter, failure: e.Failure, riders: riders})
}

// reason checks why an operation is rejected. It reports whether it shares the
// failure of the one that it was coalesced into.
func (v *visit) reason(e *arbiter.Rejected, o *operation) (inherited bool) {
	why := e.Reason
	switch {
	case o.status == op.Failed && o.failure != nil && o.failure.Terminal:
		want := o.failure.Reason
		if want == "" {
			want = op.TerminalError
		}
		if why != want {
			v.bad(LifeReason, e.OpID, "rejected for %q, its terminal failure asks for %q", why, want)
		}
	case o.status == op.Failed && why != op.MaxRetries:
		v.bad(LifeReason, e.OpID, "rejected for %q out of %s", why, o.status)
	case v.failedWith(e, o):
		return true
	case o.turned != "" && o.turned != why && o.turned != op.Superseded:
		v.bad(LifeReason, e.OpID, "rejected for %q, it is to be turned away as %s", why, o.turned)
	case why == op.LowerPriority, why == op.LaterSubmission:
		v.conflict(e, o)
	case why == op.MaxRetries:
		v.exhausted(e, o)
	case why == op.Expired:
		if v.kept(o, "expired") && o.status == op.Pending && !o.over(v.s.At) {
			v.bad(LifeExpiredEarly, e.OpID, "expired before its end at %s", o.expires.Format(timeFormat))
		}
	case why == op.StagingFull:
		v.shed(o)
	case why == op.Superseded:
		v.superseded(e, o)
	case why == op.UnknownType:
		v.unknownType(e, o)
	case why == op.Overloaded, why == op.Paused, why == op.Invalid:
		v.turnedAway(e, o)
	default:
		v.bad(LifeReason, e.OpID, "rejected for %q out of %s", why, o.status)
	}
	return false
}

// failedWith reports whether o shares a failure, and checks that it does so
// unchanged.
func (v *visit) failedWith(e *arbiter.Rejected, o *operation) bool {
	if len(o.dooms) == 0 || e.Winner == "" {
		return false
	}
	d := o.discharge(doomFail, keyOf(e.Winner))
	if d == nil {
		return false
	}
	if d.reason != e.Reason || !sameFailure(d.failure, e.Failure) {
		v.bad(LifeRiders, e.OpID, "rejected for %q with %s, which was rejected for %q, or the error is another", e.Reason, e.Winner, d.reason)
	}
	return true
}

// lastError checks that a rejection carries the last real error, if there was one.
// Who loses is told about the winner instead.
func (v *visit) lastError(e *arbiter.Rejected, o *operation) {
	want := o.failure
	switch {
	case e.Reason == op.LowerPriority, e.Reason == op.LaterSubmission, e.Reason == op.Invalid && o.failure == nil:
		return
	case want != nil && want.Code == arbiter.CodeLeaseOver && e.Failure != nil && e.Failure.Code == want.Code:
		return // its words are the partition's
	}
	if !sameFailure(want, e.Failure) {
		v.bad(LifeError, e.OpID, "rejected for %q with the error %v, the last one was %v", e.Reason, e.Failure, want)
	}
}

func sameFailure(a, b *op.Failure) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Code == b.Code && a.Message == b.Message && a.Terminal == b.Terminal && a.Reason == b.Reason
}

// errorOf is enough of an error to compare a record with. Those of leases that ran
// out have the partition's words.
func errorOf(f *op.Failure) uint32 {
	switch {
	case f == nil:
		return 0
	case f.Code == arbiter.CodeLeaseOver:
		return keyOf(f.Code).short()
	}
	return keyOf(f.Code + "\x00" + f.Message + "\x00" + string(f.Reason)).short()
}

// retryAfter checks what a rejection for want of room says about coming again. A
// policy of the same step may be in force already.
func (v *visit) retryAfter(e *arbiter.Rejected) {
	want := time.Duration(0)
	if e.Reason == op.StagingFull || e.Reason == op.Overloaded {
		want = comeAgain(&v.p.policy)
		for i := v.applied; i < len(v.s.In); i++ {
			if p := v.s.In[i].Policy; p != nil && e.RetryAfter == comeAgain(p) {
				return
			}
		}
	}
	if e.RetryAfter != want {
		v.bad(LifeRetryAfter, e.OpID, "rejected for %q, to come again after %s, right is %s", e.Reason, e.RetryAfter, want)
	}
}

// conflict checks the rejection of a loser.
func (v *visit) conflict(e *arbiter.Rejected, o *operation) {
	if o.status == op.Executing {
		return // reported as such
	}
	r := v.carry(e.Decision, e.OpID, op.VerdictRejected)
	if r == nil {
		v.bad(ResolutionNoDecision, e.OpID, "rejected for %q without a decision of this step that says so", e.Reason)
		return
	}
	v.informed(r, o, e.Winner, e.Reason)
}

// informed checks what a loser learns about the decision that it lost.
func (v *visit) informed(r *ruling, o *operation, winner string, reason op.Reason) {
	if winner != r.d.Winner {
		v.bad(ResolutionReason, o.id, "told that %s won decision %s, the winner is %s", winner, r.d.ID, r.d.Winner)
		return
	}
	if want := v.lostBy(r, o); r.reasons && reason != want {
		v.bad(ResolutionReason, o.id, "told %q by decision %s, right is %q", reason, r.d.ID, want)
	}
}

// kept reports whether o may be given up. The other side of a structural
// operation may not.
func (v *visit) kept(o *operation, what string) bool {
	if o.followUp() {
		v.bad(CausesFollowUpLost, o.id, "%s, though its first side is done", what)
	}
	return !o.followUp()
}

// exhausted checks a rejection for want of retries: after a failure, the lapse of
// an attempt that somebody had begun, or a lost decision.
func (v *visit) exhausted(e *arbiter.Rejected, o *operation) {
	if o.retries < o.maxRetries {
		v.bad(LifeReason, e.OpID, "rejected for %q after %d of %d retries", e.Reason, o.retries, o.maxRetries)
	}
	if o.slot < 0 {
		if o.status == op.Pending && (!o.lapsed || !o.claimed) {
			v.bad(LifeReason, e.OpID, "rejected for %q after no failure and no lost decision", e.Reason)
		}
		return
	}
	if r := v.carry(e.Decision, e.OpID, op.VerdictRejected); r == nil {
		v.bad(ResolutionNoDecision, e.OpID, "staged and rejected for %q without a decision of this step that says so", e.Reason)
	} else {
		v.informed(r, o, e.Winner, v.lostBy(r, o))
	}
}

// shed checks that only the lowest rank of a staging area that is too full is
// shed. Where an answer about an ancestor or a policy arrived in the same step,
// the ranks and the maximum at that moment are not on record.
func (v *visit) shed(o *operation) {
	if !v.kept(o, "shed") {
		return
	}
	if !o.over(v.s.At) {
		v.comeBack(o) // and was shed at once
	}
	t := o.target
	if o.slot < 0 {
		v.bad(ResolutionShed, o.id, "shed from target %s, where it was not staged", t.id)
		return
	}
	for i := v.applied; i < len(v.s.In); i++ {
		if v.s.In[i].Kin != nil || v.s.In[i].Policy != nil {
			return
		}
	}
	most, certain := v.p.policy.MaxStaged, v.settled || !v.p.backoffs.due(v.s.At)
	full := most > 0 && len(t.staged) > most || v.weight(t) > arbiter.MaxDecisionBytes
	switch {
	case !full && certain:
		v.bad(ResolutionShed, o.id, "shed from target %s, where %d operations are staged, the maximum is %d", t.id, len(t.staged), most)
		return
	case certain && v.first(t.staged) == o:
		v.bad(ResolutionShed, o.id, "shed from target %s, though nobody ranks higher", t.id)
		return
	}
	for _, x := range t.staged {
		// A newcomer is staged after those that it is an ancestor of are shed.
		if x != o && x != v.newcomer && !x.followUp() && v.better(o, x) {
			v.bad(ResolutionShed, o.id, "shed from target %s, though %s ranks lower", t.id, x.id)
			return
		}
	}
}

// jitterBuckets divides the jitter of the backoffs for the test of uniformity.
const jitterBuckets = 10

// backoff checks the delay of one retry, the n-th from 0.
func (v *visit) backoff(e *arbiter.Retry, n int) {
	p := &v.p.policy
	d := float64(backoffOf(p.RetryBase, p.RetryMax, n))
	const slack = float64(time.Microsecond)
	low, high := 0.8*d, 1.2*d
	if got := float64(e.Delay); got < low-slack || got > high+slack {
		v.bad(LifeBackoff, e.OpID, "retry %d after %s, the bounds are %s and %s", e.RetryCount, e.Delay, time.Duration(low), time.Duration(high))
		return
	}
	if !e.Due.Equal(v.s.At.Add(e.Delay)) {
		v.bad(LifeBackoff, e.OpID, "due at %s, which is not %s from now", e.Due.Format(timeFormat), e.Delay)
	}
	if d > 0 {
		i := int(jitterBuckets * (float64(e.Delay) - low) / (high - low))
		v.a.jitter[max(0, min(i, jitterBuckets-1))]++
	}
}

// uniform asks whether the jitter of the backoffs can have been drawn uniformly:
// a χ² test with nine degrees of freedom, at odds of one in ten thousand million.
func (a *Auditor) uniform() {
	n := 0
	for _, c := range a.jitter {
		n += c
	}
	const enough, critical = 1000, 66.0
	if n < enough {
		return
	}
	want, sum := float64(n)/jitterBuckets, 0.0
	for _, c := range a.jitter {
		sum += (float64(c) - want) * (float64(c) - want) / want
	}
	if sum > critical {
		a.violate(Violation{Invariant: LifeJitter, Text: fmt.Sprintf("%d backoffs fall into ten equal ranges of jitter as %v", n, a.jitter)})
	}
}

// backoffOf is min(base · 2ⁿ, most).
func backoffOf(base, most time.Duration, n int) time.Duration {
	if base <= 0 {
		return 0
	}
	for ; n > 0 && base < most; n-- {
		if base > most/2 {
			return most
		}
		base *= 2
	}
	return min(base, most)
}
