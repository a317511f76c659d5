package arbiter

import (
	"bytes"
	"fmt"
	"slices"
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
	heirs    map[string]family   // open operations by ancestor
	cut      *cuts               // ancestors whose cancellation took their heirs with them
	rivals   map[string]family   // open operations that a newer one may supersede
	finished map[string]*entry   // reached their end in the last step
	ready    []*target           // may be resolvable; asked at the end of a step
	chores   []chore             // what is settled already and must be told, one by one
	running  int                 // executing operations
	consumed uint64              // highest intake sequence seen
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
		heirs:     map[string]family{},
		cut:       newCuts(),
		rivals:    map[string]family{},
		finished:  map[string]*entry{},
	}
}

// Step applies s.In at s.At and sets s.Out. Inputs are applied in order; then
// everything that is due fires; then every staging area that can be resolved is.
// What an input means for many operations at once is told before anything else,
// if need be in several steps.
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
	m.out, m.decided, m.size, m.bare = make([]Effect, 0, 2*len(s.In)), 0, 0, len(s.In) == 0
	clear(m.finished)
	for i := range s.In {
		m.apply(&s.In[i], i)
	}
	if m.work() {
		m.fireDue()
		if m.work() {
			m.resolveReady()
		}
	}
	if s.Out = m.out; len(s.Out) == 0 {
		s.Out = nil
	}
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
func (m *Machine) Backlog() bool {
	return len(m.chores) > 0 || len(m.ready) > 0 && m.capacity()
}

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
	case in.Beat != nil:
		m.beat(in.Beat, index)
	case in.Kin != nil:
		m.learn(in.Kin)
	case in.Cancel != nil:
		m.cancel(in.Cancel, index)
	case in.Policy != nil:
		m.adoptPolicy(in.Policy)
	case in.Invalid != nil:
		// Recorded and told to the world, but nothing to arbitrate.
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
		case timerGrace:
			m.graceEnds(t.entry)
		case timerExpiry:
			m.expire(t.entry)
		}
	}
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
		case t.executing != nil:
			t.marked = false
			m.contest(t)
		case !m.resolvable(t):
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
	return m.size+m.weight(t) <= MaxEffectBytes || m.bare && m.size == 0
}

// touch has t looked at when the inputs of the step are applied.
func (m *Machine) touch(t *target) {
	if !t.marked {
		t.marked = true
		m.ready = append(m.ready, t)
	}
}
