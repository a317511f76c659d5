package arbiter

import "github.com/hierarchy-bus/hierarchy/pkg/op"

// chore is the end of one operation that is settled and still has to be told. An
// input may end thousands of them, more than fit into one step: the rest is told
// in the steps right after it, before anything else happens.
type chore struct {
	Kind    choreKind   `json:"kind"`
	OpID    string      `json:"op_id"`
	Reason  op.Reason   `json:"reason,omitempty"`  // with Failure
	From    string      `json:"from,omitempty"`    // the ancestor, the newer one, or the one that it was coalesced into
	Attempt int         `json:"attempt,omitempty"` // of the other one, which succeeded
	Failure *op.Failure `json:"failure,omitempty"`
	Alone   bool        `json:"alone,omitempty"`
}

// choreKind says what is to be told.
type choreKind string

const (
	choreCancel    choreKind = "cancel"    // asked for, of many at once
	choreCascade   choreKind = "cascade"   // an ancestor was cancelled
	choreUnknown   choreKind = "unknown"   // the type is registered no longer
	choreSupersede choreKind = "supersede" // a newer one of its kind came
	choreShare     choreKind = "share"     // the one it was coalesced into succeeded
	choreFail      choreKind = "fail"      // that one failed for good
	chorePart      choreKind = "part"      // that one ended in a way of its own
)

// work tells what is settled, as far as there is room in this step, and reports
// whether that was everything.
func (m *Machine) work() bool {
	done := 0
	for ; done < len(m.chores) && m.size < MaxEffectBytes; done++ {
		c := m.chores[done]
		if e := m.ops[c.OpID]; e != nil { // else it ended otherwise
			m.do(e, &c)
		}
	}
	m.chores = m.chores[done:]
	if len(m.chores) == 0 {
		m.chores = nil
	}
	return m.chores == nil
}

func (m *Machine) do(e *entry, c *chore) {
	switch {
	case c.Kind == choreCancel && e.status == op.Executing:
		m.stop(e, c.Alone)
	case e.status == op.Executing: // protected
	case c.Kind == choreCancel:
		m.cancelPending(e, &Cancelled{Reason: op.CancelledByRequest, Cascade: !c.Alone})
	case c.Kind == choreCascade:
		m.cancelPending(e, &Cancelled{Reason: op.CancelledWithParent, Ancestor: c.From, Cascade: true})
	case c.Kind == choreUnknown:
		m.unstage(e)
		m.reject(e, &Rejected{Reason: op.UnknownType, Failure: e.failure})
	case c.Kind == choreSupersede:
		m.replace(e, c.From)
	default:
		m.conclude(e, c)
	}
}

// cancel takes a request. One operation that cannot be cancelled is told as
// refused; of many, those that can are.
func (m *Machine) cancel(c *Cancel, index int) {
	m.consumed = max(m.consumed, c.Place.Seq)
	switch {
	case c.OpID != "":
		m.cancelOne(c, index)
	case len(c.Ancestors) > 0:
		for _, id := range c.Ancestors {
			m.cascade(id)
		}
	default:
		for _, e := range m.sorted() {
			if !e.followUp() && (c.All && e.op.Target == c.Target || c.Submitter != "" && e.op.Submitter == c.Submitter) {
				m.chores = append(m.chores, chore{Kind: choreCancel, OpID: e.op.ID, Alone: c.Alone})
			}
		}
	}
}

func (m *Machine) cancelOne(c *Cancel, index int) {
	e := m.ops[c.OpID]
	var why string
	attempt := 0
	switch {
	case e == nil || e.op.Target != c.Target:
		why = "no open operation of this id on this target"
	case e.followUp():
		why, attempt = "the other side of a structural operation is not cancelled", e.attempt
	case e.status == op.Executing:
		m.stop(e, c.Alone)
		return
	default:
		m.cancelPending(e, &Cancelled{Reason: op.CancelledByRequest, Cascade: !c.Alone})
		return
	}
	m.emit(Effect{Refused: &Refused{OpID: c.OpID, Target: c.Target, Attempt: attempt, Input: index, Why: why}})
}

// cancelPending ends a pending operation, wherever it waits.
func (m *Machine) cancelPending(e *entry, c *Cancelled) {
	m.unstage(e)
	c.From = op.Pending
	m.cancelled(e, c)
}

// cancelled writes the terminal record and takes the descendants along.
func (m *Machine) cancelled(e *entry, c *Cancelled) {
	c.OpID, c.Target = e.op.ID, e.op.Target
	m.become(e, op.Cancelled)
	e.reason = c.Reason
	m.emit(Effect{Cancelled: c})
	m.settle(e, chore{Kind: chorePart})
	m.finish(e)
	if c.Cascade {
		m.cascade(e.op.ID)
	}
}

// cascade has the pending descendants of an operation cancelled that this
// partition holds. A descendant whose ancestors are not all known yet is
// cancelled when they are, if it was submitted before.
func (m *Machine) cascade(id string) {
	m.cut.add(StateCut{OpID: id, Seq: m.consumed})
	for _, e := range m.heirs[id].inOrder() {
		if e.status == op.Pending && !e.followUp() {
			m.chores = append(m.chores, chore{Kind: choreCascade, OpID: e.op.ID, From: id})
		}
	}
}

// severed has e cancelled when it descends from an operation whose cancellation
// should have taken it along, had its ancestors been known.
func (m *Machine) severed(e *entry) {
	if e.followUp() {
		return
	}
	for _, id := range e.ancestors {
		if seq, ok := m.cut.byID[id]; ok && e.place.Seq <= seq {
			m.chores = append(m.chores, chore{Kind: choreCascade, OpID: e.op.ID, From: id})
			return
		}
	}
}
