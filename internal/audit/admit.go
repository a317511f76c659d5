package audit

import (
	"slices"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func submitOf(opID string) func(in *arbiter.Input) bool {
	return func(in *arbiter.Input) bool { return in.Submit != nil && in.Submit.Operation.ID == opID }
}

func (v *visit) accepted(e *arbiter.Accepted) {
	in := v.claim(submitOf(e.OpID))
	if in == nil {
		v.bad(LifeUnasked, e.OpID, "accepted without a submission in the step")
		return
	}
	k := keyOf(e.OpID)
	if _, ended := v.p.done[k]; ended || v.p.open[k] != nil {
		v.bad(LifeAcceptedTwice, e.OpID, "accepted, but it was submitted before")
		return
	}
	o := v.open(in.Submit)
	v.prioritised(e, o, &in.Submit.Operation)
	v.caused(o, in.Submit)
	v.newcomer = nil
	if v.appeared(o.key) {
		v.newcomer = o
	}
	v.elsewhere(o)
	v.admit(o)
}

// open registers a submission.
func (v *visit) open(s *arbiter.Submit) *operation {
	v.a.report.Operations++
	p := v.p
	o := &operation{
		id: s.Operation.ID, key: keyOf(s.Operation.ID), kind: s.Operation.Type, submitter: s.Operation.Submitter,
		target: p.target(s.Operation.Target), place: s.Place, priority: s.Operation.Priority, parent: keyOf(s.Operation.Parent),
		request: requestOf(&s.Operation), retryOf: keyOf(s.Operation.RetryOf).short(), onConflict: shared(s.Operation.OnConflict),
		preemptible: s.Operation.Preemptible, maxRetries: s.Operation.Retries(), expected: s.Operation.ExpectedVersion,
		accepted: v.s.At, status: op.Pending, slot: -1,
	}
	if v.a.opts.Events {
		o.origin = &origin{s.Traceparent, s.CausedBy, s.Operation.RetryOf}
	}
	p.belongs(o, v.a.opts.Own != nil && !v.a.opts.Own(o.id))
	if !o.followUp() {
		o.expires = v.s.At.Add(p.policy.MaxOperationAge)
		if d := s.Operation.Deadline; d != nil && d.Resolve(v.s.At).Before(o.expires) {
			o.expires = d.Resolve(v.s.At)
		}
		p.set(&p.alarms, alarm{at: o.expires, kind: alarmExpiry, o: o})
	}
	if o.submitter != "" {
		o.rivalry = keyOf(o.target.id + "\x00" + o.kind + "\x00" + o.submitter)
		enlist(p.rivals, o.rivalry, o)
	}
	delete(p.kin, o.key) // a submission outweighs an older answer
	p.open[o.key] = o
	o.target.open++
	return o
}

// prioritised checks what the policy made of the priority that was asked for.
func (v *visit) prioritised(e *arbiter.Accepted, o *operation, s *op.Operation) {
	want := arbiter.Accepted{OpID: e.OpID}
	if p := allowed(&v.p.policy, s); p != s.Priority {
		want.Asked, want.Priority = s.Priority, p
		o.asked, o.priority = s.Priority, p
	}
	if *e != want {
		v.bad(ResolutionPriority, e.OpID, "priority %d was asked for, accepted as %d (asked %d), the policy makes it %d (asked %d)",
			s.Priority, e.Priority, e.Asked, want.Priority, want.Asked)
	}
}

// elsewhere looks for an operation of the same id in another partition. Nobody
// prevents that, and nobody but the auditor sees both.
func (v *visit) elsewhere(o *operation) {
	for _, p := range v.a.order {
		if _, ended := p.done[o.key]; p != v.p && (ended || p.open[o.key] != nil) {
			v.bad(LifeTwoPartitions, o.id, "accepted on target %s, and by partition %d before; both share one record", o.target.id, p.id)
			return
		}
	}
}

// admit says whether o is staged or has to be turned away.
func (v *visit) admit(o *operation) {
	p := &v.p.policy
	switch {
	case o.followUp():
	case !knows(p, o.kind):
		o.turned = op.UnknownType
	case paused(p, o.kind, o.target.id):
		o.turned = op.Paused
	case o.asked > 0 && p.RefusePriority:
		o.turned = op.Invalid
	case p.MaxOpen > 0 && len(v.p.open) > p.MaxOpen:
		o.turned = op.Overloaded
	}
	if o.turned != "" {
		v.undone = append(v.undone, o)
		return
	}
	v.arriving, v.latest, v.replaces = o, o, v.replaced(o)
	if len(v.replaces) == 0 {
		v.arrive()
	}
}

// replaced returns the pending operations that o supersedes. One that comes too late
// takes nobody's place.
func (v *visit) replaced(o *operation) []*operation {
	if o.over(v.s.At) || o.submitter == "" || choice(&v.p.policy, o) != op.OnConflictSupersede {
		return nil
	}
	var old []*operation
	for _, r := range v.p.rivals[o.rivalry] {
		if r != o && r.status == op.Pending {
			old = append(old, r)
		}
	}
	return old
}

// arrive stages a newcomer. Those that it supersedes leave before that, or, where
// the step is full, in the steps after it. What the newcomer changed by being
// somebody's ancestor happened before.
func (v *visit) arrive() {
	o := v.arriving
	if o == nil {
		return
	}
	v.arriving = nil
	if len(v.replaces) > 0 {
		v.newcomer = nil // whom it is an ancestor of was shed before it came
	}
	now, size := map[string]bool{}, v.size
	for i := v.index; i < len(v.s.Out); i++ {
		r := v.s.Out[i].Rejected
		if r == nil || r.Reason != op.Superseded || r.Winner != o.id {
			break
		}
		now[r.OpID] = true
		size += arbiter.EffectBytes(v.s.Out[i : i+1])
	}
	for _, old := range v.replaces {
		switch {
		case old.status != op.Pending:
		case now[old.id] || size < arbiter.MaxEffectBytes:
			v.p.unstage(old)
			old.turned = op.Superseded
			v.undone = append(v.undone, old)
			v.stir(old.target)
		default:
			v.doom(old, doom{kind: doomReplace, from: o.key})
		}
	}
	v.restage(o)
}

// waits reports whether an effect comes before the newcomer is staged: the
// shedding of those to whom it is an ancestor.
func (v *visit) waits(e *arbiter.Effect) bool {
	return e.Rejected != nil && e.Rejected.Reason == op.StagingFull && e.Rejected.OpID != v.arriving.id
}

// restage stages an operation that is pending and nowhere, unless it has come too
// late or its type is registered no longer: it has to end then.
func (v *visit) restage(o *operation) {
	if !o.over(v.s.At) && (o.followUp() || knows(&v.p.policy, o.kind)) {
		v.stage(o)
		return
	}
	if !o.over(v.s.At) {
		o.turned = op.UnknownType
	}
	o.waiting = false
	v.undone = append(v.undone, o)
}

// comeBack stages an operation whose backoff has ended. Nothing in a step says so
// but what follows from it.
func (v *visit) comeBack(o *operation) {
	if o.back(v.s.At) {
		v.advance(len(v.s.In))
		v.restage(o)
	}
}

// turnedAway checks a rejection on arrival.
func (v *visit) turnedAway(e *arbiter.Rejected, o *operation) {
	p := &v.p.policy
	switch e.Reason {
	case o.turned:
	case op.Overloaded:
		v.bad(LifeOverloaded, e.OpID, "overloaded with %d operations open, the maximum is %d", len(v.p.open), p.MaxOpen)
	case op.Paused:
		v.bad(LifePaused, e.OpID, "paused out of %s, and no pause turns away type %s on target %s", o.status, o.kind, o.target.id)
	default:
		v.bad(LifeNotAllowed, e.OpID, "refused out of %s for its priority %d, asked was %d and the policy refuses: %t", o.status, o.priority, o.asked, p.RefusePriority)
	}
	if e.Reason == op.Invalid && (e.Failure == nil || e.Failure.Code != arbiter.CodeNotAllowed) {
		v.bad(LifeNotAllowed, e.OpID, "refused for its priority without saying so")
	}
}

// unknownType checks that the type of o is not registered, or was not when it was
// settled that o has to go.
func (v *visit) unknownType(e *arbiter.Rejected, o *operation) {
	if o.turned == op.UnknownType {
		return
	}
	v.advance(len(v.s.In))
	if o.discharge(doomUnknown, key{}) != nil {
		return
	}
	if known := knows(&v.p.policy, o.kind); known || o.followUp() || o.status != op.Pending || !o.back(v.s.At) {
		v.bad(LifeUnknownType, e.OpID, "type %s is registered: %t", o.kind, known)
	}
}

// superseded checks that o makes room for a newer one of its kind.
func (v *visit) superseded(e *arbiter.Rejected, o *operation) {
	v.kept(o, "superseded")
	now := v.latest != nil && e.Winner == v.latest.id && slices.Contains(v.replaces, o)
	if !now && o.discharge(doomReplace, keyOf(e.Winner)) == nil {
		v.bad(LifeSuperseded, e.OpID, "superseded by %s, which is not of the same submitter, type and target, is not new, or the policy does not say so", e.Winner)
	}
}
