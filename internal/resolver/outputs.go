package resolver

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// teller turns one committed step into what the world is told about it. The
// result is a function of the machine after the step and of the step itself, so
// whoever takes over tells the same story again, word for word.
type teller struct {
	p       *partition
	s       *arbiter.Step
	seq     uint64
	n       int // events so far, for their ids
	out     outputs
	touched []string // operations whose record changes, in order
	seen    map[string]bool
	done    map[string]outcome         // of the operations that succeeded
	took    map[string]time.Duration   // their executions
	lapsed  map[string]*arbiter.Lapsed // attempts of this step whose operation goes away for a while
	dead    []string                   // operations that were given up
	cut     []string                   // operations whose descendants elsewhere are to be cancelled
}

// outputs builds what follows from a committed step: heads and work
// first, then records, then events and follow-ups.
func (p *partition) outputs(ctx context.Context, s *arbiter.Step, seq uint64) (outputs, error) {
	t := &teller{p: p, s: s, seq: seq, out: outputs{step: s.Number, seq: seq}, seen: map[string]bool{}, done: map[string]outcome{}, took: map[string]time.Duration{}}
	if s.Takeover {
		part := p.id
		return t.out, t.event(&op.Event{Name: op.EventTakeover, Partition: &part, Epoch: s.Epoch}, partitionToken(p.id))
	}
	p.note(s, seq)
	defer p.forgetEnded()
	t.lapsed = lapsed(s)
	for i := range s.In {
		if in := s.In[i].Invalid; in != nil {
			if err := t.invalid(in); err != nil {
				return t.out, err
			}
		}
	}
	for i := range s.Out {
		if err := t.tell(ctx, &s.Out[i]); err != nil {
			return t.out, err
		}
	}
	for _, id := range t.touched {
		if err := t.record(id); err != nil {
			return t.out, err
		}
	}
	if err := t.letters(); err != nil {
		return t.out, err
	}
	return t.out, t.cascade()
}

// note keeps what later steps need to know of this one: the ids it accepted,
// where in the journal the last decision about each open operation stands, and
// the outcomes that operations share.
func (p *partition) note(s *arbiter.Step, seq uint64) {
	p.noteShared(s)
	for i := range s.Out {
		switch e := &s.Out[i]; {
		case e.Accepted != nil:
			p.seen.add(e.Accepted.OpID)
			p.ages.add(p.machine, e.Accepted.OpID, s.At)
		case e.Decision != nil:
			for j := range e.Decision.Contenders {
				p.decisions[e.Decision.Contenders[j].OpID] = seq
			}
		case e.Succeeded != nil:
			p.ended = append(p.ended, e.Succeeded.OpID)
		case e.Rejected != nil:
			p.ended = append(p.ended, e.Rejected.OpID)
		case e.Cancelled != nil:
			p.ended = append(p.ended, e.Cancelled.OpID)
		case e.Shared != nil:
			p.ended = append(p.ended, e.Shared.OpID)
		}
	}
}

// forgetEnded drops what is only kept for open operations.
func (p *partition) forgetEnded() {
	for _, id := range p.ended {
		delete(p.decisions, id)
	}
	p.ended = p.ended[:0]
}

func (t *teller) tell(ctx context.Context, e *arbiter.Effect) error {
	switch {
	case e.Accepted != nil:
		return t.accepted(e.Accepted)
	case e.Decision != nil:
		return t.conflict(e.Decision)
	case e.Granted != nil:
		return t.granted(ctx, e.Granted)
	case e.Succeeded != nil:
		return t.succeeded(e.Succeeded)
	case e.Failed != nil:
		t.touch(e.Failed.OpID)
		return t.operation(&op.Event{
			Name: op.EventFailed, OpID: e.Failed.OpID, Attempt: e.Failed.Attempt, From: op.Executing, Status: op.Failed,
			Error: e.Failed.Failure, ExecutionMS: milliseconds(e.Failed.Duration),
		})
	case e.Retry != nil:
		return t.retry(e.Retry)
	case e.Lapsed != nil:
		return t.lapse(e.Lapsed)
	case e.Rejected != nil:
		return t.rejected(e.Rejected)
	case e.Cancelled != nil:
		return t.cancelled(e.Cancelled)
	case e.Preempted != nil:
		return t.preempted(e.Preempted)
	case e.Shared != nil:
		return t.share(e.Shared)
	case e.Coalesced != nil: // the decision tells of it
		t.touch(e.Coalesced.OpID)
	case e.Parted != nil: // PENDING as before
		t.touch(e.Parted.OpID)
	case e.Protected != nil && e.Protected.Cancel: // the record says when it takes effect
		t.touch(e.Protected.OpID)
	case e.Refused != nil:
		return t.refused(e.Refused)
	}
	// Repeated: the first submission told everything. Extended: its executor is
	// answered, and nobody else needs to know.
	return nil
}

func (t *teller) accepted(a *arbiter.Accepted) error {
	t.touch(a.OpID)
	v, ok := t.p.machine.Describe(a.OpID)
	if !ok {
		return fmt.Errorf("resolver: step %d accepts %s, which is not open", t.s.Number, a.OpID)
	}
	t.p.kinship.add(&v.Operation)
	if v.Operation.RetryOf != "" && v.Status != op.Rejected { // turned away at once, it tried nothing
		t.output("dead", &t.out.views, bus.DeadGoneMsg(v.Operation.RetryOf))
	}
	return t.operation(&op.Event{Name: op.EventSubmitted, OpID: a.OpID, Status: op.Pending, RetryOf: v.Operation.RetryOf})
}

// refused tells of a result that came too late. Heartbeats and cancels that come
// too late are ordinary.
func (t *teller) refused(r *arbiter.Refused) error {
	if r.Attempt == 0 || t.s.In[r.Input].Result == nil {
		return nil
	}
	part := t.p.id
	return t.event(&op.Event{
		Name: op.EventStaleCommit, OpID: r.OpID, Target: r.Target, Attempt: r.Attempt, Partition: &part, RetryReason: r.Why,
	}, subjectToken(r.Target, t.p.id))
}

// output adds a message to one of the lists of outputs.
func (t *teller) output(kind string, to *[]*nats.Msg, m *nats.Msg) {
	t.p.cfg.Metrics.Outputs.WithLabelValues(kind).Inc()
	*to = append(*to, m)
}

// conflict tells that two or more operations contended.
func (t *teller) conflict(d *op.Decision) error {
	if d.Total < 2 {
		return nil
	}
	refs := make([]op.ContenderRef, len(d.Contenders))
	for i := range d.Contenders {
		c := &d.Contenders[i]
		refs[i] = op.ContenderRef{OpID: c.OpID, Priority: c.Priority, Effective: c.Effective}
	}
	if len(refs) > maxConflictRefs {
		refs = refs[:maxConflictRefs]
	}
	return t.operation(&op.Event{Name: op.EventConflict, OpID: d.Winner, Winner: d.Winner, Decision: d.ID, Contenders: refs, Total: d.Total})
}

// maxConflictRefs bounds an operation.conflict event; the decision has all.
const maxConflictRefs = 64

func (t *teller) granted(ctx context.Context, g *arbiter.Granted) error {
	t.touch(g.OpID)
	v, ok := t.p.machine.Describe(g.OpID)
	if !ok {
		return fmt.Errorf("resolver: step %d grants %s, which is not open", t.s.Number, g.OpID)
	}
	if err := t.p.heads.load(ctx, []string{g.Target}); err != nil {
		return err
	}
	e, _ := t.p.heads.get(g.Target)
	body, err := op.Marshal(op.Work{
		Type: op.WorkType, Partition: t.p.id, Attempt: g.Attempt, LeaseEnds: g.LeaseEnds, Lease: g.LeaseEnds.Sub(t.s.At),
		Operation: v.Operation, CausedBy: v.CausedBy, Entity: snapshot(e),
	})
	if err != nil {
		return fmt.Errorf("resolver: encode work: %w", err)
	}
	t.p.cfg.Metrics.Outputs.WithLabelValues("work").Inc()
	pool := t.p.machine.Policy().Types[v.Operation.Type].Pool
	if pool == "" {
		pool = op.DefaultPool
	}
	t.out.heads = append(t.out.heads, bus.WorkMsg(pool, v.Operation.Type, t.p.id, g.Target, body))
	promoted := &op.Event{
		Name: op.EventPromoted, OpID: g.OpID, Attempt: g.Attempt, From: op.Pending, Status: op.Executing,
		Winner: g.OpID, Decision: g.Decision,
	}
	if err := t.operation(promoted); err != nil {
		return err
	}
	return t.operation(&op.Event{Name: op.EventStarted, OpID: g.OpID, Attempt: g.Attempt, Decision: g.Decision})
}

func (t *teller) succeeded(s *arbiter.Succeeded) error {
	t.touch(s.OpID)
	done, ok := t.p.changes[s.Input]
	if !ok {
		return fmt.Errorf("resolver: step %d accepts a change of %s that was never applied", t.s.Number, s.OpID)
	}
	t.done[s.OpID] = outcomeOf(done.change)
	t.took[s.OpID] = s.Duration
	t.head(s.Target, done.after)
	for i := range done.change.Follow {
		if err := t.followUp(s.OpID, &done.change.Follow[i], i); err != nil {
			return err
		}
	}
	completed := &op.Event{
		Name: op.EventCompleted, OpID: s.OpID, Attempt: s.Attempt, From: op.Executing, Status: op.Succeeded,
		ExecutionMS: milliseconds(s.Duration), Version: done.change.After(), Revision: done.change.Base + 1,
	}
	if err := t.operation(completed); err != nil {
		return err
	}
	for _, name := range entityEvents(done.change) {
		if err := t.operation(&op.Event{Name: name, OpID: s.OpID, Version: done.change.After(), Revision: done.change.Base + 1}); err != nil {
			return err
		}
	}
	return nil
}

// head publishes the entity after the step. There is none when the view already
// shows a later step: then somebody told it before.
func (t *teller) head(id string, after *entity.Entity) {
	if after == nil {
		return
	}
	t.p.heads.put(id, after, t.s.Number)
	h := Head{Partition: t.p.id, Step: t.s.Number, JournalSeq: t.seq, Entity: *after}
	t.p.cfg.Metrics.Outputs.WithLabelValues("entity").Inc()
	t.out.heads = append(t.out.heads, bus.EntityMsg(id, h.encode()))
}

// entityEvents names what a change did to its entity.
func entityEvents(c *entity.Change) []op.EventName {
	byKind := map[entity.Kind]op.EventName{
		entity.Created: op.EventEntityCreated, entity.Modified: op.EventEntityModified, entity.Versioned: op.EventEntityVersioned,
		entity.Borrowed: op.EventEntityBorrowed, entity.Promoted: op.EventEntityPromoted, entity.Detached: op.EventEntityDetached,
		entity.Attached: op.EventEntityAttached, entity.Deleted: op.EventEntityDeleted, entity.Noted: op.EventEntityModified,
	}
	names := []op.EventName{byKind[c.Kind]}
	if c.Version && c.Kind != entity.Versioned && c.Kind != entity.Created && c.Kind != entity.Deleted {
		names = append(names, op.EventEntityVersioned)
	}
	return names
}

// followUp submits the other side of a structural change. Its id is derived from
// its cause, so emitting it again submits the same operation again.
func (t *teller) followUp(cause string, f *entity.FollowUp, index int) error {
	o, err := f.Operation(cause, index)
	if err != nil {
		return fmt.Errorf("resolver: encode follow-up: %w", err)
	}
	body, err := op.Marshal(&o)
	if err != nil {
		return fmt.Errorf("resolver: encode follow-up: %w", err)
	}
	m := nats.NewMsg(bus.FollowSubject(f.Target))
	m.Data = body
	m.Header.Set(bus.HeaderCausedBy, cause)
	m.Header.Set(nats.MsgIdHdr, o.ID)
	// With the events, so that whoever works on it reads the head of its cause.
	t.p.cfg.Metrics.Outputs.WithLabelValues("follow_up").Inc()
	t.out.events = append(t.out.events, m)
	return nil
}

func (t *teller) invalid(in *arbiter.Invalid) error {
	return t.event(&op.Event{
		Name: op.EventInvalid, OpID: in.OpID, Target: in.Target, Reason: op.Invalid, Code: in.Error.Code, Detail: in.Error,
	}, subjectToken(in.Target, t.p.id))
}

// operation tells an event about an operation that the machine knows.
func (t *teller) operation(e *op.Event) error {
	v, ok := t.p.machine.Describe(e.OpID)
	if !ok {
		return fmt.Errorf("resolver: step %d tells of %s, which is not open", t.s.Number, e.OpID)
	}
	e.OpType, e.Target, e.Priority, e.Effective = v.Operation.Type, v.Operation.Target, v.Operation.Priority, v.Effective
	e.Traceparent, e.Submitter = v.Traceparent, v.Operation.Submitter
	if e.CausedBy == "" {
		e.CausedBy = v.CausedBy
	}
	e.Code = e.Reason.Code()
	return t.event(e, e.Target)
}

func (t *teller) event(e *op.Event, token string) error {
	t.n++
	e.Type, e.At, e.Process, e.Seq = op.EventType, t.s.At, t.s.Owner, t.seq
	e.ID = strconv.Itoa(t.p.id) + "-" + strconv.FormatUint(t.s.Number, 10) + "-" + strconv.Itoa(t.n)
	body, err := op.Marshal(e)
	if err != nil {
		return fmt.Errorf("resolver: encode event: %w", err)
	}
	t.p.cfg.Metrics.Outputs.WithLabelValues("event").Inc()
	t.out.events = append(t.out.events, bus.EventMsg(bus.EventSubject(e.Name, token), e.ID, body))
	return nil
}

func (t *teller) touch(id string) {
	if !t.seen[id] {
		t.seen[id] = true
		t.touched = append(t.touched, id)
	}
}

func milliseconds(d time.Duration) *float64 {
	ms := float64(d) / float64(time.Millisecond)
	return &ms
}

// subjectToken is the last token of a system event: the target where there is
// one, else the partition.
func subjectToken(target string, partition int) string {
	if op.Token(target) {
		return target
	}
	return partitionToken(partition)
}
