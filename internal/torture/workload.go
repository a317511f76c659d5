package torture

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// The entities of a run: a few that everybody wants, and many that few want.
const (
	hotTargets  = 4
	coldTargets = 28
	rootTargets = 6
	submitters  = 8 // names under which operations are submitted
)

// way is how a submission goes in.
type way int

const (
	wayLog    way = iota // straight into the log
	wayAPI               // by a submitter
	wayWait              // by a submitter, answered with the end
	wayBulk              // by a submitter, several at once
	wayWrong             // by a submitter, which has to refuse it
	wayCancel            // not an operation: one is cancelled
	waySweep             // not an operation: all of a submitter's are cancelled
)

// task is one thing that the load does.
type task struct {
	way  way
	ops  []op.Operation
	give bool // give up after the first silence, so that the outcome stays unknown
}

// workload draws what the load does. The same seed draws the same. It is not safe
// for concurrent use.
type workload struct {
	run    string
	custom bool // the handlers of this process are there
	rng    *rand.Rand
	n      int
	recent []op.Operation // to be parents, and to be cancelled
}

func newWorkload(run string, seed uint64, custom bool) *workload {
	return &workload{run: run, custom: custom, rng: source(seed, "load")}
}

func (w *workload) hot(i int) string  { return fmt.Sprintf("%s-hot-%d", w.run, i) }
func (w *workload) cold(i int) string { return fmt.Sprintf("%s-cold-%d", w.run, i) }
func (w *workload) root(i int) string { return fmt.Sprintf("%s-root-%d", w.run, i) }

// entities makes every entity: first the roots, then the others as their children.
func (w *workload) entities() (roots, children []op.Operation) {
	for i := range rootTargets {
		roots = append(roots, w.create(w.root(i), ""))
	}
	for i := range hotTargets {
		children = append(children, w.create(w.hot(i), w.root(i%rootTargets)))
	}
	for i := range coldTargets {
		children = append(children, w.create(w.cold(i), w.root(i%rootTargets)))
	}
	return roots, children
}

func (w *workload) id() string {
	w.n++
	return fmt.Sprintf("%s-%06d", w.run, w.n)
}

func (w *workload) create(target, parent string) op.Operation {
	p := map[string]any{"fields": map[string]any{"n": 0, "score": 1, "log": []string{}}}
	if parent != "" {
		p["parent_id"] = parent
	}
	return op.Operation{ID: w.id(), Type: op.TypeCreate, Target: target, Priority: op.Normal, OnConflict: op.OnConflictQueue, Params: encode(p)}
}

// target is a hot one half of the time.
func (w *workload) target() string {
	if w.rng.IntN(2) == 0 {
		return w.hot(w.rng.IntN(hotTargets))
	}
	return w.cold(w.rng.IntN(coldTargets))
}

// next draws a task.
func (w *workload) next() task {
	n := w.rng.IntN(1000)
	switch {
	case n < 60 && len(w.recent) > 0:
		return task{way: wayCancel, ops: w.recent[w.rng.IntN(len(w.recent)):][:1]}
	case n < 66:
		return task{way: waySweep, ops: []op.Operation{{ID: w.id(), Submitter: w.submitter()}}}
	case n < 100:
		return task{way: wayWrong, ops: []op.Operation{{ID: w.id(), Type: "no_such_type", Target: w.target()}}}
	case n < 130:
		t := task{way: wayBulk}
		for range 3 + w.rng.IntN(8) {
			t.ops = append(t.ops, w.operation(w.target()))
		}
		return w.keep(t)
	}
	t := task{way: wayLog}
	switch n %= 10; {
	case n < 4:
		t.way = wayAPI
	case n < 5:
		t.way = wayWait
	}
	target := w.target()
	count := 1
	if t.way != wayWait && w.rng.IntN(4) == 0 {
		count += w.rng.IntN(4) // contenders
	}
	for range count {
		t.ops = append(t.ops, w.operation(target))
	}
	t.give = w.rng.IntN(10) == 0
	return w.keep(t)
}

// keep remembers what was submitted last.
func (w *workload) keep(t task) task {
	w.recent = append(w.recent, t.ops...)
	if n := len(w.recent); n > 60 {
		w.recent = w.recent[n-60:]
	}
	return t
}

func (w *workload) submitter() string { return fmt.Sprintf("%s-by-%d", w.run, w.rng.IntN(submitters)) }

// operation draws an operation on a target.
func (w *workload) operation(target string) op.Operation {
	o := op.Operation{
		ID: w.id(), Target: target, Priority: op.Priority(1 + w.rng.IntN(10)),
		OnConflict: []op.Conflict{op.OnConflictReject, op.OnConflictReject, op.OnConflictQueue, op.OnConflictRetry}[w.rng.IntN(4)],
	}
	if w.rng.IntN(3) == 0 {
		o.Submitter = w.submitter()
	}
	if len(w.recent) > 0 && w.rng.IntN(8) == 0 {
		o.Parent = w.recent[w.rng.IntN(len(w.recent))].ID
	}
	n := w.rng.IntN(100)
	switch {
	case n < 40:
		o.Type, o.Params = op.TypeComplexUpdate, encode(map[string]any{"increment": map[string]any{"n": 1}})
	case n < 52:
		o.Type, o.Params = op.TypeModifyField, encode(map[string]any{"field_name": "score", "new_value": w.n})
	case n < 60:
		o.Type = op.TypeVersion
	case n < 66:
		o.Type, o.Source = op.TypeBorrow, w.hot(w.rng.IntN(hotTargets))
		o.Params = encode(map[string]any{"source_field": "score", "target_field": "score"})
	case n < 69:
		o.Type = op.TypePromoteToRoot
	case n < 72:
		o.Type = op.TypeDetach
	case n < 76:
		o.Type, o.Params = op.TypeAttach, encode(map[string]any{"parent_id": w.root(w.rng.IntN(rootTargets))})
	default:
		w.handled(&o)
	}
	return o
}

// behaviour is what the params ask of a handler.
type behaviour struct {
	Fail     int  `json:"fail,omitempty"`     // so many attempts fail first
	Terminal bool `json:"terminal,omitempty"` // it fails for good
	HoldMS   int  `json:"hold_ms,omitempty"`  // it takes so long
	Hang     bool `json:"hang,omitempty"`     // the first attempt is never answered
}

// handled makes it an operation whose handler runs in this process, or, where
// there is none, one more update.
func (w *workload) handled(o *op.Operation) {
	if !w.custom {
		o.Type, o.Params = op.TypeComplexUpdate, encode(map[string]any{"append": map[string]any{"log": o.ID}})
		return
	}
	o.Type = tortureType
	var b behaviour
	switch n := w.rng.IntN(100); {
	case n < 40: // done at once
	case n < 60:
		b.Fail = 1 + w.rng.IntN(3)
	case n < 66:
		b.Fail = 99
	case n < 74:
		b.Terminal = true
	case n < 98:
		b.HoldMS = 50 + w.rng.IntN(400)
		o.Preemptible, o.Priority = true, op.Priority(1+w.rng.IntN(3))
	default:
		once := 1
		b.Hang, o.MaxRetries = true, &once
	}
	o.Params = encode(b)
}

// encode writes params, which are always encodable here.
func encode(v any) json.RawMessage {
	b, err := op.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
