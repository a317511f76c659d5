package rebuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
)

// Options say how to rebuild. The zero value is usable.
type Options struct {
	DryRun bool // only compare
	// Patience bounds the waiting for the resolvers to tell what they have
	// decided. 0 means 5 s.
	Patience time.Duration
	// Progress is told how much of the journal is read. It may be nil.
	Progress func(read, last uint64)
}

// ResultType is the value of "type" in a [Result].
const ResultType = "ops.v1.rebuild"

// Result is what was found and written.
type Result struct {
	Type       string `json:"type"` // ResultType
	DryRun     bool   `json:"dry_run"`
	From       uint64 `json:"journal_from"` // sequence of the first entry read, 0: none
	To         uint64 `json:"journal_to"`   // and of the last one
	Steps      int    `json:"steps"`
	Entities   int    `json:"entities"` // that the journal leads to
	Operations int    `json:"operations"`
	Dead       int    `json:"dead"`
	Newer      int    `json:"newer"`   // values beyond the last entry read, which are not judged
	Lagging    []int  `json:"lagging"` // partitions whose last steps are not told yet
	// Differences are in the order of the views and of their keys.
	Differences []Difference `json:"differences"`
}

// Count returns how many differences are of a kind.
func (r *Result) Count(k Kind) (n int) {
	for i := range r.Differences {
		if r.Differences[i].Kind == k {
			n++
		}
	}
	return n
}

// Left returns how many values could not be written.
func (r *Result) Left() (n int) {
	for i := range r.Differences {
		if d := &r.Differences[i]; d.Kind != Surplus && !d.Written {
			n++
		}
	}
	return n
}

// Run compares the views of the system behind b with its journal and, unless it
// is a dry run, writes back what is missing or different. An error means that it
// could not be finished; what was written until then is right.
func Run(ctx context.Context, b *bus.Bus, o Options) (*Result, error) {
	if o.Patience == 0 {
		o.Patience = 5 * time.Second
	}
	if o.Progress == nil {
		o.Progress = func(uint64, uint64) {}
	}
	p := &pass{Options: o, bus: b, tips: map[int]uint64{}, result: Result{Type: ResultType, DryRun: o.DryRun, Lagging: []int{}, Differences: []Difference{}}}
	var since time.Time
	if age := b.Layout().RecordsMaxAge; age > 0 {
		since = time.Now().Add(-age)
	}
	p.fold = NewFold(since)
	for _, do := range []func(context.Context) error{p.read, p.settle, p.compare} {
		if err := do(ctx); err != nil {
			return nil, err
		}
	}
	if !o.DryRun && len(p.result.Differences) > 0 {
		if err := p.mend(ctx); err != nil {
			return nil, err
		}
	}
	return &p.result, nil
}

// pass is one rebuild under way.
type pass struct {
	Options
	bus    *bus.Bus
	fold   *Fold
	tips   map[int]uint64 // last step read, by partition
	result Result
}

// read folds the whole journal.
func (p *pass) read(ctx context.Context) error {
	last, err := verify.End(ctx, p.bus)
	if err != nil {
		return err
	}
	for e, err := range p.bus.JournalRead(ctx, -1, 0) {
		if err != nil {
			return fmt.Errorf("rebuild: journal: %w", err)
		}
		var s arbiter.Step
		if err := json.Unmarshal(e.Data, &s); err != nil {
			return fmt.Errorf("rebuild: journal entry %d: %w", e.Seq, err)
		}
		switch {
		case s.Schema != arbiter.StepSchema:
			return fmt.Errorf("rebuild: journal entry %d has schema %.40q, this release knows %s", e.Seq, s.Schema, arbiter.StepSchema)
		case s.Partition != e.Partition || s.Number != p.tips[e.Partition]+1:
			return fmt.Errorf("rebuild: journal entry %d is step %d of partition %d after step %d: the journal is not whole", e.Seq, s.Number, s.Partition, p.tips[e.Partition])
		}
		if err := p.fold.Step(e.Seq, &s); err != nil {
			return fmt.Errorf("rebuild: journal entry %d leads nowhere, `hierarchy verify` says more: %w", e.Seq, err)
		}
		if p.result.From == 0 {
			p.result.From = e.Seq
		}
		p.result.To = e.Seq
		p.tips[e.Partition] = s.Number
		p.Progress(e.Seq, max(last, e.Seq))
	}
	r := &p.result
	r.Steps, r.Entities, r.Operations = p.fold.steps, len(p.fold.views[Entities]), len(p.fold.views[Operations])
	for _, v := range p.fold.views[Dead] {
		if v.data != nil {
			r.Dead++
		}
	}
	return ctx.Err()
}

// settle waits for what was read to be told, at most for the patience.
func (p *pass) settle(ctx context.Context) error {
	patience := time.NewTimer(p.Patience)
	defer patience.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		lagging := []int{}
		for id := range p.bus.Layout().Partitions {
			mark, err := p.bus.Mark(ctx, id)
			if err != nil {
				return fmt.Errorf("rebuild: mark of partition %d: %w", id, err)
			}
			if mark < p.tips[id] {
				lagging = append(lagging, id)
			}
		}
		p.result.Lagging = lagging
		if len(lagging) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-patience.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// walks are how the views are read, in order.
func (p *pass) walks(ctx context.Context) []struct {
	view   View
	values iter.Seq2[bus.KV, error]
} {
	return []struct {
		view   View
		values iter.Seq2[bus.KV, error]
	}{
		{Entities, p.bus.Entities(ctx)},
		{Operations, p.bus.Records(ctx)},
		{Dead, p.bus.DeadLetters(ctx)},
	}
}

// compare finds the differences of all views.
func (p *pass) compare(ctx context.Context) error {
	p.result.Newer, p.result.Differences = 0, []Difference{}
	for _, w := range p.walks(ctx) {
		found, err := p.differ(ctx, w.view, w.values)
		if err != nil {
			return err
		}
		p.result.Differences = append(p.result.Differences, found...)
	}
	return nil
}

func (p *pass) differ(ctx context.Context, view View, values iter.Seq2[bus.KV, error]) ([]Difference, error) {
	stored := map[string]bus.KV{}
	for kv, err := range values {
		if err != nil {
			return nil, fmt.Errorf("rebuild: %s: %w", view, err)
		}
		stored[kv.Key] = kv
	}
	// What claims to be newer than the journal itself is not newer but wrong.
	end, err := verify.End(ctx, p.bus)
	if err != nil {
		return nil, err
	}
	wanted := p.fold.views[view]
	all := map[string]bool{}
	for key := range wanted {
		all[key] = true
	}
	for key := range stored {
		all[key] = true
	}
	var found []Difference
	for _, key := range slices.Sorted(maps.Keys(all)) {
		want, known := wanted[key]
		kv, there := stored[key]
		d := Difference{View: view, Key: key, Kind: Different, JournalSeq: want.seq, rev: kv.Rev}
		if !there {
			if d.Kind = Missing; want.data != nil {
				found = append(found, d)
			}
			continue
		}
		upTo := p.result.To
		fields, same, newer := compare(kv.Value, want, upTo)
		if _, _, beyond := compare(kv.Value, want, end); newer && !beyond {
			p.result.Newer++
			continue
		}
		switch {
		case same:
			continue
		case !known && p.agedOut(view, kv.Value):
			continue
		case !known:
			d.Kind = Surplus
		}
		d.Fields = fields
		found = append(found, d)
	}
	return found, ctx.Err()
}

// agedOut: the record of an operation that ended before those that the fold
// keeps, which the server has not removed yet.
func (p *pass) agedOut(view View, data []byte) bool {
	var at struct {
		UpdatedAt time.Time `json:"updated_at"`
		Record    struct {
			UpdatedAt time.Time `json:"updated_at"`
		} `json:"record"`
	}
	if view == Entities || json.Unmarshal(data, &at) != nil {
		return false
	}
	if view == Dead {
		at.UpdatedAt = at.Record.UpdatedAt
	}
	return at.UpdatedAt.Before(p.fold.since)
}

// message is what a resolver would publish for the wanted value.
func (p *pass) message(d *Difference) *nats.Msg {
	want := p.fold.views[d.View][d.Key]
	switch {
	case d.View == Entities:
		return bus.EntityMsg(d.Key, want.data)
	case d.View == Operations:
		return bus.RecordMsg(d.Key, want.data)
	case want.data == nil:
		return bus.DeadGoneMsg(d.Key)
	}
	return bus.DeadMsg(d.Key, want.data)
}

// mend writes what is missing or different and compares again. The emitter never
// replaces a value of a later step, nor one that claims to be of the same; what is
// left then is replaced if it is still the value that was judged.
func (p *pass) mend(ctx context.Context) error {
	before := p.result.Differences
	out := p.bus.NewEmitter()
	defer out.Close()
	for i := range before {
		if d := &before[i]; d.Kind != Surplus {
			out.At(d.JournalSeq)
			out.Add(p.message(d))
		}
	}
	if err := out.Flush(ctx); err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	if err := p.compare(ctx); err != nil {
		return err
	}
	for i := range p.result.Differences {
		if d := &p.result.Differences[i]; d.Kind == Different {
			if err := p.replace(ctx, d); err != nil {
				return err
			}
		}
	}
	if err := p.compare(ctx); err != nil {
		return err
	}
	left := map[View]map[string]bool{Entities: {}, Operations: {}, Dead: {}}
	for i := range p.result.Differences {
		left[p.result.Differences[i].View][p.result.Differences[i].Key] = true
	}
	for i := range before {
		before[i].Written = !left[before[i].View][before[i].Key]
	}
	p.result.Differences = before
	return nil
}

// replace writes a value over exactly the one that was judged. Somebody who was
// faster has written something newer.
func (p *pass) replace(ctx context.Context, d *Difference) error {
	m := p.message(d)
	if m.Header == nil {
		m.Header = nats.Header{}
	}
	m.Header.Set(nats.ExpectedLastSubjSeqHdr, strconv.FormatUint(d.rev, 10))
	m.Header.Set(bus.HeaderOrder, strconv.FormatUint(d.JournalSeq, 10))
	_, err := p.bus.Publish(ctx, m.Subject, m.Data, "", m.Header)
	if err != nil && (ctx.Err() != nil || errors.Is(err, bus.ErrUnknownOutcome)) {
		return fmt.Errorf("rebuild: %s %s: %w", d.View, d.Key, err)
	}
	return nil
}
