package arbiter

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
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

	effective op.Priority
	inherit   op.Inheritance
	missing   string // ancestor at which the walk ended
	asking    bool   // its lookup is not answered yet
	staged    bool

	attempt  int
	retries  int
	due      time.Time   // end of the backoff
	lease    time.Time   // end of the current attempt's lease
	failure  *op.Failure // the last real error
	winner   string
	decision string

	expiry timer
	wake   timer // lease or end of the backoff
}

// followUp reports whether e is the other side of a structural operation: its
// first side is done, so it may not be lost.
func (e *entry) followUp() bool { return e.op.Type == op.TypeFollowUp }

// rank orders contenders, best first: higher effective priority, then earlier in
// the log (contract §3, rules 3 and 4).
func rank(a, b *entry) int {
	if c := cmp.Compare(b.effective, a.effective); c != 0 {
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

// resolvable reports whether the window has passed, nothing executes and every
// contender's ancestors are known or known to be unknown.
func (t *target) resolvable(at time.Time) bool {
	return len(t.staged) > 0 && t.executing == nil && t.asking == 0 && !t.closes.After(at)
}

// stage puts a pending operation into the staging area of its target and opens
// the window if it is the first.
func (m *Machine) stage(e *entry) {
	m.disarm(&e.wake)
	if !e.expires.IsZero() && !e.expires.After(m.at) { // the expiry fired while it was executing
		m.reject(e, &Rejected{Reason: op.Expired, Failure: e.failure})
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
	e.staged = true
	at, _ := slices.BinarySearchFunc(t.staged, e, rank)
	t.staged = slices.Insert(t.staged, at, e)
	if e.asking {
		t.asking++
	}
	m.openWindow(t)
	m.shed(t)
}

// openWindow has t looked at when its window closes. While an operation executes
// nothing can be resolved, so nothing is armed; the end of the execution asks
// again.
func (m *Machine) openWindow(t *target) {
	switch {
	case t.executing != nil:
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
	for i := len(t.staged) - 1; i > 0 && t.full(m.policy.MaxStaged); i-- {
		if last := t.staged[i]; !last.followUp() {
			m.unstage(last)
			m.reject(last, &Rejected{Reason: op.StagingFull, Failure: last.failure})
		}
	}
}

func (t *target) full(most int) bool {
	return most > 0 && len(t.staged) > most || t.weight() > MaxDecisionBytes
}

// unstage takes a pending operation out of its staging area, or out of its
// backoff.
func (m *Machine) unstage(e *entry) {
	m.disarm(&e.wake)
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

// resolve decides the staging area of t (contract §3).
func (m *Machine) resolve(t *target) {
	m.disarm(&t.window)
	if plantedFault && len(t.staged) > 1 {
		t.staged[0], t.staged[1] = t.staged[1], t.staged[0]
	}
	winner := t.staged[0]
	d := &op.Decision{
		ID: m.decisionID(), Target: t.id, At: m.at, WindowOpened: t.opened, WindowClosed: t.closes,
		PolicyRevision: m.policy.Revision, Winner: winner.op.ID, Rule: op.RuleOnly, Total: len(t.staged),
	}
	if len(t.staged) > 1 {
		d.Rule = op.RulePriority
		if t.staged[1].effective == winner.effective {
			d.Rule = op.RuleOrder
		}
	}
	m.emit(Effect{Decision: d})
	losers := t.staged[1:]
	t.staged = nil
	m.leave(t, winner)
	m.grant(t, winner, d)
	listed := 0
	for _, e := range losers {
		c := contender(e)
		c.Reason = lost(e, winner)
		switch e.op.OnConflict {
		case op.OnConflictQueue:
			c.Verdict = op.VerdictQueued
			t.staged = append(t.staged, e)
			if listed++; listed <= op.MaxListed {
				d.Contenders = append(d.Contenders, c)
			}
			continue
		case op.OnConflictRetry:
			c.Verdict = m.sendBack(t, e, d, c.Reason)
		case op.OnConflictReject:
			c.Verdict = op.VerdictRejected
			m.turnAway(t, e, d, c.Reason)
		}
		d.Contenders = append(d.Contenders, c)
	}
	m.size += (&Effect{Decision: d}).size() - decisionBytes // told when it was empty
}

// grant promotes the winner and gives it an attempt.
func (m *Machine) grant(t *target, e *entry, d *op.Decision) {
	m.become(e, op.Executing)
	e.attempt++
	e.decision, e.winner = d.ID, ""
	e.lease = m.at.Add(m.policy.AttemptTimeout)
	if !e.expires.IsZero() && e.expires.Before(e.lease) {
		e.lease = e.expires // never executed after its deadline
	}
	t.executing = e
	m.running++
	m.arm(&e.wake, timer{at: e.lease, kind: timerLease, key: e.op.ID, entry: e})
	c := contender(e)
	c.Verdict = op.VerdictWon
	d.Contenders = append(d.Contenders, c)
	m.emit(Effect{Granted: &Granted{
		OpID: e.op.ID, Target: t.id, Attempt: e.attempt, Effective: e.effective, Decision: d.ID, LeaseEnds: e.lease,
	}})
}

// turnAway rejects a loser.
func (m *Machine) turnAway(t *target, e *entry, d *op.Decision, why op.Reason) {
	m.leave(t, e)
	e.decision = d.ID
	m.reject(e, &Rejected{Reason: why, Winner: d.Winner, Decision: d.ID})
}

// sendBack lets a loser come back after its backoff, or rejects it when its
// retries are used up.
func (m *Machine) sendBack(t *target, e *entry, d *op.Decision, why op.Reason) op.Verdict {
	m.leave(t, e)
	e.decision, e.winner = d.ID, d.Winner
	if e.retries >= e.op.Retries() {
		m.reject(e, &Rejected{Reason: op.MaxRetries, Winner: d.Winner, Decision: d.ID, Failure: e.failure})
		return op.VerdictRejected
	}
	m.backOff(e, &Retry{Reason: why, Winner: d.Winner, Decision: d.ID})
	return op.VerdictRetry
}

func lost(e, winner *entry) op.Reason {
	if e.effective < winner.effective {
		return op.LowerPriority
	}
	return op.LaterSubmission
}

func contender(e *entry) op.Contender {
	return op.Contender{OpID: e.op.ID, Priority: e.op.Priority, Effective: e.effective, Place: e.place, Inheritance: e.inherit}
}

func (m *Machine) decisionID() string {
	m.decided++
	var b strings.Builder
	b.WriteByte('d')
	b.WriteString(strconv.Itoa(m.partition))
	b.WriteByte('-')
	b.WriteString(strconv.FormatUint(m.number, 10))
	b.WriteByte('-')
	b.WriteString(strconv.Itoa(m.decided))
	return b.String()
}
