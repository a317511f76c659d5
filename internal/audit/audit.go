// Package audit reads a history and reports every violation of the invariants.
// It is pure: a history goes in, one journal step after the other in the order
// of the stream, and violations come out. `verify`, the observer's live auditor,
// property tests, the simulation and chaos runs share it.
//
// The auditor believes nothing that a step says about itself. It keeps its own
// staging areas, walks the ancestors itself, reads the policy itself and keeps the
// entities itself. It does share some code with what it audits, and would share a
// fault in it:
//
//   - the record types, with what package op says of operations: built-in types,
//     retries, deadlines, names;
//   - [entity.Apply], which makes one change of an entity; of what it makes, only
//     revisions, versions and borrowed values are checked;
//   - [arbiter.DefaultPolicy], in force until a step tells of another;
//   - [arbiter.EffectBytes] with [arbiter.MaxEffectBytes] and [arbiter.MaxDecisionBytes]:
//     when a step or a decision is full;
//   - [arbiter.RecentOperations], how much a partition remembers.
//
// # When it goes wrong
//
// A violation never stops the pass: the auditor goes on with what the journal
// says, so one fault may be followed by others that it caused. The first
// violation of a report is the one to look at. A history has to be read from its
// first step; where the journal was compacted, the first step that is left is
// reported as a break of the chain.
package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
)

// Options tell an [Auditor] what it cannot read from the journal.
type Options struct {
	// PartitionOf returns the partition that a target hashes to; nil leaves
	// the placement unchecked.
	PartitionOf func(target string) int
	// Replay is called with every step, in order, after it was checked; an
	// error becomes a violation of resolution.replay_differs. It may not keep
	// the step.
	Replay func(s *arbiter.Step) error
	// Partitions is how many there are; 0 leaves unchecked whether all of them
	// were told of what was cancelled with its descendants.
	Partitions int
	// Own says whose operations have to end in a quiescent history; nil: all. A
	// follow-up belongs to whom its cause belongs to.
	Own func(opID string) bool
	// RecordsMaxAge is how long the record of an ended operation can be found
	// by those who look for an ancestor. 0 means seven days.
	RecordsMaxAge time.Duration
	// Events keeps what every step has to tell, for [Auditor.CheckEvent]: eight
	// bytes an event and 24 a step.
	Events bool
	// IntakeFrom is the first sequence of the intake that is still there, for
	// [Auditor.CheckIntake]: a bit a message. 0 leaves it unchecked.
	IntakeFrom uint64
	// Clients keeps the ids of invalid submissions, for [Auditor.CheckAck].
	Clients bool
	// Bounds limits the memory, for an auditor that follows a system for ever.
	Bounds Bounds
	// OnViolation is told each violation when it is found. It may be nil.
	OnViolation func(Violation)
	// MaxViolations bounds Report.Violations; all are counted. 0 means 1000.
	MaxViolations int
}

// Violation is one breach of an invariant.
type Violation struct {
	Seq       uint64 `json:"seq"` // of the journal message; 0 where no single one is to blame
	Invariant string `json:"invariant"`
	Partition int    `json:"partition"`
	Step      uint64 `json:"step"`
	OpID      string `json:"op_id,omitempty"`
	Text      string `json:"text"`
}

// String returns the violation as one line.
func (v Violation) String() string {
	s := fmt.Sprintf("%s seq=%d partition=%d step=%d", v.Invariant, v.Seq, v.Partition, v.Step)
	if v.OpID != "" {
		s += " op=" + v.OpID
	}
	return s + ": " + v.Text
}

// Report is what a history amounts to.
type Report struct {
	Steps      int `json:"steps"`
	Takeovers  int `json:"takeovers"`
	Operations int `json:"operations"` // submitted, each id once a partition
	Repeated   int `json:"repeated"`
	Succeeded  int `json:"succeeded"`
	Rejected   int `json:"rejected"`
	Cancelled  int `json:"cancelled"`
	Open       int `json:"open"`
	Decisions  int `json:"decisions"`
	Attempts   int `json:"attempts"`
	Retries    int `json:"retries"`
	Lapsed     int `json:"lapsed"`
	Extended   int `json:"extended"`  // leases prolonged by heartbeats
	Preempted  int `json:"preempted"` // attempts
	Protected  int `json:"protected"` // times that an executing operation was asked to go and stayed
	Coalesced  int `json:"coalesced"`
	Shared     int `json:"shared"` // of those that succeeded: with another one
	Refused    int `json:"refused"`
	Effects    int `json:"effects"` // changes folded
	Invalid    int `json:"invalid"`
	Entities   int `json:"entities"`
	Foreign    int `json:"foreign"` // of the open ones: somebody else's, see Options.Own

	// Violations holds the first ones; Total counts all.
	Violations  []Violation    `json:"violations"`
	Total       int            `json:"total_violations"`
	ByInvariant map[string]int `json:"by_invariant"`
}

// OK reports whether no invariant was broken. A caller should also ask whether
// enough succeeded: an empty history breaks nothing.
func (r *Report) OK() bool { return r.Total == 0 }

// recentSteps bounds how many step ids are remembered. A step published twice
// follows its first copy closely, so a window is enough.
const (
	recentSteps  = 1 << 16
	boundedSteps = 1 << 13 // with Bounds, and as many decisions
)

// Auditor folds one history. It is not safe for concurrent use. Its memory grows
// with the open operations and the entities; an operation that ended costs
// a few hundred bytes. With [Bounds] it does not grow with the history.
type Auditor struct {
	opts       Options
	report     Report
	seq        uint64
	partitions map[int]*partition
	order      []*partition // in the order of first sight
	stepIDs    ring[struct{}]
	decisions  ring[struct{}]
	follows    map[key]*expected
	cascades   map[key]*cascade // of which not every partition was told yet
	promised   int              // follow-ups and cascades that were asked for and have not come yet, without those of others
	hearsay    []hearsay
	terminal   int // terminal records, legal or not
	jitter     [jitterBuckets]int
	acks       map[key]claimed
	ackOrder   []key
	invalid    map[key]struct{} // with Options.Clients
}

// New returns an auditor that has read nothing.
func New(opts Options) *Auditor {
	if opts.MaxViolations == 0 {
		opts.MaxViolations = 1000
	}
	if opts.RecordsMaxAge == 0 {
		opts.RecordsMaxAge = 7 * 24 * time.Hour
	}
	return &Auditor{
		opts:       opts,
		partitions: map[int]*partition{},
		follows:    map[key]*expected{},
		cascades:   map[key]*cascade{},
		invalid:    map[key]struct{}{},
	}
}

// Raw decodes one journal message and checks it like [Auditor.Step]. Partition
// is the one that the message's subject names.
func (a *Auditor) Raw(seq uint64, partition int, data []byte) {
	var s arbiter.Step
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(&s)
	if err == nil && d.InputOffset() != int64(len(data)) {
		err = errors.New("text follows the step")
	}
	if err != nil {
		a.report.Steps++
		a.follow(seq, partition, 0)
		a.violate(Violation{Seq: seq, Invariant: LogUndecodable, Partition: partition, Text: err.Error()})
		return
	}
	if s.Partition != partition {
		a.violate(Violation{
			Seq: seq, Invariant: LogPartition, Partition: partition, Step: s.Number,
			Text: fmt.Sprintf("the step says it is of partition %d", s.Partition),
		})
	}
	a.Step(seq, &s)
}

// Step checks one journal step. Steps have to come in the order of the stream,
// all partitions interleaved; seq is the sequence in the stream. The auditor
// keeps nothing of s that anyone may change.
func (a *Auditor) Step(seq uint64, s *arbiter.Step) {
	a.report.Steps++
	a.follow(seq, s.Partition, s.Number)
	v := &visit{a: a, p: a.partition(s.Partition), s: s, seq: seq}
	if s.Schema != arbiter.StepSchema {
		v.bad(LogSchema, "", "schema %.40q is not %s", s.Schema, arbiter.StepSchema)
		return
	}
	v.chain()
	if a.opts.Events {
		v.begin()
	}
	v.inputs()
	for i := range s.Out {
		v.index = i
		v.effect(&s.Out[i])
		v.size += arbiter.EffectBytes(s.Out[i : i+1])
	}
	v.index = len(s.Out)
	v.close()
	if a.opts.Replay != nil {
		if err := a.opts.Replay(s); err != nil {
			v.bad(ResolutionReplayDiffers, "", "%v", err)
		}
	}
	v.p.forget()
}

// follow checks that the stream's sequence rises.
func (a *Auditor) follow(seq uint64, partition int, step uint64) {
	if seq <= a.seq && a.report.Steps > 1 {
		a.violate(Violation{
			Seq: seq, Invariant: LogSequence, Partition: partition, Step: step,
			Text: fmt.Sprintf("follows sequence %d", a.seq),
		})
	}
	a.seq = seq
}

// Finish checks what only the end of a history can show and returns the report.
// In a quiescent history nothing is under way any more, so an accepted operation
// without a terminal record is a violation. With [Options.Own] that is demanded of
// the caller's operations only, and what others have left open is counted. The
// auditor can go on afterwards.
func (a *Auditor) Finish(quiescent bool) Report {
	a.accounting()
	a.uniform()
	a.claims()
	if quiescent {
		for _, p := range a.order {
			for _, o := range p.byPlace() {
				if o.foreign {
					continue
				}
				a.violate(Violation{
					Invariant: LifeOpen, Partition: p.id, Step: p.step, OpID: o.id,
					Text: fmt.Sprintf("accepted at %s, still %s", o.accepted.Format(timeFormat), o.status),
				})
			}
		}
		a.followUps()
		a.cascadesLeft()
		if a.Report().Foreign == 0 { // else something is under way
			a.hearsayLeft()
		}
	}
	return a.Report()
}

// Awaited returns how much has still to come before the history is quiescent: the
// ends of open operations, follow-ups that were asked for, and the news of what was
// cancelled with its descendants. What others have under way does not count.
func (a *Auditor) Awaited() int {
	n := a.promised
	for _, p := range a.order {
		n += len(p.open) - p.foreign
	}
	return n
}

// promise counts what has to come because of an operation.
func (a *Auditor) promise(foreign bool, n int) {
	if !foreign {
		a.promised += n
	}
}

// accounting adds up what was submitted and what became of it.
func (a *Auditor) accounting() {
	r := a.Report()
	if sum := a.terminal + r.Open; r.Operations != sum {
		a.violate(Violation{
			Invariant: LifeAccounting,
			Text:      fmt.Sprintf("%d submitted, but %d terminal records and %d open", r.Operations, a.terminal, r.Open),
		})
	}
}

// Report returns what was found so far.
func (a *Auditor) Report() Report {
	r := a.report
	for _, p := range a.order {
		r.Open += len(p.open)
		r.Entities += p.entities
		r.Foreign += p.foreign
	}
	r.Violations = slices.Clone(a.report.Violations)
	r.ByInvariant = map[string]int{}
	for i := range invariants {
		if n := a.report.ByInvariant[invariants[i].Name]; n > 0 {
			r.ByInvariant[invariants[i].Name] = n
		}
	}
	return r
}

func (a *Auditor) violate(v Violation) {
	if a.report.ByInvariant == nil {
		a.report.ByInvariant = map[string]int{}
	}
	if a.opts.OnViolation != nil {
		a.opts.OnViolation(v)
	}
	a.report.Total++
	a.report.ByInvariant[v.Invariant]++
	if len(a.report.Violations) < a.opts.MaxViolations {
		a.report.Violations = append(a.report.Violations, v)
	}
}

func (a *Auditor) partition(id int) *partition {
	p := a.partitions[id]
	if p == nil {
		p = newPartition(id)
		p.taken.from, p.bounds = a.opts.IntakeFrom, a.opts.Bounds
		a.partitions[id] = p
		a.order = append(a.order, p)
	}
	return p
}
