package audit

import (
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// ruling is a decision of the step and what still has to follow from it.
type ruling struct {
	d       *op.Decision
	pending map[string]*op.Contender // by id: verdicts not carried out yet
	reasons bool                     // the verdicts' reasons make sense: the winner is the best
}

// windowFor is the staging window that an operation asks for under the policy in
// force: the longest matching prefix of its target, then its type, then the
// default.
func windowFor(p *arbiter.Policy, target, kind string) time.Duration {
	for n := len(target); n > 0 && len(p.WindowByPrefix) > 0; n-- {
		if w, ok := p.WindowByPrefix[target[:n]]; ok {
			return w
		}
	}
	if w, ok := p.WindowByType[kind]; ok {
		return w
	}
	return p.StagingWindow
}

// stage puts o where it waits for the next decision.
func (v *visit) stage(o *operation) {
	t := o.target
	v.touch(t)
	v.p.unstage(o)
	t.stage(o, v.s.At, windowFor(&v.p.policy, t.id, o.kind))
	v.p.rankOf(o)
	v.p.set(&v.p.alarms, alarm{at: t.closes, kind: alarmWindow, t: t})
}

func (v *visit) touch(t *target) {
	if !t.touched {
		t.touched, t.before = true, len(t.staged)
		v.touched = append(v.touched, t)
	}
}

// decidable reports whether a staging area can be decided: its window has closed,
// nothing executes, and every ancestor is known or known to be unknown.
func (v *visit) decidable(t *target) bool {
	if len(t.staged) == 0 || t.executing != nil || t.unsure || t.closes.After(v.s.At) {
		return false
	}
	for _, o := range t.staged {
		if r := v.p.rankOf(o); r.old || r.unknown != (key{}) && !o.settled {
			return false
		}
	}
	return true
}

// weight is what a decision about t takes in the journal, at most: a line for
// everybody whose status changes, and what follows for them.
func (v *visit) weight(t *target) int {
	n := 4 << 10 // the decision itself and those that stay
	for _, o := range t.staged {
		if o.onConflict == op.OnConflictQueue {
			continue
		}
		n += 410 + (5+len(v.p.rankOf(o).path))*(op.MaxToken+3)
		if f := o.failure; f != nil {
			n += 160 + 2*len(f.Message) + len(f.Code)
		}
	}
	return n
}

// undecided checks that a staging area is not left alone although it could be
// decided. It has to wait where as many operations execute as may, and where the
// decision does not fit into the step; a step without inputs has room for any.
// Nothing overtakes an area that waits for room. It reports whether the area
// waits.
func (v *visit) undecided(t *target, crowded bool) bool {
	if !v.decidable(t) {
		return false
	}
	most := v.p.policy.MaxExecuting
	if most > 0 && v.p.running >= most || crowded {
		return true
	}
	v.bad(ResolutionUndecided, t.staged[0].id, "target %s: the window closed at %s, %d operations are staged and nothing executes",
		t.id, t.closes.Format(timeFormat), len(t.staged))
	return false
}

// crowded reports whether the step has no room for one of the decisions that are
// due.
func (v *visit) crowded() bool {
	return len(v.s.In)+len(v.s.Out) > 0 && slices.ContainsFunc(v.touched, func(t *target) bool {
		return v.decidable(t) && v.size+v.weight(t) > arbiter.MaxEffectBytes
	})
}

// bound checks that a staging area does not grow beyond the policy's maximum,
// but for the other sides of structural operations, which are never shed.
func (v *visit) bound(t *target) {
	if v.limit <= 0 || len(t.staged) <= v.limit || len(t.staged) <= t.before {
		return
	}
	best := v.best(t)
	if slices.ContainsFunc(t.staged, func(o *operation) bool { return o != best && !o.followUp() }) {
		v.bad(ResolutionStagingBound, "", "target %s: %d operations are staged, the maximum is %d", t.id, len(t.staged), v.limit)
	}
}

// best returns the operation that wins a staging area, which is not empty.
func (v *visit) best(t *target) *operation {
	best := t.staged[0]
	for _, o := range t.staged[1:] {
		if v.p.better(o, best) {
			best = o
		}
	}
	return best
}

// decision checks one decision against the staging area as the auditor has it.
func (v *visit) decision(d *op.Decision) {
	v.settle()
	v.a.report.Decisions++
	t := v.p.target(d.Target)
	r := &ruling{d: d, pending: map[string]*op.Contender{}}
	v.decisionFacts(t, d)
	r.reasons = v.winner(t, d)
	v.contenders(t, r)
	v.listing(t, d)
	if v.rulings == nil {
		v.rulings = map[string]*ruling{}
	}
	v.rulings[d.ID] = r
	v.decided = append(v.decided, r)
}

func (v *visit) decisionFacts(t *target, d *op.Decision) {
	k := keyOf(d.ID)
	if _, ok := v.a.decisions[k]; ok || d.ID == "" {
		v.bad(ResolutionDecisionID, d.Winner, "id %q is empty or was used before", d.ID)
	}
	v.a.decisions[k] = struct{}{}
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

// winner checks who won and by which rule.
func (v *visit) winner(t *target, d *op.Decision) bool {
	if len(t.staged) == 0 {
		return false // every contender is reported as not staged
	}
	best := v.best(t)
	if d.Winner != best.id {
		v.bad(ResolutionWinner, d.Winner, "decision %s on target %s: the best of %d staged is %s (%d at %d.%d)", d.ID, t.id,
			len(t.staged), best.id, v.p.rankOf(best).effective, best.place.Seq, best.place.Index)
		return false
	}
	want := op.RuleOnly
	for _, o := range t.staged {
		if o == best {
			continue
		}
		if v.p.rankOf(o).effective == v.p.rankOf(best).effective {
			want = op.RuleOrder
			break
		}
		want = op.RulePriority
	}
	if d.Rule != want {
		v.bad(ResolutionRule, d.Winner, "decision %s names rule %q, what decided is %q", d.ID, d.Rule, want)
	}
	return true
}

// contenders checks every line of a decision.
func (v *visit) contenders(t *target, r *ruling) {
	d := r.d
	for i := range d.Contenders {
		c := &d.Contenders[i]
		if i > 0 && claimedBetter(c, &d.Contenders[i-1]) {
			v.bad(ResolutionOrder, c.OpID, "decision %s lists it after %s", d.ID, d.Contenders[i-1].OpID)
		}
		o := v.p.open[keyOf(c.OpID)]
		if o == nil || o.target != t || o.slot < 0 {
			v.bad(ResolutionNotStaged, c.OpID, "decision %s lists it, but it is not staged on target %s", d.ID, t.id)
			continue
		}
		if r.pending[c.OpID] != nil {
			v.bad(ResolutionNotStaged, c.OpID, "decision %s lists it twice", d.ID)
			continue
		}
		if c.Priority != o.priority || c.Place != o.place {
			v.bad(ResolutionContender, c.OpID, "decision %s says priority %d at %d.%d, submitted was %d at %d.%d", d.ID,
				c.Priority, c.Seq, c.Index, o.priority, o.place.Seq, o.place.Index)
		}
		v.inheritance(d, c, o)
		v.verdict(r, c, o)
		r.pending[c.OpID] = c
	}
}

func claimedBetter(a, b *op.Contender) bool {
	return a.Effective > b.Effective || a.Effective == b.Effective && a.Place.Before(b.Place)
}

func (v *visit) inheritance(d *op.Decision, c *op.Contender, o *operation) {
	want := v.p.rankOf(o)
	path := make([]key, len(c.Path))
	for i, id := range c.Path {
		path[i] = keyOf(id)
	}
	if c.Effective != want.effective || !slices.Equal(path, want.path) || keyOf(c.UnknownParent) != want.unknown ||
		c.Cycle != want.cycle || c.Truncated != want.truncated {
		v.bad(ResolutionEffective, c.OpID, "decision %s says effective priority %d by %v (unknown %q, cycle %t, truncated %t), "+
			"on record is %d over %d ancestors (unknown %t, cycle %t, truncated %t)", d.ID, c.Effective, c.Path, c.UnknownParent, c.Cycle,
			c.Truncated, want.effective, len(want.path), want.unknown != key{}, want.cycle, want.truncated)
		return
	}
	if c.UnknownParent == "" {
		return
	}
	if !o.settled {
		v.bad(ResolutionUnaskedParent, c.OpID, "decision %s calls ancestor %s unknown, but nobody looked for it up to the child", d.ID, c.UnknownParent)
	} else if p := v.a.submittedBefore(want.unknown, o.place, v.s.At); p != nil {
		v.bad(ResolutionParentMissed, c.OpID, "decision %s calls ancestor %s unknown, but partition %d holds it from before the child", d.ID, c.UnknownParent, p.id)
	}
}

// verdict checks what becomes of a contender and why.
func (v *visit) verdict(r *ruling, c *op.Contender, o *operation) {
	d := r.d
	want := op.VerdictRejected
	switch {
	case c.OpID == d.Winner:
		want = op.VerdictWon
	case o.onConflict == op.OnConflictQueue:
		want = op.VerdictQueued
	case o.onConflict == op.OnConflictRetry && o.retries < o.maxRetries:
		want = op.VerdictRetry
	}
	if c.Verdict != want {
		v.bad(ResolutionVerdict, c.OpID, "decision %s says %q, on_conflict %q and %d of %d retries ask for %q", d.ID,
			c.Verdict, o.onConflict, o.retries, o.maxRetries, want)
	}
	if want == op.VerdictWon || !r.reasons {
		return
	}
	if reason := v.lostBy(d, o); c.Reason != reason {
		v.bad(ResolutionReason, c.OpID, "decision %s says %q, right is %q", d.ID, c.Reason, reason)
	}
}

// lostBy is the reason that a loser is to be told.
func (v *visit) lostBy(d *op.Decision, o *operation) op.Reason {
	w := v.p.open[keyOf(d.Winner)]
	if w != nil && v.p.rankOf(o).effective < v.p.rankOf(w).effective {
		return op.LowerPriority
	}
	return op.LaterSubmission
}

// listing checks that nobody was left out.
func (v *visit) listing(t *target, d *op.Decision) {
	if d.Total != len(t.staged) {
		v.bad(ResolutionTotal, d.Winner, "decision %s on target %s counts %d contenders, staged are %d", d.ID, t.id, d.Total, len(t.staged))
	}
	listed := map[string]bool{}
	for i := range d.Contenders {
		listed[d.Contenders[i].OpID] = true
	}
	queued, named := 0, 0
	for _, o := range t.staged {
		switch {
		case o.id != d.Winner && o.onConflict == op.OnConflictQueue:
			queued++
			if listed[o.id] {
				named++
			}
		case !listed[o.id]:
			v.bad(ResolutionUnlisted, o.id, "decision %s on target %s does not list it, though its status changes", d.ID, t.id)
		}
	}
	if want := min(queued, op.MaxListed); named != want {
		v.bad(ResolutionUnlisted, d.Winner, "decision %s lists %d of %d operations that stay staged, not %d", d.ID, named, queued, want)
	}
}

// carriedOut checks that every verdict of a decision had its effect.
func (v *visit) carriedOut(r *ruling) {
	for i := range r.d.Contenders {
		c := &r.d.Contenders[i]
		if r.pending[c.OpID] == c && c.Verdict != op.VerdictQueued {
			v.bad(ResolutionNotCarriedOut, c.OpID, "decision %s says %q, and nothing followed", r.d.ID, c.Verdict)
		}
	}
}

// carry finds the verdict of this step that an effect carries out, and takes it
// off the list. It returns nil when there is none.
func (v *visit) carry(decision, opID string, verdict op.Verdict) *ruling {
	r := v.rulings[decision]
	if r == nil || r.pending[opID] == nil || r.pending[opID].Verdict != verdict {
		return nil
	}
	delete(r.pending, opID)
	return r
}
