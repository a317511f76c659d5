package stress

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// roots are the parents of the targets, so that promoting and detaching have
// something to do at first.
const roots = 2

// Workload makes the operations of one run. The same profile, run name and seed
// give the same operations. It is not safe for concurrent use.
type Workload struct {
	profile Profile
	run     string // part of every id
	rng     *rand.Rand
	next    int
	queued  int
}

// Burst is a number of operations that are submitted at the same time on the
// same target.
type Burst struct {
	At     time.Duration // since the start
	Ops    []op.Operation
	Cancel []string // of Ops: those to cancel once they are submitted
}

// NewWorkload returns the workload of a run. The run's name keeps the ids and
// targets of several runs on one server apart; it has to be a token.
func NewWorkload(p Profile, run string, seed uint64) *Workload {
	return &Workload{profile: p, run: run, rng: rand.New(rand.NewPCG(seed, 0x68696572))} //nolint:gosec // reproducible on purpose
}

// Prepare returns the operations that create the entities: first the roots,
// then the targets as their children.
func (w *Workload) Prepare() (parents, children []op.Operation) {
	for i := range roots {
		parents = append(parents, w.create(w.root(i), ""))
	}
	for i := range w.profile.Targets {
		children = append(children, w.create(w.target(i), w.root(i%roots)))
	}
	return parents, children
}

// Bursts calls yield with every burst of the run in order of time.
func (w *Workload) Bursts(yield func(Burst) bool) {
	p := &w.profile
	for at := time.Duration(0); at < p.Duration; {
		n := p.BurstMin + w.rng.IntN(p.BurstMax-p.BurstMin+1)
		b := Burst{At: at}
		target := w.rng.IntN(p.Targets)
		for range n {
			o := w.operation(target)
			if o.OnConflict == op.OnConflictQueue {
				w.queued++
				if p.CancelEvery > 0 && w.queued%p.CancelEvery == 0 {
					b.Cancel = append(b.Cancel, o.ID)
				}
			}
			b.Ops = append(b.Ops, o)
		}
		if !yield(b) {
			return
		}
		at += time.Duration(float64(n) / p.Rate * float64(time.Second))
	}
}

func (w *Workload) root(i int) string   { return fmt.Sprintf("%s-root-%d", w.run, i+1) }
func (w *Workload) target(i int) string { return fmt.Sprintf("%s-user-%02d", w.run, i+1) }

func (w *Workload) id() string {
	w.next++
	return fmt.Sprintf("%s-%06d", w.run, w.next)
}

func (w *Workload) create(target, parent string) op.Operation {
	params := map[string]any{"fields": map[string]any{"name": target, "counter": 0, "score": 1, "tags": []string{}}}
	if parent != "" {
		params["parent_id"] = parent
	}
	return op.Operation{ID: w.id(), Type: op.TypeCreate, Target: target, Priority: op.Normal, Params: encode(params)}
}

func (w *Workload) operation(target int) op.Operation {
	o := op.Operation{
		ID:         w.id(),
		Type:       pick(w.rng, w.profile.Types),
		Target:     w.target(target),
		Priority:   pick(w.rng, w.profile.Priorities),
		OnConflict: pick(w.rng, w.profile.OnConflict),
	}
	switch o.Type {
	case op.TypeModifyField:
		o.Params = encode(map[string]any{"field_name": "counter", "new_value": w.next})
	case op.TypeComplexUpdate:
		o.Params = encode(map[string]any{"increment": map[string]any{"score": 1}, "set": map[string]any{"name": o.ID}})
	case op.TypeBorrow:
		other := (target + 1 + w.rng.IntN(w.profile.Targets-1)) % w.profile.Targets
		o.Source = w.target(other)
		o.Params = encode(map[string]any{"source_field": "score", "target_field": "score"})
	}
	return o
}

// pick draws a value by weight.
func pick[T any](rng *rand.Rand, shares []Share[T]) T {
	total := 0
	for _, s := range shares {
		total += s.Weight
	}
	n := rng.IntN(total)
	for _, s := range shares {
		if n -= s.Weight; n < 0 {
			return s.Value
		}
	}
	panic("stress: a distribution without weight")
}

// encode writes params, which are always encodable here.
func encode(v any) json.RawMessage {
	b, err := op.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
