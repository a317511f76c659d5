package audit

import (
	"strconv"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// requestOf is equal for operations that ask for the same change: type, params,
// source and expected version (ADR 0008). The journal holds params without blanks.
func requestOf(o *op.Operation) key {
	expected := "-"
	if o.ExpectedVersion != nil {
		expected = strconv.FormatInt(*o.ExpectedVersion, 10)
	}
	return keyOf(o.Type + "\x00" + o.Source + "\x00" + expected + "\x00" + string(o.Params))
}

// coalesced takes a loser out that shares the outcome of the winner.
func (v *visit) coalesced(e *arbiter.Coalesced) {
	v.a.report.Coalesced++
	o := v.subject(e.OpID, e.Target, "Coalesced")
	if o == nil {
		return
	}
	r := v.carry(e.Decision, e.OpID, op.VerdictCoalesced)
	leader := v.p.open[keyOf(e.Into)]
	switch {
	case r == nil:
		v.bad(ResolutionNoDecision, e.OpID, "coalesced without a decision of this step that says so")
		return
	case e.Into != r.d.Winner || leader == nil:
		v.bad(ResolutionCoalesced, e.OpID, "coalesced into %s, the winner is %s", e.Into, r.d.Winner)
		return
	}
	v.p.unstage(o)
	o.leader, o.reason, o.winner = leader, op.Coalesced, e.Into
	leader.riders = append(leader.riders, o)
}

// bequeath settles what becomes of those that were coalesced into o, which ends.
func (v *visit) bequeath(o *operation, d doom) {
	d.from = o.key
	for _, r := range o.riders {
		r.leader = nil
		v.doom(r, d)
	}
	o.riders = nil
}

// shared checks a success that comes from another operation.
func (v *visit) shared(e *arbiter.Shared) {
	v.a.terminal++
	o := v.subject(e.OpID, e.Target, "Shared")
	if o == nil {
		return
	}
	v.advance(len(v.s.In))
	d := o.discharge(doomShare, keyOf(e.With))
	if d == nil || d.attempt != e.Attempt || o.status != op.Pending {
		v.bad(LifeShared, e.OpID, "shares attempt %d of %s out of %s, into which it was not coalesced or which has not succeeded so", e.Attempt, e.With, o.status)
	}
	v.move(o, op.Succeeded)
	v.a.report.Succeeded++
	v.a.report.Shared++
	v.finish(o, &end{reason: op.Coalesced, winner: e.With, riders: doom{kind: doomShare, attempt: e.Attempt}})
}

// parted stages an operation again whose leader ended in a way of its own.
func (v *visit) parted(e *arbiter.Parted) {
	o := v.subject(e.OpID, e.Target, "Parted")
	if o == nil {
		return
	}
	v.advance(len(v.s.In))
	if o.discharge(doomPart, keyOf(e.From)) == nil {
		v.bad(LifeRiders, e.OpID, "parted from %s, into which it was not coalesced or which has not ended in a way of its own", e.From)
		return
	}
	o.reason, o.winner = "", ""
	v.restage(o)
}
