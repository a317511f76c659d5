package audit

import (
	"slices"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// ruling is a decision of the step and what still has to follow from it.
type ruling struct {
	d          *op.Decision
	winner     *operation // nil where there is no such open operation
	contenders []*operation
	pending    map[string]*op.Contender // by id: verdicts not carried out yet
	reasons    bool                     // the verdicts' reasons make sense: the winner is the best
}

// stage puts o where it waits for the next decision.
func (v *visit) stage(o *operation) {
	t := o.target
	v.touch(t)
	v.p.unstage(o)
	t.stage(o, v.s.At, windowFor(&v.p.policy, t.id, o.kind))
	v.p.rankOf(o)
	v.severed(o)
	v.stir(t)
	v.p.set(&v.p.alarms, alarm{at: t.closes, kind: alarmWindow, t: t})
}

func (v *visit) touch(t *target) {
	if !t.touched {
		t.touched, t.before = true, len(t.staged)
		v.touched = append(v.touched, t)
	}
}

// stir has t touched by something after which its executing operation is
// contested, if there is one.
func (v *visit) stir(t *target) {
	v.touch(t)
	t.stirred = true
}

// contending returns those of a staging area that no operator holds back.
func (v *visit) contending(t *target) []*operation {
	p := &v.p.policy
	if len(p.Paused.Types)+len(p.Paused.Targets) == 0 {
		return t.staged
	}
	var free []*operation
	for _, o := range t.staged {
		if !held(p, o) {
			free = append(free, o)
		}
	}
	return free
}

// decidable reports whether a staging area has to be decided: it may be, and
// nothing that was not recorded says otherwise.
func (v *visit) decidable(t *target) bool {
	return !t.unsure && v.ripe(t) && !slices.ContainsFunc(t.staged, func(o *operation) bool { return o.rank.old })
}

// ripe reports whether a staging area may be decided: its window has closed, nothing
// executes, every ancestor is known or known to be unknown, and somebody is not held
// back.
func (v *visit) ripe(t *target) bool {
	return len(t.staged) > 0 && t.executing == nil && (t.unsure || !t.closes.After(v.s.At)) && !v.asking(t) && len(v.contending(t)) > 0
}

// weight is what a decision about t takes in the journal, at most: a line for
// everybody whose status changes, and what follows for them.
func (v *visit) weight(t *target) int {
	n := 5 << 10 // the decision itself and those that stay
	for _, o := range t.staged {
		if c := choice(&v.p.policy, o); c == op.OnConflictQueue || c == op.OnConflictSupersede {
			continue
		}
		n += 500 + (6+len(v.p.rankOf(o).path))*(op.MaxToken+3)
		if f := o.failure; f != nil {
			n += 400 + 2*len(f.Message) + len(f.Code)
		}
	}
	return n
}

// undecided checks that a staging area is not left alone although it could be
// decided. It has to wait where as many operations execute as may, or did until one
// was preempted, and where the decision does not fit into the step; a step without
// inputs has room for any.
// Nothing overtakes an area that waits for room. It reports whether the area
// waits.
func (v *visit) undecided(t *target, crowded bool) bool {
	if !v.decidable(t) {
		return crowded && v.ripe(t)
	}
	most := v.p.policy.MaxExecuting
	if most > 0 && (v.p.running >= most || v.freed) || crowded {
		return true
	}
	v.bad(ResolutionUndecided, t.staged[0].id, "target %s: the window closed at %s, %d operations are staged and nothing executes",
		t.id, t.closes.Format(timeFormat), len(t.staged))
	return false
}

// crowded reports whether the step has no room for one of the decisions that are
// due. One that may be due, as far as is on record, is as much in the way.
func (v *visit) crowded() bool {
	return len(v.s.In)+len(v.s.Out) > 0 && slices.ContainsFunc(v.touched, func(t *target) bool {
		return v.ripe(t) && v.size+v.weight(t) > arbiter.MaxEffectBytes
	})
}

// bound checks that a staging area does not grow beyond the policy's maximum,
// but for the other sides of structural operations, which are never shed.
func (v *visit) bound(t *target) {
	if v.limit <= 0 || len(t.staged) <= v.limit || len(t.staged) <= t.before {
		return
	}
	best := v.first(t.staged)
	if slices.ContainsFunc(t.staged, func(o *operation) bool { return o != best && !o.followUp() }) {
		v.bad(ResolutionStagingBound, "", "target %s: %d operations are staged, the maximum is %d", t.id, len(t.staged), v.limit)
	}
}

// best returns the operation that stands first of several, its priority with all
// that counts, and how many have the same.
func (v *visit) best(list []*operation) (best *operation, most op.Priority, equals int) {
	for i, o := range list {
		switch x := v.total(o); {
		case i == 0 || x > most:
			best, most, equals = o, x, 1
		case x == most:
			if equals++; o.place.Before(best.place) {
				best = o
			}
		}
	}
	return best, most, equals
}

func (v *visit) first(list []*operation) *operation {
	best, _, _ := v.best(list)
	return best
}

// decision checks one decision against the staging area as the auditor has it.
func (v *visit) decision(d *op.Decision) {
	v.settle()
	v.deciding = true
	v.a.report.Decisions++
	t := v.p.target(d.Target)
	r := &ruling{d: d, winner: v.p.open[keyOf(d.Winner)], contenders: v.contending(t), pending: map[string]*op.Contender{}}
	v.decisionFacts(t, d)
	r.reasons = v.winner(t, r)
	v.contenders(t, r)
	v.listing(t, r)
	if v.rulings == nil {
		v.rulings = map[string]*ruling{}
	}
	v.rulings[d.ID] = r
	v.decided = append(v.decided, r)
}

func (v *visit) decisionFacts(t *target, d *op.Decision) {
	most := 0
	if v.a.opts.Bounds.Operations > 0 {
		most = boundedSteps
	}
	if d.ID == "" || !v.a.decisions.add(keyOf(d.ID), struct{}{}, most) {
		v.bad(ResolutionDecisionID, d.Winner, "id %q is empty or was used before", d.ID)
	}
	if !d.At.Equal(v.s.At) {
		v.bad(ResolutionTime, d.Winner, "decision %s is of %s, its step of %s", d.ID, d.At.Format(timeFormat), v.s.At.Format(timeFormat))
	}
	if d.PolicyRevision != v.p.policy.Revision {
		v.bad(ResolutionPolicy, d.Winner, "decision %s names policy revision %d, in force is %d", d.ID, d.PolicyRevision, v.p.policy.Revision)
	}
	if t.executing != nil {
		v.bad(ResolutionBusy, d.Winner, "decision %s on target %s while %s executes", d.ID, t.id, t.executing.id)
	}
	switch {
	case d.WindowClosed.After(v.s.At) || d.WindowClosed.Before(d.WindowOpened):
		v.bad(ResolutionWindow, d.Winner, "decision %s of %s: the window is %s to %s", d.ID, v.s.At.Format(timeFormat),
			d.WindowOpened.Format(timeFormat), d.WindowClosed.Format(timeFormat))
	case len(t.staged) > 0 && !t.unsure && (!d.WindowOpened.Equal(t.opened) || !d.WindowClosed.Equal(t.closes)):
		v.bad(ResolutionWindow, d.Winner, "decision %s: the window is %s to %s, but it was %s to %s", d.ID,
			d.WindowOpened.Format(timeFormat), d.WindowClosed.Format(timeFormat), t.opened.Format(timeFormat), t.closes.Format(timeFormat))
	}
}
