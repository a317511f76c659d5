package observer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Status returns the record of an operation as the leader has it. Records age
// out; the journal keeps everything.
func Status(ctx context.Context, b *bus.Bus, opID string) (op.Record, error) {
	if !op.Token(opID) {
		return op.Record{}, op.Errorf(op.CodeBadID, "op_id", "%.80q is not the id of an operation", opID)
	}
	data, found, err := b.Record(ctx, opID)
	if err != nil {
		return op.Record{}, fmt.Errorf("observer: record of %s: %w", opID, err)
	}
	if !found {
		return op.Record{}, op.Errorf(op.CodeNotFound, "op_id", "there is no record of the operation %s", opID)
	}
	var r op.Record
	if err := json.Unmarshal(data, &r); err != nil {
		return op.Record{}, fmt.Errorf("observer: record of %s: %w", opID, err)
	}
	return r, nil
}

// parseStep reads a journal step of the schema that this release knows.
func parseStep(data []byte) (*arbiter.Step, error) {
	var s arbiter.Step
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	if s.Schema != arbiter.StepSchema {
		return nil, fmt.Errorf("the schema is %.40q, this release knows %s", s.Schema, arbiter.StepSchema)
	}
	return &s, nil
}

// ExplanationType is the value of "type" in an [Explanation].
const ExplanationType = "ops.v1.explanation"

// explained is how many contenders an explanation looks up by name.
const explained = 32

// Explanation says why an operation is where it is: its record, the decision
// behind it and both in words.
type Explanation struct {
	Type   string    `json:"type"` // ExplanationType
	Record op.Record `json:"record"`
	// Text is the explanation in sentences, the most important first.
	Text []string `json:"text"`

	// Decision is nil where none was made about the operation yet, or where its
	// journal entry is gone.
	Decision    *op.Decision     `json:"decision,omitempty"`
	DecisionSeq uint64           `json:"decision_seq,omitempty"` // journal sequence
	Step        uint64           `json:"step,omitempty"`
	Epoch       uint64           `json:"epoch,omitempty"`
	Owner       string           `json:"owner,omitempty"` // the resolver that decided
	Policy      *uint64          `json:"policy_revision,omitempty"`
	Contenders  []ContenderEntry `json:"contenders,omitempty"` // best first

	// WouldHaveWon is the smallest priority with which a loser would have won;
	// nil for a winner, and where no priority would have been enough.
	WouldHaveWon *op.Priority `json:"would_have_won,omitempty"`
}

// ContenderEntry is one line of the contender table.
type ContenderEntry struct {
	op.Contender
	OpType string    `json:"op_type,omitempty"` // from its record, where there still is one
	Status op.Status `json:"status,omitempty"`  // now
	This   bool      `json:"this,omitempty"`    // the operation that was asked about
}

// Explain returns the record of an operation together with the decision that the
// journal holds about it.
func Explain(ctx context.Context, b *bus.Bus, opID string) (*Explanation, error) {
	r, err := Status(ctx, b, opID)
	if err != nil {
		return nil, err
	}
	x := &Explanation{Type: ExplanationType, Record: r}
	gone := false
	if r.DecisionSeq > 0 {
		switch err := x.read(ctx, b); {
		case errors.Is(err, bus.ErrNotFound):
			gone = true
		case err != nil:
			return nil, err
		}
	}
	if err := x.table(ctx, b); err != nil {
		return nil, err
	}
	x.WouldHaveWon = wouldHaveWon(x.Decision, opID)
	x.Text = x.sentences()
	if gone {
		x.Text = append(x.Text, fmt.Sprintf("The journal no longer holds entry %d with the decision.", r.DecisionSeq))
	}
	return x, nil
}

// read finds the decision in the journal.
func (x *Explanation) read(ctx context.Context, b *bus.Bus) error {
	e, err := b.JournalGet(ctx, x.Record.DecisionSeq)
	if err != nil {
		return fmt.Errorf("observer: decision about %s: %w", x.Record.OpID, err)
	}
	s, err := decode(&e)
	if err != nil {
		return err
	}
	d := findDecision(s, x.Record.OpID, x.Record.Decision)
	if d == nil {
		return nil // the record may be older than the entry it will name next
	}
	x.Decision, x.DecisionSeq, x.Step, x.Epoch, x.Owner = d, e.Seq, s.Number, s.Epoch, s.Owner
	x.Policy = &d.PolicyRevision
	return nil
}

// findDecision returns the decision of a step with the given id, or the last one
// that names the operation.
func findDecision(s *arbiter.Step, opID, id string) *op.Decision {
	var named *op.Decision
	for i := range s.Out {
		d := s.Out[i].Decision
		switch {
		case d == nil:
		case d.ID == id:
			return d
		case contenderOf(d, opID) != nil:
			named = d
		}
	}
	return named
}

func contenderOf(d *op.Decision, opID string) *op.Contender {
	for i := range d.Contenders {
		if d.Contenders[i].OpID == opID {
			return &d.Contenders[i]
		}
	}
	return nil
}

// table fills in the contenders, the first of them with what their records say.
func (x *Explanation) table(ctx context.Context, b *bus.Bus) error {
	if x.Decision == nil {
		return nil
	}
	for i := range x.Decision.Contenders {
		c := ContenderEntry{Contender: x.Decision.Contenders[i]}
		c.This = c.OpID == x.Record.OpID
		if i < explained || c.This {
			switch r, err := Status(ctx, b, c.OpID); {
			case err == nil:
				c.OpType, c.Status = r.OpType, r.Status
			case op.AsError(err) == nil:
				return err
			}
		}
		x.Contenders = append(x.Contenders, c)
	}
	return nil
}

// wouldHaveWon returns the smallest priority with which the operation would have
// beaten the winner. One that stood earlier in the log wins a tie.
func wouldHaveWon(d *op.Decision, opID string) *op.Priority {
	if d == nil || d.Winner == opID {
		return nil
	}
	own, winner := contenderOf(d, opID), contenderOf(d, d.Winner)
	if own == nil || winner == nil {
		return nil
	}
	p := winner.Effective + 1
	if own.Place.Before(winner.Place) {
		p = winner.Effective
	}
	if !p.Valid() {
		return nil
	}
	return &p
}
