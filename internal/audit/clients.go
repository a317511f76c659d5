package audit

import (
	"fmt"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Outcome is what a client knows about a submission.
type Outcome string

// The outcomes. After Unknown, such as a time-out, the operation may be there or
// not.
const (
	Acknowledged Outcome = "acknowledged"
	Refused      Outcome = "refused"
	Unknown      Outcome = "unknown"
)

// Ack is what one client was told about one operation: first about the
// submission, then, where Status is set, about its result.
type Ack struct {
	OpID    string    `json:"op_id"`
	Outcome Outcome   `json:"outcome,omitempty"` // empty: only the result is told
	Status  op.Status `json:"status,omitempty"`  // a terminal one
	Reason  op.Reason `json:"reason,omitempty"`
	Winner  string    `json:"winner,omitempty"`
}

// Check says why a line cannot be used, or "".
func (c *Ack) Check() string {
	switch {
	case !op.Token(c.OpID):
		return fmt.Sprintf("%.80q is not the id of an operation", c.OpID)
	case c.Outcome == "" && c.Status == "":
		return "neither an outcome nor a status"
	case c.Outcome != "" && c.Outcome != Acknowledged && c.Outcome != Refused && c.Outcome != Unknown:
		return fmt.Sprintf("there is no outcome %.40q, but acknowledged, refused and unknown", c.Outcome)
	case c.Status != "" && !c.Status.Terminal():
		return fmt.Sprintf("%.40q is not a terminal status", c.Status)
	}
	return ""
}

// claimed is what all clients were told about the submissions of an operation.
type claimed struct {
	acknowledged, refused, unknown bool
	id                             string
}

// CheckAck takes what a client was told. Call it after the last step, with
// [Options.Clients]. A result is compared at once; whether the operation is there
// is asked in [Auditor.Finish], since the same id may have been submitted more than
// once.
func (a *Auditor) CheckAck(c *Ack) {
	k := keyOf(c.OpID)
	if c.Outcome != "" {
		if a.acks == nil {
			a.acks = map[key]claimed{}
		}
		x := a.acks[k]
		if x.id == "" {
			x.id = c.OpID
			a.ackOrder = append(a.ackOrder, k)
		}
		x.acknowledged = x.acknowledged || c.Outcome == Acknowledged
		x.refused = x.refused || c.Outcome == Refused
		x.unknown = x.unknown || c.Outcome == Unknown
		a.acks[k] = x
	}
	if c.Status != "" {
		a.checkTold(k, c)
	}
}

// checkTold compares a result with the history. An id that two partitions hold is
// right if one of them says so: which one the client was told of is not known.
func (a *Auditor) checkTold(k key, c *Ack) {
	said := "there is no such operation"
	for _, p := range a.order {
		if o := p.open[k]; o != nil {
			said = fmt.Sprintf("it is still %s", o.status)
			continue
		}
		d, ended := p.done[k]
		if !ended {
			continue
		}
		if d.became() == c.Status && d.why() == c.Reason && (c.Winner == "" || keyOf(c.Winner).long() == d.winner) {
			return
		}
		said = fmt.Sprintf("it is %s %q with another winner: %t", d.became(), d.why(), c.Winner != "" && keyOf(c.Winner).long() != d.winner)
	}
	if _, invalid := a.invalid[k]; invalid && c.Status == op.Rejected && c.Reason == op.Invalid {
		return
	}
	a.violate(Violation{
		Invariant: ClientsResult, OpID: c.OpID, Partition: -1,
		Text: fmt.Sprintf("a client was told %s %q, the history says: %s", c.Status, c.Reason, said),
	})
}

// claims asks whether every acknowledged submission is there, and no refused one.
// One that the resolver has refused as invalid is there: it says why.
func (a *Auditor) claims() {
	for _, k := range a.ackOrder {
		c, there := a.acks[k], false
		for _, p := range a.order {
			_, ended := p.done[k]
			there = there || ended || p.open[k] != nil
		}
		_, invalid := a.invalid[k]
		switch {
		case c.acknowledged && !there && !invalid:
			a.violate(Violation{Invariant: ClientsLost, OpID: c.id, Partition: -1, Text: "its submission was acknowledged, and the history does not know it"})
		case c.refused && !c.acknowledged && !c.unknown && there:
			a.violate(Violation{Invariant: ClientsRefused, OpID: c.id, Partition: -1, Text: "its submission was refused, and the history has accepted it"})
		}
	}
	a.acks, a.ackOrder = nil, nil
}
