package arbiter_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// TestLoad: how many are open, and which targets are at least half full, the
// fullest first and equals in the order of the log.
func TestLoad(t *testing.T) {
	p := arbiter.DefaultPolicy()
	p.StagingWindow, p.MaxStaged, p.MaxExecuting = time.Hour, 10, 1000
	m := arbiter.New(0)
	in := []arbiter.Input{{Policy: &p}}
	seq := uint64(0)
	fill := func(target string, n int) {
		for range n {
			seq++
			in = append(in, submitted(seq, operation("o"+strconv.FormatUint(seq, 10), target)))
		}
	}
	fill("four", 4)
	m.Step(&arbiter.Step{ID: "a", Number: 1, At: epoch, In: in})
	if l := m.Load(); l.Open != 4 || len(l.Targets) > 0 {
		t.Errorf("%+v", l)
	}
	in = nil
	fill("five", 5)
	fill("eight", 8)
	fill("also-five", 5)
	for i := range 2 * arbiter.MaxCrowds {
		fill("t"+strconv.Itoa(i), 6)
	}
	m.Step(&arbiter.Step{ID: "b", Number: 2, At: epoch, In: in})
	l := m.Load()
	if l.Open != 22+12*arbiter.MaxCrowds || len(l.Targets) != arbiter.MaxCrowds {
		t.Fatalf("%d open, %d targets", l.Open, len(l.Targets))
	}
	if l.Targets[0] != (arbiter.Crowd{ID: "eight", Staged: 8}) || l.Targets[1] != (arbiter.Crowd{ID: "t0", Staged: 6}) || l.Targets[63].ID != "t62" {
		t.Errorf("%v", l.Targets)
	}
	m.Step(&arbiter.Step{ID: "c", Number: 3, At: epoch.Add(time.Hour)})
	for m.Backlog() {
		m.Step(&arbiter.Step{ID: "c", Number: 3, At: epoch.Add(time.Hour)})
	}
	if l := m.Load(); l.Open != 4+2*arbiter.MaxCrowds || len(l.Targets) > 0 {
		t.Errorf("decided: %d open, %d targets", l.Open, len(l.Targets))
	}
}

// TestCutsAreBounded: the memory of cancelled ancestors is as long as the one of
// ended operations, and the oldest go first, also after a take-over.
func TestCutsAreBounded(t *testing.T) {
	m := arbiter.New(0)
	var ids []string
	for i := range arbiter.RecentOperations + 10 {
		ids = append(ids, "a"+strconv.Itoa(i))
	}
	step := func(m *arbiter.Machine, in ...arbiter.Input) *arbiter.Step {
		s := &arbiter.Step{ID: "s", Number: 1, At: epoch, In: in}
		m.Step(s)
		return s
	}
	step(m, arbiter.Input{Cancel: &arbiter.Cancel{Place: op.Place{Seq: 100}, Ancestors: ids}})
	other, state := restored(t, encoded(t, m.Snapshot()))
	if len(state.Cuts) != arbiter.RecentOperations || state.Cuts[0].OpID != "a10" {
		t.Fatalf("%d remembered, from %s", len(state.Cuts), state.Cuts[0].OpID)
	}
	for _, m := range []*arbiter.Machine{m, other} {
		for _, id := range []string{"a9", "a10", "a12"} { // two of them are cancelled ancestors, too, then
			o := operation("child-of-"+id, "door")
			o.Parent = id
			s := step(m, submitted(50, o))
			if got := s.Out[len(s.Out)-1].Cancelled != nil; got != (id != "a9") {
				t.Errorf("a child of %s: %v", id, spoken(s.Out))
			}
		}
		step(m, arbiter.Input{Cancel: &arbiter.Cancel{Place: op.Place{Seq: 200}, Ancestors: []string{"new", "a13"}}})
		if s := m.Snapshot(); len(s.Cuts) != arbiter.RecentOperations || s.Cuts[0] != (arbiter.StateCut{OpID: "a13", Seq: 100}) {
			t.Errorf("%d remembered, from %+v", len(s.Cuts), s.Cuts[0])
		}
	}
}
