package arbiter

import (
	"bytes"
	"slices"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// identical reports whether a and b ask for the same change (ADR 0008).
func identical(a, b *op.Operation) bool {
	return a.Type == b.Type && a.Source == b.Source && bytes.Equal(a.Params, b.Params) &&
		(a.ExpectedVersion == nil) == (b.ExpectedVersion == nil) &&
		(a.ExpectedVersion == nil || *a.ExpectedVersion == *b.ExpectedVersion)
}

// coalesce makes e share the outcome of the winner. It stays pending, outside the
// staging area, and can still be cancelled or expire by itself.
func (m *Machine) coalesce(t *target, e, winner *entry, d *op.Decision) {
	m.leave(t, e)
	e.decision, e.reason, e.winner = d.ID, op.Coalesced, winner.op.ID
	e.leader = winner
	at, _ := slices.BinarySearchFunc(winner.riders, e, byPlace)
	winner.riders = slices.Insert(winner.riders, at, e)
	m.emit(Effect{Coalesced: &Coalesced{OpID: e.op.ID, Target: t.id, Into: winner.op.ID, Decision: d.ID}})
}

// settle has the end of e told to those that were coalesced into it: its success
// and a failure of its execution are theirs, too. How it ended for itself is not,
// and they are staged again.
func (m *Machine) settle(e *entry, how chore) {
	for _, r := range e.riders {
		r.leader = nil
		how.OpID, how.From = r.op.ID, e.op.ID
		m.chores = append(m.chores, how)
	}
	e.riders = nil
}

// conclude tells one operation the outcome of the one it was coalesced into, and
// passes it on to those that had been coalesced into this one before.
func (m *Machine) conclude(e *entry, c *chore) {
	switch c.Kind {
	case choreShare:
		m.become(e, op.Succeeded)
		e.reason, e.winner = op.Coalesced, c.From
		m.emit(Effect{Shared: &Shared{OpID: e.op.ID, Target: e.op.Target, With: c.From, Attempt: c.Attempt}})
		m.settle(e, *c)
		m.finish(e)
	case choreFail:
		m.settle(e, *c)
		m.reject(e, &Rejected{Reason: c.Reason, Winner: c.From, Failure: c.Failure, CurrentVersion: c.Failure.CurrentVersion})
	default:
		e.reason, e.winner = "", ""
		m.emit(Effect{Parted: &Parted{OpID: e.op.ID, Target: e.op.Target, From: c.From}})
		m.stage(e)
	}
}
