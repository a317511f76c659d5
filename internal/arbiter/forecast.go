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
	staged, executing := m.rivalsOf(e, at)
	if why := m.tooLate(e, at, executing != nil); why != "" {
		f.Outlook, f.Reason, f.Message = op.WouldRefuse, op.Expired, why
		return
	}
	i, _ := slices.BinarySearchFunc(staged, e, rank)
	if m.crowded(e, slices.Insert(slices.Clone(staged), i, e)) {
		f.Outlook, f.Reason, f.RetryAfterMS = op.WouldRefuse, op.StagingFull, m.policy.RetryAfter().Milliseconds()
		return
	}
	staged = slices.DeleteFunc(staged, m.held)
	i, _ = slices.BinarySearchFunc(staged, e, rank)
	if i > 0 {
		m.foreseeLoss(e, staged[0], f)
		return
	}
	f.Outlook, f.Verdict, f.Rule = op.WouldWin, op.VerdictWon, op.RuleOnly
	if len(staged) > 0 {
		f.Against, f.AgainstEffective, f.Rule = staged[0].op.ID, staged[0].total(), op.RulePriority
	}
	if executing != nil {
		f.Outlook, f.Against, f.AgainstEffective = op.WouldWait, executing.op.ID, executing.effective
		if m.yields(executing) && e.effective > executing.effective && int(e.effective-executing.effective) > m.boostOf(executing, at) {
			f.Outlook, f.Rule = op.WouldPreempt, op.RulePriority
		}
	}
}

// tooLate says why the deadline of e comes before it could be decided about.
func (m *Machine) tooLate(e *entry, at time.Time, busy bool) string {
	if e.op.Deadline == nil {
		return ""
	}
	ends := e.op.Deadline.Resolve(at)
	closes := at.Add(m.windowOf(e))
	if t := m.targets[e.op.Target]; t != nil && len(t.staged) > 0 {
		closes = t.closes
		if w := t.opened.Add(m.windowOf(e)); w.Before(closes) {
			closes = w
		}
	}
	switch {
	case !ends.After(at):
		return "its deadline has passed"
	case !busy && !ends.After(closes):
		return "its deadline passes before the window closes"
	}
	return ""
}

// rivalsOf returns who will be staged together with e, best first: what is staged
// on its target, without what e would supersede.
func (m *Machine) rivalsOf(e *entry, at time.Time) (staged []*entry, executing *entry) {
	t := m.targets[e.op.Target]
	if t == nil {
		return nil, nil
	}
	key, supersedes := m.rivalry(e)
	for _, s := range t.staged {
		if k, ok := m.rivalry(s); supersedes && ok && k == key {
			continue
		}
		c := *s
		c.boost = m.boostOf(s, at)
		staged = append(staged, &c)
	}
	slices.SortFunc(staged, rank)
	return staged, t.executing
}

// crowded reports whether e would be shed from a staging area that has it already
// in its place.
func (m *Machine) crowded(e *entry, staged []*entry) bool {
	t := &target{id: e.op.Target, staged: staged}
	for i := len(staged) - 1; i > 0 && m.full(t); i-- {
		if staged[i] == e {
			return true
		}
		if !staged[i].followUp() {
			t.staged = slices.Delete(t.staged, i, i+1)
		}
	}
	return false
}

func (m *Machine) foreseeLoss(e, winner *entry, f *op.Forecast) {
	f.Against, f.AgainstEffective = winner.op.ID, winner.total()
	f.Rule, f.Reason = op.RuleOrder, lost(e, winner)
	if f.Reason == op.LowerPriority {
		f.Rule = op.RulePriority
	}
	choice := m.policy.onConflict(&e.op)
	f.Outlook = op.WouldWait
	switch {
	case choice == op.OnConflictCoalesce && identical(&e.op, &winner.op):
		f.Verdict, f.Reason = op.VerdictCoalesced, op.Coalesced
	case choice == op.OnConflictReject:
		f.Outlook, f.Verdict = op.WouldLose, op.VerdictRejected
	case choice == op.OnConflictRetry && e.op.Retries() == 0:
		f.Outlook, f.Verdict = op.WouldLose, op.VerdictRejected
		f.Reason = op.MaxRetries
	case choice == op.OnConflictRetry:
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
