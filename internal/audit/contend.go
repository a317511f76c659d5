package audit

import (
	"slices"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// winner checks who won and by which rule. It reports whether the best did.
func (v *visit) winner(t *target, r *ruling) bool {
	d, list := r.d, r.contenders
	if w := r.winner; w != nil && w.slot >= 0 && held(&v.p.policy, w) {
		v.bad(ResolutionPaused, d.Winner, "decision %s: it wins although its type or target is paused", d.ID)
		return false
	}
	if len(list) == 0 {
		return false // every contender is reported as not staged
	}
	best, most, equals := v.best(list)
	if d.Winner != best.id {
		v.bad(ResolutionWinner, d.Winner, "decision %s on target %s: the best of %d staged is %s (%d at %d.%d)", d.ID, t.id,
			len(list), best.id, most, best.place.Seq, best.place.Index)
		return false
	}
	want := op.RulePriority
	switch {
	case equals > 1:
		want = op.RuleOrder
	case len(list) == 1:
		want = op.RuleOnly
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
		if c.OpID != d.Winner && held(&v.p.policy, o) {
			v.bad(ResolutionPaused, c.OpID, "decision %s lists it although its type or target is paused", d.ID)
		}
		if c.Priority != o.priority || c.Asked != o.asked || c.Place != o.place {
			v.bad(ResolutionContender, c.OpID, "decision %s says priority %d (asked %d) at %d.%d, on record is %d (%d) at %d.%d", d.ID,
				c.Priority, c.Asked, c.Seq, c.Index, o.priority, o.asked, o.place.Seq, o.place.Index)
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
	want, boost := v.p.rankOf(o), v.boost(o)
	if c.Boost != boost {
		v.bad(ResolutionBoost, c.OpID, "decision %s says that waiting since %s adds %d, it adds %d", d.ID, o.accepted.Format(timeFormat), c.Boost, boost)
	}
	path := make([]key, len(c.Path))
	for i, id := range c.Path {
		path[i] = keyOf(id)
	}
	if c.Effective != v.total(o) || !slices.Equal(path, want.path) || keyOf(c.UnknownParent) != want.unknown ||
		c.Cycle != want.cycle || c.Truncated != want.truncated {
		v.bad(ResolutionEffective, c.OpID, "decision %s says effective priority %d by %v (unknown %q, cycle %t, truncated %t), "+
			"on record is %d over %d ancestors (unknown %t, cycle %t, truncated %t)", d.ID, c.Effective, c.Path, c.UnknownParent, c.Cycle,
			c.Truncated, v.total(o), len(want.path), want.unknown != key{}, want.cycle, want.truncated)
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
	want, reason := op.VerdictWon, op.Reason("")
	if c.OpID != d.Winner {
		want, reason = v.losing(r, o)
	}
	switch {
	case c.Verdict == want:
		if r.reasons && c.Reason != reason {
			v.bad(ResolutionReason, c.OpID, "decision %s says %q, right is %q", d.ID, c.Reason, reason)
		}
	case c.Verdict == op.VerdictCoalesced:
		v.bad(ResolutionCoalesced, c.OpID, "decision %s coalesces it, the policy (%q) or what it asks for does not allow it", d.ID, choice(&v.p.policy, o))
	default:
		v.bad(ResolutionVerdict, c.OpID, "decision %s says %q, on_conflict %q, %d of %d retries and %d preemptions ask for %q", d.ID,
			c.Verdict, choice(&v.p.policy, o), o.retries, o.maxRetries, o.preemptions, want)
	}
}

// losing is the verdict on a loser and its reason (contract §3.5, ADR 0008).
func (v *visit) losing(r *ruling, o *operation) (op.Verdict, op.Reason) {
	verdict := v.sentence(r, o)
	switch {
	case verdict == op.VerdictCoalesced:
		return verdict, op.Coalesced
	case o.preemptions > 0:
		return verdict, op.Preempted
	}
	return verdict, v.lostBy(r, o)
}

// sentence is the verdict on a loser.
func (v *visit) sentence(r *ruling, o *operation) op.Verdict {
	conflict := choice(&v.p.policy, o)
	switch {
	case conflict == op.OnConflictCoalesce && r.winner != nil && r.winner.request == o.request:
		return op.VerdictCoalesced
	case o.preemptions > 0:
		return op.VerdictQueued
	case conflict == op.OnConflictRetry && o.retries < o.maxRetries:
		return op.VerdictRetry
	case conflict == op.OnConflictRetry, conflict == op.OnConflictReject:
		return op.VerdictRejected
	}
	return op.VerdictQueued
}

// lostBy is the reason that a loser is to be told.
func (v *visit) lostBy(r *ruling, o *operation) op.Reason {
	if r.winner != nil && v.total(o) < v.total(r.winner) {
		return op.LowerPriority
	}
	return op.LaterSubmission
}

// listing checks that nobody was left out: of those that stay, the first are named.
func (v *visit) listing(t *target, r *ruling) {
	d := r.d
	if d.Total != len(r.contenders) {
		v.bad(ResolutionTotal, d.Winner, "decision %s on target %s counts %d contenders, there are %d", d.ID, t.id, d.Total, len(r.contenders))
	}
	listed, named := map[*operation]bool{}, 0
	var last *operation // the weakest that stays and is named
	for i := range d.Contenders {
		o := v.p.open[keyOf(d.Contenders[i].OpID)]
		if o == nil || listed[o] || o.target != t || o.slot < 0 || held(&v.p.policy, o) {
			continue // reported with its line
		}
		if listed[o] = true; o != r.winner && v.sentence(r, o) == op.VerdictQueued {
			if named++; last == nil || v.better(last, o) {
				last = o
			}
		}
	}
	queued := 0
	for _, o := range r.contenders {
		switch {
		case o != r.winner && v.sentence(r, o) == op.VerdictQueued: // most of a crowd
			if queued++; last != nil && v.better(o, last) && !listed[o] {
				v.bad(ResolutionUnlisted, o.id, "decision %s on target %s does not list it, but %s, which ranks lower", d.ID, t.id, last.id)
			}
		case !listed[o]:
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
