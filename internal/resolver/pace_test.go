package resolver

import (
	"context"
	"fmt"
	"math"
	"runtime/metrics"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// short is a pace at a standstill whose process is so short of processor time.
type short struct {
	*pace
	at    time.Time
	mean  time.Duration
	known bool
	shown time.Duration
}

func newShort() *short {
	s := &short{at: time.Unix(1000, 0), known: true}
	s.pace = &pace{
		now:  func() time.Time { return s.at },
		lag:  func() (time.Duration, bool) { return s.mean, s.known },
		told: func(d time.Duration) { s.shown = d },
	}
	return s
}

// looks has somebody else and then the crowd report n times, with a look each.
func (s *short) looks(n int, mean time.Duration) time.Duration {
	s.mean = mean
	d := time.Duration(0)
	for range n {
		s.at = s.at.Add(paceEvery)
		s.hold("cold", false)
		d = s.hold("hot", true)
	}
	return d
}

// A crowd waits while the process is short of time and somebody else is there.
func TestACrowdMakesRoom(t *testing.T) {
	s := newShort()
	if d := s.looks(1, time.Second); d != 0 {
		t.Errorf("the first look, which is about the past of the process: %s", d)
	}
	if d := s.looks(1, paceGoal+1); d != pauseLeast {
		t.Errorf("the second: %s", d)
	}
	if d := s.looks(1, paceGoal+1); d <= pauseLeast || d != s.shown {
		t.Errorf("it does not grow: %s, shown as %s", d, s.shown)
	}
	if d := s.looks(100, time.Second); d != pauseMost {
		t.Errorf("the longest: %s", d)
	}
	if d := s.hold("cold", false); d != 0 {
		t.Errorf("the others wait %s", d)
	}
	s.known = false
	if d := s.looks(1, 0); d != pauseMost {
		t.Errorf("nothing is known: %s", d)
	}
	s.known = true
	if d := s.looks(1, paceGoal); d <= 0 || d >= pauseMost {
		t.Errorf("there is time again: %s", d)
	}
	if d := s.looks(50, paceGoal); d != 0 || s.shown != 0 {
		t.Errorf("it does not end: %s, shown as %s", d, s.shown)
	}
}

func TestACrowdThatIsAloneDoesNotWait(t *testing.T) {
	s := newShort()
	s.looks(50, time.Second)
	s.at = s.at.Add(paceEvery)
	s.hold("hot", true)
	s.at = s.at.Add(company - paceEvery)
	if d := s.hold("hot", true); d == 0 {
		t.Error("the others are forgotten too soon")
	}
	s.at = s.at.Add(1)
	if d := s.hold("hot", true); d != 0 || s.shown != 0 {
		t.Errorf("nobody else has reported for a second: %s, shown as %s", d, s.shown)
	}

	s.looks(50, time.Second)
	s.hold("hot", false)
	if d := s.hold("hot", true); d != 0 {
		t.Errorf("it has nobody beside itself, before it was crowded: %s", d)
	}

	s.looks(50, time.Second)
	s.at = s.at.Add(company + 1)
	if s.hold("cold", false); s.shown != 0 {
		t.Errorf("there is no crowd any more, and shown is %s", s.shown)
	}
	s.looks(50, time.Second)
	s.at = s.at.Add(company + 1)
	s.others = s.at
	if d := s.hold("hot", true); d != 0 || s.shown != 0 {
		t.Errorf("a crowd that comes back waits %s for what was long ago", d)
	}

	var nobody *pace
	if d := nobody.hold("hot", true); d != 0 {
		t.Errorf("without a pace: %s", d)
	}
}

func TestHowLongGoroutinesWait(t *testing.T) {
	h := &metrics.Float64Histogram{Counts: []uint64{1, 2, 3, 1}, Buckets: []float64{math.Inf(-1), 0, 1e-3, 3e-3, math.Inf(1)}}
	if mean, ok := meanSince([]uint64{1, 2, 3, 1}, h); ok {
		t.Errorf("nothing was counted: %s", mean)
	}
	if mean, ok := meanSince(nil, h); ok {
		t.Errorf("there is no last time: %s", mean)
	}
	if mean, ok := meanSince([]uint64{1, 0, 1, 1}, h); !ok || mean != 1250*time.Microsecond {
		t.Errorf("two of 0.5 ms and two of 2 ms: %s, %t", mean, ok)
	}
	if mean, ok := meanSince([]uint64{0, 2, 3, 0}, h); !ok || mean != 1500*time.Microsecond {
		t.Errorf("one of 0 and one of 3 ms or more: %s, %t", mean, ok)
	}
	meter := newLagMeter()
	meter()
	done := make(chan struct{})
	for range 1000 { // the runtime counts some of them
		go func() { done <- struct{}{} }()
	}
	for range 1000 {
		<-done
	}
	if mean, ok := meter(); !ok || mean < 0 || mean > time.Minute {
		t.Errorf("of this process: %s, %t", mean, ok)
	}
}

// Of all reports, only a result of a crowded target waits.
func TestWhoseReportWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShort()
		s.looks(100, time.Second)
		p := &partition{results: make(chan report, 1), pace: s.pace}
		p.crowds.are(map[string]int{"hot": 500})
		arrives := func(name string, want time.Duration, in report) {
			t.Helper()
			began := time.Now()
			p.hand(t.Context(), in)
			<-p.results
			if d := time.Since(began); d != want {
				t.Errorf("%s waits %s, want %s", name, d, want)
			}
		}
		arrives("a result of another target", 0, report{result: &arbiter.Result{Target: "mild"}})
		arrives("a heartbeat", 0, report{beat: &arbiter.Beat{Target: "hot"}})
		arrives("a result of the crowded target", pauseMost, report{result: &arbiter.Result{Target: "hot"}})
		p.crowds.are(nil)
		arrives("one of a target that was crowded", 0, report{result: &arbiter.Result{Target: "hot"}})
	})
}

// heard is a log that takes every step and keeps what a partition tells of its load.
type heard struct {
	Log
	news    []bus.Load
	journal uint64 // the sequence of the next step
}

func (h *heard) Layout() bus.Layout { return bus.DefaultLayout() }

func (h *heard) JournalAppend(context.Context, int, string, []byte, uint64) (uint64, bus.Outcome, error) {
	return h.journal, bus.Committed, nil
}

func (h *heard) PublishLoad(l bus.Load) error {
	h.news = append(h.news, l)
	return nil
}

// A burst is told before the next time.
func TestABurstIsToldSoon(t *testing.T) {
	log := new(heard)
	at := time.Unix(1000, 0)
	p := &partition{bus: log, machine: arbiter.New(0), clock: newClock(func() time.Time { return at }, at), cfg: &Config{}}
	p.cfg.defaults()
	policy := arbiter.DefaultPolicy()
	policy.StagingWindow, policy.MaxStaged = time.Hour, 800
	n := uint64(1)
	step := func(in ...arbiter.Input) {
		n++
		p.crowd.arrived += len(in)
		p.machine.Step(&arbiter.Step{ID: strconv.FormatUint(n, 10), Number: n, At: at, In: in})
	}
	arrive := func(many int) {
		var in []arbiter.Input
		for i := range many {
			o := op.Operation{ID: fmt.Sprintf("o-%d-%d", n, i), Type: op.TypeVersion, Target: "hot", Priority: op.Normal, OnConflict: op.OnConflictQueue}
			in = append(in, arbiter.Input{Submit: &arbiter.Submit{Place: op.Place{Seq: n, Index: i}, Operation: o}})
		}
		step(in...)
	}
	step(arbiter.Input{Policy: &policy})
	tells := func(after time.Duration, want int) {
		t.Helper()
		at = at.Add(after)
		before := len(log.news)
		p.watch(at)
		if got := len(log.news) - before; (got == 1) != (want > 0) || got == 1 && log.news[before].Targets["hot"] != want {
			t.Errorf("told %+v, want %d", log.news[before:], want)
		}
	}
	tells(0, 0)
	arrive(199)
	tells(burstEvery, 0) // much arrived, and it is not half full
	arrive(400)
	tells(burstEvery-1, 0)
	tells(1, 599)
	if !p.crowds.has("hot") || p.crowds.has("cold") {
		t.Error("who is crowded is not known")
	}
	arrive(99)
	tells(burstEvery, 0) // less than an eighth
	tells(loadEvery-burstEvery, 698)
}

// Whoever owns partitions has one pace for all of them, and each step counts what
// has arrived.
func TestAPartitionBelongsToItsProcess(t *testing.T) {
	log := &heard{journal: 1}
	node := NewNode(Config{Name: "r1"}, log, realWorld())
	node.pace = newShort().pace
	p := node.partition(0, node.cfg.Logger)
	if p.pace != node.pace {
		t.Error("it has a pace of its own")
	}
	p.machine, p.heads, p.seen = arbiter.New(0), newHeads(log, p.world), new(seen)
	p.changes, p.decisions, p.shared = map[int]applied{}, map[string]uint64{}, map[string]outcome{}
	p.clock = newClock(time.Now, time.Time{})
	p.emitter = &emission{queue: make(chan outputs, 1), ended: make(chan struct{})}
	policy := arbiter.DefaultPolicy()
	g := new(gathered)
	g.add(arbiter.Input{Policy: &policy}, policyBytes)
	if err := p.step(t.Context(), g); err != nil || p.crowd.arrived != 1 {
		t.Errorf("%d inputs have arrived, want 1: %v", p.crowd.arrived, err)
	}
}
