package audit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// stories are the events that the steps of a partition have to tell. A step is a
// line in steps; its events follow each other in events, eight bytes each.
type stories struct {
	steps  []storyOf
	events []uint64 // what each event says, shortened; 0: it cannot be told from the history
	heard  []uint64 // bits: the event was checked
}

type storyOf struct {
	step, seq uint64
	first     int // in events
}

// about returns the operation that an effect is about, while it is open.
func (v *visit) about(e *arbiter.Effect) *operation {
	id := ""
	switch {
	case e.Decision != nil:
		id = e.Decision.Winner
	case e.Granted != nil:
		id = e.Granted.OpID
	case e.Succeeded != nil:
		id = e.Succeeded.OpID
	case e.Failed != nil:
		id = e.Failed.OpID
	case e.Retry != nil:
		id = e.Retry.OpID
	case e.Lapsed != nil:
		id = e.Lapsed.OpID
	case e.Rejected != nil:
		id = e.Rejected.OpID
	case e.Cancelled != nil:
		id = e.Cancelled.OpID
	case e.Preempted != nil:
		id = e.Preempted.OpID
	case e.Shared != nil:
		id = e.Shared.OpID
	}
	return v.p.open[keyOf(id)]
}

// begin opens the story of a step. What is invalid is told first.
func (v *visit) begin() {
	v.p.told.steps = append(v.p.told.steps, storyOf{v.s.Number, v.seq, len(v.p.told.events)})
	if v.s.Takeover {
		part := v.p.id
		v.event(&op.Event{Name: op.EventTakeover, Partition: &part, Epoch: v.s.Epoch}, strconv.Itoa(v.p.id))
		return
	}
	for i := range v.s.In {
		if in := v.s.In[i].Invalid; in != nil && in.Error != nil {
			v.event(&op.Event{Name: op.EventInvalid, OpID: in.OpID, Target: in.Target, Reason: op.Invalid, Code: in.Error.Code, Detail: in.Error}, v.token(in.Target))
		}
	}
}

// token is the last token of the subject of an event that is about no operation.
func (v *visit) token(target string) string {
	if op.Token(target) {
		return target
	}
	return strconv.Itoa(v.p.id)
}

// tell notes the events of an effect. o is what [visit.about] said before it.
func (v *visit) tell(e *arbiter.Effect, o *operation) {
	switch {
	case e.Accepted != nil:
		v.tellSubmission(v.p.open[keyOf(e.Accepted.OpID)])
	case e.Decision != nil:
		v.tellDecision(e.Decision, o)
	case e.Granted != nil:
		g := e.Granted
		v.operation(&op.Event{Name: op.EventPromoted, Attempt: g.Attempt, From: op.Pending, Status: op.Executing, Winner: g.OpID, Decision: g.Decision}, o)
		v.operation(&op.Event{Name: op.EventStarted, Attempt: g.Attempt, Decision: g.Decision}, o)
	case e.Succeeded != nil:
		v.tellSuccess(e.Succeeded, o)
	case e.Failed != nil:
		f := e.Failed
		v.operation(&op.Event{Name: op.EventFailed, Attempt: f.Attempt, From: op.Executing, Status: op.Failed, Error: f.Failure, ExecutionMS: inMS(f.Duration)}, o)
	case e.Retry != nil:
		v.tellRetry(e.Retry, o)
	case e.Lapsed != nil && !v.goesAway(e.Lapsed):
		l := e.Lapsed
		v.operation(&op.Event{Name: op.EventRetry, Attempt: l.Attempt, From: op.Executing, Status: op.Pending, RetryCount: &l.RetryCount, RetryReason: whyLapsed}, o)
	default:
		v.tellEnd(e, o)
	}
}

func (v *visit) tellSubmission(o *operation) {
	e := &op.Event{Name: op.EventSubmitted, Status: op.Pending}
	if o != nil {
		e.RetryOf = o.origin.retryOf
	}
	v.operation(e, o)
}

func (v *visit) tellEnd(e *arbiter.Effect, o *operation) {
	switch {
	case e.Rejected != nil:
		r := e.Rejected
		v.operation(&op.Event{
			Name: op.EventRejected, From: r.From, Status: op.Rejected, Reason: r.Reason, Winner: r.Winner, Decision: r.Decision,
			Error: r.Failure, RetryAfterMS: r.RetryAfter.Milliseconds(),
		}, o)
	case e.Cancelled != nil:
		c := e.Cancelled
		v.operation(&op.Event{Name: op.EventCancelled, Attempt: c.Attempt, From: c.From, Status: op.Cancelled, Reason: c.Reason, CausedBy: c.Ancestor}, o)
	case e.Preempted != nil:
		p := e.Preempted
		v.operation(&op.Event{
			Name: op.EventPreempted, Attempt: p.Attempt, From: op.Executing, Status: op.Pending, Reason: op.Preempted, Winner: p.By, Preemptions: p.Count,
		}, o)
	case e.Shared != nil:
		v.operation(&op.Event{Name: op.EventCompleted, From: op.Pending, Status: op.Succeeded, Reason: op.Coalesced, Winner: e.Shared.With}, o)
	case e.Refused != nil:
		r := e.Refused
		if r.Attempt == 0 || r.Input < 0 || r.Input >= len(v.s.In) || v.s.In[r.Input].Result == nil {
			return // heartbeats and cancels that come too late are ordinary
		}
		part := v.p.id
		v.event(&op.Event{
			Name: op.EventStaleCommit, OpID: r.OpID, Target: r.Target, Attempt: r.Attempt, Partition: &part, RetryReason: r.Why,
		}, v.token(r.Target))
	}
}

// maxRefs is how many contenders an operation.conflict event names.
const maxRefs = 64

func (v *visit) tellDecision(d *op.Decision, o *operation) {
	if d.Total < 2 {
		return
	}
	e := &op.Event{Name: op.EventConflict, Winner: d.Winner, Decision: d.ID, Total: d.Total}
	if o != nil {
		e.Effective = v.total(o)
	}
	for i := range d.Contenders[:min(len(d.Contenders), maxRefs)] {
		c := &d.Contenders[i]
		e.Contenders = append(e.Contenders, op.ContenderRef{OpID: c.OpID, Priority: c.Priority, Effective: c.Effective})
	}
	v.operation(e, o)
}

var entityEvent = map[entity.Kind]op.EventName{
	entity.Created: op.EventEntityCreated, entity.Modified: op.EventEntityModified, entity.Versioned: op.EventEntityVersioned,
	entity.Borrowed: op.EventEntityBorrowed, entity.Promoted: op.EventEntityPromoted, entity.Detached: op.EventEntityDetached,
	entity.Attached: op.EventEntityAttached, entity.Deleted: op.EventEntityDeleted, entity.Noted: op.EventEntityModified,
}

func (v *visit) tellSuccess(s *arbiter.Succeeded, o *operation) {
	c := v.change
	if c == nil { // nobody can read it: what comes of it is unknown
		v.p.told.events = append(v.p.told.events, 0)
		return
	}
	version, revision := c.After(), c.Base+1
	v.operation(&op.Event{
		Name: op.EventCompleted, Attempt: s.Attempt, From: op.Executing, Status: op.Succeeded, ExecutionMS: inMS(s.Duration),
		Version: version, Revision: revision,
	}, o)
	v.operation(&op.Event{Name: entityEvent[c.Kind], Version: version, Revision: revision}, o)
	if c.Version && c.Kind != entity.Versioned && c.Kind != entity.Created && c.Kind != entity.Deleted {
		v.operation(&op.Event{Name: op.EventEntityVersioned, Version: version, Revision: revision}, o)
	}
}

// whyLapsed is the retry_reason of an attempt that nobody finished. The words of the
// events stand here once more on purpose.
const whyLapsed = "the attempt's lease ran out"

func (v *visit) tellRetry(r *arbiter.Retry, o *operation) {
	e := &op.Event{
		Name: op.EventRetry, From: op.Failed, Status: op.Pending, Reason: r.Reason, Winner: r.Winner, Decision: r.Decision,
		RetryCount: &r.RetryCount, BackoffMS: float64(r.Delay) / float64(time.Millisecond),
		RetryReason: "the attempt failed",
	}
	if o != nil {
		e.MaxRetries = &o.maxRetries
	}
	var l *arbiter.Lapsed
	if v.index > 0 {
		l = v.s.Out[v.index-1].Lapsed
	}
	switch {
	case r.Reason != "":
		e.From, e.RetryReason = op.Pending, "lost: "+string(r.Reason)
	case l != nil && l.OpID == r.OpID:
		e.From, e.RetryReason, e.Attempt = op.Executing, whyLapsed, l.Attempt
	}
	v.operation(e, o)
}

// goesAway reports whether a retry follows a lapse: one event tells both.
func (v *visit) goesAway(l *arbiter.Lapsed) bool {
	next := v.index + 1
	return next < len(v.s.Out) && v.s.Out[next].Retry != nil && v.s.Out[next].Retry.OpID == l.OpID
}

// operation notes an event about an operation.
func (v *visit) operation(e *op.Event, o *operation) {
	if o == nil { // there is no such operation, which is reported
		v.p.told.events = append(v.p.told.events, 0)
		return
	}
	e.OpID, e.OpType, e.Target, e.Priority, e.Submitter, e.Code = o.id, o.kind, o.target.id, o.priority, o.submitter, e.Reason.Code()
	e.Traceparent = o.origin.traceparent
	if e.CausedBy == "" {
		e.CausedBy = o.origin.causedBy
	}
	if e.Effective == 0 {
		e.Effective = o.effective
	}
	v.event(e, o.target.id)
}

func (v *visit) event(e *op.Event, token string) {
	t := &v.p.told
	e.Type, e.At, e.Process, e.Seq = op.EventType, v.s.At, v.s.Owner, v.seq
	e.ID = fmt.Sprintf("%d-%d-%d", v.p.id, v.s.Number, len(t.events)-t.steps[len(t.steps)-1].first+1)
	t.events = append(t.events, saying(e, token))
}

func inMS(d time.Duration) *float64 {
	ms := float64(d) / float64(time.Millisecond)
	return &ms
}

// refusedStep begins the id of the event by which a deposed owner tells that its
// step was refused. It is of no step of the journal, which is what it says.
const refusedStep = "stale-"

// CheckEvent compares one public event with the step that it names. name and token
// are those of its subject. The steps must have been read with [Options.Events]; an
// event of a later step than the last one read is the caller's to leave out.
func (a *Auditor) CheckEvent(name op.EventName, token string, e *op.Event) {
	bad := func(p, step int, format string, args ...any) {
		a.violate(Violation{
			Seq: e.Seq, Invariant: ViewsEvent, Partition: p, Step: uint64(max(step, 0)), OpID: e.OpID, //nolint:gosec // not negative
			Text: fmt.Sprintf("event %.80q, %s: ", e.ID, name) + fmt.Sprintf(format, args...),
		})
	}
	if step, ok := strings.CutPrefix(e.ID, refusedStep); ok && name == op.EventStaleCommit {
		if _, there := a.stepIDs.of[keyOf(step)]; there {
			bad(-1, 0, "the journal has the step that was refused")
		}
		return
	}
	var part, number, n int
	if k, err := fmt.Sscanf(e.ID, "%d-%d-%d", &part, &number, &n); err != nil || k != 3 || fmt.Sprintf("%d-%d-%d", part, number, n) != e.ID {
		bad(-1, 0, "its id names no step")
		return
	}
	p := a.partitions[part]
	if p == nil {
		bad(part, number, "the journal has no such partition")
		return
	}
	t := &p.told
	i, ok := slices.BinarySearchFunc(t.steps, uint64(max(number, 0)), func(s storyOf, want uint64) int { //nolint:gosec // not negative
		return int(s.step) - int(want) //nolint:gosec // steps are counted
	})
	if !ok {
		bad(part, number, "the journal has no such step")
		return
	}
	at := t.steps[i].first + n - 1
	switch {
	case n < 1 || at >= t.end(i):
		bad(part, number, "its step has %d events", t.end(i)-t.steps[i].first)
		return
	case e.Name != name:
		bad(part, number, "it stands on the subject of another event, and calls itself %s", e.Name)
	case t.events[at] != 0 && t.events[at] != saying(e, token):
		bad(part, number, "it does not say what its step says")
	}
	t.hear(at)
}

// end is where the events of the i-th step end.
func (t *stories) end(i int) int {
	if i+1 < len(t.steps) {
		return t.steps[i+1].first
	}
	return len(t.events)
}

func (t *stories) hear(at int) {
	for len(t.heard) <= at/64 {
		t.heard = append(t.heard, 0)
	}
	t.heard[at/64] |= 1 << (at % 64)
}

func (t *stories) isHeard(at int) bool {
	return at/64 < len(t.heard) && t.heard[at/64]&(1<<(at%64)) != 0
}

// UntoldEvents reports the events that nobody told, of the steps of a partition
// from the given journal sequence on. Older ones may have aged out.
func (a *Auditor) UntoldEvents(partition int, from uint64) {
	p := a.partitions[partition]
	if p == nil {
		return
	}
	t := &p.told
	for i := range t.steps {
		s := &t.steps[i]
		if s.seq < from {
			continue
		}
		for at := s.first; at < t.end(i); at++ {
			if !t.isHeard(at) {
				a.violate(Violation{
					Seq: s.seq, Invariant: ViewsEventLost, Partition: partition, Step: s.step,
					Text: fmt.Sprintf("event %d-%d-%d was never told", partition, s.step, at-s.first+1),
				})
			}
		}
	}
}
