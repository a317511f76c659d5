package resolver

import (
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// count keeps the metrics of a committed step.
func (p *partition) count(s *arbiter.Step, bytes int, took time.Duration) {
	m := p.cfg.Metrics
	m.Steps.Inc()
	m.StepInputs.Observe(float64(len(s.In)))
	m.StepEffects.Observe(float64(len(s.Out)))
	m.StepBytes.Observe(float64(bytes))
	m.CommitSeconds.Observe(took.Seconds())
	m.OpenOperations.WithLabelValues(partitionToken(p.id)).Set(float64(p.machine.Open()))
	for i := range s.In {
		if k := s.In[i].Kin; k != nil && k.Unknown {
			m.KinLookups.WithLabelValues("unknown").Inc()
		} else if k != nil {
			m.KinLookups.WithLabelValues("found").Inc()
		}
	}
	for i := range s.Out {
		p.countEffect(s, &s.Out[i])
	}
}

// countEffect counts what a step meant for an operation. Waiting and losing are
// always counted: that somebody starves must be seen before anybody complains
// (contract §3.6).
func (p *partition) countEffect(s *arbiter.Step, e *arbiter.Effect) {
	m := p.cfg.Metrics
	switch {
	case e.Granted != nil && e.Granted.Attempt == 1:
		if v, ok := p.machine.Describe(e.Granted.OpID); ok {
			m.PromotionSeconds.WithLabelValues(v.Operation.Priority.String()).Observe(s.At.Sub(v.Accepted).Seconds())
		}
	case e.Decision != nil:
		for i := range e.Decision.Contenders {
			if c := &e.Decision.Contenders[i]; c.Verdict != op.VerdictWon {
				m.Losses.WithLabelValues(c.Priority.String(), string(c.Reason)).Inc()
			}
		}
	case e.Rejected != nil:
		p.countRejected(e.Rejected)
	case e.Protected != nil && e.Protected.Kind == arbiter.ProtectedByGrace:
		m.GraceSaves.Inc()
	case e.Protected != nil:
		m.ExecutingProtections.Inc()
	case e.Preempted != nil:
		if v, ok := p.machine.Describe(e.Preempted.OpID); ok {
			m.Preemptions.WithLabelValues(v.Operation.Priority.String()).Inc()
		}
	case e.Cancelled != nil:
		m.Cancels.WithLabelValues(string(e.Cancelled.Reason)).Inc()
	case e.Coalesced != nil:
		m.Coalesced.Inc()
	case e.Lapsed != nil && e.Lapsed.Claimed:
		m.Lapses.WithLabelValues("claimed").Inc()
	case e.Lapsed != nil:
		m.Lapses.WithLabelValues("unclaimed").Inc()
	}
}

// countRejected counts the losses that no decision lists.
func (p *partition) countRejected(r *arbiter.Rejected) {
	m := p.cfg.Metrics
	switch r.Reason {
	case op.Superseded:
		m.Superseded.Inc()
	case op.StagingFull, op.Overloaded, op.Expired:
	default:
		return // it lost a decision, which was counted, or nothing
	}
	if v, ok := p.machine.Describe(r.OpID); ok {
		m.Losses.WithLabelValues(v.Operation.Priority.String(), string(r.Reason)).Inc()
	}
}

// ages knows the open operations by age, oldest first, among others that have
// ended since.
type ages struct {
	queue []aged
}

type aged struct {
	id       string
	accepted time.Time
}

// add notes an operation that was accepted. What has ended is dropped now and
// then, so that reading a long journal again takes no more than what is open.
func (a *ages) add(m *arbiter.Machine, id string, accepted time.Time) {
	if len(a.queue) > 2*m.Open()+1024 {
		a.compact(m)
	}
	a.queue = append(a.queue, aged{id, accepted})
}

// oldest returns when the oldest pending operation was accepted. Operations that
// execute are passed over; there are few of them.
func (a *ages) oldest(m *arbiter.Machine) (time.Time, bool) {
	for i := 0; i < len(a.queue); {
		v, ok := m.Describe(a.queue[i].id)
		switch {
		case ok && v.Status == op.Pending:
			return a.queue[i].accepted, true
		case i == 0 && (!ok || v.Status.Terminal()):
			a.queue = a.queue[1:]
		default:
			i++
		}
	}
	return time.Time{}, false
}

// compact drops what has ended.
func (a *ages) compact(m *arbiter.Machine) {
	kept := make([]aged, 0, m.Open())
	for _, o := range a.queue {
		if v, ok := m.Describe(o.id); ok && !v.Status.Terminal() {
			kept = append(kept, o)
		}
	}
	a.queue = kept
}
