package arbiter_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// watch reads steps as a stranger would, inputs and effects only, and remembers
// every promise of contract §5 and §8 that they break.
type watch struct {
	policy    arbiter.Policy
	at        time.Time
	before    arbiter.Policy // the one before that, if it changed in this step
	offered   map[string]*watched
	ops       map[string]*watched
	executing map[string]string // by target
	broken    []string

	step      *arbiter.Step
	decisions map[string]*op.Decision // of this step
}

type watched struct {
	op       op.Operation
	status   op.Status
	attempt  int
	retries  int
	lapses   int
	ends     time.Time // end of the current lease
	expires  time.Time // of a follow-up never
	terminal int
}

// followUp: the other side of a structural operation may not be lost.
func (v *watched) followUp() bool { return v.op.Type == op.TypeFollowUp }

func newWatch() *watch {
	return &watch{
		policy: arbiter.DefaultPolicy(), offered: map[string]*watched{},
		ops: map[string]*watched{}, executing: map[string]string{},
	}
}

func (w *watch) fault(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf("step %d: ", w.step.Number)+fmt.Sprintf(format, args...))
}

// see reads one step. What it finds is in broken.
func (w *watch) see(s *arbiter.Step) {
	w.step, w.decisions = s, map[string]*op.Decision{}
	if s.Takeover {
		if len(s.Out) > 0 {
			w.fault("a take-over step has effects")
		}
		return
	}
	if s.At.Before(w.at) {
		w.fault("time runs backwards")
	}
	w.at, w.before = s.At, w.policy
	for i := range s.In {
		if in := s.In[i].Submit; in != nil && w.offered[in.Operation.ID] == nil {
			w.offer(in.Operation)
		}
		if in := s.In[i].Policy; in != nil {
			w.policy = *in
		}
	}
	for i := range s.Out {
		w.effect(&s.Out[i])
	}
	for i := range s.Out {
		if f := s.Out[i].Failed; f != nil && w.ops[f.OpID] != nil && w.ops[f.OpID].status == op.Failed {
			w.fault("%s is left FAILED", f.OpID)
		}
	}
	for _, d := range w.decisions {
		w.verdicts(d)
	}
}

func (w *watch) effect(e *arbiter.Effect) {
	switch {
	case e.Accepted != nil:
		w.accepted(e.Accepted.OpID)
	case e.Repeated != nil:
		if w.ops[e.Repeated.OpID] == nil {
			w.fault("%s is called repeated and was never accepted", e.Repeated.OpID)
		}
	case e.Decision != nil:
		w.decision(e.Decision)
	case e.Granted != nil:
		w.granted(e.Granted)
	case e.Succeeded != nil:
		w.succeeded(e.Succeeded)
	case e.Failed != nil:
		w.attempted(e.Failed.OpID, e.Failed.Attempt, op.Failed)
	case e.Retry != nil:
		w.retry(e.Retry)
	case e.Lapsed != nil:
		w.lapsed(e.Lapsed)
	case e.Rejected != nil:
		w.rejected(e.Rejected)
	case e.Cancelled != nil:
		if v := w.move(e.Cancelled.OpID, op.Cancelled); v != nil {
			w.end(v)
			w.kept(v)
		}
	case e.Refused != nil:
		w.refused(e.Refused)
	default:
		w.fault("an empty effect")
	}
}

// offer notes a submission with the policy that was in force before it.
func (w *watch) offer(o op.Operation) {
	expires := w.at.Add(w.policy.MaxOperationAge)
	if o.Deadline != nil && o.Deadline.Resolve(w.at).Before(expires) {
		expires = o.Deadline.Resolve(w.at)
	}
	w.offered[o.ID] = &watched{op: o, status: op.Pending, expires: expires}
}

func (w *watch) accepted(id string) {
	if w.ops[id] != nil || w.offered[id] == nil {
		w.fault("%s is accepted twice, or was never submitted", id)
		return
	}
	w.ops[id] = w.offered[id]
}

// move asks the transition table.
func (w *watch) move(id string, to op.Status) *watched {
	v := w.ops[id]
	if v == nil {
		w.fault("%s became %s and was never accepted", id, to)
		return nil
	}
	if _, err := v.status.To(to); err != nil {
		w.fault("%s: %v", id, err)
	}
	if v.status == op.Executing {
		delete(w.executing, v.op.Target)
	}
	v.status = to
	return v
}

func (w *watch) end(v *watched) {
	if v.terminal++; v.terminal > 1 {
		w.fault("%s has %d terminal records", v.op.ID, v.terminal)
	}
}

func (w *watch) decision(d *op.Decision) {
	if other, busy := w.executing[d.Target]; busy {
		w.fault("%s is decided while %s executes", d.Target, other)
	}
	if d.At.Before(d.WindowClosed) || d.WindowClosed.Before(d.WindowOpened) {
		w.fault("%s is decided before its window has passed", d.Target)
	}
	if len(d.Contenders) == 0 || d.Contenders[0].OpID != d.Winner || d.Contenders[0].Verdict != op.VerdictWon {
		w.fault("decision %s does not list its winner first", d.ID)
	}
	if d.PolicyRevision != w.policy.Revision {
		w.fault("decision %s names policy %d, in force is %d", d.ID, d.PolicyRevision, w.policy.Revision)
	}
	for i, c := range d.Contenders {
		v := w.ops[c.OpID]
		if v == nil || v.status != op.Pending || v.op.Target != d.Target {
			w.fault("contender %s of %s is not a pending operation there", c.OpID, d.ID)
			continue
		}
		if c.Priority != v.op.Priority || c.Effective < c.Priority {
			w.fault("contender %s has priority %d, effective %d", c.OpID, c.Priority, c.Effective)
		}
		if i > 0 {
			b := d.Contenders[i-1]
			if b.Effective < c.Effective || b.Effective == c.Effective && !b.Before(c.Place) {
				w.fault("decision %s ranks %s before %s", d.ID, b.OpID, c.OpID)
			}
		}
	}
	w.decisions[d.ID] = d
}

// verdicts compares what a decision says with what happened in its step.
func (w *watch) verdicts(d *op.Decision) {
	for _, c := range d.Contenders {
		happened := slices.ContainsFunc(w.step.Out, func(e arbiter.Effect) bool {
			switch c.Verdict {
			case op.VerdictWon:
				return e.Granted != nil && e.Granted.OpID == c.OpID && e.Granted.Decision == d.ID
			case op.VerdictRejected:
				return e.Rejected != nil && e.Rejected.OpID == c.OpID && e.Rejected.Decision == d.ID && e.Rejected.Winner == d.Winner
			case op.VerdictRetry:
				return e.Retry != nil && e.Retry.OpID == c.OpID && e.Retry.Decision == d.ID && e.Retry.Winner == d.Winner
			}
			return e.Rejected != nil && e.Rejected.OpID == c.OpID || e.Granted != nil && e.Granted.OpID == c.OpID
		})
		if happened == (c.Verdict == op.VerdictQueued) {
			w.fault("decision %s says %s of %s, the effects do not", d.ID, c.Verdict, c.OpID)
		}
	}
}

func (w *watch) granted(g *arbiter.Granted) {
	if other, busy := w.executing[g.Target]; busy {
		w.fault("%s executes on %s together with %s", g.OpID, g.Target, other)
	}
	v := w.move(g.OpID, op.Executing)
	if v == nil {
		return
	}
	w.executing[g.Target] = g.OpID
	if n := len(w.executing); n > w.policy.MaxExecuting {
		w.fault("%s is the %dth that executes, of %d", g.OpID, n, w.policy.MaxExecuting)
	}
	if v.attempt++; g.Attempt != v.attempt || v.attempt > v.op.Retries()+v.lapses+1 {
		w.fault("%s got attempt %d, it had %d of %d and %d lapses", g.OpID, g.Attempt, v.attempt-1, v.op.Retries()+1, v.lapses)
	}
	lease := w.at.Add(w.policy.AttemptTimeout)
	if !v.followUp() && v.expires.Before(lease) {
		lease = v.expires
	}
	if v.ends = g.LeaseEnds; !v.ends.Equal(lease) {
		w.fault("the lease of %s ends at %s, not at %s", g.OpID, g.LeaseEnds, lease)
	}
	if !v.followUp() && !v.expires.After(w.at) {
		w.fault("%s is promoted after its deadline", g.OpID)
	}
	if d := w.decisions[g.Decision]; d == nil || d.Winner != g.OpID || d.Target != g.Target || d.Contenders[0].Effective != g.Effective {
		w.fault("%s is promoted without a decision for it", g.OpID)
	}
}

func (w *watch) attempted(id string, attempt int, to op.Status) *watched {
	v := w.move(id, to)
	if v != nil && v.attempt != attempt {
		w.fault("attempt %d of %s counts, current is %d", attempt, id, v.attempt)
	}
	return v
}

func (w *watch) succeeded(s *arbiter.Succeeded) {
	if v := w.attempted(s.OpID, s.Attempt, op.Succeeded); v != nil {
		w.end(v)
	}
	if s.Input >= len(w.step.In) {
		w.fault("%s succeeds by input %d, which does not exist", s.OpID, s.Input)
		return
	}
	if r := w.step.In[s.Input].Result; r == nil || r.OpID != s.OpID || r.Attempt != s.Attempt || r.Failure != nil {
		w.fault("%s succeeds by input %d, which is not its result", s.OpID, s.Input)
	}
}

func (w *watch) retry(r *arbiter.Retry) {
	v := w.ops[r.OpID]
	if v == nil {
		w.fault("%s is retried and was never accepted", r.OpID)
		return
	}
	if v.status != op.Pending || r.Reason == "" {
		w.move(r.OpID, op.Pending)
	}
	if !r.Due.Equal(w.at.Add(r.Delay)) || !within(&w.policy, v.retries, r.Delay) && !within(&w.before, v.retries, r.Delay) {
		w.fault("%s waits %s until %s for its retry %d", r.OpID, r.Delay, r.Due, r.RetryCount)
	}
	w.spend(v, r.RetryCount)
}

// within reports whether d is a delay for failure n, counted from 0.
func within(p *arbiter.Policy, n int, d time.Duration) bool {
	base := p.RetryBase
	for range n {
		base = min(2*base, p.RetryMax)
	}
	return d >= base*8/10 && d <= base*12/10
}

func (w *watch) spend(v *watched, count int) {
	if v.retries++; count != v.retries || v.retries > v.op.Retries() {
		w.fault("%s has retry %d, counted %d of %d", v.op.ID, count, v.retries, v.op.Retries())
	}
}

func (w *watch) lapsed(l *arbiter.Lapsed) {
	v := w.attempted(l.OpID, l.Attempt, op.Pending)
	if v == nil {
		return
	}
	if w.at.Before(v.ends) {
		w.fault("%s lapses before its lease ends", l.OpID)
	}
	if v.lapses++; l.RetryCount != v.retries {
		w.fault("the lapse of %s costs a retry: %d, counted %d", l.OpID, l.RetryCount, v.retries)
	}
}

func (w *watch) rejected(r *arbiter.Rejected) {
	v := w.ops[r.OpID]
	if v != nil && v.status != r.From {
		w.fault("%s is rejected from %s, it was %s", r.OpID, r.From, v.status)
	}
	if v = w.move(r.OpID, op.Rejected); v != nil {
		w.end(v)
	}
	switch r.Reason {
	case op.LowerPriority, op.LaterSubmission:
		if r.Winner == "" || w.decisions[r.Decision] == nil {
			w.fault("%s lost and its record does not say to whom", r.OpID)
		}
	case op.MaxRetries:
		if r.Winner == "" && r.Failure == nil {
			w.fault("%s has no retries left and its record does not say why", r.OpID)
		}
	case op.Expired, op.StagingFull:
		w.kept(v)
		if r.Reason == op.Expired && v != nil && v.expires.After(w.at) {
			w.fault("%s expires before its time", r.OpID)
		}
	}
	if r.Reason.Code() == "" {
		w.fault("%s is rejected for %q, which is no reason", r.OpID, r.Reason)
	}
}

// kept: the other side of a structural operation is not given up.
func (w *watch) kept(v *watched) {
	if v != nil && v.followUp() {
		w.fault("%s is the other side of a structural operation and is lost", v.op.ID)
	}
}

func (w *watch) refused(r *arbiter.Refused) {
	if r.Input >= len(w.step.In) || w.step.In[r.Input].Result == nil && w.step.In[r.Input].Cancel == nil {
		w.fault("%s: input %d is refused, which is neither a result nor a cancellation", r.OpID, r.Input)
	}
}

// open lists the operations without a terminal record, sorted.
func (w *watch) open() []string {
	var ids []string
	for id, v := range w.ops {
		if v.terminal == 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
