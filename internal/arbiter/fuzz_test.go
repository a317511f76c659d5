package arbiter_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// fuzzSteps are steps of every kind, as they stand in a journal.
func fuzzSteps() [][]byte {
	steps := []string{
		`{"schema":"ops.v1.step","id":"x","step":4,"at":"2026-01-01T00:00:01Z","in":[{"submit":{"seq":9,"operation":{"op_id":"c","op_type":"version_entity","target_entity_id":"door","priority":9,"parent_op_id":"zz","deadline":"5ms"}}}]}`,
		`{"id":"y","step":5,"at":"2026-01-01T00:00:02Z","in":[{"result":{"op_id":"a","target_entity_id":"door","attempt":1,"failure":{"message":"no"}}},{"beat":{"op_id":"a","attempt":1}}]}`,
		`{"id":"y","step":5,"at":"2026-01-01T00:00:02Z","in":[{"result":{"op_id":"a","target_entity_id":"door","attempt":1,"change":{"kind":"noted"}}},{"cancel":{"target_entity_id":"door","all":true}}]}`,
		`{"id":"y","step":5,"at":"2026-01-01T00:00:02Z","in":[{"cancel":{"target_entity_id":"door","op_id":"a"}},{"cancel":{"submitter":"ann"}},{"cancel":{"ancestors":["p","a"]}},{"kin":{"op_id":"p","priority":10}},{"kin":{"op_id":"p","unknown":true,"upto":99}}]}`,
		`{"id":"z","step":6,"at":"2026-01-01T00:10:00Z","in":[{"policy":{"revision":3,"staging_window":0,"preemption":true,"max_preemptions":3,"max_executing_per_partition":64,"aging":{"every":1000000,"step":1,"max":9},"paused":{"targets":["d*"]},"types":{"paint":{"on_conflict":"coalesce"}}}}]}`,
		`{"id":"z","step":6,"at":"2025-01-01T00:10:00Z","takeover":true,"in":[{}]}`, `{"in":[{"invalid":{"seq":1}},{"submit":{"operation":{}}}]}`, `{}`,
	}
	var all [][]byte
	for _, s := range steps {
		all = append(all, []byte(s))
	}
	return all
}

// begun is a machine in the middle of things: one executes, one waits for its
// parent, one is away, one waits for the window.
func begun(t testing.TB) *arbiter.Machine {
	t.Helper()
	m := arbiter.New(0)
	p := arbiter.DefaultPolicy()
	p.Preemption, p.MaxStaged, p.RetryBase = true, 4, time.Second
	child, second, queued := operation("child", "door"), operation("second", "gate"), operation("queued", "door")
	child.Parent, child.OnConflict = "p", op.OnConflictQueue
	second.MaxRetries, queued.OnConflict, queued.Submitter = new(int), op.OnConflictQueue, "ann"
	*second.MaxRetries = 2
	first := operation("a", "door")
	first.Preemptible = true
	for n, s := range []arbiter.Step{
		{In: []arbiter.Input{{Policy: &p}, submitted(1, first), submitted(2, second)}},
		{At: epoch.Add(20 * time.Millisecond)},
		{At: epoch.Add(30 * time.Millisecond), In: []arbiter.Input{
			submitted(3, child), submitted(4, queued),
			{Result: &arbiter.Result{OpID: "second", Target: "gate", Attempt: 1, Failure: &op.Failure{Message: "no"}}},
		}},
	} {
		s.ID, s.Number = string(rune('a'+n)), uint64(n+1)
		if s.At.IsZero() {
			s.At = epoch
		}
		m.Step(&s)
	}
	if m.Open() != 4 {
		t.Fatalf("%d are open", m.Open())
	}
	return m
}

func snapshotted(t *testing.T, m *arbiter.Machine) []byte {
	t.Helper()
	b, err := json.Marshal(m.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// differing is where a begins to differ from b.
func differing(a, b []byte) []byte {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	return a[max(0, i-200):min(len(a), i+200)]
}

// FuzzStep: a step that can be read does no harm to the machine, whatever it says,
// and a machine restored from a snapshot or replaying the journal arrives at the
// same effects and the same state.
func FuzzStep(f *testing.F) {
	for _, s := range fuzzSteps() {
		f.Add(s, s)
		f.Add(s, []byte(`{"step":9,"at":"2026-01-01T01:00:00Z"}`))
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		m := begun(t)
		state := m.Snapshot()
		for _, data := range [][]byte{one, two} {
			var s, again arbiter.Step
			if json.Unmarshal(data, &s) != nil {
				return
			}
			if !ordinary(&s) {
				return
			}
			let, err := json.Marshal(&s)
			if err != nil {
				t.Fatalf("%s can be read and not be written: %v", data, err)
			}
			if err := json.Unmarshal(let, &again); err != nil {
				t.Fatalf("%s is written as %s and cannot be read: %v", data, let, err)
			}
			other, err := arbiter.Restore(state)
			if err != nil {
				t.Fatalf("its own snapshot is refused: %v", err)
			}
			m.Step(&s)
			again.Out = s.Out
			if err := other.Replay(&again); err != nil {
				t.Fatal(err)
			}
			if a, b := snapshotted(t, m), snapshotted(t, other); !bytes.Equal(a, b) {
				t.Fatalf("%s leads to\n%s\nand, restored before, to\n%s", data, differing(a, b), differing(b, a))
			}
			state = new(arbiter.State)
			if err := json.Unmarshal(snapshotted(t, m), state); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// ordinary reports whether a step has only inputs that a resolver lets in: the
// operations have been through the codec, and the policy through its parser.
func ordinary(s *arbiter.Step) bool {
	if y := s.At.Year(); y < 1 || y > 9000 {
		return false
	}
	for i := range s.In {
		in := &s.In[i]
		set := 0
		for _, field := range reflect.ValueOf(*in).Fields() {
			if !field.IsNil() {
				set++
			}
		}
		if set > 1 {
			return false
		}
		if sub := in.Submit; sub != nil {
			body, err := op.Encode(&sub.Operation)
			if err != nil || !op.Token(sub.Operation.ID) {
				return false
			}
			types := op.BuiltinTypes()
			if _, known := types[sub.Operation.Type]; !known && op.Token(sub.Operation.Type) {
				types[sub.Operation.Type] = op.TypeInfo{Name: sub.Operation.Type, Priority: op.Normal}
			}
			ops, err := op.DecodeInternal(body, "", types)
			if err != nil || len(ops) != 1 {
				return false
			}
			sub.Operation = ops[0]
		}
		if p := in.Policy; p != nil && (p.MaxStaged < 1 || p.StagingWindow < 0 || p.GracePeriod < 0 || p.RetryBase < 0 || p.AttemptTimeout < 0 || p.MaxOperationAge < 0) {
			return false
		}
	}
	return true
}

// FuzzSnapshot: a snapshot that can be read is refused or restored, and one that is
// restored is the same again when it is taken once more.
func FuzzSnapshot(f *testing.F) {
	m := begun(f)
	for _, data := range fuzzSteps() {
		b, err := json.Marshal(m.Snapshot())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		var s arbiter.Step
		if json.Unmarshal(data, &s) == nil && ordinary(&s) {
			m.Step(&s)
		}
	}
	f.Add([]byte(`{"schema":"ops.v1.snapshot","entries":[{"operation":{"op_id":"a"},"leader":"b"}],"targets":[{"id":"x"}],"ready":["y"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s arbiter.State
		if json.Unmarshal(data, &s) != nil {
			return
		}
		m, err := arbiter.Restore(&s)
		if err != nil {
			return
		}
		first := snapshotted(t, m)
		var again arbiter.State
		if err := json.Unmarshal(first, &again); err != nil {
			t.Skip() // what cannot be read again is not restored either: the journal is
		}
		m, err = arbiter.Restore(&again)
		if err != nil {
			t.Fatalf("its own snapshot is refused: %v\n%s", err, first)
		}
		if second := snapshotted(t, m); !bytes.Equal(first, second) {
			t.Fatalf("restored from\n%s\nit is\n%s", differing(first, second), differing(second, first))
		}
	})
}

// FuzzParsePolicy: a policy is refused with a reason or keeps every bound; what is
// accepted is JSON, survives the journal, and is accepted by a machine.
func FuzzParsePolicy(f *testing.F) {
	for _, s := range []string{
		``, `{}`, `{"staging_window":"5ms","conflict_check_interval":"1s","grace_period":"0s","preemption":"after_grace","aging":{"every":"1s","step":2,"max":9}}`,
		`{"types":{"paint":{"schema":{"type":"object"},"pool":"gpu","priority":"HIGH","min_priority":2,"max_priority":8,"max_retries":5,"on_conflict":"coalesce","staging_window":"1ms","attempt_timeout":"2s"},"modify_field":{"on_conflict":"supersede"}}}`,
		`{"max_concurrent_operations":1000,"submitters":{"ann":{"min":2,"max":3}},"paused":{"types":["x"],"targets":["a-*","b"]},"priority_out_of_range":"refuse"}`,
		`{"window_by_prefix":{"report-":"1s"},"window_by_type":{"x":"2562047h47m16s"}}`, `{"retry_base_delay":"6s"}`, `{"types":{"a.b":{}}}`, `{"surprise":1}`, `{}{}`, `{}}`, `{}]`, `null`, `[]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := arbiter.ParsePolicy(data, 7)
		if err != nil {
			if len(err.Error()) < len("arbiter: policy: x") {
				t.Fatalf("refused with %q", err)
			}
			return
		}
		if len(data) > 0 && !json.Valid(data) {
			t.Fatalf("accepted, but not JSON: %s", data)
		}
		if p.Revision != 7 || p.MaxStaged < 1 || p.MaxStaged > arbiter.MaxStagedLimit || p.MaxOpen < 1 || p.RetryBase <= 0 || p.RetryMax < p.RetryBase ||
			p.StagingWindow < 0 || p.GracePeriod < 0 || p.AttemptTimeout <= 0 || p.MaxOperationAge <= 0 || p.MaxRetries < 0 || p.MaxRetries > op.MaxRetry {
			t.Fatalf("%s is accepted as %+v", data, p)
		}
		for _, n := range []int{1, 16, 1024} {
			if q := p.For(n); q.MaxExecuting < 1 || q.MaxConcurrent > 0 && q.MaxExecuting*n < q.MaxConcurrent {
				t.Fatalf("%s: %d execute in each of %d partitions", data, q.MaxExecuting, n)
			}
		}
		recorded, err := json.Marshal(p)
		if err != nil {
			t.Fatalf("%s cannot be recorded: %v", data, err)
		}
		var back arbiter.Policy
		if err := json.Unmarshal(recorded, &back); err != nil {
			t.Fatalf("%s is recorded as %s and cannot be read: %v", data, recorded, err)
		}
		if again, err := json.Marshal(back); err != nil || !bytes.Equal(recorded, again) {
			t.Fatalf("%s is recorded as\n%s, then as\n%s (%v)", data, recorded, again, err)
		}
		for name := range back.OpTypes() {
			if !back.Known(name) || !op.Token(name) {
				t.Fatalf("%s registers %q", data, name)
			}
		}
		m := begun(t)
		m.Step(&arbiter.Step{ID: "x", Number: 4, At: epoch.Add(time.Minute), In: []arbiter.Input{{Policy: &back}}})
		for n := uint64(5); n < 100; n++ {
			at, due := m.Next()
			if !due || at.After(epoch.Add(time.Hour)) {
				break
			}
			m.Step(&arbiter.Step{ID: "y", Number: n, At: at})
		}
	})
}
