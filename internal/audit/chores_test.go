package audit_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// mob is how many operations end at once.
const mob = 1900

// gathered submits a mob and lets nobody decide about it.
func gathered(w *world, set func(i int, o *op.Operation), rules func(p *arbiter.Policy)) {
	in := []arbiter.Input{policy(func(p *arbiter.Policy) {
		p.StagingWindow = time.Hour
		rules(p)
	})}
	w.intake++
	for i := range mob {
		o := operation(fmt.Sprint("o", i), "e0", 5, onConflict(op.OnConflictQueue))
		set(i, &o)
		w.ids, w.known[o.ID] = append(w.ids, o.ID), o
		in = append(in, arbiter.Input{Submit: &arbiter.Submit{Place: op.Place{Seq: w.intake, Index: i}, Operation: o}})
	}
	w.commit(0, in...)
}

// ask commits a cancel.
func (w *world) ask(c arbiter.Cancel) {
	w.intake++
	c.Place.Seq = w.intake
	w.commit(0, arbiter.Input{Cancel: &c})
}

// finish lets what executes on e0 end.
func (w *world) finish(f *op.Failure) {
	g := w.running[0]["e0"]
	r := &arbiter.Result{OpID: g.OpID, Target: "e0", Attempt: g.Attempt, Executor: "x", Failure: f}
	if f == nil {
		r.Change, _ = json.Marshal(&entity.Change{Kind: entity.Created, ID: "e0", Set: map[string]json.RawMessage{"n": json.RawMessage("1")}})
	}
	w.commit(0, arbiter.Input{Result: r})
}

// crowdEnds are the ways in which one input ends a mob.
var crowdEnds = []struct {
	name  string
	set   func(i int, o *op.Operation)
	rules func(p *arbiter.Policy)
	end   func(w *world)
}{
	{"all of a target are cancelled", func(int, *op.Operation) {}, func(*arbiter.Policy) {}, func(w *world) {
		w.ask(arbiter.Cancel{Target: "e0", All: true})
	}},
	{"all of a submitter are cancelled alone", func(i int, o *op.Operation) { o.Submitter, o.Target = "ann", fmt.Sprint("e0", i) }, func(*arbiter.Policy) {}, func(w *world) {
		w.ask(arbiter.Cancel{Submitter: "ann", Alone: true})
	}},
	{"all descend from one that is cancelled", func(i int, o *op.Operation) {
		if i > 0 {
			o.Parent = fmt.Sprint("o", i/2)
		}
	}, func(*arbiter.Policy) {}, func(w *world) { w.ask(arbiter.Cancel{Target: "e0", OpID: "o0"}) }},
	{"their type is registered no longer", func(_ int, o *op.Operation) { o.Type = "paint" }, registers, func(w *world) {
		w.commit(0, policy(func(p *arbiter.Policy) { p.StagingWindow = time.Hour }))
	}},
	{"a newer one supersedes all", func(_ int, o *op.Operation) { o.Submitter = "ann" }, func(*arbiter.Policy) {}, func(w *world) {
		w.commit(0, policy(func(p *arbiter.Policy) { p.StagingWindow = time.Hour; supersedes(p) }))
		w.intake++
		o := operation("last", "e0", 5, by("ann"))
		w.commit(0, arbiter.Input{Submit: &arbiter.Submit{Place: op.Place{Seq: w.intake}, Operation: o}})
		w.ask(arbiter.Cancel{Target: "e0", OpID: "last"})
	}},
	{"all share a success", func(int, *op.Operation) {}, coalesces, func(w *world) { w.now = w.now.Add(time.Hour); w.commit(0); w.commit(0); w.finish(nil) }},
	{"all share a failure", func(int, *op.Operation) {}, coalesces, func(w *world) { w.now = w.now.Add(time.Hour); w.commit(0); w.commit(0); w.finish(stale) }},
	{"they part and are cancelled", func(int, *op.Operation) {}, coalesces, func(w *world) {
		w.now = w.now.Add(time.Hour)
		w.commit(0)
		w.commit(0)
		w.now = w.now.Add(time.Second)
		w.ask(arbiter.Cancel{Target: "e0", OpID: "o0"})
		w.ask(arbiter.Cancel{Target: "e0", All: true})
	}},
}

// What one input settles for many is told over several steps, none of which can
// lose anything.
func TestManyEndsAtOnceBreakNothing(t *testing.T) {
	for i, c := range crowdEnds {
		if !everyStep && i%2 == 1 {
			continue // half of them under the race detector: there are no goroutines here
		}
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(1)
			for p := range worldPartitions {
				w.commit(p, policy(func(*arbiter.Policy) {}))
			}
			gathered(w, c.set, c.rules)
			first := len(w.journal)
			c.end(w)
			for range 1000 {
				if w.machines[0].Open() == 0 {
					break
				}
				w.commit(0)
			}
			if n := w.machines[0].Open(); n > 0 {
				t.Fatalf("%d operations are still open", n)
			}
			for p := range w.cut {
				w.commit(p, w.cascades(p)...)
			}
			replica := arbiter.New(0)
			r := w.audit(audit.Options{Replay: func(s *arbiter.Step) error {
				if s.Partition == 0 {
					return replica.Replay(s)
				}
				return nil
			}}, nil).Finish(true)
			wantOnly(t, r)
			if n := r.Succeeded + r.Rejected + r.Cancelled; n < mob || len(w.journal)-first < 3 {
				t.Errorf("%d of %d have ended, in %d steps", n, mob, len(w.journal)-first)
			}
			for i := first; i < len(w.journal) && (everyStep || i == first); i++ {
				w.without(t, i)
			}
		})
	}
}

// without takes the last effect out of a step.
func (w *world) without(t *testing.T, i int) {
	t.Helper()
	var lost string
	r := w.audit(audit.Options{}, func(n int, s *arbiter.Step) bool {
		if last := len(s.Out) - 1; n == i && last >= 0 {
			b, _ := json.Marshal(s.Out[last])
			lost = string(b)
			s.Out = slices.Delete(s.Out, last, last+1)
		}
		return true
	}).Finish(true)
	if r.OK() && lost != "" {
		t.Errorf("step %d: nobody misses %s", i, lost)
	}
}
