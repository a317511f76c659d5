// Package verify checks a running system: it reads the whole journal once,
// through the auditor and through the machine that recomputes every step, and
// compares the views with what the journal leads to. It only reads.
//
// A journal that is being written to is judged as far as it reached when the
// pass began; what the views hold beyond that is counted and left alone. With
// [Options.Quiescent] it first waits until nothing is under way, and then
// demands that nothing is left open. With [Options.Own] that is about the
// operations of the caller, and others may use the system meanwhile.
package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Options say how to check. The zero value is usable.
type Options struct {
	// Quiescent demands that every accepted operation has ended. The pass
	// follows the journal until that is so, at most for Patience.
	Quiescent bool
	// Own says which operations have to end where Quiescent is set; nil: all. The
	// caller knows that they were accepted. What others have left open is counted
	// in Report.Foreign.
	Own func(opID string) bool
	// Patience bounds the waiting for quiescence and for the views to catch up
	// with the journal. 0 means 15 s.
	Patience time.Duration
	// Acks is what clients were told, a line each (see [ReadAcks]): an acknowledged
	// submission must be there, a refused one must not, and a result must be what
	// the history says. It may be nil.
	Acks io.Reader
	// Progress is told how much of the journal and the events is read. It may be
	// nil.
	Progress func(read, last uint64)

	idle time.Duration // 0: feedIdle; tests have less time
}

// Result is what a check found.
type Result struct {
	audit.Report
	From    uint64 `json:"journal_from"`  // sequence of the first entry read, 0: none
	To      uint64 `json:"journal_to"`    // and of the last one
	Heads   int    `json:"heads_checked"` // entities whose view was compared
	Records int    `json:"records_checked"`
	Events  int    `json:"events_checked"`
	Intake  int    `json:"intake_checked"` // messages that are still there
	Acks    int    `json:"acks_checked"`
	Newer   int    `json:"newer"`   // values of the views and events beyond the last entry read
	Lagging []int  `json:"lagging"` // partitions whose outputs were not told in time; their views are not judged
	// Unchecked is what could not be checked, and why. The lagging partitions are
	// among it.
	Unchecked []string `json:"unchecked,omitempty"`
}

// Run checks the system behind b. An error means that the check could not be
// finished; violations are in the result.
func Run(ctx context.Context, b *bus.Bus, o Options) (*Result, error) {
	if o.Patience == 0 {
		o.Patience = 15 * time.Second
	}
	if o.Progress == nil {
		o.Progress = func(uint64, uint64) {}
	}
	if o.idle == 0 {
		o.idle = feedIdle
	}
	p := &pass{
		bus: b, Options: o,
		machines: map[int]*arbiter.Machine{}, tips: map[int]tip{}, lagging: map[int]bool{},
	}
	first, _, _, err := p.state(ctx, bus.StreamIntake)
	if err != nil {
		return nil, err
	}
	if err := p.expect(ctx); err != nil {
		return nil, err
	}
	n := b.Layout().Partitions
	p.auditor = audit.New(audit.Options{
		PartitionOf: func(target string) int { return bus.PartitionOf(target, n) },
		Partitions:  n,
		Replay:      p.replay,
		Own:         o.Own,
		Events:      true,
		IntakeFrom:  max(first, 1),
		Clients:     o.Acks != nil,
	})
	if err := p.follow(ctx); err != nil {
		return nil, err
	}
	for _, check := range []func(context.Context) error{p.acks, p.views, p.events, p.intake} {
		if err := check(ctx); err != nil {
			return nil, err
		}
	}
	p.result.Report = p.auditor.Finish(o.Quiescent)
	return &p.result, nil
}

// pass is one check under way.
type pass struct {
	Options
	bus      *bus.Bus
	auditor  *audit.Auditor
	machines map[int]*arbiter.Machine
	tips     map[int]tip
	lagging  map[int]bool
	stored   sparse
	unread   bool   // the intake may hold what was acknowledged, with Acks
	done     uint64 // messages read, for the progress
	expected uint64
	result   Result
}

// expect counts what there is to read.
func (p *pass) expect(ctx context.Context) error {
	for _, stream := range []string{bus.StreamJournal, bus.StreamEvents} {
		first, _, last, err := p.state(ctx, stream)
		if err != nil {
			return err
		}
		if last >= first {
			p.expected += last - first + 1
		}
	}
	return nil
}

// progress counts one message.
func (p *pass) progress() {
	p.done++
	p.Progress(p.done, max(p.done, p.expected))
}

// tip is how far a partition has come.
type tip struct{ step, cursor uint64 }

// End returns the sequence of the last entry of the journal, 0 when it is empty.
func End(ctx context.Context, b *bus.Bus) (uint64, error) {
	var end uint64
	for p := range b.Layout().Partitions {
		e, _, err := b.JournalLast(ctx, p)
		if err != nil {
			return 0, fmt.Errorf("verify: end of the journal: %w", err)
		}
		end = max(end, e.Seq)
	}
	return end, nil
}

// replay recomputes a step.
func (p *pass) replay(s *arbiter.Step) error {
	m := p.machines[s.Partition]
	if m == nil {
		m = arbiter.New(s.Partition)
		p.machines[s.Partition] = m
	}
	return m.Replay(s)
}

// follow reads the journal to its end and, if that is asked for, on until nothing
// is under way or what was acknowledged is consumed. Only then it waits for the
// outputs of what was read: whatever was read later would have views that lag
// without anybody knowing.
func (p *pass) follow(ctx context.Context) error {
	if err := p.read(ctx); err != nil {
		return err
	}
	if p.Quiescent {
		if err := p.wait(ctx, p.calm, p.read); err != nil {
			return err
		}
	}
	if err := p.consumed(ctx); err != nil {
		return err
	}
	return p.wait(ctx, p.told, func(context.Context) error { return nil })
}

// wait asks until the answer is yes or patience ends, and does something between
// two questions. It returns the errors of both.
func (p *pass) wait(ctx context.Context, ask func(context.Context) (bool, error), between func(context.Context) error) error {
	patience, cancel := context.WithTimeout(ctx, p.Patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		yes, err := ask(ctx)
		if err != nil || yes {
			return err
		}
		select {
		case <-tick.C:
		case <-patience.Done():
			return ctx.Err()
		}
		if err := between(ctx); err != nil {
			return err
		}
	}
}

// read takes what the journal holds beyond the last entry read.
func (p *pass) read(ctx context.Context) error {
	for e, err := range p.bus.JournalRead(ctx, -1, p.result.To) {
		if err != nil {
			return fmt.Errorf("verify: journal: %w", err)
		}
		if p.result.From == 0 {
			p.result.From = e.Seq
		}
		p.result.To = e.Seq
		p.stored.note(e.Seq, e.Time)
		p.step(&e)
		p.progress()
	}
	return nil
}

func (p *pass) step(e *bus.Entry) {
	var s struct {
		Step   uint64 `json:"step"`
		Cursor uint64 `json:"cursor"`
	}
	if json.Unmarshal(e.Data, &s) == nil {
		p.tips[e.Partition] = tip{s.Step, s.Cursor}
	}
	p.auditor.Raw(e.Seq, e.Partition, e.Data)
}

// calm reports whether nothing is under way: what has to end has ended, and, if
// that is everything, nothing waits to be told, from which more would follow, nor
// then in the intake.
func (p *pass) calm(ctx context.Context) (bool, error) {
	if p.auditor.Awaited() > 0 {
		return false, nil
	}
	if p.Own != nil {
		return true, nil
	}
	if told, err := p.told(ctx); err != nil || !told {
		return false, err
	}
	for id := range p.bus.Layout().Partitions {
		last, err := p.bus.LastIntake(ctx, id)
		if err != nil {
			return false, fmt.Errorf("verify: intake of partition %d: %w", id, err)
		}
		if last > p.tips[id].cursor {
			return false, nil
		}
	}
	return true, nil
}

// told reports whether the outputs of every step that was read are told. It
// remembers the partitions that lag.
func (p *pass) told(ctx context.Context) (bool, error) {
	clear(p.lagging)
	for id := range p.bus.Layout().Partitions {
		mark, err := p.bus.Mark(ctx, id)
		if err != nil {
			return false, fmt.Errorf("verify: mark of partition %d: %w", id, err)
		}
		if mark < p.tips[id].step {
			p.lagging[id] = true
		}
	}
	return len(p.lagging) == 0, nil
}

// views compares the heads and the records with the journal.
func (p *pass) views(ctx context.Context) error {
	for id := range p.bus.Layout().Partitions {
		if p.lagging[id] {
			p.result.Lagging = append(p.result.Lagging, id)
			p.result.Unchecked = append(p.result.Unchecked, fmt.Sprintf("the views and events of partition %d: they lag behind the journal", id))
		}
	}
	seen, err := p.heads(ctx)
	if err != nil {
		return err
	}
	n := p.bus.Layout().Partitions
	for id := range p.auditor.Heads() {
		if !seen[id] && !p.lagging[bus.PartitionOf(id, n)] {
			p.auditor.CheckHead(id, nil)
			p.result.Heads++
		}
	}
	return p.records(ctx)
}

// skip reports whether a view's value is not to be judged.
func (p *pass) skip(partition int, seq uint64) bool {
	if seq > p.result.To {
		p.result.Newer++
		return true
	}
	return p.lagging[partition]
}

func (p *pass) heads(ctx context.Context) (seen map[string]bool, err error) {
	seen = map[string]bool{}
	for kv, err := range p.bus.Entities(ctx) {
		if err != nil {
			return nil, fmt.Errorf("verify: entities: %w", err)
		}
		seen[kv.Key] = true
		var at struct {
			Partition int    `json:"partition"`
			Seq       uint64 `json:"journal_seq"`
		}
		if json.Unmarshal(kv.Value, &at) == nil && p.skip(at.Partition, at.Seq) {
			continue
		}
		p.result.Heads++
		p.auditor.CheckHead(kv.Key, kv.Value)
	}
	return seen, ctxErr(ctx)
}

func (p *pass) records(ctx context.Context) error {
	for kv, err := range p.bus.Records(ctx) {
		if err != nil {
			return fmt.Errorf("verify: records: %w", err)
		}
		var r op.Record
		if err := json.Unmarshal(kv.Value, &r); err != nil {
			r = op.Record{} // nothing that the history says
		}
		if p.skip(r.Partition, r.JournalSeq) {
			continue
		}
		p.result.Records++
		p.auditor.CheckRecord(kv.Key, &r)
	}
	return ctxErr(ctx)
}

// ctxErr tells an iteration that ended from one that was cut off.
func ctxErr(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return errors.Join(errors.New("verify: cut off"), err)
	}
	return nil
}
