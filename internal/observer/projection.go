package observer

import (
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Bounds of the projection. What goes beyond is counted and not looked at.
const (
	maxOperations = 200_000 // open operations followed one by one
	maxTypes      = 256     // operation types with numbers of their own
	otherType     = "other"
)

// projection is what the journal says, folded. It reads no clock: every instant
// comes with the step. It is not safe for concurrent use.
type projection struct {
	m          *metrics.Observer
	ops        map[string]*operation
	targets    map[string]*target
	partitions map[int]*partition
	most       int // open operations that are followed one by one
	untracked  int // open operations beyond them

	total      Totals
	byType     map[string]*Tally
	byPriority map[op.Priority]*Tally
	byReason   map[op.Reason]uint64
	// priorityLosses are the decisions lost by operations of each priority.
	priorityLosses map[op.Priority]uint64
	resolving      time.Duration // sum over the conflicts resolved
	policyRev      uint64
	ended          rate
	last           uint64    // sequence of the last entry
	lastAt         time.Time // when the server stored it
}

// operation is one that has no terminal record yet.
type operation struct {
	id, opType, target string
	priority           op.Priority
	status             op.Status
	staged             bool
	rides              bool // coalesced: it waits for the outcome of another
	attempts           int  // granted as far as we have read
	lost               int  // decisions, as far as they name it
	accepted, granted  time.Time
	due                time.Time // end of the backoff

	// Of the last attempt.
	attempt, partition int
	lease, beaten      time.Time // its end; the last sign of life
}

// target is a target with something staged or executing.
type target struct {
	executing *operation
	staged    int
	conflict  bool      // two or more are staged
	since     time.Time // of the conflict
	free      time.Time // when the last execution ended
}

func (t *target) idle() bool { return t.executing == nil && t.staged == 0 }

// partition is what is known of one partition.
type partition struct {
	PartitionStats
	policy  arbiter.Policy
	returns returns
}

func newProjection(m *metrics.Observer) *projection {
	return &projection{
		m: m, most: maxOperations, ops: map[string]*operation{}, targets: map[string]*target{}, partitions: map[int]*partition{},
		byType: map[string]*Tally{}, byPriority: map[op.Priority]*Tally{}, byReason: map[op.Reason]uint64{},
		priorityLosses: map[op.Priority]uint64{},
	}
}

// fold is one step on its way through the projection.
type fold struct {
	*projection
	part *partition
	s    *arbiter.Step
	told time.Time // when the server stored the step
}

// apply folds the step of one journal entry that the server stored at told.
func (p *projection) apply(seq uint64, told time.Time, s *arbiter.Step) {
	p.last, p.lastAt = seq, told
	p.total.Steps++
	p.total.ProcessedEvents += uint64(len(s.In) + len(s.Out))
	p.m.Steps.Inc()
	f := &fold{projection: p, part: p.partition(s.Partition), s: s, told: told}
	f.part.follow(s)
	if s.Takeover {
		p.total.Takeovers++
		p.m.Takeovers.Inc()
	}
	submits := map[string]*arbiter.Submit{}
	for i := range s.In {
		f.input(&s.In[i], submits)
	}
	for i := range s.Out {
		f.effect(i, submits)
	}
	f.restage()
}

func (p *projection) partition(n int) *partition {
	part := p.partitions[n]
	if part == nil {
		part = &partition{PartitionStats: PartitionStats{Partition: n}, policy: arbiter.DefaultPolicy()}
		p.partitions[n] = part
	}
	return part
}

func (part *partition) follow(s *arbiter.Step) {
	part.Owner, part.Epoch, part.Step, part.Cursor, part.At = s.Owner, s.Epoch, s.Number, s.Cursor, s.At
	if s.Takeover {
		part.Takeovers++
	}
}

func (f *fold) input(in *arbiter.Input, submits map[string]*arbiter.Submit) {
	switch {
	case in.Submit != nil:
		if _, again := submits[in.Submit.Operation.ID]; !again {
			submits[in.Submit.Operation.ID] = in.Submit
		}
	case in.Invalid != nil:
		f.total.Invalid++
		code := ""
		if in.Invalid.Error != nil {
			code = in.Invalid.Error.Code
		}
		f.m.Invalid.WithLabelValues(code).Inc()
	case in.Policy != nil:
		f.part.policy = *in.Policy
		f.revision(in.Policy.Revision)
	}
}

func (p *projection) revision(rev uint64) {
	p.policyRev = max(p.policyRev, rev)
	p.m.PolicyRevision.Set(float64(p.policyRev))
}

func (f *fold) effect(i int, submits map[string]*arbiter.Submit) {
	switch e := &f.s.Out[i]; {
	case e.Accepted != nil:
		f.accepted(e.Accepted, submits[e.Accepted.OpID], i)
	case e.Repeated != nil:
		f.total.Repeated++
		f.m.Repeated.Inc()
	case e.Decision != nil:
		f.decision(e.Decision)
	case e.Granted != nil:
		f.granted(e.Granted)
	case e.Succeeded != nil:
		f.succeeded(e.Succeeded)
	case e.Failed != nil:
		f.failed(e.Failed)
	case e.Retry != nil:
		f.retry(e.Retry)
	case e.Lapsed != nil:
		f.lapsed(e.Lapsed)
	case e.Rejected != nil:
		f.rejected(e.Rejected)
	case e.Cancelled != nil:
		f.end(e.Cancelled.OpID, op.Cancelled, e.Cancelled.Reason)
	case e.Refused != nil:
		f.refused(e.Refused)
	default:
		f.turn(e)
	}
}

// turn takes the effects by which an operation does not go the straight way.
func (f *fold) turn(e *arbiter.Effect) {
	switch {
	case e.Extended != nil:
		f.extended(e.Extended)
	case e.Preempted != nil:
		f.preempted(e.Preempted)
	case e.Protected != nil:
		f.protected(e.Protected)
	case e.Coalesced != nil:
		f.coalesced(e.Coalesced)
	case e.Shared != nil:
		f.end(e.Shared.OpID, op.Succeeded, op.Coalesced)
	case e.Parted != nil:
		f.back(f.known(e.Parted.OpID, e.Parted.Target))
	}
}

// tally returns the numbers of a type, those of all others once there are too
// many types.
func (p *projection) tally(opType string) (string, *Tally) {
	t := p.byType[opType]
	if t == nil && len(p.byType) >= maxTypes {
		opType = otherType
		t = p.byType[opType]
	}
	if t == nil {
		t = &Tally{}
		p.byType[opType] = t
	}
	return opType, t
}

func (p *projection) priorityTally(priority op.Priority) *Tally {
	t := p.byPriority[priority]
	if t == nil {
		t = &Tally{}
		p.byPriority[priority] = t
	}
	return t
}

// count adds to the total, to the type and to the priority of an operation.
func (p *projection) count(opType string, priority op.Priority, add func(*Tally)) string {
	name, t := p.tally(opType)
	add(t)
	add(p.priorityTally(priority))
	add(&p.total.Tally)
	return name
}

// known returns an open operation, or a stand-in for one that is not followed.
func (p *projection) known(id, targetID string) *operation {
	if o := p.ops[id]; o != nil {
		return o
	}
	return &operation{id: id, opType: otherType, target: targetID}
}

func (p *projection) target(id string) *target {
	t := p.targets[id]
	if t == nil {
		t = &target{}
		p.targets[id] = t
	}
	return t
}

func (p *projection) forget(id string) {
	if t := p.targets[id]; t != nil && t.idle() {
		delete(p.targets, id)
	}
}

// unreadable counts an entry that cannot be folded.
func (p *projection) unreadable(seq uint64, told time.Time) {
	p.last, p.lastAt = seq, told
	p.total.Unreadable++
	p.m.UnreadableSteps.Inc()
}

// cursors returns how far each partition has consumed its intake.
func (p *projection) cursors() map[int]uint64 {
	c := make(map[int]uint64, len(p.partitions))
	for n, part := range p.partitions {
		c[n] = part.Cursor
	}
	return c
}
