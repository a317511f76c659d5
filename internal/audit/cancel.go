package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func cancelOf(opID string) func(in *arbiter.Input) bool {
	return func(in *arbiter.Input) bool { return in.Cancel != nil && in.Cancel.OpID == opID }
}

// ask takes a cancel of several operations.
func (v *visit) ask(c *arbiter.Cancel) {
	switch {
	case c.OpID != "": // its effect says what became of it
	case len(c.Ancestors) > 0:
		for _, id := range c.Ancestors {
			v.toldOf(keyOf(id), id)
			v.cascade(keyOf(id))
		}
	default:
		for _, o := range v.p.byPlace() {
			if !o.followUp() && (c.All && o.target.id == c.Target || c.Submitter != "" && o.submitter == c.Submitter) {
				v.doom(o, doom{kind: doomCancel, alone: c.Alone})
			}
		}
	}
}

// cancelled checks a cancel that takes effect.
func (v *visit) cancelled(e *arbiter.Cancelled) {
	v.a.terminal++
	o := v.subject(e.OpID, e.Target, "Cancelled")
	if o == nil {
		v.claim(cancelOf(e.OpID))
		return
	}
	v.kept(o, "cancelled")
	if e.From != o.status {
		v.bad(LifeFrom, e.OpID, "cancelled from %s, its status was %s", e.From, o.status)
	}
	alone := false
	switch e.Reason {
	case op.CancelledByRequest:
		alone = v.requested(e, o)
	case op.CancelledWithParent:
		v.withParent(e, o)
	default:
		v.claim(cancelOf(e.OpID))
		v.bad(LifeReason, e.OpID, "cancelled for %q", e.Reason)
		alone = !e.Cascade
	}
	if e.Cascade == alone {
		v.bad(CausesCancel, e.OpID, "the request spares the descendants: %t, the cancel takes them along: %t", alone, e.Cascade)
	}
	if o.status == op.Executing {
		if e.Attempt != o.attempt {
			v.bad(EffectsSuperseded, e.OpID, "attempt %d was stopped, the current one is %d", e.Attempt, o.attempt)
		}
		v.release(o)
	}
	v.move(o, op.Cancelled)
	v.a.report.Cancelled++
	if e.Cascade {
		v.cascaded(o)
	}
	v.finish(o, &end{reason: e.Reason, winner: o.winner, riders: doom{kind: doomPart}, cascade: e.Cascade})
	if e.Cascade {
		v.cascade(o.key)
	}
}

// requested finds who asked for the end of o, and reports whether its descendants
// are to be spared.
func (v *visit) requested(e *arbiter.Cancelled, o *operation) (alone bool) {
	if o.stop != nil && o.status == op.Pending { // its attempt ended before its grace did
		return o.stop.alone
	}
	alone, asked := v.request(o)
	ends := o.granted.Add(v.p.policy.GracePeriod)
	switch {
	case asked:
	case o.stop != nil:
		alone, ends = o.stop.alone, o.stop.at
	default:
		v.bad(CausesCancel, e.OpID, "cancelled, and nobody asked for it")
		return !e.Cascade
	}
	if o.status == op.Executing && v.s.At.Before(ends) {
		v.bad(LifeGrace, e.OpID, "cancelled before the grace of attempt %d ends at %s", o.attempt, ends.Format(timeFormat))
	}
	return alone
}

// request finds the cancel that is answered now: of o by itself, or of many.
func (v *visit) request(o *operation) (alone, asked bool) {
	if in := v.claim(cancelOf(o.id)); in != nil {
		return in.Cancel.Alone, true
	}
	v.advance(len(v.s.In))
	if d := o.discharge(doomCancel, key{}); d != nil {
		return d.alone, true
	}
	return false, false
}

// withParent checks that o went with an ancestor.
func (v *visit) withParent(e *arbiter.Cancelled, o *operation) {
	v.advance(len(v.s.In))
	ancestor := keyOf(e.Ancestor)
	d := o.discharge(doomCascade, ancestor)
	switch {
	case !o.back(v.s.At):
	case d == nil:
		v.comeBack(o)
	default: // whether it was staged for a moment is not recorded
		v.touch(o.target)
		o.target.doubtful, o.target.unsure = true, true
	}
	// When it came back, another of its ancestors may not have been cancelled yet.
	seq, cut := v.p.cut.of[ancestor]
	switch late := cut && o.place.Seq <= seq && slices.Contains(o.rank.trail, ancestor); {
	case d == nil && !late:
		v.bad(CausesCascade, e.OpID, "cancelled with %s, which is no ancestor on record that was cancelled with its descendants", e.Ancestor)
	case o.status == op.Executing:
		v.bad(CausesCascade, e.OpID, "cancelled with %s while attempt %d executes", e.Ancestor, o.attempt)
	}
}

// postponed checks that a cancel waits for the end of grace, and remembers it.
func (v *visit) postponed(e *arbiter.Protected, o *operation) {
	alone, asked := v.request(o)
	if !asked {
		v.bad(CausesCancel, e.OpID, "protected from a cancel that nobody asked for")
		return
	}
	if !v.runs(o, e.Attempt, "is protected") {
		return
	}
	ends := o.granted.Add(v.p.policy.GracePeriod)
	if e.Kind != arbiter.ProtectedByGrace || !ends.After(v.s.At) || !e.Until.Equal(ends) {
		v.bad(LifeProtected, e.OpID, "protected from a cancel by %s until %s, its grace ends at %s", e.Kind, e.Until.Format(timeFormat), ends.Format(timeFormat))
	}
	if o.stop == nil {
		o.stop = &stop{at: e.Until, alone: alone}
		v.p.set(&v.p.alarms, alarm{at: e.Until, kind: alarmStop, o: o, attempt: o.attempt})
	}
}

// cascade is an operation that was cancelled with its descendants: the other
// partitions have to be told.
type cascade struct {
	v       Violation
	told    []int
	foreign bool // somebody else's
}

// cascaded notes that the other partitions have to be told.
func (v *visit) cascaded(o *operation) {
	if v.a.opts.Partitions > 1 {
		v.a.cascades[o.key] = &cascade{foreign: o.foreign, v: Violation{
			Seq: v.seq, Invariant: CausesCascadeTold, Partition: v.p.id, Step: v.s.Number, OpID: o.id,
		}}
		v.a.promise(o.foreign, 1)
	}
}

// toldOf takes the news that another partition has cancelled an operation.
func (v *visit) toldOf(k key, id string) {
	known := false
	for _, p := range v.a.order {
		known = known || p != v.p && p.done[k].cascade
	}
	known = known || v.a.cascades[k] != nil || v.a.forgotten()
	if !known {
		v.bad(CausesAncestor, id, "told that another partition has cancelled it with its descendants, and none has")
	}
	c := v.a.cascades[k]
	if c == nil || slices.Contains(c.told, v.p.id) {
		return
	}
	if c.told = append(c.told, v.p.id); len(c.told) == v.a.opts.Partitions-1 {
		delete(v.a.cascades, k)
		v.a.promise(c.foreign, -1)
	}
}

// cascadesLeft reports the partitions that were never told.
func (a *Auditor) cascadesLeft() {
	left := slices.SortedFunc(maps.Values(a.cascades), func(x, y *cascade) int {
		return cmp.Or(cmp.Compare(x.v.Seq, y.v.Seq), cmp.Compare(x.v.OpID, y.v.OpID))
	})
	for _, c := range left {
		if c.foreign {
			continue
		}
		c.v.Text = fmt.Sprintf("cancelled with its descendants, and of %d other partitions only %v were told", a.opts.Partitions-1, c.told)
		a.violate(c.v)
	}
}
