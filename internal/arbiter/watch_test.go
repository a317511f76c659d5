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
	during    []arbiter.Policy // all that were in force at some point of this step
	offered   map[string]*watched
	ops       map[string]*watched
	executing map[string]string // by target
	broken    []string
	arrows    map[arrow]int     // how often each was gone along
	reasons   map[op.Reason]int // how often each was given

	step      *arbiter.Step
	decisions map[string]*op.Decision // of this step
}

type watched struct {
	op          op.Operation
	status      op.Status
	attempt     int
	retries     int
	lapses      int
	free        int // lapses that cost no retry
	preemptions int
	claimed     bool // the current attempt
	lapsed      bool // in this step, and nothing followed yet
	granted     time.Time
	ends        time.Time // end of the current lease
	stops       time.Time // a cancel was promised to take effect then
	expires     time.Time // of a follow-up never
	rides       string    // the one it was coalesced into
	terminal    int
}

// arrow is one of the transition table.
type arrow struct{ from, to op.Status }

// followUp: the other side of a structural operation may not be lost.
func (v *watched) followUp() bool { return v.op.Type == op.TypeFollowUp }

func newWatch() *watch {
	return &watch{
		policy: arbiter.DefaultPolicy(), offered: map[string]*watched{},
		ops: map[string]*watched{}, executing: map[string]string{},
		arrows: map[arrow]int{}, reasons: map[op.Reason]int{},
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
	w.at, w.during = s.At, []arbiter.Policy{w.policy}
	for i := range s.In {
		if in := s.In[i].Submit; in != nil && w.offered[in.Operation.ID] == nil {
			w.offer(in.Operation)
		}
		if in := s.In[i].Policy; in != nil {
			w.policy = *in
			w.during = append(w.during, *in)
		}
	}
	for i := range s.Out {
		w.effect(&s.Out[i])
	}
	for i := range s.Out {
		if f := s.Out[i].Failed; f != nil && w.ops[f.OpID] != nil && w.ops[f.OpID].status == op.Failed {
			w.fault("%s is left FAILED", f.OpID)
		}
		if l := s.Out[i].Lapsed; l != nil && w.ops[l.OpID] != nil && w.ops[l.OpID].lapsed {
			w.fault("%s lapsed and nothing followed", l.OpID)
		}
	}
	for _, d := range w.decisions {
		w.verdicts(d)
	}
}

func (w *watch) effect(e *arbiter.Effect) {
	switch {
	case e.Accepted != nil:
		w.accepted(e.Accepted)
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
		w.cancelled(e.Cancelled)
	case e.Extended != nil:
		w.extended(e.Extended)
	case e.Preempted != nil:
		w.preempted(e.Preempted)
	case e.Protected != nil:
		w.protected(e.Protected)
	case e.Coalesced != nil:
		w.coalesced(e.Coalesced)
	case e.Shared != nil:
		w.shared(e.Shared)
	case e.Parted != nil:
		w.parted(e.Parted)
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

func (w *watch) accepted(a *arbiter.Accepted) {
	v := w.offered[a.OpID]
	if w.ops[a.OpID] != nil || v == nil {
		w.fault("%s is accepted twice, or was never submitted", a.OpID)
		return
	}
	w.ops[a.OpID] = v
	if a.Asked > 0 {
		if a.Asked != v.op.Priority || a.Priority == a.Asked {
			w.fault("%s asked for %d and got %d, it is said to have asked for %d", a.OpID, v.op.Priority, a.Priority, a.Asked)
		}
		v.op.Priority = a.Priority
	}
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
	w.arrows[arrow{v.status, to}]++
	if v.status == op.Executing {
		delete(w.executing, v.op.Target)
	}
	v.status, v.lapsed = to, false
	return v
}

// ever reports whether something is so by the policy in force, or by one that was
// in force earlier in this step.
func (w *watch) ever(so func(p *arbiter.Policy) bool) bool {
	return slices.ContainsFunc(w.during, func(p arbiter.Policy) bool { return so(&p) })
}

// graceOver reports whether the grace of v's attempt has ended.
func (w *watch) graceOver(v *watched) bool {
	return w.ever(func(p *arbiter.Policy) bool { return !v.granted.Add(p.GracePeriod).After(w.at) })
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
		if v == nil || v.status != op.Pending || v.op.Target != d.Target || v.rides != "" {
			w.fault("contender %s of %s is not a pending operation there", c.OpID, d.ID)
			continue
		}
		if c.Priority != v.op.Priority || c.Effective < c.Priority+op.Priority(c.Boost) || c.Effective > op.Critical {
			w.fault("contender %s has priority %d, effective %d, boost %d", c.OpID, c.Priority, c.Effective, c.Boost)
		}
		if c.Boost < 0 || c.Boost > w.policy.Aging.Max {
			w.fault("contender %s has a boost of %d, at most %d are allowed", c.OpID, c.Boost, w.policy.Aging.Max)
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
			won := e.Granted != nil && e.Granted.OpID == c.OpID && e.Granted.Decision == d.ID
			lost := e.Rejected != nil && e.Rejected.OpID == c.OpID && e.Rejected.Decision == d.ID && e.Rejected.Winner == d.Winner
			left := e.Retry != nil && e.Retry.OpID == c.OpID && e.Retry.Decision == d.ID && e.Retry.Winner == d.Winner
			joined := e.Coalesced != nil && e.Coalesced.OpID == c.OpID && e.Coalesced.Decision == d.ID && e.Coalesced.Into == d.Winner
			switch c.Verdict {
			case op.VerdictWon:
				return won
			case op.VerdictRejected:
				return lost
			case op.VerdictRetry:
				return left
			case op.VerdictCoalesced:
				return joined
			}
			return won || lost || left || joined
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
	if v.attempt++; g.Attempt != v.attempt || v.attempt > v.op.Retries()+v.free+v.preemptions+1 {
		w.fault("%s got attempt %d, it had %d of %d, %d free lapses and %d preemptions", g.OpID, g.Attempt, v.attempt-1, v.op.Retries()+1, v.free, v.preemptions)
	}
	v.claimed, v.granted, v.stops = false, w.at, time.Time{}
	lease := w.leaseOf(v)
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

// leaseOf is when a lease ends that begins now.
func (w *watch) leaseOf(v *watched) time.Time {
	return w.leaseBy(v, &w.policy)
}

func (w *watch) leaseBy(v *watched, p *arbiter.Policy) time.Time {
	lease := w.at.Add(p.AttemptTimeout)
	if t := p.Types[v.op.Type].AttemptTimeout; t > 0 {
		lease = w.at.Add(t)
	}
	if !v.followUp() && v.expires.Before(lease) {
		lease = v.expires
	}
	return lease
}

func (w *watch) extended(x *arbiter.Extended) {
	v := w.ops[x.OpID]
	if v == nil || v.status != op.Executing || v.attempt != x.Attempt || v.op.Target != x.Target {
		w.fault("the lease of %s is prolonged, which does not execute attempt %d", x.OpID, x.Attempt)
		return
	}
	v.claimed, v.ends = true, x.LeaseEnds
	if !w.ever(func(p *arbiter.Policy) bool { return v.ends.Equal(w.leaseBy(v, p)) }) {
		w.fault("the lease of %s is prolonged to %s, not to %s", x.OpID, x.LeaseEnds, w.leaseOf(v))
	}
	if x.Input >= len(w.step.In) || w.step.In[x.Input].Beat == nil || w.step.In[x.Input].Beat.OpID != x.OpID || w.step.In[x.Input].Beat.Attempt != x.Attempt {
		w.fault("the lease of %s is prolonged by input %d, which is not its heartbeat", x.OpID, x.Input)
	}
}

func (w *watch) preempted(p *arbiter.Preempted) {
	v := w.attempted(p.OpID, p.Attempt, op.Pending)
	if v == nil {
		return
	}
	w.reasons[op.Preempted]++
	if v.preemptions++; p.Count != v.preemptions || p.Count > w.policy.MaxPreemptions {
		w.fault("%s is preempted for the %dth time, counted %d of %d", p.OpID, p.Count, v.preemptions, w.policy.MaxPreemptions)
	}
	if !w.policy.Preemption || !v.op.Preemptible || v.followUp() {
		w.fault("%s is preempted and may not be", p.OpID)
	}
	if !w.graceOver(v) {
		w.fault("%s is preempted inside its grace", p.OpID)
	}
	if by := w.ops[p.By]; by == nil || by.status != op.Pending || by.op.Target != p.Target || by.rides != "" {
		w.fault("%s is preempted by %s, which does not wait there", p.OpID, p.By)
	}
}

func (w *watch) protected(p *arbiter.Protected) {
	v := w.ops[p.OpID]
	if v == nil || v.status != op.Executing || v.attempt != p.Attempt || v.op.Target != p.Target {
		w.fault("attempt %d of %s is protected and does not execute", p.Attempt, p.OpID)
		return
	}
	if p.Kind == arbiter.ProtectedByGrace && !p.Until.After(w.at) {
		w.fault("%s is protected by a grace that is over", p.OpID)
	}
	if p.Cancel && v.stops.IsZero() {
		v.stops = p.Until
	}
	by := w.ops[p.By]
	if p.Cancel == (p.By != "") || !p.Cancel && (by == nil || by.status != op.Pending || by.op.Target != p.Target) {
		w.fault("%s is protected against %q, a cancel: %v", p.OpID, p.By, p.Cancel)
	}
}

func (w *watch) coalesced(c *arbiter.Coalesced) {
	v, into := w.ops[c.OpID], w.ops[c.Into]
	if v == nil || v.status != op.Pending || v.rides != "" {
		w.fault("%s is coalesced and does not wait", c.OpID)
		return
	}
	if d := w.decisions[c.Decision]; d == nil || d.Winner != c.Into || into == nil || into.status != op.Executing {
		w.fault("%s is coalesced into %s, which did not win %s", c.OpID, c.Into, c.Decision)
	} else if !same(&v.op, &into.op) {
		w.fault("%s is coalesced into %s, which asks for something else", c.OpID, c.Into)
	}
	v.rides = c.Into
}

func same(a, b *op.Operation) bool {
	version := func(o *op.Operation) int64 {
		if o.ExpectedVersion == nil {
			return -1
		}
		return *o.ExpectedVersion
	}
	return a.Target == b.Target && a.Type == b.Type && a.Source == b.Source && string(a.Params) == string(b.Params) && version(a) == version(b)
}

func (w *watch) shared(s *arbiter.Shared) {
	v, with := w.ops[s.OpID], w.ops[s.With]
	if v == nil || v.rides != s.With || with == nil || with.status != op.Succeeded {
		w.fault("%s shares the success of %s, which is not so", s.OpID, s.With)
		return
	}
	w.move(s.OpID, op.Succeeded)
	w.end(v)
	w.reasons[op.Coalesced]++
}

func (w *watch) parted(p *arbiter.Parted) {
	v, from := w.ops[p.OpID], w.ops[p.From]
	if v == nil || v.status != op.Pending || v.rides != p.From || from == nil || from.status != op.Cancelled && from.status != op.Rejected {
		w.fault("%s is parted from %s, which is not so", p.OpID, p.From)
		return
	}
	v.rides = ""
}

func (w *watch) cancelled(c *arbiter.Cancelled) {
	v := w.ops[c.OpID]
	if v == nil {
		w.fault("%s is cancelled and was never accepted", c.OpID)
		return
	}
	if v.status != c.From || c.From == op.Executing && c.Attempt != v.attempt {
		w.fault("%s is cancelled from %s, attempt %d, it was %s, attempt %d", c.OpID, c.From, c.Attempt, v.status, v.attempt)
	}
	if v.status == op.Executing && !w.graceOver(v) && (v.stops.IsZero() || v.stops.After(w.at)) {
		w.fault("%s is cancelled inside its grace", c.OpID)
	}
	if (c.Reason == op.CancelledWithParent) != (c.Ancestor != "") || c.Ancestor != "" && c.From != op.Pending {
		w.fault("%s is cancelled: %s, ancestor %q, from %s", c.OpID, c.Reason, c.Ancestor, c.From)
	}
	w.move(c.OpID, op.Cancelled)
	w.end(v)
	w.reasons[c.Reason]++
	w.kept(v)
}

func (w *watch) retry(r *arbiter.Retry) {
	v := w.ops[r.OpID]
	if v == nil {
		w.fault("%s is retried and was never accepted", r.OpID)
		return
	}
	n, charged := v.retries, true
	switch {
	case v.status == op.Failed:
		w.move(r.OpID, op.Pending)
	case v.status == op.Pending && v.lapsed && !v.claimed:
		n, charged = v.lapses-1, false
	case v.status == op.Pending && (v.lapsed || r.Reason != ""):
	default:
		w.fault("%s is retried from %s for nothing", r.OpID, v.status)
	}
	v.lapsed = false
	if r.N != n || !r.Due.Equal(w.at.Add(r.Delay)) || !w.ever(func(p *arbiter.Policy) bool { return within(p, n, r.Delay) }) {
		w.fault("%s waits %s until %s for its retry %d, n is %d and not %d", r.OpID, r.Delay, r.Due, r.RetryCount, r.N, n)
	}
	if charged {
		v.retries++
	}
	if r.RetryCount != v.retries || v.retries > v.op.Retries() {
		w.fault("%s has retry %d, counted %d of %d", v.op.ID, r.RetryCount, v.retries, v.op.Retries())
	}
}

// within reports whether d is a delay for failure n, counted from 0.
func within(p *arbiter.Policy, n int, d time.Duration) bool {
	base := p.RetryBase
	for range n {
		base = min(2*base, p.RetryMax)
	}
	return d >= base*8/10 && d <= base*12/10
}

func (w *watch) lapsed(l *arbiter.Lapsed) {
	v := w.attempted(l.OpID, l.Attempt, op.Pending)
	if v == nil {
		return
	}
	if w.at.Before(v.ends) {
		w.fault("%s lapses before its lease ends", l.OpID)
	}
	if l.Claimed != v.claimed || l.RetryCount != v.retries {
		w.fault("the lapse of %s: retries %d, counted %d; claimed %v, it was %v", l.OpID, l.RetryCount, v.retries, l.Claimed, v.claimed)
	}
	v.lapses, v.lapsed = v.lapses+1, true
	if !v.claimed {
		v.free++
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
	if v != nil {
		w.reason(r, v)
	}
	w.reasons[r.Reason]++
	if r.Reason.Code() == "" {
		w.fault("%s is rejected for %q, which is no reason", r.OpID, r.Reason)
	}
}

// reason asks whether what a record says is so.
func (w *watch) reason(r *arbiter.Rejected, v *watched) {
	switch r.Reason {
	case op.LowerPriority, op.LaterSubmission:
		if r.Winner == "" || w.decisions[r.Decision] == nil {
			w.fault("%s lost and its record does not say to whom", r.OpID)
		}
	case op.MaxRetries:
		if r.Winner == "" && r.Failure == nil {
			w.fault("%s has no retries left and its record does not say why", r.OpID)
		}
		if v.rides == "" && v.retries < v.op.Retries() {
			w.fault("%s has used %d of %d retries", r.OpID, v.retries, v.op.Retries())
		}
	case op.Expired:
		w.kept(v)
		if v.expires.After(w.at) {
			w.fault("%s expires before its time", r.OpID)
		}
	case op.StagingFull, op.Overloaded:
		w.kept(v)
		if !w.ever(func(p *arbiter.Policy) bool { return r.RetryAfter == p.RetryAfter() }) {
			w.fault("%s: the record says to try again after %s", r.OpID, r.RetryAfter)
		}
	case op.Superseded:
		w.kept(v)
		if by := w.ops[r.Winner]; by == nil || by == v || by.op.Target != v.op.Target || by.op.Type != v.op.Type || by.op.Submitter != v.op.Submitter {
			w.fault("%s is superseded by %q, which is none of its kind", r.OpID, r.Winner)
		}
	case op.UnknownType:
		w.kept(v)
		if !w.ever(func(p *arbiter.Policy) bool { return !p.Known(v.op.Type) }) {
			w.fault("%s is of an unknown type %s, which is known", r.OpID, v.op.Type)
		}
	case op.Paused:
		w.kept(v)
		if !w.ever(func(p *arbiter.Policy) bool { return p.Stops(v.op.Type, v.op.Target) }) {
			w.fault("%s is rejected as paused and is not", r.OpID)
		}
	}
}

// kept: the other side of a structural operation is not given up.
func (w *watch) kept(v *watched) {
	if v != nil && v.followUp() {
		w.fault("%s is the other side of a structural operation and is lost", v.op.ID)
	}
}

func (w *watch) refused(r *arbiter.Refused) {
	if r.Input >= len(w.step.In) {
		w.fault("%s: input %d is refused, which does not exist", r.OpID, r.Input)
		return
	}
	if in := w.step.In[r.Input]; in.Result == nil && in.Cancel == nil && in.Beat == nil {
		w.fault("%s: input %d is refused, which is neither a result nor a heartbeat nor a cancellation", r.OpID, r.Input)
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
