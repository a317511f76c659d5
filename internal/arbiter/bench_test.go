package arbiter_test

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// load drives a machine as the resolver does: what was granted in one step is
// reported in the next.
type load struct {
	m    *arbiter.Machine
	rng  *rand.Rand
	now  time.Time
	seq  uint64
	step uint64
	in   []arbiter.Input
	ops  int
}

func newLoad(window time.Duration) *load {
	p := arbiter.DefaultPolicy()
	p.StagingWindow = window
	l := &load{m: arbiter.New(0), rng: rand.New(rand.NewPCG(1, 2)), now: epoch}
	l.in = append(l.in, arbiter.Input{Policy: &p})
	return l
}

func (l *load) submit(target string, priority op.Priority, retries *int) {
	l.seq++
	l.ops++
	l.in = append(l.in, arbiter.Input{Submit: &arbiter.Submit{Place: op.Place{Seq: l.seq}, Operation: op.Operation{
		ID: "0190b5a2-7c1e-7000-8000-" + strconv.FormatUint(100_000_000_000+l.seq, 10), Type: op.TypeComplexUpdate, Target: target,
		Priority: priority, MaxRetries: retries, OnConflict: op.OnConflictReject,
	}}})
}

// turn is one step; all that it grants succeeds in the next one.
func (l *load) turn() {
	l.step++
	s := arbiter.Step{ID: "step-" + strconv.FormatUint(l.step, 10), Number: l.step, At: l.now, In: l.in}
	l.m.Step(&s)
	l.m.Wants()
	l.in = make([]arbiter.Input, 0, 512)
	for _, e := range s.Out {
		if g := e.Granted; g != nil {
			l.in = append(l.in, arbiter.Input{Result: &arbiter.Result{OpID: g.OpID, Target: g.Target, Attempt: g.Attempt, Executor: "e"}})
		}
	}
	l.now = l.now.Add(2 * time.Millisecond)
}

func (l *load) report(b *testing.B) {
	b.ReportMetric(float64(l.ops)/b.Elapsed().Seconds(), "ops/s")
	if open := l.m.Open(); open > 5_000 {
		b.Fatalf("%d operations are open: the machine does not keep up", open)
	}
}

// BenchmarkStepW1 is the uncontended load: 1,000 targets, every operation wins.
// One iteration is one operation, 100 of them come in a step.
func BenchmarkStepW1(b *testing.B) {
	for _, window := range []time.Duration{0, 10 * time.Millisecond} {
		b.Run("window="+window.String(), func(b *testing.B) {
			l, retries := newLoad(window), 3
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if l.submit("entity-"+strconv.Itoa(i%1000), op.Normal, &retries); i%100 == 99 {
					l.turn()
				}
			}
			l.turn()
			l.report(b)
		})
	}
}

// BenchmarkStepW2 is the contended load: bursts of three to eight operations on
// one of ten targets. One iteration is one operation.
func BenchmarkStepW2(b *testing.B) {
	l, retries := newLoad(10*time.Millisecond), 3
	b.ReportAllocs()
	left, target := 0, ""
	for b.Loop() {
		if left == 0 {
			l.turn()
			left, target = 3+l.rng.IntN(6), "entity-"+strconv.Itoa(l.rng.IntN(10))
		}
		left--
		l.submit(target, []op.Priority{op.Low, op.Normal, op.High, op.Critical}[l.rng.IntN(4)], &retries)
	}
	l.turn()
	l.report(b)
}

// BenchmarkSnapshot takes and restores the state of 1,000 open operations.
func BenchmarkSnapshot(b *testing.B) {
	l, retries := newLoad(time.Hour), 3
	for i := range 1000 {
		l.submit("entity-"+strconv.Itoa(i%100), op.Normal, &retries)
	}
	l.turn()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := arbiter.Restore(l.m.Snapshot()); err != nil {
			b.Fatal(err)
		}
	}
}
