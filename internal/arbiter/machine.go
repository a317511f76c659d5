package arbiter

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Machine is the state of one partition. It is not safe for concurrent use.
type Machine struct {
	partition int
	policy    Policy
	at        time.Time
	number    uint64
	seed      string // id of the current step

	ops      map[string]*entry
	targets  map[string]*target
	recent   *recent
	timers   timers
	waiters  map[string][]*entry // by the missing ancestor
	wants    []string            // ancestors to look up elsewhere
	finished map[string]*entry   // reached their end in the last step
	ready    []*target           // may be resolvable; asked at the end of a step
	running  int                 // executing operations
	bare     bool                // the current step has no inputs
	size     int                 // estimated bytes of the current step's effects
	decided  int                 // decisions of this step, for their ids
	out      []Effect
}

// New returns the machine of a partition that has no history.
func New(partition int) *Machine {
	return &Machine{
		partition: partition,
		policy:    DefaultPolicy(),
		ops:       map[string]*entry{},
		targets:   map[string]*target{},
		recent:    newRecent(),
		waiters:   map[string][]*entry{},
		finished:  map[string]*entry{},
	}
}

// Step applies s.In at s.At and sets s.Out. Inputs are applied in order; then
// everything that is due fires; then every staging area that can be resolved is.
// s.ID, s.Number and s.At must be set; an instant before the last one is raised
// to it, so that time never runs backwards in a journal.
//
// What time brings about in one step is bounded, because a step must fit into one
// message. What is left over is due at once, in a step without inputs: see
// [Machine.Backlog].
//
// A take-over step only marks the new epoch: it consumes nothing and nothing
// follows from it, because it is written before its owner knows the state.
func (m *Machine) Step(s *Step) {
	m.number = s.Number
	if s.Takeover {
		s.Out = nil
		return
	}
	if s.At.Before(m.at) {
		s.At = m.at
	}
	m.at, m.seed = s.At, s.ID
	m.out, m.decided, m.size, m.bare = nil, 0, 0, len(s.In) == 0
	clear(m.finished)
	for i := range s.In {
		m.apply(&s.In[i], i)
	}
	m.fireDue()
	m.resolveReady()
	s.Out = m.out
}

// Replay applies a recorded step and returns an error when the recorded effects
// are not the ones that the machine computes.
func (m *Machine) Replay(s *Step) error {
	recorded := s.Out
	m.Step(s)
	want, err := op.Marshal(recorded)
	if err != nil {
		return fmt.Errorf("arbiter: encode recorded effects: %w", err)
	}
	got, err := op.Marshal(s.Out)
	if err != nil {
		return fmt.Errorf("arbiter: encode computed effects: %w", err)
	}
	if !bytes.Equal(want, got) && len(recorded)+len(s.Out) > 0 {
		s.Out = recorded
		return fmt.Errorf("arbiter: step %d of partition %d records other effects than its inputs lead to:\nrecorded %.2000s\ncomputed %.2000s", s.Number, s.Partition, want, got)
	}
	return nil
}

// Next returns the earliest instant at which a step without inputs would have an
// effect.
func (m *Machine) Next() (time.Time, bool) {
	if m.Backlog() {
		return m.at, true
	}
	if len(m.timers) == 0 {
		return time.Time{}, false
	}
	return m.timers[0].at, true
}

// Backlog reports whether the last step left something over that could not fit
// into it. The next step should bring no inputs, so that it has room.
func (m *Machine) Backlog() bool { return len(m.ready) > 0 && m.capacity() }

// capacity reports whether another operation may execute in this partition.
func (m *Machine) capacity() bool {
	return m.policy.MaxExecuting <= 0 || m.running < m.policy.MaxExecuting
}

// Wants returns the ancestors that staged operations wait for and that the
// machine has not asked for before; each is answered by a [Kin] input.
func (m *Machine) Wants() []string {
	w := slices.DeleteFunc(m.wants, func(id string) bool {
		return !slices.ContainsFunc(m.waiters[id], func(e *entry) bool { return e.asking })
	})
	m.wants = nil
	return w
}

// Policy returns the policy in force.
func (m *Machine) Policy() Policy { return m.policy }

// At returns the instant of the last step.
func (m *Machine) At() time.Time { return m.at }

// Open returns how many operations have no terminal record yet.
func (m *Machine) Open() int { return len(m.ops) }

// Known reports what the machine knows of an operation as somebody's ancestor.
func (m *Machine) Known(opID string) (Kin, bool) { return m.kin(opID) }

// Remembers reports whether an operation of this id is open or ended lately
// here: submitting it again is then the same submission.
func (m *Machine) Remembers(opID string) bool { return m.ops[opID] != nil || m.recent.has(opID) }

func (m *Machine) emit(e Effect) {
	m.out = append(m.out, e)
	m.size += e.size()
}

func (m *Machine) apply(in *Input, index int) {
	switch {
	case in.Submit != nil:
		m.submit(in.Submit)
	case in.Result != nil:
		m.result(in.Result, index)
	case in.Kin != nil:
		m.learn(in.Kin)
	case in.Cancel != nil:
		m.cancel(in.Cancel, index)
	case in.Policy != nil:
		m.policy = *in.Policy
	case in.Invalid != nil:
		// Recorded and told to the world, but nothing to arbitrate.
	}
}

func (m *Machine) submit(s *Submit) {
	id := s.Operation.ID
	if s.Known || m.Remembers(id) {
		m.emit(Effect{Repeated: &Repeated{OpID: id, Place: s.Place}})
		return
	}
	e := &entry{op: s.Operation, place: s.Place, causedBy: s.CausedBy, traceparent: s.Traceparent, status: op.Pending, accepted: m.at}
	m.ops[id] = e
	m.emit(Effect{Accepted: &Accepted{OpID: id}})
	if !e.followUp() {
		e.expires = m.at.Add(m.policy.MaxOperationAge)
		if d := e.op.Deadline; d != nil {
			if t := d.Resolve(m.at); t.Before(e.expires) {
				e.expires = t
			}
		}
		m.arm(&e.expiry, timer{at: e.expires, kind: timerExpiry, key: id, entry: e})
	}
	m.adopt(id)
	m.stage(e)
}

func (m *Machine) result(r *Result, index int) {
	e := m.ops[r.OpID]
	switch {
	case e == nil:
		m.refuse(r, index, "the operation is not open")
		return
	case e.status != op.Executing:
		m.refuse(r, index, "the operation is not executing")
		return
	case e.attempt != r.Attempt:
		m.refuse(r, index, "the current attempt is "+strconv.Itoa(e.attempt))
		return
	}
	m.release(e)
	if r.Failure == nil {
		m.become(e, op.Succeeded)
		m.emit(Effect{Succeeded: &Succeeded{OpID: r.OpID, Target: e.op.Target, Attempt: e.attempt, Input: index, Duration: r.Duration}})
		m.finish(e)
		return
	}
	m.become(e, op.Failed)
	e.failure = r.Failure
	m.emit(Effect{Failed: &Failed{OpID: r.OpID, Target: e.op.Target, Attempt: e.attempt, Failure: r.Failure, Duration: r.Duration}})
	switch {
	case r.Failure.Terminal:
		reason := r.Failure.Reason
		if reason == "" {
			reason = op.TerminalError
		}
		m.reject(e, &Rejected{Reason: reason, Failure: r.Failure, CurrentVersion: r.Failure.CurrentVersion})
	case e.retries >= e.op.Retries():
		m.reject(e, &Rejected{Reason: op.MaxRetries, Failure: r.Failure})
	default:
		m.backOff(e, &Retry{})
	}
}

func (m *Machine) refuse(r *Result, index int, why string) {
	m.emit(Effect{Refused: &Refused{OpID: r.OpID, Target: r.Target, Attempt: r.Attempt, Executor: r.Executor, Input: index, Why: why}})
}

// cancel ends a pending operation. One that executes is protected, and so is the
// other side of a structural operation; the request is recorded as refused.
func (m *Machine) cancel(c *Cancel, index int) {
	e := m.ops[c.OpID]
	switch {
	case e == nil || e.op.Target != c.Target:
		m.emit(Effect{Refused: &Refused{OpID: c.OpID, Target: c.Target, Input: index, Why: "no open operation of this id on this target"}})
	case e.status == op.Executing:
		m.emit(Effect{Refused: &Refused{OpID: c.OpID, Target: c.Target, Attempt: e.attempt, Input: index, Why: "the operation is executing"}})
	case e.followUp():
		m.emit(Effect{Refused: &Refused{OpID: c.OpID, Target: c.Target, Attempt: e.attempt, Input: index, Why: "the other side of a structural operation is not cancelled"}})
	default:
		m.unstage(e)
		m.become(e, op.Cancelled)
		e.reason = op.CancelledByRequest
		m.emit(Effect{Cancelled: &Cancelled{OpID: c.OpID, Target: c.Target, Reason: op.CancelledByRequest}})
		m.finish(e)
	}
}

// release takes the executing operation off its target.
func (m *Machine) release(e *entry) {
	m.disarm(&e.wake)
	t := m.targets[e.op.Target]
	t.executing = nil
	m.running--
	m.openWindow(t)
}

// backOff sends e away until its delay has passed.
func (m *Machine) backOff(e *entry, r *Retry) {
	delay := m.delay(e)
	e.retries++
	if e.status != op.Pending {
		m.become(e, op.Pending)
	}
	e.due = m.at.Add(delay)
	r.OpID, r.Target, r.RetryCount, r.Delay, r.Due = e.op.ID, e.op.Target, e.retries, delay, e.due
	m.emit(Effect{Retry: r})
	m.arm(&e.wake, timer{at: e.due, kind: timerRetry, key: e.op.ID, entry: e})
}

// reject ends e. The caller has taken it off its target or staging area.
func (m *Machine) reject(e *entry, r *Rejected) {
	r.OpID, r.Target, r.From = e.op.ID, e.op.Target, e.status
	m.become(e, op.Rejected)
	e.reason, e.winner = r.Reason, r.Winner
	if r.Decision == "" {
		r.Decision = e.decision
	}
	m.emit(Effect{Rejected: r})
	m.finish(e)
}

func (m *Machine) finish(e *entry) {
	id := e.op.ID
	m.disarm(&e.expiry)
	m.disarm(&e.wake)
	delete(m.ops, id)
	m.finished[id] = e
	m.recent.add(Kin{OpID: id, Priority: e.op.Priority, Parent: e.op.Parent})
	if t := m.targets[e.op.Target]; t != nil && t.idle() && !t.marked {
		m.disarm(&t.window)
		delete(m.targets, e.op.Target)
	}
}

// become moves e through the transition table. An illegal move is a bug of this
// package, and going on would write it into the log.
func (m *Machine) become(e *entry, s op.Status) {
	next, err := e.status.To(s)
	if err != nil {
		panic(fmt.Sprintf("arbiter: operation %s: %v", e.op.ID, err))
	}
	e.status = next
}

// fireDue fires the timers up to the instant of the step, earliest first.
func (m *Machine) fireDue() {
	for m.size < MaxEffectBytes && len(m.timers) > 0 && !m.timers[0].at.After(m.at) {
		t := *m.timers[0]
		m.timers.pop()
		switch t.kind {
		case timerWindow:
			m.touch(t.target)
		case timerRetry:
			m.stage(t.entry)
		case timerLease:
			m.lapse(t.entry)
		case timerExpiry:
			m.expire(t.entry)
		}
	}
}

// lapse takes an attempt back whose lease ran out. It costs no retry: most
// likely nobody ever began it.
func (m *Machine) lapse(e *entry) {
	m.release(e)
	m.become(e, op.Pending)
	m.emit(Effect{Lapsed: &Lapsed{OpID: e.op.ID, Target: e.op.Target, Attempt: e.attempt, RetryCount: e.retries}})
	m.stage(e)
}

// expire ends a pending operation whose deadline or maximum age has passed. An
// executing one is protected; it is asked again when it comes back to staging.
func (m *Machine) expire(e *entry) {
	if e.status == op.Executing {
		return
	}
	m.unstage(e)
	m.reject(e, &Rejected{Reason: op.Expired, Failure: e.failure})
}

// resolveReady resolves every staging area that can be, in the order in which
// they became ready. What has to wait for one of the executing operations to end
// keeps its place. What does not fit into this step is the first of the next one,
// and nothing overtakes it: smaller areas would take every place that gets free.
func (m *Machine) resolveReady() {
	var left []*target
	full := false
	for i := 0; i < len(m.ready); i++ {
		t := m.ready[i]
		switch {
		case !t.resolvable(m.at):
			t.marked = false
			if t.idle() {
				m.disarm(&t.window)
				delete(m.targets, t.id)
			}
		case full || !m.capacity():
			left = append(left, t)
		case !m.fits(t):
			full = true
			left = append(left, t)
		default:
			t.marked = false
			m.resolve(t)
		}
	}
	m.ready = left
}

// fits reports whether a decision about t still fits into this step. A large one
// gets a step of its own.
func (m *Machine) fits(t *target) bool {
	return m.size+t.weight() <= MaxEffectBytes || m.bare && m.size == 0
}

// touch has t looked at when the inputs of the step are applied.
func (m *Machine) touch(t *target) {
	if !t.marked {
		t.marked = true
		m.ready = append(m.ready, t)
	}
}
