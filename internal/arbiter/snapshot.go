package arbiter

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// SnapshotSchema is the version of [State]; a reader that does not know it reads
// the whole journal instead.
const SnapshotSchema = "ops.v1.snapshot"

// State is everything a machine knows, as data. A machine restored from it
// behaves exactly as the one it was taken from.
type State struct {
	Schema    string        `json:"schema"`
	Partition int           `json:"partition"`
	Number    uint64        `json:"step"`
	At        time.Time     `json:"at"`
	Policy    Policy        `json:"policy"`
	Entries   []StateEntry  `json:"entries"`          // open operations in the order of the log
	Targets   []StateTarget `json:"targets"`          // windows, by id
	Recent    []StateKin    `json:"recent"`           // oldest first
	Ready     []string      `json:"ready,omitempty"`  // targets left over from a full step, in order
	Chores    []chore       `json:"chores,omitempty"` // what is settled and still to be told, in order
	Cuts      []StateCut    `json:"cuts,omitempty"`   // cancelled ancestors, oldest first
	Consumed  uint64        `json:"consumed"`         // highest intake sequence seen
}

// StateEntry is one open operation.
type StateEntry struct {
	Operation   op.Operation   `json:"operation"`
	Place       op.Place       `json:"place"`
	CausedBy    string         `json:"caused_by,omitempty"`
	Traceparent string         `json:"traceparent,omitempty"`
	Status      op.Status      `json:"status"`
	Accepted    time.Time      `json:"accepted"`
	Expires     time.Time      `json:"expires"`
	Expired     bool           `json:"expired,omitempty"` // its expiry fired while it was executing
	Asked       op.Priority    `json:"asked,omitempty"`
	Effective   op.Priority    `json:"effective"`
	Boost       int            `json:"boost,omitempty"`
	Inherit     op.Inheritance `json:"inherit"`
	Ancestors   []string       `json:"ancestors,omitempty"`
	Missing     string         `json:"missing,omitempty"`
	Asking      bool           `json:"asking,omitempty"`
	Staged      bool           `json:"staged,omitempty"`
	Attempt     int            `json:"attempt,omitempty"`
	Retries     int            `json:"retries,omitempty"`
	Lapses      int            `json:"lapses,omitempty"`
	Preemptions int            `json:"preemptions,omitempty"`
	Granted     time.Time      `json:"granted"`
	Claimed     bool           `json:"claimed,omitempty"`
	ToldGrace   bool           `json:"told_grace,omitempty"`
	ToldExec    bool           `json:"told_execution,omitempty"`
	StopAt      time.Time      `json:"stop_at,omitzero"` // a cancel waits until then
	StopAlone   bool           `json:"stop_alone,omitempty"`
	GraceAt     time.Time      `json:"grace_at,omitzero"` // the end of grace is waited for
	Reason      op.Reason      `json:"reason,omitempty"`
	Leader      string         `json:"leader,omitempty"`  // the one it was coalesced into
	Settled     bool           `json:"settled,omitempty"` // its end is among the chores
	Due         time.Time      `json:"due"`
	Lease       time.Time      `json:"lease"`
	Failure     *op.Failure    `json:"failure,omitempty"`
	Winner      string         `json:"winner,omitempty"`
	Decision    string         `json:"decision,omitempty"`
}

// StateTarget is the window of one staging area.
type StateTarget struct {
	ID     string    `json:"id"`
	Opened time.Time `json:"opened"`
	Closes time.Time `json:"closes"`
	Armed  bool      `json:"armed,omitempty"` // its end has not been acted on; it may have passed, if the step was full
}

// StateKin is one remembered operation.
type StateKin struct {
	Kin
	Foreign bool `json:"foreign,omitempty"`
}

// sorted returns the open operations in the order of the log.
func (m *Machine) sorted() []*entry {
	return slices.SortedFunc(maps.Values(m.ops), byPlace)
}

func byPlace(a, b *entry) int {
	if a.place.Before(b.place) {
		return -1
	}
	if b.place.Before(a.place) {
		return 1
	}
	return 0
}

// Snapshot returns the machine's state between two steps.
func (m *Machine) Snapshot() *State {
	s := &State{Schema: SnapshotSchema, Partition: m.partition, Number: m.number, At: m.at, Policy: m.policy}
	for _, e := range m.sorted() {
		s.Entries = append(s.Entries, e.state())
	}
	for _, id := range slices.Sorted(maps.Keys(m.targets)) {
		if t := m.targets[id]; len(t.staged) > 0 {
			s.Targets = append(s.Targets, StateTarget{ID: id, Opened: t.opened, Closes: t.closes, Armed: t.window.kind != timerNone})
		}
	}
	for _, t := range m.ready {
		s.Ready = append(s.Ready, t.id)
	}
	for _, k := range m.recent.inOrder() {
		s.Recent = append(s.Recent, StateKin{Kin: k, Foreign: k.foreign})
	}
	s.Chores, s.Cuts, s.Consumed = slices.Clone(m.chores), m.cut.inOrder(), m.consumed
	return s
}

func (e *entry) state() StateEntry {
	s := StateEntry{
		Operation: e.op, Place: e.place, CausedBy: e.causedBy, Traceparent: e.traceparent, Status: e.status, Accepted: e.accepted,
		Expires: e.expires, Expired: e.expiry.kind == timerNone, Asked: e.asked, Effective: e.effective, Boost: e.boost, Inherit: e.inherit,
		Ancestors: e.ancestors, Missing: e.missing, Asking: e.asking, Staged: e.staged, Attempt: e.attempt, Retries: e.retries,
		Lapses: e.lapses, Preemptions: e.preemptions, Granted: e.granted, Claimed: e.claimed,
		ToldGrace: e.told.grace, ToldExec: e.told.execution,
		Due: e.due, Lease: e.lease, Failure: e.failure, Reason: e.reason, Winner: e.winner, Decision: e.decision,
		Settled: e.status == op.Pending && !e.staged && e.leader == nil && e.wake.kind == timerNone,
	}
	if e.stop != nil {
		s.StopAt, s.StopAlone = e.stop.at, e.stop.alone
	}
	if e.grace != nil && e.grace.kind != timerNone {
		s.GraceAt = e.grace.at
	}
	if e.leader != nil {
		s.Leader = e.leader.op.ID
	}
	return s
}

// Restore returns the machine that s was taken from.
func Restore(s *State) (*Machine, error) {
	if s.Schema != SnapshotSchema {
		return nil, fmt.Errorf("arbiter: snapshot of schema %q, this release knows %q", s.Schema, SnapshotSchema)
	}
	m := New(s.Partition)
	m.number, m.at, m.policy = s.Number, s.At, s.Policy
	for _, k := range s.Recent {
		k.foreign = k.Foreign
		m.recent.add(k.Kin)
	}
	for _, c := range s.Cuts {
		m.cut.add(c)
	}
	m.chores, m.consumed = slices.Clone(s.Chores), s.Consumed
	for i := range s.Entries {
		m.restore(&s.Entries[i])
	}
	for i := range s.Entries {
		if id := s.Entries[i].Leader; id != "" {
			leader := m.ops[id]
			if leader == nil {
				return nil, fmt.Errorf("arbiter: snapshot has an operation coalesced into %s, which is not open", id)
			}
			e := m.ops[s.Entries[i].Operation.ID]
			e.leader = leader
			leader.riders = append(leader.riders, e) // in the order of the log, as the entries are
		}
	}
	for _, w := range s.Targets {
		t := m.targets[w.ID]
		if t == nil {
			return nil, fmt.Errorf("arbiter: snapshot has a window for %s, where nothing is staged", w.ID)
		}
		slices.SortFunc(t.staged, rank)
		t.opened, t.closes = w.Opened, w.Closes
		if w.Armed {
			m.arm(&t.window, timer{at: t.closes, kind: timerWindow, key: t.id, target: t})
		}
	}
	for _, id := range s.Ready {
		if t := m.targets[id]; t != nil {
			m.touch(t)
		}
	}
	return m, nil
}

func (m *Machine) restore(s *StateEntry) {
	e := &entry{
		op: s.Operation, place: s.Place, causedBy: s.CausedBy, traceparent: s.Traceparent, status: s.Status, accepted: s.Accepted,
		expires: s.Expires, asked: s.Asked, effective: s.Effective, boost: s.Boost, inherit: s.Inherit,
		ancestors: s.Ancestors, missing: s.Missing, asking: s.Asking, staged: s.Staged, attempt: s.Attempt, retries: s.Retries,
		lapses: s.Lapses, preemptions: s.Preemptions, granted: s.Granted, claimed: s.Claimed,
		told: protections{grace: s.ToldGrace, execution: s.ToldExec},
		due:  s.Due, lease: s.Lease, failure: s.Failure, reason: s.Reason, winner: s.Winner, decision: s.Decision,
	}
	e.judge(&m.policy)
	id := e.op.ID
	m.ops[id] = e
	if !s.StopAt.IsZero() {
		e.stop = &stopping{at: s.StopAt, alone: s.StopAlone}
	}
	if !s.GraceAt.IsZero() {
		m.awaitGrace(e, s.GraceAt)
	}
	for _, a := range e.ancestors {
		m.heirs[a] = m.heirs[a].with(e)
	}
	if key, ok := m.rivalry(e); ok {
		m.rivals[key] = m.rivals[key].with(e)
	}
	if !s.Expired {
		m.arm(&e.expiry, timer{at: e.expires, kind: timerExpiry, key: id, entry: e})
	}
	if e.missing != "" {
		m.waiters[e.missing] = append(m.waiters[e.missing], e)
	}
	if s.Leader != "" || s.Settled {
		return
	}
	if e.status == op.Pending && !e.staged {
		m.arm(&e.wake, timer{at: e.due, kind: timerRetry, key: id, entry: e})
		return
	}
	t := m.targets[e.op.Target]
	if t == nil {
		t = &target{id: e.op.Target}
		m.targets[t.id] = t
	}
	if e.status == op.Executing {
		t.executing = e
		m.running++
		m.arm(&e.wake, timer{at: e.lease, kind: timerLease, key: id, entry: e})
		return
	}
	t.staged = append(t.staged, e)
	if e.asking {
		t.asking++
		if !slices.Contains(m.wants, e.missing) {
			m.wants = append(m.wants, e.missing)
		}
	}
}
