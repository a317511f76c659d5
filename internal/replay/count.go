package replay

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// endOrder is the order in which ends are told.
var endOrder = []op.Status{op.Succeeded, op.Rejected, op.Cancelled, op.Executing, op.Pending}

func compareEnds(a, b End) int {
	return cmp.Or(
		cmp.Compare(slices.Index(endOrder, a.Status), slices.Index(endOrder, b.Status)),
		cmp.Compare(a.Reason.Code(), b.Reason.Code()),
	)
}

func byEnd(ends map[End]*EndCount) []*EndCount {
	return slices.SortedFunc(maps.Values(ends), func(a, b *EndCount) int { return compareEnds(a.End, b.End) })
}

func (r *Report) countEnds() {
	for _, e := range byEnd(r.ends) {
		r.Ends = append(r.Ends, *e)
	}
}

func (r *Report) countTurns() {
	turns := map[[2]End]*Turn{}
	for i := range r.Changed {
		was, would := r.Changed[i].Recorded.End, r.Changed[i].Replayed.End
		t := turns[[2]End{was, would}]
		if t == nil {
			t = &Turn{Recorded: was, Replayed: would}
			turns[[2]End{was, would}] = t
		}
		t.Count++
	}
	for _, t := range slices.SortedFunc(maps.Values(turns), func(a, b *Turn) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), compareEnds(a.Recorded, b.Recorded), compareEnds(a.Replayed, b.Replayed))
	}) {
		r.Turns = append(r.Turns, *t)
	}
}

// measure sums the waits up, by priority and in all.
func (r *Report) measure() {
	by := map[op.Priority][]waited{0: r.waits}
	for _, w := range r.waits {
		by[w.priority] = append(by[w.priority], w)
	}
	if len(r.waits) == 0 {
		return
	}
	for _, p := range slices.SortedFunc(maps.Keys(by), func(a, b op.Priority) int { return cmp.Compare(b, a) }) {
		w := Wait{Priority: p}
		w.Recorded = sum(by[p], func(w waited) time.Duration { return w.was })
		w.Replayed = sum(by[p], func(w waited) time.Duration { return w.would })
		r.Waits = append(r.Waits, w)
	}
}

func sum(all []waited, of func(waited) time.Duration) Waited {
	var d []time.Duration
	for _, w := range all {
		if v := of(w); v != notPromoted {
			d = append(d, v)
		}
	}
	if len(d) == 0 {
		return Waited{}
	}
	slices.Sort(d)
	return Waited{Promoted: len(d), P50MS: quantile(d, 50), P99MS: quantile(d, 99)}
}

// quantile is the least value that so many of a hundred do not exceed, in
// milliseconds.
func quantile(sorted []time.Duration, percent int) float64 {
	i := max(0, (len(sorted)*percent+99)/100-1)
	return float64(sorted[i]) / float64(time.Millisecond)
}
