package observer

import (
	"encoding/json"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// accepted takes an operation in, at the priority that the policy left it. One
// that is turned away at once was never staged, so it makes no conflict.
func (f *fold) accepted(a *arbiter.Accepted, s *arbiter.Submit, i int) {
	if s == nil {
		return // not what a step can say; the auditor reports it
	}
	o := &operation{
		id: s.Operation.ID, opType: s.Operation.Type, target: s.Operation.Target, priority: s.Operation.Priority,
		status: op.Pending, accepted: f.s.At,
	}
	if a.Priority > 0 {
		o.priority = a.Priority
	}
	name := f.count(o.opType, o.priority, func(t *Tally) { t.Submitted++ })
	f.m.Submitted.WithLabelValues(name, o.priority.String()).Inc()
	if len(f.ops) >= f.most {
		f.untracked++
		return
	}
	f.ops[o.id] = o
	if i+1 < len(f.s.Out) {
		if r := f.s.Out[i+1].Rejected; r != nil && r.OpID == o.id {
			return
		}
	}
	f.stage(o)
}

// protected counts what kept an executing operation in its place.
func (f *fold) protected(p *arbiter.Protected) {
	if p.Kind == arbiter.ProtectedByGrace {
		f.total.GraceSaves++
		f.m.GraceSaves.Inc()
		return
	}
	f.total.ExecutingProtections++
	f.m.ExecutingProtections.Inc()
}

// stage puts o into the staging area of its target. The second contender makes
// a conflict.
func (f *fold) stage(o *operation) {
	t := f.target(o.target)
	o.staged = true
	t.staged++
	if t.staged >= 2 && !t.conflict {
		f.detect(t)
	}
}

func (f *fold) detect(t *target) {
	t.conflict, t.since = true, f.s.At
	f.total.ConflictsDetected++
	f.m.ConflictsDetected.Inc()
}

// unstage takes o out of its staging area.
func (f *fold) unstage(o *operation) {
	if !o.staged {
		return
	}
	o.staged = false
	t := f.target(o.target)
	t.staged--
	if t.staged < 2 {
		t.conflict = false
	}
	f.forget(o.target)
}

// release takes o off its target after an attempt.
func (f *fold) release(o *operation) {
	t := f.targets[o.target]
	if t == nil || t.executing == nil || t.executing.id != o.id {
		return
	}
	t.executing, t.free = nil, f.s.At
	f.forget(o.target)
}

func (f *fold) decision(d *op.Decision) {
	f.revision(d.PolicyRevision)
	f.losses(d)
	f.total.Decisions++
	f.m.Decisions.WithLabelValues(string(d.Rule)).Inc()
	f.m.Contenders.Observe(float64(d.Total))
	if len(d.Contenders) > 0 && len(d.Contenders[0].Path) > 0 {
		f.m.Inherited.Inc()
	}
	// A target that executes cannot be decided, however long its window is over.
	possible := d.WindowClosed
	t := f.target(d.Target)
	if t.free.After(possible) {
		possible = t.free
	}
	f.m.DecisionLatency.Observe(max(f.told.Sub(possible), 0).Seconds())
	if d.Total < 2 {
		return
	}
	if !t.conflict {
		f.detect(t)
	}
	took := f.s.At.Sub(t.since)
	f.resolving += took
	f.total.ConflictsResolved++
	f.m.ConflictsResolved.Inc()
	f.m.ResolutionSeconds.Observe(took.Seconds())
	left := d.Total - 1 + max(t.staged-d.Total, 0) // an operator may hold some back
	for i := range d.Contenders {
		switch d.Contenders[i].Verdict {
		case op.VerdictRejected, op.VerdictRetry, op.VerdictCoalesced:
			left--
		case op.VerdictWon, op.VerdictQueued:
		}
	}
	t.conflict = false
	if left >= 2 {
		f.detect(t) // those that stay contend in the next round
	}
}

// losses counts who lost a decision: what starvation is made of. Of those that
// stay queued a decision names the best.
func (f *fold) losses(d *op.Decision) {
	for i := range d.Contenders {
		c := &d.Contenders[i]
		if c.Verdict == op.VerdictWon {
			continue
		}
		o := f.known(c.OpID, d.Target)
		if f.ops[c.OpID] == nil {
			o.priority = c.Priority
		}
		o.lost++
		f.lost(o.priority, c.Reason)
	}
}

func (f *fold) lost(p op.Priority, why op.Reason) {
	f.priorityLosses[p]++
	f.m.Losses.WithLabelValues(p.String(), string(why)).Inc()
}

func (f *fold) granted(g *arbiter.Granted) {
	o := f.known(g.OpID, g.Target)
	f.unstage(o)
	o.status, o.granted, o.lease, o.attempt, o.partition = op.Executing, f.s.At, g.LeaseEnds, g.Attempt, f.s.Partition
	o.attempts++
	if o.attempts == 1 && !o.accepted.IsZero() {
		f.m.WaitSeconds.WithLabelValues(o.priority.String()).Observe(f.s.At.Sub(o.accepted).Seconds())
	}
	f.target(g.Target).executing = o
}

func (f *fold) succeeded(s *arbiter.Succeeded) {
	o := f.known(s.OpID, s.Target)
	f.release(o)
	name, _ := f.tally(o.opType)
	f.m.Completed.WithLabelValues(name).Inc()
	f.m.ExecutionSeconds.WithLabelValues(name).Observe(s.Duration.Seconds())
	if s.Input >= 0 && s.Input < len(f.s.In) && f.s.In[s.Input].Result != nil {
		f.changed(name, f.s.In[s.Input].Result.Change)
	}
	f.end(s.OpID, op.Succeeded, "")
}

// changed counts what a change did to its entity.
func (f *fold) changed(opType string, change json.RawMessage) {
	var c struct {
		Kind    entity.Kind `json:"kind"`
		Version bool        `json:"version"`
	}
	if len(change) == 0 || json.Unmarshal(change, &c) != nil {
		return
	}
	f.total.EntityChanges++
	f.m.EntityChanges.WithLabelValues(string(c.Kind)).Inc()
	if c.Version || c.Kind == entity.Created {
		f.total.VersionsCreated++
		f.m.Versions.WithLabelValues(opType).Inc()
	}
}

func (f *fold) failed(e *arbiter.Failed) {
	o := f.known(e.OpID, e.Target)
	f.release(o)
	o.status = op.Failed
	name := f.count(o.opType, o.priority, func(t *Tally) { t.Failed++ })
	f.m.Failed.WithLabelValues(name, o.priority.String()).Inc()
	f.m.ExecutionSeconds.WithLabelValues(name).Observe(e.Duration.Seconds())
}

func (f *fold) retry(r *arbiter.Retry) {
	o := f.known(r.OpID, r.Target)
	f.unstage(o)
	o.status, o.due = op.Pending, r.Due
	f.count(o.opType, o.priority, func(t *Tally) { t.Retried++ })
	why := string(r.Reason)
	if why == "" {
		why = "failure"
	}
	f.m.Retried.WithLabelValues(why, o.priority.String()).Inc()
	if f.ops[r.OpID] != nil {
		f.part.returns.add(o)
	}
}

// lapsed takes an attempt off its target. The operation comes back after a delay,
// which a Retry tells, or ends.
func (f *fold) lapsed(l *arbiter.Lapsed) {
	o := f.known(l.OpID, l.Target)
	f.release(o)
	name, _ := f.tally(o.opType)
	f.total.Lapsed++
	f.m.Lapsed.WithLabelValues(name).Inc()
	o.status = op.Pending
}

// preempted puts an operation that had to yield back into its staging area.
func (f *fold) preempted(e *arbiter.Preempted) {
	o := f.known(e.OpID, e.Target)
	f.release(o)
	o.status = op.Pending
	f.total.Preempted++
	f.m.Preempted.WithLabelValues(o.priority.String()).Inc()
	f.back(o)
}

// back stages an operation again, if it is one of those that are followed.
func (f *fold) back(o *operation) {
	if o.rides = false; f.ops[o.id] == o {
		f.stage(o)
	}
}

// coalesced takes an operation out of the staging area; it waits for the outcome
// of another.
func (f *fold) coalesced(c *arbiter.Coalesced) {
	o := f.known(c.OpID, c.Target)
	f.unstage(o)
	o.rides = true
	f.total.Coalesced++
	f.m.Coalesced.Inc()
}

// extended prolongs the lease of an attempt that gave a sign of life.
func (f *fold) extended(e *arbiter.Extended) {
	if o := f.ops[e.OpID]; o != nil {
		o.lease, o.beaten = e.LeaseEnds, f.s.At
	}
}

func (f *fold) refused(r *arbiter.Refused) {
	cancel := r.Executor == ""
	if r.Input >= 0 && r.Input < len(f.s.In) {
		cancel = f.s.In[r.Input].Cancel != nil
	}
	if cancel {
		f.total.CancelsRefused++
		f.m.CancelsRefused.Inc()
		return
	}
	f.total.StaleResults++
	f.m.StaleResults.Inc()
}

// rejected ends an operation. What loses its place in the queue loses without a
// decision.
func (f *fold) rejected(r *arbiter.Rejected) {
	if r.Reason == op.StagingFull || r.Reason == op.Superseded {
		f.lost(f.known(r.OpID, r.Target).priority, r.Reason)
	}
	if r.Reason == op.MaxRetries || r.Reason == op.TerminalError {
		f.total.GivenUp++
	}
	f.end(r.OpID, op.Rejected, r.Reason)
}

// end writes the terminal record of an operation.
func (f *fold) end(id string, s op.Status, why op.Reason) {
	o := f.ops[id]
	if o == nil {
		o = &operation{id: id, opType: otherType}
		f.untracked = max(f.untracked-1, 0)
	} else {
		f.unstage(o)
		f.release(o)
		delete(f.ops, id)
		f.m.EndToEndSeconds.WithLabelValues(o.priority.String()).Observe(f.s.At.Sub(o.accepted).Seconds())
	}
	f.count(o.opType, o.priority, func(t *Tally) {
		switch s {
		case op.Succeeded:
			t.Completed++
		case op.Cancelled:
			t.Cancelled++
		default:
			t.Rejected++
		}
	})
	if why != "" {
		f.byReason[why]++
	}
	f.m.Terminal.WithLabelValues(string(s), string(why), o.priority.String()).Inc()
	f.ended.add(f.told, 1)
}

// restage stages the operations whose backoff is over at the instant of the step;
// the journal has no line for it. The machine does so before its decisions, here
// it comes last: one that a decision named is settled by then.
func (f *fold) restage() {
	for o := f.part.returns.pop(f.s.At); o != nil; o = f.part.returns.pop(f.s.At) {
		if f.ops[o.id] == o && o.status == op.Pending && !o.staged && !o.rides && !o.due.After(f.s.At) {
			f.stage(o)
		}
	}
}

// rate counts what happened in each of the last seconds.
type rate struct {
	second [rateSlots]int64
	count  [rateSlots]uint64
}

const (
	rateSlots  = 16
	rateWindow = 10 // seconds
)

func (r *rate) add(at time.Time, n uint64) {
	s := at.Unix()
	i := ((s % rateSlots) + rateSlots) % rateSlots
	if r.second[i] != s {
		if s < r.second[i] {
			return // older than the window
		}
		r.second[i], r.count[i] = s, 0
	}
	r.count[i] += n
}

// perSecond is the mean over the last full seconds before now.
func (r *rate) perSecond(now time.Time) float64 {
	var n uint64
	for i, s := range r.second {
		if age := now.Unix() - s; age >= 1 && age <= rateWindow {
			n += r.count[i]
		}
	}
	return float64(n) / rateWindow
}
