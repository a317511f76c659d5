package arbiter

import "github.com/hierarchy-bus/hierarchy/pkg/op"

// A step is one message, and a server takes 1 MiB unless told otherwise. Sizes
// are estimated from above; what the inputs take is bounded by who gathers them.
const (
	// MaxEffectBytes is how much the passing of time may bring about in one
	// step; the rest is left to the next.
	MaxEffectBytes = 300 << 10
	// MaxDecisionBytes is how much one decision may be, which then has a step
	// of its own. A staging area with more to tell is full.
	MaxDecisionBytes = 850 << 10
)

// Sizes in bytes of what is the same in every record of a kind.
const (
	effectBytes    = 260
	decisionBytes  = 460
	contenderBytes = 220
	rejectedBytes  = 250
	grantedBytes   = 180
	retryBytes     = 230
	refusedBytes   = 120
	protectedBytes = 190
	preemptedBytes = 130
	cancelledBytes = 190
	coalescedBytes = 130
)

func failureBytes(f *op.Failure) int {
	if f == nil {
		return 0
	}
	return 160 + 2*len(f.Message) + len(f.Code)
}

func (c *listed) size() int {
	n := contenderBytes + len(c.id) + len(c.inherit.UnknownParent)
	for _, id := range c.inherit.Path {
		n += len(id) + 3
	}
	return n
}

// listed is what a decision tells of one contender.
type listed struct {
	id      string
	inherit *op.Inheritance
}

// size estimates the bytes of an effect in the journal.
func (e *Effect) size() int {
	n := effectBytes
	switch {
	case e.Accepted != nil:
		n = 60 + len(e.Accepted.OpID)
		if e.Accepted.Asked > 0 {
			n += 40
		}
	case e.Decision != nil:
		n = decisionBytes
		for i := range e.Decision.Contenders {
			c := &e.Decision.Contenders[i]
			n += (&listed{id: c.OpID, inherit: &c.Inheritance}).size()
		}
	case e.Rejected != nil:
		n = rejectedBytes + len(e.Rejected.OpID) + len(e.Rejected.Target) + len(e.Rejected.Winner) + failureBytes(e.Rejected.Failure)
	case e.Granted != nil:
		n = grantedBytes + len(e.Granted.OpID) + len(e.Granted.Target)
	case e.Retry != nil:
		n = retryBytes + len(e.Retry.OpID) + len(e.Retry.Target) + len(e.Retry.Winner)
	case e.Refused != nil:
		n = refusedBytes + len(e.Refused.OpID) + len(e.Refused.Target) + 2*len(e.Refused.Executor) + len(e.Refused.Why)
	case e.Failed != nil:
		n += failureBytes(e.Failed.Failure)
	case e.Protected != nil:
		n = protectedBytes + len(e.Protected.OpID) + len(e.Protected.Target) + len(e.Protected.By)
	case e.Preempted != nil:
		n = preemptedBytes + len(e.Preempted.OpID) + len(e.Preempted.Target) + len(e.Preempted.By)
	case e.Cancelled != nil:
		n = cancelledBytes + len(e.Cancelled.OpID) + len(e.Cancelled.Target) + len(e.Cancelled.Ancestor)
	case e.Coalesced != nil:
		n = coalescedBytes + len(e.Coalesced.OpID) + len(e.Coalesced.Target) + len(e.Coalesced.Into)
	case e.Shared != nil:
		n = coalescedBytes + len(e.Shared.OpID) + len(e.Shared.Target) + len(e.Shared.With)
	case e.Parted != nil:
		n = coalescedBytes + len(e.Parted.OpID) + len(e.Parted.Target) + len(e.Parted.From)
	}
	return n
}

// weight estimates the bytes of a decision about t together with what it means
// for its losers. Those that stay queued are listed only in part.
func (m *Machine) weight(t *target) int {
	n := decisionBytes + effectBytes + op.MaxListed*contenderBytes
	for _, e := range t.staged {
		if !e.stays() {
			l := listed{id: e.op.ID, inherit: &e.inherit}
			n += l.size() + rejectedBytes + len(e.op.ID) + len(t.id) + op.MaxToken + failureBytes(e.failure)
		}
	}
	return n
}

// EffectBytes estimates the bytes of a step's effects. A step that reaches
// MaxEffectBytes may have left something to the next one.
func EffectBytes(out []Effect) int {
	n := 0
	for i := range out {
		n += out[i].size()
	}
	return n
}
