package rebuild

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// View names one of the views.
type View string

// The views, in the order in which a resolver tells them.
const (
	Entities   View = "entities"
	Operations View = "operations"
	Dead       View = "dead"
)

// value is what a view has to hold under a key.
type value struct {
	seq  uint64 // of the journal entry that it reflects
	data []byte // nil: nothing, the key is to be gone
}

// Fold folds a journal into the views. Steps have to come in the order of the
// stream, all partitions interleaved. It is not safe for concurrent use, and its
// memory grows with the entities and with the records that are kept.
type Fold struct {
	since      time.Time // of the records that are kept
	views      map[View]map[string]value
	heads      map[string]*entity.Entity
	partitions map[int]*partition
	steps      int
}

// NewFold returns a fold of nothing. Records of operations that ended before
// since have aged out; the zero time keeps all.
func NewFold(since time.Time) *Fold {
	return &Fold{
		since: since, heads: map[string]*entity.Entity{}, partitions: map[int]*partition{},
		views: map[View]map[string]value{Entities: {}, Operations: {}, Dead: {}},
	}
}

// partition is what the fold knows of one partition.
type partition struct {
	machine   *arbiter.Machine
	decisions map[string]uint64  // journal sequence of the last decision about an open operation
	shared    map[string]outcome // of operations that others were coalesced into
}

// outcome is what a success led to.
type outcome struct{ version, revision uint64 }

// step is one step on its way through the fold.
type step struct {
	*Fold
	p       *partition
	s       *arbiter.Step
	seq     uint64
	touched []string // operations whose record changes, in order
	seen    map[string]bool
	done    map[string]outcome
	took    map[string]time.Duration
	given   []string // given up
}

// Step folds the step of one journal entry. An error means that the journal does
// not lead anywhere from here: its steps do not follow from their inputs, or a
// change does not fit its entity.
func (f *Fold) Step(seq uint64, s *arbiter.Step) error {
	f.steps++
	if s.Takeover {
		return nil
	}
	p := f.partitions[s.Partition]
	if p == nil {
		p = &partition{machine: arbiter.New(s.Partition), decisions: map[string]uint64{}, shared: map[string]outcome{}}
		f.partitions[s.Partition] = p
	}
	if err := p.machine.Replay(s); err != nil {
		return err
	}
	t := &step{Fold: f, p: p, s: s, seq: seq, seen: map[string]bool{}, done: map[string]outcome{}, took: map[string]time.Duration{}}
	for i := range s.Out {
		if err := t.effect(&s.Out[i]); err != nil {
			return fmt.Errorf("step %d of partition %d: %w", s.Number, s.Partition, err)
		}
	}
	return t.records()
}

// effect takes what one effect changes in the views.
func (t *step) effect(e *arbiter.Effect) error {
	switch {
	case e.Accepted != nil:
		t.touch(e.Accepted.OpID)
		if v, ok := t.p.machine.Describe(e.Accepted.OpID); ok && v.Operation.RetryOf != "" && v.Status != op.Rejected {
			t.views[Dead][v.Operation.RetryOf] = value{seq: t.seq}
		}
	case e.Decision != nil:
		for i := range e.Decision.Contenders {
			t.p.decisions[e.Decision.Contenders[i].OpID] = t.seq
		}
	case e.Granted != nil:
		t.touch(e.Granted.OpID)
	case e.Succeeded != nil:
		return t.succeeded(e.Succeeded)
	case e.Failed != nil:
		t.touch(e.Failed.OpID)
	case e.Retry != nil:
		t.touch(e.Retry.OpID)
	case e.Lapsed != nil:
		t.touch(e.Lapsed.OpID)
	case e.Rejected != nil:
		t.touch(e.Rejected.OpID)
		if e.Rejected.Reason == op.MaxRetries || e.Rejected.Reason == op.TerminalError {
			t.given = append(t.given, e.Rejected.OpID)
		}
	case e.Cancelled != nil:
		t.touch(e.Cancelled.OpID)
	case e.Preempted != nil:
		t.touch(e.Preempted.OpID)
	case e.Protected != nil && e.Protected.Cancel:
		t.touch(e.Protected.OpID)
	case e.Coalesced != nil:
		t.touch(e.Coalesced.OpID)
		t.p.shared[e.Coalesced.Into] = outcome{}
	case e.Shared != nil:
		t.touch(e.Shared.OpID)
		t.succeed(e.Shared.OpID, t.p.shared[e.Shared.With])
	case e.Parted != nil:
		t.touch(e.Parted.OpID)
	}
	return nil
}

func (t *step) touch(id string) {
	if !t.seen[id] {
		t.seen[id] = true
		t.touched = append(t.touched, id)
	}
}

// succeeded folds the change of a success into its entity.
func (t *step) succeeded(s *arbiter.Succeeded) error {
	t.touch(s.OpID)
	if s.Input < 0 || s.Input >= len(t.s.In) || t.s.In[s.Input].Result == nil {
		return fmt.Errorf("the success of %s names input %d, which is no result", s.OpID, s.Input)
	}
	change := new(entity.Change)
	if err := json.Unmarshal(t.s.In[s.Input].Result.Change, change); err != nil {
		return fmt.Errorf("the change of %s: %w", s.OpID, err)
	}
	after, err := entity.Apply(t.heads[s.Target], change, s.OpID, t.s.At)
	if err != nil {
		return fmt.Errorf("the change of %s: %w", s.OpID, err)
	}
	t.heads[s.Target] = after
	data, err := op.Marshal(resolver.Head{Partition: t.s.Partition, Step: t.s.Number, JournalSeq: t.seq, Entity: *after})
	if err != nil {
		return fmt.Errorf("the head of %s: %w", s.Target, err)
	}
	t.views[Entities][s.Target] = value{t.seq, data}
	t.took[s.OpID] = s.Duration
	t.succeed(s.OpID, outcome{change.After(), change.Base + 1})
	return nil
}

// succeed notes an outcome, for the record and for those who share it.
func (t *step) succeed(id string, o outcome) {
	t.done[id] = o
	if _, wanted := t.p.shared[id]; wanted {
		t.p.shared[id] = o
	}
}

// records writes the records of the operations that the step has touched.
func (t *step) records() error {
	for _, id := range t.touched {
		v, ok := t.p.machine.Describe(id)
		if !ok {
			return fmt.Errorf("step %d of partition %d changes %s, which is not open", t.s.Number, t.s.Partition, id)
		}
		r := t.record(&v)
		data, err := op.Marshal(r)
		if err != nil {
			return fmt.Errorf("the record of %s: %w", id, err)
		}
		t.views[Operations][id] = value{t.seq, data}
		if r.Status.Terminal() {
			delete(t.p.decisions, id)
			if r.UpdatedAt.Before(t.since) {
				delete(t.views[Operations], id)
			}
		}
	}
	return t.letters()
}

// record is the record of an operation after the step, as a resolver tells it.
func (t *step) record(v *arbiter.View) *op.Record {
	o := &v.Operation
	r := &op.Record{
		Type: op.RecordType, OpID: o.ID, OpType: o.Type, Target: o.Target, Status: v.Status, Reason: v.Reason, Code: v.Reason.Code(),
		Priority: o.Priority, Asked: v.Asked, Effective: v.Effective, Parent: o.Parent, Winner: v.Winner,
		Decision: v.Decision, DecisionSeq: t.p.decisions[o.ID], Attempt: v.Attempt, RetryCount: v.Retries, MaxRetries: o.Retries(),
		Preemptions: v.Preemptions, RetryOf: o.RetryOf, CancelAt: v.CancelAt, RetryAfterMS: v.RetryAfter.Milliseconds(),
		Error: v.Failure, CausedBy: v.CausedBy, Submitter: o.Submitter, Seq: v.Place.Seq, Partition: t.s.Partition,
		Step: t.s.Number, JournalSeq: t.seq, AcceptedAt: v.Accepted, UpdatedAt: t.s.At,
	}
	if v.Status == op.Pending && v.Due.After(t.s.At) {
		due := v.Due
		r.RetryAt = &due
	}
	if done, ok := t.done[o.ID]; ok {
		r.Version, r.Revision = done.version, done.revision
		r.ExecutionMS = float64(t.took[o.ID]) / float64(time.Millisecond)
	}
	return r
}

// letters writes the dead letters of what the step has given up.
func (t *step) letters() error {
	for _, id := range t.given {
		v, _ := t.p.machine.Describe(id)
		// Its record was told, so that the decision about it is forgotten by now.
		var r op.Record
		told, kept := t.views[Operations][id]
		if !kept {
			continue // aged out with its record
		}
		if err := json.Unmarshal(told.data, &r); err != nil {
			return fmt.Errorf("the dead letter of %s: %w", id, err)
		}
		data, err := op.Marshal(op.Dead{Type: op.DeadType, Record: r, Operation: v.Operation})
		if err != nil {
			return fmt.Errorf("the dead letter of %s: %w", id, err)
		}
		t.views[Dead][id] = value{t.seq, data}
	}
	return nil
}
