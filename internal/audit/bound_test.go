package audit_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// With bounds the memory does not grow with the history, and what is forgotten
// raises no alarm: all targets come again and again, and half of them are
// forgotten each time.
func TestBoundsKeepTheMemory(t *testing.T) {
	if !everyStep {
		t.Skip("a large history, and no race to find")
	}
	heap := func() int64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc) //nolint:gosec // not that much
	}
	read := func(n int) (int64, audit.Report) {
		before := heap()
		a := audit.New(audit.Options{Bounds: audit.Bounds{Operations: 2000, Entities: 50}})
		through(a, n)
		grown := heap() - before
		return grown, a.Finish(true)
	}
	const n = 12_000 // more than the ids of steps and decisions that are remembered
	half, r := read(n)
	wantOnly(t, r)
	if r.Succeeded != n {
		t.Errorf("%d succeeded", r.Succeeded)
	}
	whole, r := read(2 * n)
	wantOnly(t, r)
	t.Logf("%d operations: %d KiB, %d: %d KiB", n, half>>10, 2*n, whole>>10)
	if whole > half+half/4+1<<20 {
		t.Errorf("twice the history costs %d bytes instead of %d", whole, half)
	}
}

// The real machine with families and repeated submissions breaks nothing for an
// auditor that forgets: it remembers more than a partition does, and what a partition
// has forgotten it asks for again.
func TestBoundsRaiseNoFalseAlarm(t *testing.T) {
	const crowd, ended = 60, 2*arbiter.RecentOperations + 4000
	w := newWorld(7)
	policy := arbiter.DefaultPolicy()
	policy.StagingWindow, policy.Preemption = 0, false
	w.commit(0, arbiter.Input{Policy: &policy})
	a := audit.New(audit.Options{
		PartitionOf: worldPartition, Partitions: worldPartitions,
		Bounds: audit.Bounds{Operations: arbiter.RecentOperations * 5 / 4, Entities: 1}, // as the observer has it
	})
	read := func() {
		for i, data := range w.journal {
			a.Raw(uint64(a.Report().Steps+1), w.where[i], data) //nolint:gosec // counted
		}
		w.journal, w.where = nil, nil
	}
	for round := 0; len(w.ids) < ended; round++ {
		w.intake++
		var in []arbiter.Input
		for i := range crowd {
			o := operation(fmt.Sprint("o", len(w.ids)), fmt.Sprint("e", 3*(round%2)), op.Priority(1+i%10)) // of partition 0
			if len(w.ids) > 0 && i%3 > 0 {
				o.Parent = w.anyID()
			}
			if old := w.known[w.anyID()]; i%20 == 19 && old.ID != "" && w.machines[0].Remembers(old.ID) {
				o = old // as a resolver lets it through: it asks the records about the others
			} else {
				w.ids, w.known[o.ID] = append(w.ids, o.ID), o
			}
			in = append(in, arbiter.Input{Submit: &arbiter.Submit{Place: op.Place{Seq: w.intake, Index: i}, Operation: o}})
		}
		w.commit(0, in...)
		for n := 0; w.machines[0].Open() > 0; n++ {
			if n > 1000 {
				t.Fatalf("round %d: %d operations stay open", round, w.machines[0].Open())
			}
			w.now = w.now.Add(10 * time.Millisecond)
			w.commit(0, slices.Concat(w.answers(0), w.reports(0))...)
		}
		read()
	}
	r := a.Finish(false)
	wantOnly(t, r)
	t.Logf("%d operations in %d steps, %d repeated, %d succeeded", r.Operations, r.Steps, r.Repeated, r.Succeeded)
	if r.Operations < ended || r.Repeated == 0 || r.Succeeded < 100 {
		t.Errorf("too little happened: %+v", r)
	}
}

// unseen is what an auditor that forgets cannot see, and why. All but the first is
// seen for as long as what it is about is remembered.
var unseen = map[string]string{
	audit.ResolutionKin:       "an answer about somebody who never comes is only known at an end",
	audit.LifeAcceptedTwice:   "an operation that ended and was forgotten is as new",
	audit.LifeRepeatedUnknown: "one that nobody remembers may have been accepted long ago",
	audit.LifeTerminalTwice:   "one that nobody remembers is reported as never accepted, whatever it was",
	audit.LifeAfterTerminal:   "the same",
	audit.EffectsBorrow:       "an entity that was forgotten may have had any value",
}

// What breaks after something was forgotten is found as before, but for what nobody
// can know any more.
func TestBoundsStillFindWhatBreaks(t *testing.T) {
	for _, c := range []struct {
		name   string
		bounds audit.Bounds
		unseen int // how many of unseen
	}{
		{"nothing is forgotten yet", audit.Bounds{Operations: 2 * arbiter.RecentOperations, Entities: 512}, 1},
		{"hardly anything is remembered", audit.Bounds{Operations: 1, Entities: 1}, len(unseen)},
	} {
		t.Run(c.name, func(t *testing.T) {
			missed := map[string]bool{}
			for _, m := range mutants() {
				h := story()
				m.mutate(h)
				var found []audit.Violation
				a := h.read(t, audit.Options{Bounds: c.bounds, OnViolation: func(v audit.Violation) { found = append(found, v) }})
				r := a.Finish(!h.busy)
				seen := r.ByInvariant[m.breaks] > 0
				missed[m.breaks] = missed[m.breaks] || !seen
				if !seen && unseen[m.breaks] == "" || len(found) != r.Total {
					b, _ := json.Marshal(r.ByInvariant)
					t.Errorf("%s, %s: %s, %d told of %d", m.breaks, m.text, b, len(found), r.Total)
				}
			}
			maps.DeleteFunc(missed, func(_ string, yes bool) bool { return !yes })
			if len(missed) != c.unseen {
				t.Errorf("%v are missed, not %d", slices.Sorted(maps.Keys(missed)), c.unseen)
			}
		})
	}
}
