package arbiter

import (
	"cmp"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// entry is one open operation.
type entry struct {
	op          op.Operation
	place       op.Place
	causedBy    string
	traceparent string
	status      op.Status
	reason      op.Reason
	accepted    time.Time
	expires     time.Time

	asked     op.Priority // what the submitter wanted, where the policy did not allow it
	effective op.Priority // without what waiting adds
	boost     int         // what waiting adds (aging), at the last decision
	inherit   op.Inheritance
	ancestors []string // as far as they are known, nearest first, the missing one last
	missing   string   // ancestor at which the walk ended
	asking    bool     // its lookup is not answered yet
	staged    bool
	claimed   bool        // the executor of the current attempt has said that it works on it
	told      protections // of the current attempt
	unknown   bool        // its type, by the policy in force

	attempt     int
	retries     int
	lapses      int
	preemptions int
	granted     time.Time   // when the current attempt was
	stop        *stopping   // a cancel waits for the end of grace
	due         time.Time   // end of the backoff
	lease       time.Time   // end of the current attempt's lease
	failure     *op.Failure // the last real error
	choice      op.Conflict // what becomes of it when it loses, by the policy in force
	retryAfter  time.Duration
	winner      string
	decision    string

	leader *entry   // the one this was coalesced into
	riders []*entry // those coalesced into this one, in the order of the log

	expiry timer
	wake   timer  // lease or end of the backoff
	grace  *timer // end of grace, when something waits for it
}

// judge notes what the policy says of e's type.
func (e *entry) judge(p *Policy) {
	e.choice, e.unknown = p.onConflict(&e.op), !e.followUp() && !p.Known(e.op.Type)
}

// total is the effective priority in a decision, waiting included.
func (e *entry) total() op.Priority { return min(op.Critical, e.effective+op.Priority(e.boost)) }

// followUp reports whether e is the other side of a structural operation: its
// first side is done, so it may not be lost.
func (e *entry) followUp() bool { return e.op.Type == op.TypeFollowUp }

// rank orders contenders, best first: higher effective priority, then earlier in
// the log (contract §3, rules 3 and 4).
func rank(a, b *entry) int {
	if c := cmp.Compare(b.total(), a.total()); c != 0 {
		return c
	}
	if a.place.Before(b.place) {
		return -1
	}
	if b.place.Before(a.place) {
		return 1
	}
	return 0
}

// target is the unit of contention: one staging area and at most one executing
// operation.
type target struct {
	id        string
	staged    []*entry // best first
	asking    int      // staged operations whose ancestors are being looked up
	executing *entry
	opened    time.Time
	closes    time.Time
	window    timer
	marked    bool
}

func (t *target) idle() bool { return t.executing == nil && len(t.staged) == 0 }

// resolvable reports whether the window has passed, nothing executes, every
// contender's ancestors are known or known to be unknown, and somebody is not
// held back.
func (m *Machine) resolvable(t *target) bool {
	return t.executing == nil && t.asking == 0 && !t.closes.After(m.at) && m.strongest(t) != nil
}

// held reports whether e has to wait because an operator has paused its type or
// target. The other side of a structural operation is never held.
func (m *Machine) held(e *entry) bool {
	return (len(m.policy.Paused.Types) > 0 || len(m.policy.Paused.Targets) > 0) &&
		!e.followUp() && m.policy.Stops(e.op.Type, e.op.Target)
}

// stage puts a pending operation into the staging area of its target and opens
// the window if it is the first.
func (m *Machine) stage(e *entry) {
	m.disarm(&e.wake)
	if !e.expires.IsZero() && !e.expires.After(m.at) { // the expiry fired while it was executing
		m.reject(e, &Rejected{Reason: op.Expired, Failure: e.failure})
		return
	}
	if e.unknown {
		m.reject(e, &Rejected{Reason: op.UnknownType, Failure: e.failure})
		return
	}
	t := m.targets[e.op.Target]
	if t == nil {
		t = &target{id: e.op.Target}
		m.targets[t.id] = t
	}
	m.inherit(e)
	closes := m.at.Add(m.windowOf(e))
	if len(t.staged) == 0 {
		t.opened, t.closes = m.at, closes
	} else if w := t.opened.Add(m.windowOf(e)); w.Before(t.closes) {
		t.closes = w
	}
	e.staged, e.boost = true, m.boostOf(e, m.at)
	at, _ := slices.BinarySearchFunc(t.staged, e, rank)
	t.staged = slices.Insert(t.staged, at, e)
	if e.asking {
		t.asking++
	}
	m.openWindow(t)
	m.shed(t)
}

// openWindow has t looked at when its window closes. While an operation executes
// nothing can be resolved, so nothing is armed, unless somebody stronger waits;
// the end of the execution asks again.
func (m *Machine) openWindow(t *target) {
	switch {
	case t.executing != nil:
		if best := m.strongest(t); best != nil && best.effective > t.executing.effective {
			m.touch(t)
		}
	case len(t.staged) > 0 && t.closes.After(m.at):
		m.arm(&t.window, timer{at: t.closes, kind: timerWindow, key: t.id, target: t})
	default:
		m.disarm(&t.window) // it may stand at the end of a longer window
		m.touch(t)
	}
}

// shed rejects the lowest ranks of a staging area that is too full: too many, or
// too much to tell in one decision. The other sides of structural operations are
// never shed, because their first sides are done.
func (m *Machine) shed(t *target) {
	if !m.full(t) {
		return
	}
	if m.policy.Aging.Every > 0 {
		m.age(t)
	}
	for i := len(t.staged) - 1; i > 0 && m.full(t); i-- {
		if last := t.staged[i]; !last.followUp() {
			m.unstage(last)
			m.reject(last, &Rejected{Reason: op.StagingFull, Failure: last.failure, RetryAfter: m.policy.RetryAfter()})
		}
	}
}

func (m *Machine) full(t *target) bool {
	return m.policy.MaxStaged > 0 && len(t.staged) > m.policy.MaxStaged || m.weight(t) > MaxDecisionBytes
}

// age adds what waiting is worth to the contenders of t and puts them into their
// order (contract §3.6).
func (m *Machine) age(t *target) {
	changed := false
	for _, e := range t.staged {
		boost := m.boostOf(e, m.at)
		changed = changed || boost != e.boost
		e.boost = boost
	}
	if changed {
		slices.SortFunc(t.staged, rank)
	}
}

// boostOf is what e's waiting is worth at an instant.
func (m *Machine) boostOf(e *entry, at time.Time) int {
	a := m.policy.Aging
	if a.Every <= 0 {
		return 0
	}
	n := min(int64(at.Sub(e.accepted)/a.Every), int64(a.Max)) // so that the product is small
	return min(int(n)*min(a.Step, a.Max), a.Max, int(op.Critical-e.effective))
}

// unstage takes a pending operation out of its staging area, out of its backoff,
// or away from the one it was coalesced into.
func (m *Machine) unstage(e *entry) {
	m.disarm(&e.wake)
	if l := e.leader; l != nil {
		l.riders = slices.DeleteFunc(l.riders, func(r *entry) bool { return r == e })
		e.leader = nil
	}
	if !e.staged {
		return
	}
	t := m.targets[e.op.Target]
	if i := slices.Index(t.staged, e); i >= 0 {
		t.staged = slices.Delete(t.staged, i, i+1)
	}
	m.leave(t, e)
	m.touch(t)
}

// leave forgets what only a staged operation needs.
func (m *Machine) leave(t *target, e *entry) {
	e.staged = false
	if e.asking {
		e.asking = false
		t.asking--
	}
	m.unwait(e)
	if len(t.staged) == 0 {
		m.disarm(&t.window)
	}
}

// windowOf returns the staging window that e asks for: the longest matching
// prefix of its target, then its type, then the default.
func (m *Machine) windowOf(e *entry) time.Duration {
	if len(m.policy.WindowByPrefix) > 0 {
		for n := len(e.op.Target); n > 0; n-- {
			if w, ok := m.policy.WindowByPrefix[e.op.Target[:n]]; ok {
				return w
			}
		}
	}
	if w, ok := m.policy.WindowByType[e.op.Type]; ok {
		return w
	}
	return m.policy.StagingWindow
}
