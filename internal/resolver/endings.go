package resolver

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// whyLapsed is the retry_reason of an attempt that nobody finished.
const whyLapsed = "the attempt's lease ran out"

// lapsed returns the lapses of a step whose operation goes away for a while: one
// event tells both.
func lapsed(s *arbiter.Step) map[string]*arbiter.Lapsed {
	var all map[string]*arbiter.Lapsed
	for i := range s.Out {
		if l := s.Out[i].Lapsed; l != nil && i+1 < len(s.Out) && s.Out[i+1].Retry != nil && s.Out[i+1].Retry.OpID == l.OpID {
			if all == nil {
				all = map[string]*arbiter.Lapsed{}
			}
			all[l.OpID] = l
		}
	}
	return all
}

// lapse tells of an attempt that is over, unless the retry that follows does.
func (t *teller) lapse(l *arbiter.Lapsed) error {
	t.touch(l.OpID)
	if t.lapsed[l.OpID] == l {
		return nil
	}
	return t.operation(&op.Event{
		Name: op.EventRetry, OpID: l.OpID, Attempt: l.Attempt, From: op.Executing, Status: op.Pending,
		RetryCount: &l.RetryCount, RetryReason: whyLapsed,
	})
}

func (t *teller) retry(r *arbiter.Retry) error {
	t.touch(r.OpID)
	v, _ := t.p.machine.Describe(r.OpID)
	most := v.Operation.Retries()
	e := &op.Event{
		Name: op.EventRetry, OpID: r.OpID, From: op.Failed, Status: op.Pending, Reason: r.Reason, Winner: r.Winner, Decision: r.Decision,
		RetryCount: &r.RetryCount, MaxRetries: &most, BackoffMS: float64(r.Delay) / float64(time.Millisecond), RetryReason: "the attempt failed",
	}
	switch l := t.lapsed[r.OpID]; {
	case r.Reason != "":
		e.From, e.RetryReason = op.Pending, "lost: "+string(r.Reason)
	case l != nil:
		e.From, e.RetryReason, e.Attempt = op.Executing, whyLapsed, l.Attempt
	}
	return t.operation(e)
}

func (t *teller) rejected(r *arbiter.Rejected) error {
	t.touch(r.OpID)
	if r.Reason == op.MaxRetries || r.Reason == op.TerminalError {
		t.dead = append(t.dead, r.OpID)
	}
	return t.operation(&op.Event{
		Name: op.EventRejected, OpID: r.OpID, From: r.From, Status: op.Rejected, Reason: r.Reason,
		Winner: r.Winner, Decision: r.Decision, Error: r.Failure, RetryAfterMS: r.RetryAfter.Milliseconds(),
	})
}

func (t *teller) cancelled(c *arbiter.Cancelled) error {
	t.touch(c.OpID)
	if c.Cascade {
		t.cut = append(t.cut, c.OpID)
	}
	return t.operation(&op.Event{
		Name: op.EventCancelled, OpID: c.OpID, Attempt: c.Attempt, From: c.From, Status: op.Cancelled, Reason: c.Reason, CausedBy: c.Ancestor,
	})
}

func (t *teller) preempted(e *arbiter.Preempted) error {
	t.touch(e.OpID)
	return t.operation(&op.Event{
		Name: op.EventPreempted, OpID: e.OpID, Attempt: e.Attempt, From: op.Executing, Status: op.Pending,
		Reason: op.Preempted, Winner: e.By, Preemptions: e.Count,
	})
}

// share tells of an operation that succeeded with the one that it was coalesced
// into.
func (t *teller) share(s *arbiter.Shared) error {
	t.touch(s.OpID)
	o := t.p.shared[s.With]
	t.done[s.OpID] = o
	return t.operation(&op.Event{
		Name: op.EventCompleted, OpID: s.OpID, From: op.Pending, Status: op.Succeeded, Reason: op.Coalesced, Winner: s.With,
		Version: o.Version, Revision: o.Revision,
	})
}

// letters keeps the operations that were given up as dead letters, so that
// somebody can look at them and try again.
func (t *teller) letters() error {
	for _, id := range t.dead {
		v, ok := t.p.machine.Describe(id)
		if !ok {
			return fmt.Errorf("resolver: step %d gives up %s, which is not open", t.s.Number, id)
		}
		body, err := op.Marshal(op.Dead{Type: op.DeadType, Record: *t.recordOf(&v), Operation: v.Operation})
		if err != nil {
			return fmt.Errorf("resolver: encode dead letter of %s: %w", id, err)
		}
		t.output("dead", &t.out.views, bus.DeadMsg(id, body))
	}
	return nil
}

// cascade has the pending descendants cancelled that other partitions hold. It
// goes through their intake, behind every child that was acknowledged before. The
// id is a function of the step: told again, it is the same message (ADR 0012).
func (t *teller) cascade() error {
	for n := 0; len(t.cut) > 0; n++ {
		ids := t.cut[:min(len(t.cut), bus.MaxAncestors)]
		t.cut = t.cut[len(ids):]
		for q := range t.p.bus.Layout().Partitions {
			if q == t.p.id {
				continue
			}
			id := fmt.Sprintf("cascade-%d-%d-%d-%d", t.p.id, t.s.Number, n, q)
			m, err := t.p.bus.ControlMsg(q, id, bus.Control{Ancestors: ids})
			if err != nil {
				return err
			}
			t.output("control", &t.out.events, m)
		}
	}
	return nil
}

// outcome is what the success of an operation did to its entity.
type outcome struct {
	Version  uint64 `json:"version,omitempty"`
	Revision uint64 `json:"revision,omitempty"`
	Step     uint64 `json:"step,omitempty"` // that told it; 0: not yet
}

func outcomeOf(c *entity.Change) outcome { return outcome{Version: c.After(), Revision: c.Base + 1} }

// noteShared keeps the outcome of operations that others were coalesced into: it
// may take several steps to tell it to all of them, in which no input comes.
func (p *partition) noteShared(s *arbiter.Step) {
	if len(s.In) > 0 {
		for id, o := range p.shared {
			if o.Step > 0 {
				delete(p.shared, id)
			}
		}
	}
	for i := range s.Out {
		switch e := &s.Out[i]; {
		case e.Coalesced != nil:
			p.shared[e.Coalesced.Into] = outcome{}
		case e.Succeeded != nil:
			p.noteOutcome(s, e.Succeeded)
		case e.Shared != nil:
			if _, ok := p.shared[e.Shared.OpID]; ok { // others wait for this one
				p.shared[e.Shared.OpID] = p.shared[e.Shared.With]
			}
		case e.Rejected != nil:
			delete(p.shared, e.Rejected.OpID)
		case e.Cancelled != nil:
			delete(p.shared, e.Cancelled.OpID)
		}
	}
}

func (p *partition) noteOutcome(s *arbiter.Step, ok *arbiter.Succeeded) {
	if _, wanted := p.shared[ok.OpID]; !wanted {
		return
	}
	var c entity.Change
	if err := json.Unmarshal(s.In[ok.Input].Result.Change, &c); err != nil {
		p.log.Error("the change of a step in the journal cannot be read", "step", s.Number, "error", err)
		return
	}
	o := outcomeOf(&c)
	o.Step = s.Number
	p.shared[ok.OpID] = o
}
