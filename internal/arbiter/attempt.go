package arbiter

import (
	"strconv"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// CodeLeaseOver is the code of the failure of an attempt whose executor fell
// silent.
const CodeLeaseOver = "lease_over"

// grant promotes the winner and gives it an attempt.
func (m *Machine) grant(t *target, e *entry, d *op.Decision) {
	m.become(e, op.Executing)
	e.attempt++
	e.decision, e.winner, e.reason = d.ID, "", ""
	e.granted, e.claimed, e.told = m.at, false, protections{}
	e.lease = m.leaseOf(e)
	t.executing = e
	m.running++
	m.arm(&e.wake, timer{at: e.lease, kind: timerLease, key: e.op.ID, entry: e})
	c := contender(e)
	c.Verdict = op.VerdictWon
	d.Contenders = append(d.Contenders, c)
	m.emit(Effect{Granted: &Granted{
		OpID: e.op.ID, Target: t.id, Attempt: e.attempt, Effective: c.Effective, Decision: d.ID, LeaseEnds: e.lease,
	}})
}

// leaseOf is the end of a lease that is granted or prolonged now. Nothing is
// executed after its deadline.
func (m *Machine) leaseOf(e *entry) time.Time {
	ends := m.at.Add(m.policy.attemptTimeout(e.op.Type))
	if !e.expires.IsZero() && e.expires.Before(ends) {
		return e.expires
	}
	return ends
}

// claim identifies an attempt in a result or a heartbeat.
type claim struct {
	opID, target, executor string
	attempt, input         int
}

// current returns the executing operation whose current attempt is claimed. Any
// other claim is refused: it comes from an executor that was fenced off, or comes
// again.
func (m *Machine) current(c claim) *entry {
	e := m.ops[c.opID]
	var why string
	switch {
	case e == nil:
		why = "the operation is not open"
	case e.status != op.Executing:
		why = "the operation is not executing"
	case e.attempt != c.attempt:
		why = "the current attempt is " + strconv.Itoa(e.attempt)
	default:
		return e
	}
	m.emit(Effect{Refused: &Refused{OpID: c.opID, Target: c.target, Attempt: c.attempt, Executor: c.executor, Input: c.input, Why: why}})
	return nil
}

// beat prolongs the lease of the current attempt.
func (m *Machine) beat(b *Beat, index int) {
	e := m.current(claim{opID: b.OpID, target: b.Target, executor: b.Executor, attempt: b.Attempt, input: index})
	if e == nil {
		return
	}
	e.claimed = true
	e.lease = m.leaseOf(e)
	m.arm(&e.wake, timer{at: e.lease, kind: timerLease, key: e.op.ID, entry: e})
	m.emit(Effect{Extended: &Extended{OpID: e.op.ID, Target: e.op.Target, Attempt: e.attempt, LeaseEnds: e.lease, Input: index}})
}

func (m *Machine) result(r *Result, index int) {
	e := m.current(claim{opID: r.OpID, target: r.Target, executor: r.Executor, attempt: r.Attempt, input: index})
	if e == nil {
		return
	}
	m.release(e)
	if r.Failure == nil {
		m.become(e, op.Succeeded)
		m.emit(Effect{Succeeded: &Succeeded{OpID: r.OpID, Target: e.op.Target, Attempt: e.attempt, Input: index, Duration: r.Duration}})
		m.settle(e, chore{Kind: choreShare, Attempt: e.attempt})
		m.finish(e)
		return
	}
	m.become(e, op.Failed)
	e.failure = r.Failure
	m.emit(Effect{Failed: &Failed{OpID: r.OpID, Target: e.op.Target, Attempt: e.attempt, Failure: r.Failure, Duration: r.Duration}})
	switch {
	case r.Failure.Terminal:
		reason := r.Failure.Reason
		if reason == "" {
			reason = op.TerminalError
		}
		m.reject(e, &Rejected{Reason: reason, Failure: r.Failure, CurrentVersion: r.Failure.CurrentVersion})
	case e.retries >= e.op.Retries():
		m.reject(e, &Rejected{Reason: op.MaxRetries, Failure: r.Failure})
	default:
		m.backOff(e, &Retry{N: e.retries}, true)
		m.stopPending(e)
	}
}

// lapse takes an attempt back whose lease ran out. The operation goes away for a
// while, so that one that kills its executors does not keep its target from the
// others. Only an attempt that somebody had begun costs a retry.
func (m *Machine) lapse(e *entry) {
	m.release(e)
	m.become(e, op.Pending)
	e.lapses++
	m.emit(Effect{Lapsed: &Lapsed{OpID: e.op.ID, Target: e.op.Target, Attempt: e.attempt, RetryCount: e.retries, Claimed: e.claimed}})
	if e.claimed {
		e.failure = &op.Failure{Code: CodeLeaseOver, Message: "the executor of attempt " + strconv.Itoa(e.attempt) + " fell silent and its lease ran out"}
	}
	switch {
	case !e.expires.IsZero() && !e.expires.After(m.at):
		m.reject(e, &Rejected{Reason: op.Expired, Failure: e.failure})
	case e.stop != nil:
		m.stopPending(e)
	case e.claimed && e.retries >= e.op.Retries():
		m.reject(e, &Rejected{Reason: op.MaxRetries, Failure: e.failure})
	case e.claimed:
		m.backOff(e, &Retry{N: e.retries}, true)
	default:
		m.backOff(e, &Retry{N: e.lapses - 1}, false)
	}
}

// release takes the executing operation off its target.
func (m *Machine) release(e *entry) {
	m.disarm(&e.wake)
	m.forgetGrace(e)
	t := m.targets[e.op.Target]
	t.executing = nil
	m.running--
	m.openWindow(t)
}

// backOff sends e away until its delay has passed. N is the exponent of the
// delay; a charged one costs a retry.
func (m *Machine) backOff(e *entry, r *Retry, charged bool) {
	delay := m.delay(e, r.N)
	if charged {
		e.retries++
	}
	if e.status != op.Pending {
		m.become(e, op.Pending)
	}
	e.due = m.at.Add(delay)
	r.OpID, r.Target, r.RetryCount, r.Delay, r.Due = e.op.ID, e.op.Target, e.retries, delay, e.due
	m.emit(Effect{Retry: r})
	m.arm(&e.wake, timer{at: e.due, kind: timerRetry, key: e.op.ID, entry: e})
}

// expire ends a pending operation whose deadline or maximum age has passed. An
// executing one is protected; it is asked again when it comes back to staging.
func (m *Machine) expire(e *entry) {
	if e.status == op.Executing {
		return
	}
	m.unstage(e)
	m.reject(e, &Rejected{Reason: op.Expired, Failure: e.failure})
}

// reject ends e. The caller has taken it off its target or staging area.
func (m *Machine) reject(e *entry, r *Rejected) {
	r.OpID, r.Target, r.From = e.op.ID, e.op.Target, e.status
	m.become(e, op.Rejected)
	e.reason, e.winner, e.retryAfter = r.Reason, r.Winner, r.RetryAfter
	if r.Failure != nil {
		e.failure = r.Failure
	}
	if r.Decision == "" {
		r.Decision = e.decision
	}
	m.emit(Effect{Rejected: r})
	how := chore{Kind: chorePart}
	if r.Failure != nil && (r.From == op.Failed || r.Reason == op.MaxRetries) {
		how = chore{Kind: choreFail, Reason: r.Reason, Failure: r.Failure}
	}
	m.settle(e, how)
	m.finish(e)
}

// finish forgets an operation that has its terminal record.
func (m *Machine) finish(e *entry) {
	id := e.op.ID
	m.disarm(&e.expiry)
	m.disarm(&e.wake)
	m.forgetGrace(e)
	delete(m.ops, id)
	m.finished[id] = e
	m.recent.add(Kin{OpID: id, Priority: e.op.Priority, Parent: e.op.Parent})
	m.disinherit(e)
	if key, ok := m.rivalry(e); ok {
		strike(m.rivals, key, e)
	}
	if t := m.targets[e.op.Target]; t != nil && t.idle() && !t.marked {
		m.disarm(&t.window)
		delete(m.targets, e.op.Target)
	}
}
