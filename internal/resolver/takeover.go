package resolver

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// savedState is a snapshot in OPS_SNAPSHOTS.
type savedState struct {
	State     *arbiter.State     `json:"state"`
	Cursor    uint64             `json:"cursor"`
	Seen      *seen              `json:"seen"`
	Decisions map[string]uint64  `json:"decisions"` // journal sequence of the last decision about an open operation
	Shared    map[string]outcome `json:"shared,omitempty"`
}

// takeOver makes this process the owner of the partition: it bumps the epoch
// with the fence, which shuts out every older owner and settles any commit whose
// outcome nobody knows, and only then loads the state, which therefore cannot
// move any more. Outputs behind the last recorded emission are emitted again.
func (p *partition) takeOver(ctx context.Context) error {
	last, found, err := p.bus.JournalLast(ctx, p.id)
	if err != nil {
		return fmt.Errorf("resolver: read the end of the journal: %w", err)
	}
	var prev arbiter.Step
	if found {
		if err := decodeStep(last, p.id, &prev); err != nil {
			return err
		}
	}
	p.clock = newClock(p.world.Now, prev.At)
	s := &arbiter.Step{
		Schema: arbiter.StepSchema, ID: p.world.NewID(), Partition: p.id, Number: prev.Number + 1,
		Epoch: prev.Epoch + 1, Owner: p.cfg.Name, At: p.clock.now(), Cursor: prev.Cursor, Takeover: true,
	}
	data, err := op.Marshal(s)
	if err != nil {
		return fmt.Errorf("resolver: encode take-over: %w", err)
	}
	seq, outcome, err := p.bus.JournalAppend(ctx, p.id, s.ID, data, last.Seq)
	switch outcome {
	case bus.Committed:
	case bus.Deposed:
		return errDeposed
	default:
		return fmt.Errorf("resolver: outcome of the take-over unknown: %w", err)
	}
	p.epoch, p.seq, p.looked = s.Epoch, seq, s.At
	p.takeoverStep = s.Number
	return p.load(ctx)
}

// load brings the machine to the end of the journal: snapshot, then tail.
func (p *partition) load(ctx context.Context) error {
	p.heads = newHeads(p.bus, p.world)
	p.changes = map[int]applied{}
	p.seen = new(seen)
	p.decisions = map[string]uint64{}
	p.shared = map[string]outcome{}
	p.ages, p.crowd, p.seeking = ages{}, loadNews{}, 0
	p.asked = make(chan question, maxQuestions)
	p.kin = make(chan arbiter.Input, 256)
	p.results = make(chan report, 1024)
	p.machine = arbiter.New(p.id)
	mark, err := p.bus.Mark(ctx, p.id)
	if err != nil {
		return fmt.Errorf("resolver: read the emission mark: %w", err)
	}
	if mark >= p.takeoverStep {
		p.log.Error("the emission mark is ahead of the journal, which must have lost steps: telling everything again", "mark", mark)
		mark = 0
	}
	p.emitter = newEmission(p.bus, p.world, p.id, mark, p.log, p.cfg.Metrics)
	from, err := p.loadSnapshot(ctx, mark)
	if err != nil {
		return err
	}
	var seen uint64
	for e, err := range p.bus.JournalRead(ctx, p.id, from) {
		if err != nil {
			return fmt.Errorf("resolver: read the journal: %w", err)
		}
		if err := p.replay(ctx, e, mark); err != nil {
			return err
		}
		seen = e.Seq
	}
	if seen != p.seq {
		// A server that no longer leads may answer with an older end. On such
		// a state nothing may be decided.
		return fmt.Errorf("resolver: the journal ends at %d, our own take-over is at %d", seen, p.seq)
	}
	p.adopt(p.machine.Policy())
	return nil
}

// loadSnapshot restores the last snapshot, if there is one that this release can
// read, and returns the journal sequence it reflects.
func (p *partition) loadSnapshot(ctx context.Context, mark uint64) (uint64, error) {
	step, seq, data, ok, err := p.bus.LoadSnapshot(ctx, p.id)
	if err != nil {
		return 0, fmt.Errorf("resolver: read the snapshot: %w", err)
	}
	if !ok || step > mark {
		return 0, nil // everything is in the journal anyway
	}
	var saved savedState
	if err := json.Unmarshal(data, &saved); err != nil || saved.State == nil {
		p.log.Warn("snapshot cannot be read; replaying the whole journal", "step", step, "error", err)
		return 0, nil
	}
	m, err := arbiter.Restore(saved.State)
	if err != nil {
		p.log.Warn("snapshot cannot be restored; replaying the whole journal", "step", step, "error", err)
		return 0, nil
	}
	p.machine, p.number, p.cursor, p.lastSnapshot = m, step, saved.Cursor, step
	if saved.Seen != nil {
		p.seen = saved.Seen
	}
	if saved.Decisions != nil {
		p.decisions = saved.Decisions
	}
	if saved.Shared != nil {
		p.shared = saved.Shared
	}
	for i := range saved.State.Entries {
		p.ages.add(m, saved.State.Entries[i].Operation.ID, saved.State.Entries[i].Accepted)
	}
	return seq, nil
}

// replay brings one recorded step into the machine and, where its outputs may
// not have been told, emits them again.
func (p *partition) replay(ctx context.Context, e bus.Entry, mark uint64) error {
	var s arbiter.Step
	if err := decodeStep(e, p.id, &s); err != nil {
		return err
	}
	if s.Number != p.number+1 {
		return fmt.Errorf("resolver: journal of partition %d goes from step %d to %d", p.id, p.number, s.Number)
	}
	if err := p.machine.Replay(&s); err != nil {
		return err
	}
	p.number, p.cursor = s.Number, s.Cursor
	if s.Number <= mark {
		p.note(&s, e.Seq)
		p.forgetEnded()
		return nil
	}
	if err := p.replayed(ctx, &s); err != nil {
		return err
	}
	out, err := p.outputs(ctx, &s, e.Seq)
	if err != nil {
		return err
	}
	return p.emitter.emit(ctx, out)
}

func decodeStep(e bus.Entry, partition int, s *arbiter.Step) error {
	if err := json.Unmarshal(e.Data, s); err != nil {
		return fmt.Errorf("resolver: journal message %d: %w", e.Seq, err)
	}
	if s.Schema != arbiter.StepSchema {
		return fmt.Errorf("resolver: journal message %d has schema %q, this release knows %q", e.Seq, s.Schema, arbiter.StepSchema)
	}
	if s.Partition != partition {
		return fmt.Errorf("resolver: journal message %d says partition %d on the subject of %d", e.Seq, s.Partition, partition)
	}
	return nil
}
