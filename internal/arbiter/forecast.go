package arbiter

import (
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// WhatIf says what would become of o if it were submitted at this instant and
// nothing else came. It changes nothing. kin are ancestors of o that the machine
// may not know; one that neither knows counts as unknown.
//
// It holds for the next decision about the target: what executes there now is
// taken to end well.
func (m *Machine) WhatIf(o op.Operation, at time.Time, kin []Kin) op.Forecast {
	if at.Before(m.at) {
		at = m.at // as a step would be
	}
	e := &entry{op: o, status: op.Pending, accepted: at, place: op.Place{Seq: 1<<63 - 1}}
	if p := m.policy.Allowed(o.Type, o.Submitter, o.Priority); p != o.Priority {
		e.asked, e.op.Priority = o.Priority, p
	}
	e.judge(&m.policy)
	w := walk(o.ID, o.Parent, e.op.Priority, func(id string) (Kin, bool) {
		if k, ok := m.kin(id); ok {
			return k, true
		}
		i := slices.IndexFunc(kin, func(k Kin) bool { return k.OpID == id && !k.Unknown })
		if i < 0 {
			return Kin{}, false
		}
		return kin[i], true
	})
	e.effective, e.inherit = w.effective, w.inherit
	e.inherit.UnknownParent = w.missing
	f := op.Forecast{
		Type: op.ForecastType, OpID: o.ID, Target: o.Target, Priority: e.op.Priority, Effective: e.effective, Asked: e.asked,
		Inheritance: e.inherit, PolicyRevision: m.policy.Revision, At: at,
	}
	if t := m.targets[o.Target]; t != nil {
		f.Staged = len(t.staged)
		if t.executing != nil {
			f.Executing = t.executing.op.ID
		}
	}
	m.foresee(e, at, &f)
	f.Code = f.Reason.Code()
	return f
}

// foresee asks the rules in the order in which a submission meets them.
func (m *Machine) foresee(e *entry, at time.Time, f *op.Forecast) {
	if m.Remembers(e.op.ID) {
		f.Outlook, f.Message = op.WouldRefuse, "an operation of this id was submitted before; submitting it again changes nothing"
		return
	}
	no := m.admit(e)
	if no == nil && m.policy.MaxOpen > 0 && len(m.ops) >= m.policy.MaxOpen {
		no = &Rejected{Reason: op.Overloaded, RetryAfter: m.policy.RetryAfter()}
	}
	if no != nil {
		f.Outlook, f.Reason, f.RetryAfterMS = op.WouldRefuse, no.Reason, no.RetryAfter.Milliseconds()
		if no.Failure != nil {
			f.Message = no.Failure.Message
		}
		return
	}
	area, executing, closes := m.joined(e, at)
	if why := tooLate(e, at, closes, executing != nil); why != "" {
		f.Outlook, f.Reason, f.Message = op.WouldRefuse, op.Expired, why
		return
	}
	if area = m.kept(area); !slices.Contains(area, e) {
		f.Outlook, f.Reason, f.RetryAfterMS = op.WouldRefuse, op.StagingFull, m.policy.RetryAfter().Milliseconds()
		return
	}
	f.Outlook, f.Verdict, f.Rule = op.WouldWin, op.VerdictWon, op.RuleOnly
	when, preempts := closes, false
	if executing != nil {
		f.Outlook = op.WouldWait
		preempts = m.yields(executing) && e.effective > executing.effective
		if ends := m.graceOf(executing); preempts && when.Before(ends) {
			when = ends
		}
	}
	area = m.ranked(slices.DeleteFunc(area, m.held), when)
	if area[0] != e {
		m.foreseeLoss(e, area[0], f)
		return
	}
	if len(area) > 1 {
		f.Against, f.AgainstEffective, f.Rule = area[1].op.ID, area[1].total(), op.RulePriority
	}
	if executing != nil {
		f.Against, f.AgainstEffective = executing.op.ID, executing.effective
		if preempts && e.total() > executing.effective+op.Priority(m.boostOf(executing, when)) {
			f.Outlook, f.Rule = op.WouldPreempt, op.RulePriority
		}
	}
}

// joined returns the staging area that e would join at an instant, best first and
// with it, without what e would supersede; what executes on the target; and when
// the window of the area would close.
func (m *Machine) joined(e *entry, at time.Time) (area []*entry, executing *entry, closes time.Time) {
	area, closes = []*entry{e}, at.Add(m.windowOf(e))
	t := m.targets[e.op.Target]
	if t == nil {
		return area, nil, closes
	}
	key, supersedes := m.rivalry(e)
	for _, s := range t.staged {
		if k, ok := m.rivalry(s); !supersedes || !ok || k != key {
			c := *s
			area = append(area, &c)
		}
	}
	if len(area) > 1 {
		if w := t.opened.Add(m.windowOf(e)); w.Before(t.closes) {
			closes = w
		} else {
			closes = t.closes
		}
		if closes.Before(at) {
			closes = at
		}
	}
	return m.ranked(area, at), t.executing, closes
}

// ranked puts copies into the order that they have at an instant.
func (m *Machine) ranked(area []*entry, at time.Time) []*entry {
	for _, e := range area {
		e.boost = m.boostOf(e, at)
	}
	slices.SortFunc(area, rank)
	return area
}

// tooLate says why the deadline of e comes before it could be decided about.
func tooLate(e *entry, at, closes time.Time, busy bool) string {
	if e.op.Deadline == nil {
		return ""
	}
	switch ends := e.op.Deadline.Resolve(at); {
	case !ends.After(at):
		return "its deadline has passed"
	case !busy && !ends.After(closes):
		return "its deadline passes before the window closes"
	}
	return ""
}

// kept returns what would be left of a staging area that is too full.
func (m *Machine) kept(area []*entry) []*entry {
	t := &target{id: area[0].op.Target, staged: area}
	for i := len(area) - 1; i > 0 && m.full(t); i-- {
		if !t.staged[i].followUp() {
			t.staged = slices.Delete(t.staged, i, i+1)
		}
	}
	return t.staged
}

func (m *Machine) foreseeLoss(e, winner *entry, f *op.Forecast) {
	f.Against, f.AgainstEffective = winner.op.ID, winner.total()
	f.Rule, f.Reason = op.RuleOrder, lost(e, winner)
	if f.Reason == op.LowerPriority {
		f.Rule = op.RulePriority
	}
	f.Outlook = op.WouldWait
	switch {
	case e.choice == op.OnConflictCoalesce && identical(&e.op, &winner.op):
		f.Verdict, f.Reason = op.VerdictCoalesced, op.Coalesced
	case e.choice == op.OnConflictReject:
		f.Outlook, f.Verdict = op.WouldLose, op.VerdictRejected
	case e.choice == op.OnConflictRetry && e.op.Retries() == 0:
		f.Outlook, f.Verdict = op.WouldLose, op.VerdictRejected
		f.Reason = op.MaxRetries
	case e.choice == op.OnConflictRetry:
		f.Verdict = op.VerdictRetry
	default:
		f.Verdict = op.VerdictQueued
	}
}

// Load is how full a partition is.
type Load struct {
	Open    int     // operations without a terminal record
	Targets []Crowd // at least half full, fullest first, at most MaxCrowds
}

// Crowd is a target with many staged operations.
type Crowd struct {
	ID     string
	Staged int
}

// MaxCrowds bounds the targets of a [Load].
const MaxCrowds = 64

// Load returns how full the partition and its fullest targets are.
func (m *Machine) Load() Load {
	l := Load{Open: len(m.ops)}
	if l.Open < m.policy.MaxStaged/2 {
		return l // no target can be half full
	}
	for _, e := range m.sorted() {
		t := m.targets[e.op.Target]
		if t != nil && e.staged && t.staged[0] == e && 2*len(t.staged) >= m.policy.MaxStaged {
			l.Targets = append(l.Targets, Crowd{ID: t.id, Staged: len(t.staged)})
		}
	}
	slices.SortStableFunc(l.Targets, func(a, b Crowd) int { return b.Staged - a.Staged })
	l.Targets = l.Targets[:min(len(l.Targets), MaxCrowds)]
	return l
}
