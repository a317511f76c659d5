package arbiter_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func operation(id, target string) op.Operation {
	retries := 0
	return op.Operation{ID: id, Type: op.TypeModifyField, Target: target, Priority: op.Normal, MaxRetries: &retries, OnConflict: op.OnConflictReject}
}

func submitted(seq uint64, o op.Operation) arbiter.Input {
	return arbiter.Input{Submit: &arbiter.Submit{Place: op.Place{Seq: seq}, Operation: o}}
}

// TestFullStepsAreTakenOver fills steps far beyond what one may cause, and takes
// over before each of them: with windows, deadlines, leases and results that are
// all due at once, nothing may be forgotten or come in another order.
func TestFullStepsAreTakenOver(t *testing.T) {
	w := newWorld(newSeeded(*seed, 5_000_000))
	w.oracle, w.wild = nil, true
	p := arbiter.DefaultPolicy()
	p.AttemptTimeout, p.MaxExecuting = 100*time.Millisecond, 1_000
	w.in = append(w.in, arbiter.Input{Policy: &p})
	for i := range 1_800 {
		o := w.operation()
		o.Parent, o.Target = "", "t"+strconv.Itoa(i%1_300)
		if i%5 == 0 {
			o.Deadline = &op.Deadline{After: time.Duration(10+i%3) * time.Millisecond}
		}
		w.submit(o, 0)
	}
	for range 60 {
		w.step()
		if at, ok := w.m.Next(); ok && at.After(w.now) {
			w.now = at.Add(time.Duration(w.draw("late", 20)) * time.Millisecond)
		}
		for range min(len(w.grants), 200) {
			w.report()
		}
	}
	full := 0
	lived, other := arbiter.New(3), arbiter.New(3)
	for i := range w.steps {
		other, _ = restored(t, encoded(t, other.Snapshot()))
		s, r := again(t, &w.steps[i]), again(t, &w.steps[i])
		lived.Step(&s)
		if err := other.Replay(&r); err != nil {
			t.Fatalf("taken over before step %d: %v", i+1, err)
		}
		if a, b := next(lived), next(other); a != b {
			t.Errorf("after step %d the next is due %s, after a take-over %s", i+1, a, b)
		}
		if at, ok := lived.Next(); ok && !at.After(s.At) {
			full++
		}
	}
	if full < 4 || w.wrong != "" {
		t.Errorf("%d full steps; %s", full, w.wrong)
	}
	if !w.quiesce(1_000) {
		t.Errorf("%d operations stay open", w.m.Open())
	}
}

// TestMemoryIsBounded: the machine remembers the last ended operations, for
// repetitions and inheritance, and no more.
func TestMemoryIsBounded(t *testing.T) {
	m := arbiter.New(0)
	p := arbiter.DefaultPolicy()
	p.StagingWindow = 0
	in := []arbiter.Input{{Policy: &p}}
	const n = arbiter.RecentOperations + 100
	for i := range n {
		in = append(in, submitted(uint64(i), operation("o"+strconv.Itoa(i), "door")))
		s := arbiter.Step{ID: "s", Number: uint64(2*i + 1), At: epoch, In: in}
		m.Step(&s)
		in = []arbiter.Input{{Result: &arbiter.Result{OpID: "o" + strconv.Itoa(i), Attempt: 1}}}
	}
	s := arbiter.Step{ID: "s", Number: 2 * n, At: epoch, In: in}
	m.Step(&s)
	if got := len(m.Snapshot().Recent); got != arbiter.RecentOperations || m.Open() != 0 {
		t.Fatalf("%d remembered, %d open", got, m.Open())
	}
	other, _ := restored(t, encoded(t, m.Snapshot()))
	for _, m := range []*arbiter.Machine{m, other} {
		for _, c := range []struct {
			id   string
			want string
		}{{"o" + strconv.Itoa(n-1), "repeated"}, {"o100", "repeated"}, {"o99", "accepted"}, {"o101", "repeated"}, {"o100", "accepted"}} {
			s := arbiter.Step{ID: "s", Number: 3 * n, At: epoch, In: []arbiter.Input{
				submitted(n, operation(c.id, "window")),
				{Result: &arbiter.Result{OpID: "o99", Attempt: 1}}, // its end pushes out the next one
			}}
			m.Step(&s)
			if c.id == "o99" {
				m.Step(&arbiter.Step{ID: "s", Number: 3 * n, At: epoch, In: s.In[1:]})
			}
			if said := spoken(s.Out); !strings.HasSuffix(said[0], c.want) {
				t.Errorf("%s, want it %s", said[0], c.want)
			}
		}
	}
}

func TestTimeNeverRunsBackwards(t *testing.T) {
	m := arbiter.New(0)
	m.Step(&arbiter.Step{ID: "a", Number: 1, At: epoch.Add(time.Minute)})
	s := arbiter.Step{ID: "b", Number: 2, At: epoch, In: []arbiter.Input{submitted(1, operation("a", "door"))}}
	m.Step(&s)
	if want := epoch.Add(time.Minute); !s.At.Equal(want) || !m.At().Equal(want) {
		t.Errorf("the step is at %s, the machine at %s", s.At, m.At())
	}
	if at, ok := m.Next(); !ok || !at.Equal(epoch.Add(time.Minute+10*time.Millisecond)) {
		t.Errorf("the window closes at %s (%v)", at, ok)
	}
}

func TestRestoreRefuses(t *testing.T) {
	for name, s := range map[string]arbiter.State{
		"another schema":        {Schema: "ops.v9.snapshot"},
		"nobody to lead":        {Schema: arbiter.SnapshotSchema, Entries: []arbiter.StateEntry{{Operation: operation("a", "door"), Leader: "b"}}},
		"a window over nothing": {Schema: arbiter.SnapshotSchema, Targets: []arbiter.StateTarget{{ID: "door"}}},
	} {
		if _, err := arbiter.Restore(&s); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// TestDescribe: an operation can be described until the step after its end.
func TestDescribe(t *testing.T) {
	m := arbiter.New(0)
	m.Step(&arbiter.Step{ID: "a", Number: 1, At: epoch, In: []arbiter.Input{submitted(1, operation("a", "door"))}})
	m.Step(&arbiter.Step{ID: "b", Number: 2, At: epoch.Add(10 * time.Millisecond)})
	if v, ok := m.Describe("a"); !ok || v.Status != op.Executing || v.Attempt != 1 || v.Decision != "d0-2-1" {
		t.Errorf("%+v, %v", v, ok)
	}
	m.Step(&arbiter.Step{ID: "c", Number: 3, At: epoch, In: []arbiter.Input{{Result: &arbiter.Result{OpID: "a", Attempt: 1}}}})
	if v, ok := m.Describe("a"); !ok || v.Status != op.Succeeded {
		t.Errorf("%+v, %v", v, ok)
	}
	if k, ok := m.Known("a"); !ok || k.Priority != op.Normal {
		t.Errorf("%+v, %v", k, ok)
	}
	m.Step(&arbiter.Step{ID: "d", Number: 4, At: epoch})
	if _, ok := m.Describe("a"); ok {
		t.Error("it is still described")
	}
}
