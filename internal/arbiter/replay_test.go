package arbiter_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
)

func encoded(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decoded[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// again reads a step back from its own JSON, as from the journal.
func again(t *testing.T, s *arbiter.Step) arbiter.Step {
	t.Helper()
	var back arbiter.Step
	if err := json.Unmarshal(encoded(t, s), &back); err != nil {
		t.Fatal(err)
	}
	return back
}

// restoredBy is the machine as another owner loads it.
func restoredBy(t interface {
	Fatal(args ...any)
}, m *arbiter.Machine,
) (*arbiter.Machine, *arbiter.State) {
	data, err := json.Marshal(m.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	var state arbiter.State
	if err := json.Unmarshal(data, &state); err != nil {
		t.Fatal(err)
	}
	other, err := arbiter.Restore(&state)
	if err != nil {
		t.Fatal(err)
	}
	return other, &state
}

func restored(t *testing.T, snapshot []byte) (*arbiter.Machine, *arbiter.State) {
	t.Helper()
	var state arbiter.State
	if err := json.Unmarshal(snapshot, &state); err != nil {
		t.Fatal(err)
	}
	m, err := arbiter.Restore(&state)
	if err != nil {
		t.Fatal(err)
	}
	return m, &state
}

// replayed lets a new machine replay a journal and returns it.
func replayed(t *testing.T, steps []arbiter.Step) *arbiter.Machine {
	t.Helper()
	if len(steps) == 0 {
		return nil
	}
	m := arbiter.New(steps[0].Partition)
	for i := range steps {
		s := again(t, &steps[i])
		if err := m.Replay(&s); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// history plays a wild history without the oracle.
func history(n int) *world {
	w := newWorld(newSeeded(*seed, 2_000_000+uint64(n)))
	w.wild = true
	for range 3 {
		w.window(30)
	}
	return w
}

func TestReplayArrivesAtTheSameState(t *testing.T) {
	for n := range fewer(60) {
		w := history(n)
		got, want := encoded(t, replayed(t, w.steps).Snapshot()), encoded(t, w.m.Snapshot())
		if string(got) != string(want) {
			t.Fatalf("-seed %d, history %d:\nreplayed %s\nlived    %s", *seed, n, got, want)
		}
	}
}

func TestStepsSurviveJSON(t *testing.T) {
	for n := range fewer(40) {
		w := history(n)
		for i := range w.steps {
			back := again(t, &w.steps[i])
			if d := cmp.Diff(w.steps[i], back, cmpopts.IgnoreUnexported(arbiter.Kin{}), cmpopts.EquateEmpty()); d != "" {
				t.Fatalf("-seed %d, history %d, step %d (-before +after):\n%s", *seed, n, i+1, d)
			}
			if a, b := encoded(t, &w.steps[i]), encoded(t, &back); string(a) != string(b) {
				t.Fatalf("step %d is %s, then %s", i+1, a, b)
			}
		}
	}
}

// TestRestoredMachineGoesOnTheSame restores at every seventh step and compares all
// that follows.
func TestRestoredMachineGoesOnTheSame(t *testing.T) {
	for n := range fewer(40) {
		w := history(n)
		lived := arbiter.New(3)
		var snapshots [][]byte
		var due []string
		for i := range w.steps {
			snapshots = append(snapshots, encoded(t, lived.Snapshot()))
			s := again(t, &w.steps[i])
			lived.Step(&s)
			due = append(due, next(lived))
		}
		for at := n % 7; at < len(w.steps); at += 7 {
			m, _ := restored(t, snapshots[at])
			for i := at; i < len(w.steps); i++ {
				if whole := i == at || i%9 == 0; whole && string(encoded(t, m.Snapshot())) != string(snapshots[i]) {
					t.Fatalf("-seed %d, history %d, restored before step %d: before step %d the state is\n%s\nand was\n%s", *seed, n, at+1, i+1, encoded(t, m.Snapshot()), snapshots[i])
				}
				s := again(t, &w.steps[i])
				if err := m.Replay(&s); err != nil {
					t.Fatalf("-seed %d, history %d, restored before step %d: %v", *seed, n, at+1, err)
				}
				if got := next(m); got != due[i] {
					t.Fatalf("-seed %d, history %d, restored before step %d: after step %d the next is due %s, was %s", *seed, n, at+1, i+1, got, due[i])
				}
			}
		}
	}
}

// TestRestoredMachineDescribesTheSame: what a client is told does not depend on a
// take-over either.
func TestRestoredMachineDescribesTheSame(t *testing.T) {
	described := 0
	for n := range 80 {
		w := history(n)
		m, _ := restored(t, encoded(t, w.m.Snapshot()))
		for _, id := range w.watch.open() {
			want, _ := w.m.Describe(id)
			got, ok := m.Describe(id)
			if d := cmp.Diff(want, got); !ok || d != "" {
				t.Fatalf("-seed %d, history %d, %s (-before +after):\n%s", *seed, n, id, d)
			}
			described++
		}
	}
	if described < 50 {
		t.Errorf("only %d operations described", described)
	}
}

func next(m *arbiter.Machine) string {
	at, ok := m.Next()
	return fmt.Sprint(at.Sub(epoch), ok)
}

// TestReplayRefusesWhatIsNotSo changes one value, drops one effect, adds one or
// swaps two in a recorded step.
func TestReplayRefusesWhatIsNotSo(t *testing.T) {
	tried := 0
	for n := range fewer(40) {
		w := history(n)
		m := arbiter.New(3)
		rng := newSeeded(*seed, 3_000_000+uint64(n))
		for i := range w.steps {
			before, _ := restored(t, encoded(t, m.Snapshot()))
			if s := again(t, &w.steps[i]); len(s.Out) > 0 {
				what := forge(t, &s, rng)
				if err := before.Replay(&s); err == nil || !strings.Contains(err.Error(), "other effects") {
					t.Fatalf("-seed %d, history %d, step %d: %s: accepted (%v)", *seed, n, i+1, what, err)
				}
				tried++
			}
			s := again(t, &w.steps[i])
			m.Step(&s)
		}
	}
	if tried < fewer(500) {
		t.Errorf("only %d forgeries tried", tried)
	}
}

// forge changes the effects of s and says how.
func forge(t *testing.T, s *arbiter.Step, rng source) string {
	t.Helper()
	i := rng.draw("effect", len(s.Out))
	switch rng.draw("how", 4) {
	case 0:
		s.Out = slices.Delete(s.Out, i, i+1)
		return "an effect dropped"
	case 1:
		s.Out = slices.Insert(s.Out, i, s.Out[i])
		return "an effect twice"
	case 2:
		if len(s.Out) > 1 {
			j := (i + 1) % len(s.Out)
			s.Out[i], s.Out[j] = s.Out[j], s.Out[i]
			return "two effects swapped"
		}
	}
	var tree any
	if err := json.Unmarshal(encoded(t, s.Out[i]), &tree); err != nil {
		t.Fatal(err)
	}
	at := change(&tree, rng)
	var e arbiter.Effect
	if err := json.Unmarshal(encoded(t, tree), &e); err != nil {
		t.Fatal(err)
	}
	s.Out[i] = e
	return "changed " + at
}

// change changes one leaf of a JSON value and says which.
func change(v *any, rng source) string {
	switch x := (*v).(type) {
	case map[string]any:
		keys := make([]string, 0, len(x))
		for k := range x {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		k := keys[rng.draw("key", len(keys))]
		inner := x[k]
		at := change(&inner, rng)
		x[k] = inner
		return k + "." + at
	case []any:
		i := rng.draw("index", len(x))
		return fmt.Sprint(i, ".", change(&x[i], rng))
	case float64:
		if *v = x + 1; x == 10 { // may be the highest priority
			*v = 9
		}
		return fmt.Sprint("number ", x)
	case bool:
		*v = !x
		return "bool"
	case string:
		if len(x) > 4 && x[:2] == "20" { // an instant
			*v = "2031" + x[4:]
		} else {
			*v = x + "x"
		}
		return "text " + x
	}
	return "null"
}
