package observer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

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

	// WouldHaveWon is the smallest change with which a loser would have won; nil
	// for a winner, and where the decision does not name the operation.
	WouldHaveWon *op.Remedy `json:"would_have_won,omitempty"`

	// CancelledWith is the operation whose cancellation took this one with it.
	CancelledWith string `json:"cancelled_with,omitempty"`
	// Execution is about the attempt under way.
	Execution *Execution `json:"execution,omitempty"`
}

// Execution is an attempt under way.
type Execution struct {
	GrantedAt time.Time `json:"granted_at"`
	// LeaseEnds is the lease as it was granted; signs of life of the executor
	// prolong it.
	LeaseEnds time.Time `json:"lease_ends"`
	// GraceEnds is when the operation may be cancelled or preempted; nil where
	// the policy of the decision is not in force any more.
	GraceEnds *time.Time `json:"grace_ends,omitempty"`
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
	x.WouldHaveWon = remedy(x.Decision, opID)
	if err := x.last(ctx, b); err != nil {
		return nil, err
	}
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

// remedy is the smallest change with which the operation would have won. One that
// shares the outcome of the winner has not lost anything.
func remedy(d *op.Decision, opID string) *op.Remedy {
	if d == nil {
		return nil
	}
	if c := contenderOf(d, opID); c == nil || c.Verdict == op.VerdictCoalesced {
		return nil
	}
	r, ok := arbiter.WouldHaveWon(d, opID)
	if !ok {
		return nil
	}
	return &r
}

// last reads the step that the record reflects, where it says more than the
// record: about an attempt under way, and with whom an operation was cancelled.
func (x *Explanation) last(ctx context.Context, b *bus.Bus) error {
	r := &x.Record
	if r.JournalSeq == 0 || r.Status != op.Executing && r.Reason != op.CancelledWithParent {
		return nil
	}
	e, err := b.JournalGet(ctx, r.JournalSeq)
	if errors.Is(err, bus.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("observer: last step of %s: %w", r.OpID, err)
	}
	s, err := decode(&e)
	if err != nil {
		return err
	}
	for i := range s.Out {
		switch f := &s.Out[i]; {
		case f.Cancelled != nil && f.Cancelled.OpID == r.OpID:
			x.CancelledWith = f.Cancelled.Ancestor
		case f.Granted != nil && f.Granted.OpID == r.OpID:
			x.Execution = &Execution{GrantedAt: s.At, LeaseEnds: f.Granted.LeaseEnds}
		}
	}
	if x.Execution == nil || x.Decision == nil {
		return nil
	}
	data, rev, err := b.Policy(ctx)
	if err != nil {
		return fmt.Errorf("observer: policy: %w", err)
	}
	if p, err := arbiter.ParsePolicy(data, rev); err == nil && rev == x.Decision.PolicyRevision {
		at := x.Execution.GrantedAt.Add(p.GracePeriod)
		x.Execution.GraceEnds = &at
	}
	return nil
}
