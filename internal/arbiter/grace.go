package arbiter

import (
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// protections says which of them have been told about the current attempt.
type protections struct{ grace, execution bool }

// stopping is a cancel that waits for the end of grace.
type stopping struct {
	at    time.Time // end of grace
	alone bool      // spare the descendants
}

func (m *Machine) graceOf(e *entry) time.Time { return e.granted.Add(m.policy.GracePeriod) }

// awaitGrace has e looked at when its grace ends. Few operations ever need it.
func (m *Machine) awaitGrace(e *entry, ends time.Time) {
	if e.grace == nil {
		e.grace = &timer{}
	}
	m.arm(e.grace, timer{at: ends, kind: timerGrace, key: e.op.ID, entry: e})
}

func (m *Machine) forgetGrace(e *entry) {
	if e.grace != nil {
		m.disarm(e.grace)
	}
}

// stop cancels an executing operation: at once, or when its grace ends (contract
// §3.2). Its executor is fenced off and told to stop.
func (m *Machine) stop(e *entry, alone bool) {
	ends := m.graceOf(e)
	if !ends.After(m.at) {
		m.abort(e, alone)
		return
	}
	if e.stop == nil {
		e.stop = &stopping{at: ends, alone: alone}
		m.awaitGrace(e, ends)
	}
	m.emit(Effect{Protected: &Protected{
		OpID: e.op.ID, Target: e.op.Target, Attempt: e.attempt, Cancel: true, Kind: ProtectedByGrace, Until: ends,
	}})
}

// abort takes a cancelled operation off its target (EXECUTING → CANCELLED).
func (m *Machine) abort(e *entry, alone bool) {
	m.release(e)
	m.cancelled(e, &Cancelled{From: op.Executing, Reason: op.CancelledByRequest, Attempt: e.attempt, Cascade: !alone})
}

// graceEnds does what has waited for the end of e's grace.
func (m *Machine) graceEnds(e *entry) {
	if e.stop != nil {
		m.abort(e, e.stop.alone)
		return
	}
	m.touch(m.targets[e.op.Target])
}

// stopPending cancels an operation that was to be stopped and became pending
// before its grace ended: there is nothing left to protect.
func (m *Machine) stopPending(e *entry) {
	if e.stop != nil {
		m.cancelPending(e, &Cancelled{Reason: op.CancelledByRequest, Cascade: !e.stop.alone})
	}
}

// contest asks whether a staged operation may take the place of the executing
// one, and tells what protects it if not (contract §3.2).
func (m *Machine) contest(t *target) {
	e := t.executing
	best := m.strongest(t)
	if best == nil || best.effective <= e.effective {
		return
	}
	ends := m.graceOf(e)
	switch {
	case !m.yields(e):
		if !e.told.execution {
			e.told.execution = true
			m.protect(e, best, ProtectedByExecution, e.lease)
		}
	case ends.After(m.at):
		if !e.told.grace {
			e.told.grace = true
			m.protect(e, best, ProtectedByGrace, ends)
		}
		if e.stop == nil {
			m.awaitGrace(e, ends)
		}
	case t.closes.After(m.at):
		m.arm(&t.window, timer{at: t.closes, kind: timerWindow, key: t.id, target: t})
	case t.asking > 0: // the answer has the target looked at again
	case e.stop != nil: // its end is due
	case m.winsAgain(t, e): // by what waiting is worth
	default:
		m.preempt(e, m.strongest(t)) // in their order, if that has changed
	}
}

// winsAgain reports whether e would win the very decision that follows its
// preemption, because it has waited longer than those that are stronger.
func (m *Machine) winsAgain(t *target, e *entry) bool {
	if m.policy.Aging.Every == 0 {
		return false
	}
	m.age(t)
	aged := *e
	aged.boost = m.boostOf(e, m.at)
	i := slices.IndexFunc(t.staged, func(s *entry) bool { return !m.held(s) })
	return rank(&aged, t.staged[i]) < 0
}

// yields reports whether e may be preempted at all.
func (m *Machine) yields(e *entry) bool {
	return m.policy.Preemption && e.op.Preemptible && !e.followUp() && e.preemptions < m.policy.MaxPreemptions
}

func (m *Machine) protect(e, by *entry, kind Protection, until time.Time) {
	m.emit(Effect{Protected: &Protected{
		OpID: e.op.ID, Target: e.op.Target, Attempt: e.attempt, By: by.op.ID, Kind: kind, Until: until,
	}})
}

// strongest returns the staged operation of highest effective priority that is
// not held back; what waiting adds does not count here.
func (m *Machine) strongest(t *target) *entry {
	var best *entry
	for _, e := range t.staged {
		if (best == nil || e.effective > best.effective) && !m.held(e) {
			best = e
		}
		if m.policy.Aging.Every == 0 && best != nil {
			break // they stand in this order
		}
	}
	return best
}

// preempt puts an executing operation back into the staging area. It keeps its
// place in the log and loses no retry.
func (m *Machine) preempt(e, by *entry) {
	m.release(e)
	m.become(e, op.Pending)
	e.preemptions++
	e.reason, e.winner = op.Preempted, by.op.ID
	m.emit(Effect{Preempted: &Preempted{OpID: e.op.ID, Target: e.op.Target, Attempt: e.attempt, By: by.op.ID, Count: e.preemptions}})
	m.stage(e)
}
