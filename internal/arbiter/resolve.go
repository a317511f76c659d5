package arbiter

import (
	"slices"
	"strconv"
	"strings"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// resolve decides the staging area of t (contract §3).
func (m *Machine) resolve(t *target) {
	m.disarm(&t.window)
	if m.policy.Aging.Every > 0 {
		m.age(t)
	}
	contenders, held := m.contenders(t) // t.staged itself where nobody is held back
	if plantedFault && len(contenders) > 1 {
		contenders[0], contenders[1] = contenders[1], contenders[0]
	}
	winner := contenders[0]
	d := &op.Decision{
		ID: m.decisionID(), Target: t.id, At: m.at, WindowOpened: t.opened, WindowClosed: t.closes,
		PolicyRevision: m.policy.Revision, Winner: winner.op.ID, Rule: op.RuleOnly, Total: len(contenders),
		Contenders: make([]op.Contender, 0, min(len(contenders), 2*op.MaxListed)),
	}
	if len(contenders) > 1 {
		d.Rule = op.RulePriority
		if contenders[1].total() == winner.total() {
			d.Rule = op.RuleOrder
		}
	}
	m.emit(Effect{Decision: d})
	t.staged = held
	m.leave(t, winner)
	m.grant(t, winner, d)
	stay := m.losers(t, contenders, d)
	if t.staged = stay; len(held) > 0 {
		t.staged = append(stay, held...)
		slices.SortFunc(t.staged, rank)
	}
	m.size += (&Effect{Decision: d}).size() - decisionBytes // told when it was empty
	m.openWindow(t)                                         // who is left may be stronger than who won, without its boost
}

// losers settles everybody behind the first and returns those who stay staged, in
// the same memory: nothing may be staged on t meanwhile. A crowd that stays is only
// moved up: a decision a millisecond among a thousand would otherwise be most of
// what there is to do.
func (m *Machine) losers(t *target, contenders []*entry, d *op.Decision) []*entry {
	winner, stay := contenders[0], contenders[:0]
	listed := 0
	for _, e := range contenders[1:] {
		if listed >= op.MaxListed && e.stays() {
			stay = append(stay, e)
			continue
		}
		c := contender(e)
		if c.Verdict, c.Reason = m.lose(t, e, winner, d); c.Verdict == op.VerdictQueued {
			stay = append(stay, e)
			if listed++; listed > op.MaxListed {
				continue
			}
		}
		d.Contenders = append(d.Contenders, c)
	}
	clear(contenders[len(stay):])
	return stay
}

// stays reports whether an operation stays queued whoever it loses to; see
// [Machine.lose].
func (e *entry) stays() bool {
	return e.choice == op.OnConflictQueue || e.choice == op.OnConflictSupersede
}

// contenders separates those that an operator holds back.
func (m *Machine) contenders(t *target) (contenders, held []*entry) {
	if !slices.ContainsFunc(t.staged, m.held) {
		return t.staged, nil
	}
	for _, e := range t.staged {
		if m.held(e) {
			held = append(held, e)
		} else {
			contenders = append(contenders, e)
		}
	}
	return contenders, held
}

// lose says what becomes of a loser (contract §3.5) and lets it happen, except
// that a queued one is left to the caller.
func (m *Machine) lose(t *target, e, winner *entry, d *op.Decision) (op.Verdict, op.Reason) {
	why := lost(e, winner)
	switch {
	case e.choice == op.OnConflictCoalesce && identical(&e.op, &winner.op):
		m.coalesce(t, e, winner, d)
		return op.VerdictCoalesced, op.Coalesced
	case e.preemptions > 0: // it has won before and was promised its turn
		return op.VerdictQueued, op.Preempted
	case e.choice == op.OnConflictRetry:
		return m.sendBack(t, e, d, why), why
	case e.choice == op.OnConflictReject:
		m.turnAway(t, e, d, why)
		return op.VerdictRejected, why
	}
	return op.VerdictQueued, why
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
	m.backOff(e, &Retry{N: e.retries, Reason: why, Winner: d.Winner, Decision: d.ID}, true)
	return op.VerdictRetry
}

func lost(e, winner *entry) op.Reason {
	if e.total() < winner.total() {
		return op.LowerPriority
	}
	return op.LaterSubmission
}

func contender(e *entry) op.Contender {
	return op.Contender{
		OpID: e.op.ID, Priority: e.op.Priority, Effective: e.total(), Asked: e.asked, Boost: e.boost, Place: e.place, Inheritance: e.inherit,
	}
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
