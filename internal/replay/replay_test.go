package replay

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// TestReport goes through everything that a report says.
func TestReport(t *testing.T) {
	l := newLab()
	l.took = millis(20)
	l.submit(0, op.Operation{ID: "a", Priority: op.Low})
	l.submit(0, op.Operation{ID: "b", Priority: op.High})
	l.submit(5, op.Operation{ID: "c", Priority: op.Low})
	l.submit(100, op.Operation{ID: "d"})
	l.submit(100, op.Operation{ID: "e", Target: "u"}, outcome{silent: true}) // open at the end
	r, _ := replayed(t, l.record(150), always(with(queued)), time.Time{})
	rejected := End{op.Rejected, op.LowerPriority}
	done := End{Status: op.Succeeded}
	at := func(ms int) time.Time { return begun.Add(millis(ms)) }
	want := Report{
		Partitions: 1, Steps: 8, From: begun, To: at(130), Operations: 4, Open: 1,
		Changed: []Change{
			{"a", op.TypeModifyField, "t", op.Place{Seq: 1}, op.Low, Verdict{rejected, "b"}, Verdict{End: done}},
			{"c", op.TypeModifyField, "t", op.Place{Seq: 3}, op.Low, Verdict{rejected, "b"}, Verdict{End: done}},
		},
		Turns: []Turn{{rejected, done, 2}},
		Ends:  []EndCount{{done, 2, 4}, {rejected, 2, 0}},
		Decisions: Decisions{Recorded: 2, Replayed: 4, Changed: []Decided{
			{
				"t", 1, &Ruling{at(10), "b", []Loser{{"a", op.VerdictRejected}, {"c", op.VerdictRejected}}, 3},
				&Ruling{at(10), "b", []Loser{{"a", op.VerdictQueued}, {"c", op.VerdictQueued}}, 3},
			},
			{"t", 2, &Ruling{at(110), "d", nil, 1}, &Ruling{at(30), "a", []Loser{{"c", op.VerdictQueued}}, 2}},
			{"t", 3, nil, &Ruling{at(50), "c", nil, 1}},
			{"t", 4, nil, &Ruling{at(110), "d", nil, 1}},
		}},
		Waits: []Wait{
			{op.High, Waited{1, 10, 10}, Waited{1, 10, 10}},
			{op.Normal, Waited{1, 10, 10}, Waited{1, 10, 10}},
			{op.Low, Waited{}, Waited{2, 30, 45}},
			{0, Waited{2, 10, 10}, Waited{4, 10, 45}},
		},
		// e goes on after the record, in which its executor has not reported yet.
		Results: Results{Recorded: 2, Assumed: 3},
	}
	if d := cmp.Diff(want, r, cmpopts.IgnoreUnexported(Report{})); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if r.Same() {
		t.Error("it says that nothing is different")
	}
}

// TestSince: what was before is as it was, and no part of the report.
func TestSince(t *testing.T) {
	l := newLab()
	l.submit(0, op.Operation{ID: "a"})
	l.submit(0, op.Operation{ID: "b"})
	l.submit(0, op.Operation{ID: "held", Target: "u"}, outcome{took: millis(200)})
	l.submit(100, op.Operation{ID: "c"})
	l.submit(100, op.Operation{ID: "d"})
	steps := l.record(0)
	for since, want := range map[int]string{0: "b d", 10: "b d", 11: "d", 100: "d", 110: "d", 111: "", 10_000: ""} {
		r, _ := replayed(t, steps, always(with(queued)), begun.Add(millis(since)))
		var changed []string
		for _, c := range r.Changed {
			changed = append(changed, c.OpID)
		}
		if got := strings.Join(changed, " "); got != want {
			t.Errorf("since %d: %q, want %q", since, got, want)
		}
		ops := map[int]int{0: 5, 10: 5, 11: 4, 100: 3, 110: 3, 111: 2, 10_000: 0}[since]
		if r.Operations != ops || (since == 10_000) != r.From.IsZero() {
			t.Errorf("since %d: %d operations, want %d; from %s", since, r.Operations, ops, r.From)
		}
	}
}

// TestAncestors: a replay asks for ancestors when the record did not, and is told
// what a search would have found then.
func TestAncestors(t *testing.T) {
	paused := with(func(p *arbiter.Policy) { p.Paused.Targets = []string{"t"} })
	l := newLab()
	l.policy(0, paused)
	l.seq = 10
	l.submit(1, op.Operation{ID: "strong", Priority: op.High})
	l.submit(1, op.Operation{ID: "child", Priority: op.Low, Parent: "parent"})
	l.submit(1, op.Operation{ID: "orphan", Priority: op.Low, Parent: "later"})
	steps := l.record(0)

	elsewhere := func(seq uint64, id string) arbiter.Step {
		o := op.Operation{ID: id, Type: op.TypeVersion, Target: "x", Priority: op.Critical}
		return arbiter.Step{
			Schema: arbiter.StepSchema, ID: id, Partition: 5, Number: seq, At: begun, Cursor: seq,
			In: []arbiter.Input{{Submit: &arbiter.Submit{Place: op.Place{Seq: seq}, Operation: o}}},
		}
	}
	d := NewDirectory()
	for seq, id := range map[uint64]string{1: "parent", 99: "later"} { // the other one came after the search
		s := elsewhere(seq, id)
		d.note(&s)
	}
	for name, c := range map[string]struct {
		share bool
		want  string
	}{
		"alone":    {false, "11 strong runs as 1/11 child is rejected: lower_priority strong/11 orphan is rejected: lower_priority strong/12 strong succeeds"},
		"together": {true, "11 child runs as 1/11 strong is rejected: lower_priority child/11 orphan is rejected: lower_priority child/12 child succeeds"},
	} {
		r := New(testPartition, always(with(window(10))))
		if c.share {
			r.Share(d)
		}
		_, got := played(t, r, steps)
		if got := strings.Join(said(got), "/"); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", name, got, c.want)
		}
	}
}

// TestWaits: an operation has waited when it is promoted for the first time.
func TestWaits(t *testing.T) {
	l := newLab()
	l.submit(0, op.Operation{ID: "x", MaxRetries: new(1)}, outcome{took: millis(100), failure: failure})
	r, _ := replayed(t, l.record(0), own, time.Time{})
	if w := r.Waits[0]; w.Recorded != (Waited{1, 10, 10}) || w.Replayed != w.Recorded {
		t.Errorf("%+v", w)
	}
}

// TestUnanswered: a question that the record leaves without an answer is answered
// after it, also when it was asked before the replay began.
func TestUnanswered(t *testing.T) {
	for _, since := range []int{0, 4} {
		l := newLab()
		l.mute = true
		l.submit(1, op.Operation{ID: "x", Parent: "nobody"})
		l.submit(5, op.Operation{ID: "y", Target: "y"})
		_, got := replayed(t, l.record(1000), own, begun.Add(millis(since)))
		if got := strings.Join(said(got), "/"); got != "15 y runs as 1/20 y succeeds/20 x runs as 1/25 x succeeds" {
			t.Errorf("since %d: %s", since, got)
		}
	}
}

func TestDirectory(t *testing.T) {
	d := NewDirectory()
	d.note(&arbiter.Step{
		In: []arbiter.Input{
			{Submit: &arbiter.Submit{Place: op.Place{Seq: 7}, Operation: op.Operation{ID: "a", Priority: op.Critical, Parent: "b"}}},
			{Submit: &arbiter.Submit{Place: op.Place{Seq: 8}, Operation: op.Operation{ID: "a", Priority: op.Low}}},
			{Kin: &arbiter.Kin{OpID: "b", Priority: op.High, Parent: "c"}},
			{Kin: &arbiter.Kin{OpID: "c", Unknown: true, Upto: 9}},
		},
		Out: []arbiter.Effect{{Accepted: &arbiter.Accepted{OpID: "a", Asked: op.Critical, Priority: op.Normal}}},
	})
	for q, want := range map[question]string{
		{"a", 7}: `{"kin":{"op_id":"a","priority":5,"parent_op_id":"b"}}`,
		{"a", 6}: `{"kin":{"op_id":"a","unknown":true,"upto":6}}`,
		{"b", 1}: `{"kin":{"op_id":"b","priority":8,"parent_op_id":"c"}}`,
		{"c", 9}: `{"kin":{"op_id":"c","unknown":true,"upto":9}}`,
	} {
		if got := text(t, d.answer(q)); got != want {
			t.Errorf("%v: %s, want %s", q, got, want)
		}
	}
	qs := questions([]string{"a", "b"}, 5)
	left := answered(slices.Clone(qs), []arbiter.Input{{Kin: &arbiter.Kin{OpID: "a", Unknown: true, Upto: 4}}, {Kin: &arbiter.Kin{OpID: "b", Priority: 1}}})
	if !slices.Equal(left, qs[:1]) || len(answered(left, []arbiter.Input{{Kin: &arbiter.Kin{OpID: "a", Unknown: true, Upto: 5}}})) > 0 {
		t.Errorf("left is %v", left)
	}
	searching := &run{theirs: questions([]string{"a"}, 5)}
	for q, want := range map[question]bool{{"a", 5}: false, {"a", 4}: false, {"a", 6}: true, {"b", 5}: true} {
		if searching.unanswered(q) != want {
			t.Errorf("%v is unanswered: %t", q, !want)
		}
	}
}

// TestKeepsNoChanges: what only entities need does not stay in memory.
func TestKeepsNoChanges(t *testing.T) {
	l := newLab()
	l.submit(0, op.Operation{ID: "a"})
	r := New(testPartition, own)
	steps := l.record(0)
	results := 0
	for i := range steps {
		if err := r.Step(&steps[i]); err != nil {
			t.Fatal(err)
		}
		for k, in := range r.steps[i].In {
			if in.Result != nil {
				results++
				if in.Result.Change != nil || r.steps[i].Out != nil || steps[i].In[k].Result.Change == nil {
					t.Error("a change is kept, or taken from the caller's step")
				}
			}
		}
	}
	if results != 1 {
		t.Errorf("%d results", results)
	}
}

// TestDeadResolver: what was due in the record shows when a resolver came to it.
func TestDeadResolver(t *testing.T) {
	l := newLab()
	l.dead = [2]int{5, 500}
	l.submit(0, op.Operation{ID: "x"})
	steps := l.record(0)
	for ms, want := range map[int]string{
		10: "500 x runs as 1/505 x succeeds",
		40: "500 x runs as 1/505 x succeeds",
		4:  "4 x runs as 1/9 x succeeds",
		7:  "7 x runs as 1/500 x succeeds", // it would have ended when the record needed a resolver
	} {
		_, got := replayed(t, steps, always(with(window(ms))), time.Time{})
		if got := strings.Join(said(got), "/"); got != want {
			t.Errorf("window %d: %s, want %s", ms, got, want)
		}
	}
}

// TestRepeated: a submission that was a repeated one is one in the replay, too,
// where the first one ended long ago.
func TestRepeated(t *testing.T) {
	l := newLab()
	p := with(window(0))
	p.MaxOpen = 1
	l.policy(0, p)
	l.submit(1, op.Operation{ID: "x"}, outcome{took: millis(90)})
	for i := range arbiter.RecentOperations + 10 {
		l.submit(5+i%20, op.Operation{ID: "o" + strconv.Itoa(i)})
	}
	l.submit(80, op.Operation{ID: "x"})
	steps := l.record(0)
	p.Paused.Targets = []string{"t"}
	r, got := replayed(t, steps, always(p), time.Time{})
	if lines := said(got); slices.Contains(lines, "80 x is rejected: paused") || !slices.Contains(lines, "1 x is rejected: paused") {
		t.Error("a repeated submission was taken as a new one")
	}
	if r.Operations != arbiter.RecentOperations+11 {
		t.Errorf("%d operations", r.Operations)
	}
}

// TestWrongRecord: what cannot be replayed is refused.
func TestWrongRecord(t *testing.T) {
	l := newLab()
	l.submit(0, op.Operation{ID: "a"})
	l.submit(20, op.Operation{ID: "b"})
	steps := l.record(0)
	for name, c := range map[string]struct {
		spoil func([]*arbiter.Step) []*arbiter.Step
		gap   bool
	}{
		"a step is missing":        {func(s []*arbiter.Step) []*arbiter.Step { return slices.Delete(s, 1, 2) }, true},
		"the beginning is missing": {func(s []*arbiter.Step) []*arbiter.Step { return s[1:] }, true},
		"a step comes twice":       {func(s []*arbiter.Step) []*arbiter.Step { return slices.Insert(s, 1, s[0]) }, true},
		"another partition":        {func(s []*arbiter.Step) []*arbiter.Step { s[1].Partition++; return s }, false},
		"other effects":            {func(s []*arbiter.Step) []*arbiter.Step { s[1].Out = s[1].Out[1:]; return s }, false},
	} {
		var copies []*arbiter.Step
		for i := range steps {
			copies = append(copies, copied(t, &steps[i]))
		}
		r := New(testPartition, own)
		var err error
		for _, s := range c.spoil(copies) {
			if err = r.Step(s); err != nil {
				break
			}
		}
		if err == nil || errors.Is(err, ErrGap) != c.gap {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMerge: the order is that of the log and of the targets, whatever the order
// of the partitions.
func TestMerge(t *testing.T) {
	part := func(seq uint64, target string, ms int) Report {
		r := Report{Partitions: 1, Steps: 1, From: begun.Add(millis(ms)), To: begun.Add(millis(ms)), Operations: 1, Results: Results{1, 2, 3, 4, 5}}
		was, would := End{Status: op.Succeeded}, End{op.Rejected, op.Expired}
		r.count(was, would)
		r.Changed = []Change{{OpID: target, Place: op.Place{Seq: seq}, Recorded: Verdict{End: was}, Replayed: Verdict{End: would}}}
		r.Decisions.Changed = []Decided{{Target: target, N: 1}, {Target: target, N: 2}}
		r.waits = []waited{{priority: op.Low, was: millis(ms), would: notPromoted}}
		return r
	}
	a, b, c := part(2, "y", 40), part(1, "z", 10), part(3, "x", 20)
	r := Merge(Merge(a, b), c)
	if d := cmp.Diff(r, Merge(c, b, a), cmpopts.IgnoreUnexported(Report{})); d != "" {
		t.Error(d)
	}
	var order []string
	for _, v := range r.Changed {
		order = append(order, v.OpID)
	}
	for _, v := range r.Decisions.Changed {
		order = append(order, v.Target+strconv.Itoa(v.N))
	}
	if got := strings.Join(order, " "); got != "z y x x1 x2 y1 y2 z1 z2" {
		t.Error(got)
	}
	want := []Wait{{op.Low, Waited{3, 20, 40}, Waited{}}, {0, Waited{3, 20, 40}, Waited{}}}
	if r.From != begun.Add(millis(10)) || r.To != begun.Add(millis(40)) || r.Partitions != 3 || !slices.Equal(r.Waits, want) || r.Results != (Results{3, 6, 9, 12, 15}) {
		t.Errorf("%s", text(t, r))
	}
	if nothing := Merge(); !nothing.Same() || strings.Contains(text(t, nothing), "null") {
		t.Errorf("of nothing: %s", text(t, nothing))
	}
}

func TestMedian(t *testing.T) {
	var m median
	for i, want := range []time.Duration{5, 5, 5, 5, 4, 4} {
		m.add([]time.Duration{5, 1, 9, 2, 4, 3}[i])
		if got := m.value(); got != want {
			t.Errorf("after %d: %d, want %d", i+1, got, want)
		}
	}
}
