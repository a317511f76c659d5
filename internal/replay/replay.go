package replay

import (
	"errors"
	"fmt"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
)

// ErrGap: a step is missing. A partition can only be replayed from its first step
// on.
var ErrGap = errors.New("replay: a step is missing")

// Replay is the replay of one partition. Give it every step, then ask for the
// report. It is not safe for concurrent use. It keeps the inputs of the steps from
// the first replayed one on, because what an operation does next is looked up in
// its future.
type Replay struct {
	partition int
	policy    func(recorded arbiter.Policy) arbiter.Policy
	since     time.Time
	directory *Directory

	record *record
	run    *run // nil: still before since
	steps  []step
	report Report
}

// New returns a replay of a partition under another policy: the one that policy
// makes of each one that was recorded, the built-in one first. It is in force from
// the first step on (but see [Replay.Since]) and must be a pure function.
func New(partition int, policy func(recorded arbiter.Policy) arbiter.Policy) *Replay {
	r := &Replay{partition: partition, policy: policy, directory: NewDirectory()}
	r.record = newRecord(partition)
	return r
}

// Since lets the policy come into force with the first step at or after an
// instant. What was before is as recorded, and operations that ended before are
// not part of the report. Call it before the first step.
func (r *Replay) Since(at time.Time) { r.since = at }

// Share lets several partitions look up each other's operations as ancestors. All
// steps of all of them must be given before the first report is asked for. Call it
// before the first step.
func (r *Replay) Share(d *Directory) { r.directory = d }

// Step takes the next recorded step, of which it keeps the inputs: nobody may
// change them afterwards. The error wraps [ErrGap] when it is not the next one.
func (r *Replay) Step(s *arbiter.Step) error {
	if s.Partition != r.partition {
		return fmt.Errorf("replay: a step of partition %d, not of %d", s.Partition, r.partition)
	}
	if want := r.record.number + 1; s.Number != want {
		return fmt.Errorf("%w: partition %d goes on with step %d instead of %d", ErrGap, r.partition, s.Number, want)
	}
	if r.run == nil && !s.At.Before(r.since) {
		if err := r.begin(); err != nil {
			return err
		}
		r.report.From = s.At
	}
	read, err := r.record.read(s)
	if err != nil {
		return err
	}
	r.directory.note(s)
	if r.run == nil {
		r.record.pass(&read)
		return nil
	}
	r.report.Steps++
	r.report.To = s.At
	r.steps = append(r.steps, read)
	return nil
}

// begin parts the replay from the record.
func (r *Replay) begin() error {
	m, err := arbiter.Restore(r.record.machine.Snapshot())
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	m.Wants() // the record has asked them all
	r.record.forgetEnded()
	r.run = newRun(m, r.record, r.policy, r.directory)
	return nil
}

// Finish plays everything that was given and returns what would have been
// different. Call it once.
func (r *Replay) Finish() Report {
	r.report.Partitions = 1
	if r.run == nil {
		return Merge(r.report)
	}
	for i := range r.steps {
		r.run.play(&r.steps[i])
		if i > 0 {
			r.steps[i-1] = step{}
		}
	}
	r.steps = nil
	r.run.goOn()
	r.report.Results = r.run.results
	r.record.ledger.compare(&r.report)
	return Merge(r.report)
}
