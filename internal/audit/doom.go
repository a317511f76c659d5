package audit

import (
	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// doom is something that is settled about an operation and has to be told: in the
// same step, or in the ones right after it when that is full (ADR 0012).
type doom struct {
	kind    doomKind
	from    key // the ancestor, the newer one, or the operation that it was coalesced into
	attempt int // of that one
	reason  op.Reason
	failure *op.Failure
	alone   bool // spares the descendants
	late    bool // settled by a decision, after which a step tells nothing more
	maybe   bool // the partition may have forgotten the ancestor
}

type doomKind int

const (
	doomNone    doomKind = iota
	doomCancel           // asked for, of many at once
	doomCascade          // an ancestor was cancelled
	doomUnknown          // the type is registered no longer
	doomReplace          // a newer one supersedes it
	doomShare            // the one it was coalesced into succeeded
	doomFail             // that one failed for good
	doomPart             // that one ended in a way of its own
)

// doom settles something about o.
func (v *visit) doom(o *operation, d doom) {
	d.late = v.deciding
	if len(o.dooms) == 0 {
		v.p.doomed = append(v.p.doomed, o)
	}
	o.dooms = append(o.dooms, d)
}

// discharge finds what was settled about o and is told now. What was settled
// before that has lost its meaning. It returns nil when there is nothing of the
// kind.
func (o *operation) discharge(kind doomKind, from key) *doom {
	for i := range o.dooms {
		if d := o.dooms[i]; d.kind == kind && d.from == from {
			o.dooms = o.dooms[i+1:]
			return &d
		}
	}
	return nil
}

// dues looks for what was settled and has not been told, although there was room.
func (v *visit) dues(short bool) {
	left := v.p.doomed[:0]
	for _, o := range v.p.doomed {
		if o.status.Terminal() {
			o.dooms = nil
			continue
		}
		due := o.dooms
		o.dooms = nil
		for _, d := range due {
			if !short && !d.late {
				v.untold(o, &d)
				continue
			}
			d.late = false
			o.dooms = append(o.dooms, d)
		}
		if len(o.dooms) > 0 {
			left = append(left, o)
		}
	}
	clear(v.p.doomed[len(left):])
	v.p.doomed = left
}

// untold reports what was settled and never told. What executes now was out of
// reach for all but a cancel.
func (v *visit) untold(o *operation, d *doom) {
	switch {
	case d.kind == doomCancel:
		v.bad(LifeCancelLost, o.id, "is to be cancelled with others, and is still %s", o.status)
	case o.status != op.Pending || d.maybe:
	case d.kind == doomCascade:
		v.bad(CausesCascadeLost, o.id, "an ancestor was cancelled with its descendants, and it is still %s", o.status)
	case d.kind == doomUnknown:
		v.bad(LifeAdmitted, o.id, "its type %s is registered no longer, and it is still %s", o.kind, o.status)
	case d.kind == doomReplace:
		v.bad(LifeSuperseded, o.id, "a newer one of its kind was accepted, and it is still %s", o.status)
	default:
		v.bad(LifeRiders, o.id, "what it was coalesced into has ended, and it is neither told nor staged again")
	}
}

// cascade takes the pending descendants of a cancelled operation along, those
// that are found out later as well if they were submitted before.
func (v *visit) cascade(ancestor key) {
	v.p.cut.add(ancestor, v.p.consumed, arbiter.RecentOperations)
	for _, o := range v.p.heirs[ancestor] {
		if o.status == op.Pending && !o.followUp() {
			v.doom(o, doom{kind: doomCascade, from: ancestor, maybe: o.rank.old})
		}
	}
}

// severed takes o along with an ancestor that was cancelled before it was known to
// be one.
func (v *visit) severed(o *operation) {
	if o.followUp() || len(v.p.cut.of) == 0 {
		return
	}
	for _, k := range o.rank.trail {
		if seq, ok := v.p.cut.of[k]; ok && o.place.Seq <= seq {
			v.doom(o, doom{kind: doomCascade, from: k, maybe: o.rank.old})
			return
		}
	}
}
