package audit_test

import (
	"encoding/json"
	"flag"
	"maps"
	"slices"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
)

// lives is how many random lives a test leads.
var lives = flag.Uint64("lives", defaultLives, "random lives a test leads")

// compare asks the auditor about the views of the world.
func (w *world) compare(t *testing.T, a *audit.Auditor) {
	t.Helper()
	for _, id := range slices.Sorted(maps.Keys(w.heads)) {
		b, err := json.Marshal(w.heads[id])
		if err != nil {
			t.Fatal(err)
		}
		a.CheckHead(id, b)
	}
	for _, id := range slices.Sorted(maps.Keys(w.records)) {
		a.CheckRecord(id, w.records[id])
	}
}

func clean(t *testing.T, seed uint64, what string, r audit.Report) {
	t.Helper()
	if r.OK() {
		return
	}
	for _, v := range r.Violations[:min(len(r.Violations), 12)] {
		t.Log(v)
	}
	t.Fatalf("seed %d, %s: %d violations: %v", seed, what, r.Total, r.ByInvariant)
}

// What the real machine does breaks no invariant, whatever happens to it.
func TestMachineBreaksNoInvariant(t *testing.T) {
	var sum audit.Report
	for seed := range *lives {
		w := life(seed, 250)
		a := w.audit(audit.Options{}, nil)
		w.compare(t, a)
		clean(t, seed, "under way", a.Finish(false))

		w.drain()
		replicas := make([]*arbiter.Machine, worldPartitions)
		for p := range replicas {
			replicas[p] = arbiter.New(p)
		}
		a = w.audit(audit.Options{Replay: func(s *arbiter.Step) error { return replicas[s.Partition].Replay(s) }}, nil)
		w.compare(t, a)
		r := a.Finish(true)
		clean(t, seed, "at rest", r)
		if r.Succeeded < 3 || r.Rejected < 10 {
			t.Fatalf("seed %d: too little happened: %+v", seed, r)
		}
		sum.Steps += r.Steps
		sum.Lapsed, sum.Retries, sum.Refused = sum.Lapsed+r.Lapsed, sum.Retries+r.Retries, sum.Refused+r.Refused
		sum.Repeated, sum.Cancelled = sum.Repeated+r.Repeated, sum.Cancelled+r.Cancelled
		sum.Extended, sum.Preempted, sum.Protected = sum.Extended+r.Extended, sum.Preempted+r.Preempted, sum.Protected+r.Protected
		sum.Coalesced, sum.Shared = sum.Coalesced+r.Coalesced, sum.Shared+r.Shared
	}
	t.Logf("%d steps: %+v", sum.Steps, sum)
	if min(sum.Lapsed, sum.Retries, sum.Refused, sum.Repeated, sum.Cancelled, sum.Extended, sum.Preempted, sum.Protected, sum.Coalesced) < int(*lives) {
		t.Errorf("too little happened: %+v", sum)
	}
	if sum.Shared*4 < int(*lives) {
		t.Errorf("too little is shared: %+v", sum)
	}
}

// No effect of a real history can be taken out, nor be told twice, without an
// invariant that breaks.
func TestNoEffectCanBeLostOrTold(t *testing.T) {
	for seed := range *lives / 15 {
		w := life(100+seed, 40)
		w.drain()
		for i := range w.journal {
			for _, told := range []int{0, 2} {
				var kind string
				r := w.audit(audit.Options{}, func(n int, s *arbiter.Step) bool {
					if n == i && len(s.Out) > 0 {
						k := int(seed) % len(s.Out)
						b, _ := json.Marshal(s.Out[k])
						kind = string(b)
						s.Out = slices.Replace(s.Out, k, k+1, slices.Repeat(s.Out[k:k+1], told)...)
					}
					return true
				}).Finish(true)
				if r.OK() && kind != "" {
					t.Errorf("seed %d, step %d: nobody misses %s told %d times", seed, i, kind, told)
				}
			}
		}
	}
}
