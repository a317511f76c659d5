package audit_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }

func millis(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// history is a journal written by hand. Steps stand in the order of the stream;
// their index plus one is their sequence.
type history struct {
	steps []*arbiter.Step
	raw   map[int][]byte // by index: other bytes than the step's
	seqs  map[int]uint64 // by index: another sequence
	parts map[int]int    // by index: another partition in the subject
	busy  bool           // work is still under way at the end
}

func newHistory() *history {
	return &history{raw: map[int][]byte{}, seqs: map[int]uint64{}, parts: map[int]int{}}
}

func inputs(in ...arbiter.Input) []arbiter.Input { return in }

// step adds a step of partition 0 that follows from the one before it.
func (h *history) step(ms int, in []arbiter.Input, out ...arbiter.Effect) *arbiter.Step {
	return h.stepOf(0, ms, in, out...)
}

func (h *history) stepOf(partition, ms int, in []arbiter.Input, out ...arbiter.Effect) *arbiter.Step {
	s := &arbiter.Step{
		Schema: arbiter.StepSchema, ID: "s" + string(rune('A'+partition)) + "-" + time.Duration(len(h.steps)).String(),
		Partition: partition, Number: 1, Epoch: 1, Owner: "r1", At: at(ms), In: in, Out: out, Takeover: true,
	}
	for _, before := range h.steps {
		if before.Partition == partition {
			s.Number, s.Epoch, s.Owner, s.Cursor, s.Takeover = before.Number+1, before.Epoch, before.Owner, before.Cursor, false
		}
	}
	for i := range in {
		switch {
		case in[i].Submit != nil:
			s.Cursor = max(s.Cursor, in[i].Submit.Seq)
		case in[i].Cancel != nil:
			s.Cursor = max(s.Cursor, in[i].Cancel.Seq)
		case in[i].Invalid != nil:
			s.Cursor = max(s.Cursor, in[i].Invalid.Seq)
		}
	}
	h.steps = append(h.steps, s)
	return s
}

// takeover turns a step into the first one of a new epoch, with those after it.
func (h *history) takeover(first *arbiter.Step, owner string) {
	first.Takeover, first.Epoch, first.Owner = true, first.Epoch+1, owner
}

// get returns a step of a partition by its number.
func (h *history) get(partition int, number uint64) *arbiter.Step {
	for _, s := range h.steps {
		if s.Partition == partition && s.Number == number {
			return s
		}
	}
	panic("no such step")
}

// cut ends the history with the given step of partition 0.
func (h *history) cut(number uint64) {
	h.steps = h.steps[:slices.Index(h.steps, h.get(0, number))+1]
	h.busy = true
}

func partitionOf(target string) int {
	if target == "e9" {
		return 1
	}
	return 0
}

func (h *history) read(t *testing.T, opts audit.Options) *audit.Auditor {
	t.Helper()
	opts.PartitionOf, opts.Partitions = partitionOf, 2
	a := audit.New(opts)
	for i, s := range h.steps {
		data, ok := h.raw[i]
		if !ok {
			var err error
			if data, err = json.Marshal(s); err != nil {
				t.Fatal(err)
			}
		}
		seq, partition := uint64(i+1), s.Partition
		if n, ok := h.seqs[i]; ok {
			seq = n
		}
		if n, ok := h.parts[i]; ok {
			partition = n
		}
		a.Raw(seq, partition, data)
	}
	return a
}

func wantOnly(t *testing.T, r audit.Report, want ...string) {
	t.Helper()
	got := slices.Sorted(maps.Keys(r.ByInvariant))
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("invariants broken (-want +got):\n%s", diff)
		for _, v := range r.Violations {
			t.Log(v)
		}
	}
}

// Operations.

func operation(id, target string, priority op.Priority, set ...func(*op.Operation)) op.Operation {
	three := 3
	o := op.Operation{ID: id, Type: op.TypeComplexUpdate, Target: target, Priority: priority, MaxRetries: &three, OnConflict: op.OnConflictReject}
	for _, f := range set {
		f(&o)
	}
	return o
}

func onConflict(c op.Conflict) func(*op.Operation) {
	return func(o *op.Operation) { o.OnConflict = c }
}

func retries(n int) func(*op.Operation) { return func(o *op.Operation) { o.MaxRetries = &n } }

func parent(id string) func(*op.Operation) { return func(o *op.Operation) { o.Parent = id } }

func deadline(ms int) func(*op.Operation) {
	return func(o *op.Operation) { o.Deadline = &op.Deadline{After: millis(ms)} }
}

// Inputs.

func submit(seq uint64, o op.Operation) arbiter.Input {
	return arbiter.Input{Submit: &arbiter.Submit{Place: op.Place{Seq: seq}, Operation: o}}
}

func cancel(seq uint64, target, id string) arbiter.Input {
	return arbiter.Input{Cancel: &arbiter.Cancel{Place: op.Place{Seq: seq}, Target: target, OpID: id}}
}

func beat(id, target string, attempt int) arbiter.Input {
	return arbiter.Input{Beat: &arbiter.Beat{OpID: id, Target: target, Attempt: attempt, Executor: "x1"}}
}

func unknown(id string, upto uint64) arbiter.Input {
	return arbiter.Input{Kin: &arbiter.Kin{OpID: id, Unknown: true, Upto: upto}}
}

func policy(set func(p *arbiter.Policy)) arbiter.Input {
	p := arbiter.DefaultPolicy()
	set(&p)
	return arbiter.Input{Policy: &p}
}

func success(id, target string, attempt int, c *entity.Change) arbiter.Input {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return arbiter.Input{Result: &arbiter.Result{OpID: id, Target: target, Attempt: attempt, Executor: "x1", Change: b}}
}

func failure(id, target string, attempt int, f *op.Failure) arbiter.Input {
	return arbiter.Input{Result: &arbiter.Result{OpID: id, Target: target, Attempt: attempt, Executor: "x1", Failure: f}}
}

func created(id string) *entity.Change {
	return &entity.Change{Kind: entity.Created, ID: id, Set: map[string]json.RawMessage{"n": json.RawMessage("1")}}
}

func modified(base uint64, n string) *entity.Change {
	return &entity.Change{Kind: entity.Modified, Base: base, From: 1, Set: map[string]json.RawMessage{"n": json.RawMessage(n)}}
}

// Effects.

func accepted(id string) arbiter.Effect {
	return arbiter.Effect{Accepted: &arbiter.Accepted{OpID: id}}
}

func contender(o op.Operation, seq uint64, v op.Verdict, why op.Reason) op.Contender {
	return op.Contender{OpID: o.ID, Priority: o.Priority, Effective: o.Priority, Place: op.Place{Seq: seq}, Verdict: v, Reason: why}
}

// decision decides target at an instant; the first contender is the winner.
func decision(id, target string, opened, closed, ms int, rule op.Rule, list ...op.Contender) arbiter.Effect {
	return arbiter.Effect{Decision: &op.Decision{
		ID: id, Target: target, At: at(ms), WindowOpened: at(opened), WindowClosed: at(closed),
		Winner: list[0].OpID, Rule: rule, Total: len(list), Contenders: list,
	}}
}

func granted(id, target string, attempt int, effective op.Priority, dec string, ms int) arbiter.Effect {
	return arbiter.Effect{Granted: &arbiter.Granted{
		OpID: id, Target: target, Attempt: attempt, Effective: effective, Decision: dec, LeaseEnds: at(ms).Add(30 * time.Second),
	}}
}

func succeeded(id, target string, attempt, input int) arbiter.Effect {
	return arbiter.Effect{Succeeded: &arbiter.Succeeded{OpID: id, Target: target, Attempt: attempt, Input: input}}
}

func failed(id, target string, attempt int, f *op.Failure) arbiter.Effect {
	return arbiter.Effect{Failed: &arbiter.Failed{OpID: id, Target: target, Attempt: attempt, Failure: f}}
}

// retry is the n-th one.
func retry(id, target string, n, ms, delay int) arbiter.Effect {
	return arbiter.Effect{Retry: &arbiter.Retry{OpID: id, Target: target, RetryCount: n, N: n - 1, Delay: millis(delay), Due: at(ms + delay)}}
}

// away is the backoff after an attempt that lapsed and that nobody had claimed.
func away(id, target string, retries, n, ms, delay int) arbiter.Effect {
	e := retry(id, target, retries, ms, delay)
	e.Retry.N = n
	return e
}

// lapsed ends an attempt that nobody had claimed.
func lapsed(id, target string, attempt, retries int) arbiter.Effect {
	return arbiter.Effect{Lapsed: &arbiter.Lapsed{OpID: id, Target: target, Attempt: attempt, RetryCount: retries}}
}

func rejected(id, target string, from op.Status, why op.Reason, last ...*op.Failure) arbiter.Effect {
	r := &arbiter.Rejected{OpID: id, Target: target, From: from, Reason: why}
	if why == op.StagingFull || why == op.Overloaded {
		r.RetryAfter = time.Second
	}
	if len(last) > 0 {
		r.Failure = last[0]
	}
	return arbiter.Effect{Rejected: r}
}

// cancelled is by request, with the descendants.
func cancelled(id, target string) arbiter.Effect {
	return arbiter.Effect{Cancelled: &arbiter.Cancelled{OpID: id, Target: target, From: op.Pending, Reason: op.CancelledByRequest, Cascade: true}}
}

// stopped cancels an executing operation by request, with its descendants.
func stopped(id, target string, attempt int) arbiter.Effect {
	e := cancelled(id, target)
	e.Cancelled.From, e.Cancelled.Attempt = op.Executing, attempt
	return e
}

func protected(id, target string, attempt int, by string, kind arbiter.Protection, until int) arbiter.Effect {
	return arbiter.Effect{Protected: &arbiter.Protected{
		OpID: id, Target: target, Attempt: attempt, By: by, Cancel: by == "", Kind: kind, Until: at(until),
	}}
}

func lost(id, target string, why op.Reason, winner, dec string) arbiter.Effect {
	e := rejected(id, target, op.Pending, why)
	e.Rejected.Winner, e.Rejected.Decision = winner, dec
	return e
}
