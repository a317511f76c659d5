package observer

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"pgregory.net/rapid"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

var t0 = time.Date(2026, 11, 21, 19, 1, 33, 0, time.UTC)

// ms is an instant of the tests.
func ms(n int) time.Time { return t0.Add(time.Duration(n) * time.Millisecond) }

// script writes hand-made steps of partition 0.
type script struct {
	p *projection
	n uint64
}

func newScript() *script { return &script{p: newProjection((*metrics.Registry)(nil).Observer())} }

// step folds one step at an instant; the server stores it a millisecond later.
func (s *script) step(at time.Time, in []arbiter.Input, out ...arbiter.Effect) *arbiter.Step {
	s.n++
	step := &arbiter.Step{
		Schema: arbiter.StepSchema, ID: fmt.Sprint("s", s.n), Number: s.n, Epoch: 1, Owner: "resolver-1", At: at, Cursor: s.n * 10, In: in, Out: out,
	}
	s.p.apply(s.n, at.Add(time.Millisecond), step)
	return step
}

func submit(id, target string, priority op.Priority) arbiter.Input {
	return arbiter.Input{Submit: &arbiter.Submit{Operation: op.Operation{ID: id, Type: op.TypeModifyField, Target: target, Priority: priority}}}
}

func accepted(id string) arbiter.Effect { return arbiter.Effect{Accepted: &arbiter.Accepted{OpID: id}} }

func granted(id, target string, attempt int) arbiter.Effect {
	return arbiter.Effect{Granted: &arbiter.Granted{OpID: id, Target: target, Attempt: attempt, Effective: op.Normal}}
}

func rejected(id, target string, why op.Reason) arbiter.Effect {
	return arbiter.Effect{Rejected: &arbiter.Rejected{OpID: id, Target: target, From: op.Pending, Reason: why}}
}

func succeeded(id, target string, input int) arbiter.Effect {
	return arbiter.Effect{Succeeded: &arbiter.Succeeded{OpID: id, Target: target, Input: input, Duration: 2 * time.Millisecond}}
}

func result(id, target, change string) arbiter.Input {
	return arbiter.Input{Result: &arbiter.Result{OpID: id, Target: target, Attempt: 1, Executor: "executor-1", Change: json.RawMessage(change)}}
}

func decision(target, winner string, closed time.Time, contenders ...op.Contender) arbiter.Effect {
	rule := op.RulePriority
	if len(contenders) == 1 {
		rule = op.RuleOnly
	}
	return arbiter.Effect{Decision: &op.Decision{
		ID: "d0-1-1", Target: target, WindowClosed: closed, PolicyRevision: 7, Winner: winner, Rule: rule, Total: len(contenders), Contenders: contenders,
	}}
}

func contends(id string, priority op.Priority, v op.Verdict) op.Contender {
	return op.Contender{OpID: id, Priority: priority, Effective: priority, Verdict: v}
}

// conflict is two operations on a target, decided for the first.
func (s *script) conflict() {
	s.step(ms(0), []arbiter.Input{submit("a", "x", op.High)}, accepted("a"))
	s.step(ms(4), []arbiter.Input{submit("b", "x", op.Normal)}, accepted("b"))
	s.step(ms(10), nil,
		decision("x", "a", ms(10), contends("a", op.High, op.VerdictWon), contends("b", op.Normal, op.VerdictRejected)),
		granted("a", "x", 1), rejected("b", "x", op.LowerPriority))
}

func TestConflictIsDetectedResolvedAndTimed(t *testing.T) {
	s := newScript()
	s.conflict()
	st := s.p.stats(ms(20))
	if st.ConflictsDetected != 1 || st.ConflictsResolved != 1 {
		t.Errorf("conflicts: %d detected, %d resolved; want 1 and 1", st.ConflictsDetected, st.ConflictsResolved)
	}
	if st.AverageResolution != .006 { // from the second contender at 4 ms to the decision at 10 ms
		t.Errorf("average resolution %v s, want 0.006", st.AverageResolution)
	}
	if got := sum(t, s.p.m.DecisionLatency); got != .001 { // stored at 11 ms, possible at 10 ms
		t.Errorf("decision latency %v s, want 0.001", got)
	}
	if st.Policy != 7 || st.ByReason[op.LowerPriority] != 1 || st.Pending != 0 || st.Executing != 1 || !st.Balanced {
		t.Errorf("%+v", st)
	}
	if got := testutil.ToFloat64(s.p.m.Terminal.WithLabelValues("REJECTED", "lower_priority", "NORMAL")); got != 1 {
		t.Errorf("terminal metric = %v, want 1", got)
	}
}

func TestProtectionsAreCountedApart(t *testing.T) {
	s := newScript()
	s.conflict()
	protect := func(kind arbiter.Protection, cancel bool) arbiter.Effect {
		return arbiter.Effect{Protected: &arbiter.Protected{OpID: "a", Target: "x", Attempt: 1, Cancel: cancel, Kind: kind, Until: ms(110)}}
	}
	s.step(ms(60), nil, protect(arbiter.ProtectedByGrace, true), protect(arbiter.ProtectedByGrace, false), protect(arbiter.ProtectedByExecution, false))
	if st := s.p.stats(ms(120)); st.ExecutingProtections != 1 || st.GraceSaves != 2 {
		t.Errorf("%d protections and %d saves, want 1 and 2", st.ExecutingProtections, st.GraceSaves)
	}
	p := arbiter.DefaultPolicy()
	p.Revision = 9
	s.step(ms(120), []arbiter.Input{{Policy: &p}})
	if st := s.p.stats(ms(130)); st.Policy != 9 {
		t.Errorf("policy %d, want 9", st.Policy)
	}
}

// TestPreemption: who had to yield is pending and contends again.
func TestPreemption(t *testing.T) {
	s := newScript()
	s.conflict()
	s.step(ms(20), []arbiter.Input{submit("c", "x", 10)}, accepted("c"))
	s.step(ms(111), nil, arbiter.Effect{Preempted: &arbiter.Preempted{OpID: "a", Target: "x", Attempt: 1, By: "c", Count: 1}},
		decision("x", "c", ms(110), contends("c", 10, op.VerdictWon), op.Contender{OpID: "a", Priority: 8, Verdict: op.VerdictQueued, Reason: op.Preempted}),
		granted("c", "x", 1))
	st := s.p.stats(ms(111))
	if st.Preempted != 1 || st.Executing != 1 || st.Pending != 1 || st.Backlog[0] != (Backlog{"x", 1, "c"}) || st.ConflictsDetected != 2 {
		t.Errorf("%+v, backlog %+v", st.Totals, st.Backlog)
	}
	if got := testutil.ToFloat64(s.p.m.Losses.WithLabelValues("HIGH", "preempted")); got != 1 {
		t.Errorf("losses = %v, want 1", got)
	}
}

// TestCoalescing: who shares the outcome of another is pending, and not staged.
func TestCoalescing(t *testing.T) {
	s := newScript()
	s.step(ms(0), []arbiter.Input{submit("a", "x", 8), submit("b", "x", 5), submit("c", "x", 5)}, accepted("a"), accepted("b"), accepted("c"))
	share := func(id string) arbiter.Effect {
		return arbiter.Effect{Coalesced: &arbiter.Coalesced{OpID: id, Target: "x", Into: "a"}}
	}
	s.step(ms(10), nil, decision("x", "a", ms(10),
		contends("a", 8, op.VerdictWon), contends("b", 5, op.VerdictCoalesced), contends("c", 5, op.VerdictCoalesced)),
		granted("a", "x", 1), share("b"), share("c"))
	if st := s.p.stats(ms(10)); st.Pending != 2 || st.StagedTargets != 0 || st.Coalesced != 2 || st.ConflictsDetected != 1 {
		t.Errorf("%+v, %d targets", st.Totals, st.StagedTargets)
	}
	s.step(ms(20), []arbiter.Input{result("a", "x", "")}, succeeded("a", "x", 0),
		arbiter.Effect{Shared: &arbiter.Shared{OpID: "b", Target: "x", With: "a"}},
		arbiter.Effect{Parted: &arbiter.Parted{OpID: "c", Target: "x", From: "a"}})
	if st := s.p.stats(ms(20)); st.Completed != 2 || st.Pending != 1 || st.Backlog[0].Staged != 1 || !st.Balanced || st.ByReason[op.Coalesced] != 1 {
		t.Errorf("%+v, backlog %+v", st.Totals, st.Backlog)
	}
}

// TestStarvation: who waits, for how long, and how often it has lost.
func TestStarvation(t *testing.T) {
	s := newScript()
	s.step(ms(0), []arbiter.Input{submit("low", "x", 2), submit("a", "x", 8)}, accepted("low"), accepted("a"))
	for i, winner := range []string{"a", "b", "c"} {
		if i > 0 {
			s.step(ms(10*i+5), []arbiter.Input{result("a", "x", ""), submit(winner, "x", 8)}, succeeded([]string{"a", "b"}[i-1], "x", 0), accepted(winner))
		}
		s.step(ms(10*i+10), nil, decision("x", winner, ms(10*i+10), contends(winner, 8, op.VerdictWon),
			op.Contender{OpID: "low", Priority: 2, Verdict: op.VerdictQueued, Reason: op.LowerPriority}), granted(winner, "x", 1))
	}
	st := s.p.stats(ms(1000))
	want := map[string]Starvation{"LOW": {Waiting: 1, Oldest: 1, Lost: 3, MostLost: 3}, "HIGH": {}}
	if d := cmp.Diff(want, st.Starvation); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	s.p.gauges(&st)
	if got := testutil.ToFloat64(s.p.m.OldestWaiting.WithLabelValues("LOW")); got != 1 {
		t.Errorf("oldest = %v s, want 1", got)
	}
	s.step(ms(1000), nil, rejected("low", "x", op.StagingFull))
	if st := s.p.stats(ms(1000)); st.Starvation["LOW"] != (Starvation{Lost: 4}) {
		t.Errorf("%+v", st.Starvation)
	}
}

// TestThePolicyChangesAPriority: what counts is what the policy left of it.
func TestThePolicyChangesAPriority(t *testing.T) {
	s := newScript()
	s.step(ms(0), []arbiter.Input{submit("a", "x", 10), submit("b", "x", 5)},
		arbiter.Effect{Accepted: &arbiter.Accepted{OpID: "a", Asked: 10, Priority: 5}}, accepted("b"), rejected("b", "x", op.Paused))
	st := s.p.stats(ms(0))
	if st.ByPriority["NORMAL"].Submitted != 2 || st.ByPriority["CRITICAL"].Submitted != 0 || st.ConflictsDetected != 0 || st.Rejected != 1 {
		t.Errorf("%+v", st.ByPriority)
	}
}

func TestLatencyDoesNotCountTheExecutionBefore(t *testing.T) {
	s := newScript()
	s.conflict()
	s.step(ms(20), []arbiter.Input{submit("c", "x", op.Low)}, accepted("c"))
	s.step(ms(500), []arbiter.Input{result("a", "x", `{"kind":"modified","base":1}`)}, succeeded("a", "x", 0),
		decision("x", "c", ms(30), contends("c", op.Low, op.VerdictWon)), granted("c", "x", 1))
	if got := sum(t, s.p.m.DecisionLatency); got != .002 { // 1 ms each
		t.Errorf("decision latencies sum to %v s, want 0.002", got)
	}
	if st := s.p.stats(ms(600)); st.Completed != 1 || st.EntityChanges != 1 || st.VersionsCreated != 0 {
		t.Errorf("%+v", st.Totals)
	}
	if got := testutil.ToFloat64(s.p.m.EntityChanges.WithLabelValues("modified")); got != 1 {
		t.Errorf("modified = %v, want 1", got)
	}
}

func TestWhoComesBackContendsAgain(t *testing.T) {
	s := newScript()
	s.step(ms(0), []arbiter.Input{submit("a", "x", 5), submit("b", "y", 5)}, accepted("a"), accepted("b"))
	s.step(ms(10), nil, decision("x", "a", ms(10), contends("a", 5, op.VerdictWon)), granted("a", "x", 1))
	fail := &op.Failure{Message: "no"}
	s.step(ms(20), []arbiter.Input{{Result: &arbiter.Result{OpID: "a", Target: "x", Failure: fail}}},
		arbiter.Effect{Failed: &arbiter.Failed{OpID: "a", Target: "x", Attempt: 1, Failure: fail}},
		arbiter.Effect{Retry: &arbiter.Retry{OpID: "a", Target: "x", RetryCount: 1, Due: ms(120)}})
	s.step(ms(60), []arbiter.Input{submit("c", "x", 5)}, accepted("c"))
	if st := s.p.stats(ms(60)); st.ConflictsDetected != 0 || st.Failed != 1 || st.Retried != 1 || st.Pending != 3 {
		t.Errorf("during the backoff: %+v", st.Totals)
	}
	s.step(ms(120), nil)
	st := s.p.stats(ms(120))
	if st.ConflictsDetected != 1 {
		t.Error("no conflict when the backoff is over")
	}
	want := []Backlog{{Target: "x", Staged: 2}, {Target: "y", Staged: 1}}
	if d := cmp.Diff(want, st.Backlog); d != "" {
		t.Errorf("backlog (-want +got):\n%s", d)
	}
	// An operation that ended during its backoff does not come back.
	s.step(ms(130), nil, rejected("a", "x", op.Expired))
	if st := s.p.stats(ms(130)); st.Backlog[0].Staged != 1 || !st.Balanced {
		t.Errorf("%+v", st.Backlog)
	}
}

func TestQueuedLosersAreTheNextConflict(t *testing.T) {
	s := newScript()
	s.step(ms(0), []arbiter.Input{submit("a", "x", 8), submit("b", "x", 5), submit("c", "x", 5)}, accepted("a"), accepted("b"), accepted("c"))
	s.step(ms(10), nil, decision("x", "a", ms(10),
		contends("a", 8, op.VerdictWon), contends("b", 5, op.VerdictQueued), contends("c", 5, op.VerdictQueued)), granted("a", "x", 1))
	if st := s.p.stats(ms(10)); st.ConflictsDetected != 2 || st.ConflictsResolved != 1 || st.Backlog[0] != (Backlog{"x", 2, "a"}) {
		t.Errorf("%+v, backlog %+v", st.Totals, st.Backlog)
	}
}

func TestAConflictCanDissolve(t *testing.T) {
	s := newScript()
	s.step(ms(0), []arbiter.Input{submit("a", "x", 5), submit("b", "x", 5)}, accepted("a"), accepted("b"))
	s.step(ms(1), nil, arbiter.Effect{Cancelled: &arbiter.Cancelled{OpID: "b", Target: "x", Reason: op.CancelledByRequest}})
	s.step(ms(4), []arbiter.Input{submit("c", "x", 8)}, accepted("c"))
	s.step(ms(10), nil, decision("x", "c", ms(10), contends("c", 8, op.VerdictWon), contends("a", 5, op.VerdictRejected)),
		granted("c", "x", 1), rejected("a", "x", op.LowerPriority))
	st := s.p.stats(ms(10))
	if st.ConflictsDetected != 2 || st.ConflictsResolved != 1 || st.AverageResolution != .006 || st.Cancelled != 1 {
		t.Errorf("%+v, average %v s", st.Totals, st.AverageResolution)
	}
}

func TestLapsedAttempts(t *testing.T) {
	s := newScript()
	s.step(ms(0), []arbiter.Input{submit("a", "x", 5)}, accepted("a"))
	s.step(ms(10), nil, decision("x", "a", ms(10), contends("a", 5, op.VerdictWon)), granted("a", "x", 1))
	s.step(ms(20), []arbiter.Input{submit("b", "x", 5)}, accepted("b"))
	lapse := func(id string) arbiter.Effect {
		return arbiter.Effect{Lapsed: &arbiter.Lapsed{OpID: id, Target: "x", Attempt: 1}}
	}
	s.step(ms(30), nil, lapse("a"), rejected("a", "x", op.MaxRetries))
	if st := s.p.stats(ms(30)); st.ConflictsDetected != 0 || st.Lapsed != 1 || st.Rejected != 1 || st.Pending != 1 || st.GivenUp != 1 {
		t.Errorf("an operation that never came back made a conflict: %+v", st.Totals)
	}
	s.step(ms(40), nil, decision("x", "b", ms(30), contends("b", 5, op.VerdictWon)), granted("b", "x", 1))
	s.step(ms(50), []arbiter.Input{submit("c", "x", 5)}, accepted("c"))
	s.step(ms(60), nil, lapse("b"), arbiter.Effect{Retry: &arbiter.Retry{OpID: "b", Target: "x", Due: ms(100)}})
	if st := s.p.stats(ms(60)); st.ConflictsDetected != 0 || st.Executing != 0 || st.Pending != 2 || st.Backlog[0].Staged != 1 {
		t.Errorf("while it is away: %+v", st.Totals)
	}
	s.step(ms(100), nil)
	if st := s.p.stats(ms(100)); st.ConflictsDetected != 1 || st.Backlog[0].Staged != 2 {
		t.Errorf("%+v", st.Totals)
	}
}

func TestTroubleIsCounted(t *testing.T) {
	s := newScript()
	s.p.apply(1, ms(0), &arbiter.Step{Partition: 3, Number: 1, Epoch: 4, Owner: "resolver-2", Takeover: true})
	s.step(ms(1), []arbiter.Input{
		{Invalid: &arbiter.Invalid{Target: "x", Error: op.Errorf(op.CodeBadJSON, "", "no")}},
		result("z", "x", ""),
		{Cancel: &arbiter.Cancel{OpID: "z", Target: "x"}},
	},
		arbiter.Effect{Refused: &arbiter.Refused{OpID: "z", Target: "x", Attempt: 1, Executor: "executor-1", Input: 1}},
		arbiter.Effect{Refused: &arbiter.Refused{OpID: "z", Target: "x", Attempt: 1, Input: 2}},
		arbiter.Effect{Repeated: &arbiter.Repeated{OpID: "z"}})
	s.p.unreadable(3, ms(2))
	st := s.p.stats(ms(3))
	want := Totals{Invalid: 1, StaleResults: 1, CancelsRefused: 1, Repeated: 1, Takeovers: 1, Steps: 2, ProcessedEvents: 6, Unreadable: 1}
	if d := cmp.Diff(want, st.Totals); d != "" {
		t.Errorf("totals (-want +got):\n%s", d)
	}
	if last := st.Partitions[1]; last.Partition != 3 || last.Owner != "resolver-2" || last.Epoch != 4 || last.Takeovers != 1 {
		t.Errorf("partition: %+v", last)
	}
	if got := testutil.ToFloat64(s.p.m.Invalid.WithLabelValues(op.CodeBadJSON)); got != 1 {
		t.Errorf("invalid = %v", got)
	}
}

// What was open before a removed part of the journal is met without its start.
func TestUnknownOperationsDoNoHarm(t *testing.T) {
	s := newScript()
	s.step(ms(0), nil, decision("x", "old", ms(0), contends("old", 5, op.VerdictWon), contends("older", 5, op.VerdictRejected)),
		granted("old", "x", 1), rejected("older", "x", op.LaterSubmission))
	s.step(ms(1), []arbiter.Input{submit("a", "x", 5)}, accepted("a"))
	s.step(ms(2), []arbiter.Input{result("old", "x", `{"kind":"created"}`)}, succeeded("old", "x", 0))
	st := s.p.stats(ms(3))
	if st.VersionsCreated != 1 || st.Executing != 0 || st.Pending != 1 {
		t.Errorf("%+v", st)
	}
}

func TestTypesAreBounded(t *testing.T) {
	s := newScript()
	var in []arbiter.Input
	var out []arbiter.Effect
	for i := range maxTypes + 10 {
		id := fmt.Sprint("o", i)
		in = append(in, submit(id, id, 5))
		in[i].Submit.Operation.Type = fmt.Sprint("type_", i)
		out = append(out, accepted(id))
	}
	s.step(ms(0), in, out...)
	st := s.p.stats(ms(0))
	if len(st.ByType) != maxTypes+1 || st.ByType[otherType].Submitted != 10 {
		t.Errorf("%d types, %d others", len(st.ByType), st.ByType[otherType].Submitted)
	}
}

func TestOpenOperationsAreBounded(t *testing.T) {
	s := newScript()
	s.p.most = 2
	s.step(ms(0), []arbiter.Input{submit("a", "x", 5), submit("b", "y", 5), submit("c", "z", 5), submit("d", "z", 5)},
		accepted("a"), accepted("b"), accepted("c"), accepted("d"))
	if st := s.p.stats(ms(0)); len(s.p.ops) != 2 || st.Pending != 4 || st.Submitted != 4 || !st.Balanced {
		t.Errorf("%d followed, %+v", len(s.p.ops), st)
	}
	s.step(ms(10), nil, decision("z", "c", ms(10), contends("c", 5, op.VerdictWon), contends("d", 5, op.VerdictRejected)),
		granted("c", "z", 1), rejected("d", "z", op.LaterSubmission))
	s.step(ms(20), []arbiter.Input{result("c", "z", "")}, succeeded("c", "z", 0))
	if st := s.p.stats(ms(20)); st.Pending != 2 || st.Executing != 0 || !st.Balanced || s.p.untracked != 0 {
		t.Errorf("after two have ended: %+v", st)
	}
}

func TestThroughputIsOverTheLastTenSeconds(t *testing.T) {
	var r rate
	r.add(t0.Add(-time.Hour), 1000)
	r.add(t0, 30)
	r.add(t0.Add(5*time.Second), 20)
	for after, want := range map[time.Duration]float64{6 * time.Second: 5, 10 * time.Second: 5, 11 * time.Second: 2, 16 * time.Second: 0} {
		if got := r.perSecond(t0.Add(after)); got != want {
			t.Errorf("after %s: %v a second, want %v", after, got, want)
		}
	}
}

func sum(t *testing.T, h prometheus.Histogram) float64 {
	t.Helper()
	return histogram(t, h).GetSampleSum()
}

// TestAgreesWithTheMachine holds the projection against the machine that writes
// the steps, over random histories.
func TestAgreesWithTheMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, p, now, n := arbiter.New(0), newProjection((*metrics.Registry)(nil).Observer()), t0, 0
		policy := arbiter.DefaultPolicy()
		policy.Preemption, policy.MaxOpen, policy.MaxStaged = rapid.Bool().Draw(t, "preemption"), 12, 6
		if rapid.Bool().Draw(t, "aging") {
			policy.Aging = arbiter.Aging{Every: 300 * time.Millisecond, Step: 2, Max: 5}
		}
		override := arbiter.TypePolicy{
			OnConflict: rapid.SampledFrom([]op.Conflict{"", op.OnConflictCoalesce, op.OnConflictSupersede}).Draw(t, "by_type"),
			Range:      arbiter.Range{Max: 8}, AttemptTimeout: time.Second,
		}
		policy.Types = map[string]arbiter.TypePolicy{op.TypeModifyField: override}
		var known []string
		targets := []string{"x", "y"}
		for step := range rapid.IntRange(1, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "passed")) * time.Millisecond)
			s := &arbiter.Step{Schema: arbiter.StepSchema, ID: fmt.Sprint(step), Number: uint64(step + 1), At: now}
			if step == 0 {
				s.In = append(s.In, arbiter.Input{Policy: &policy})
			}
			for range rapid.IntRange(0, 4).Draw(t, "inputs") {
				target := rapid.SampledFrom(targets).Draw(t, "target")
				if len(known) == 0 || rapid.Bool().Draw(t, "new") {
					n++
					in := submit(fmt.Sprint("o", n), target, op.Priority(rapid.IntRange(1, 10).Draw(t, "priority")))
					in.Submit.Seq = uint64(n)
					retries := rapid.IntRange(0, 2).Draw(t, "retries")
					in.Submit.Operation.MaxRetries = &retries
					in.Submit.Operation.Preemptible = rapid.Bool().Draw(t, "preemptible")
					in.Submit.Operation.Submitter = rapid.SampledFrom([]string{"", "s"}).Draw(t, "submitter")
					in.Submit.Operation.OnConflict = rapid.SampledFrom([]op.Conflict{op.OnConflictReject, op.OnConflictQueue, op.OnConflictRetry}).Draw(t, "on_conflict")
					known = append(known, in.Submit.Operation.ID)
					s.In = append(s.In, in)
					continue
				}
				s.In = append(s.In, draw(t, m, rapid.SampledFrom(known).Draw(t, "of")))
			}
			m.Step(s)
			p.apply(s.Number, now, s)
			agree(t, m, p, known, now)
		}
	})
}

// draw makes a cancel, a sign of life or a result for an operation.
func draw(t *rapid.T, m *arbiter.Machine, id string) arbiter.Input {
	v, _ := m.Describe(id)
	switch rapid.IntRange(0, 9).Draw(t, "what") {
	case 0:
		return arbiter.Input{Cancel: &arbiter.Cancel{OpID: id, Target: v.Operation.Target}}
	case 1:
		return arbiter.Input{Cancel: &arbiter.Cancel{All: true, Target: v.Operation.Target}}
	case 2:
		return arbiter.Input{Beat: &arbiter.Beat{OpID: id, Target: v.Operation.Target, Attempt: v.Attempt, Executor: "e"}}
	}
	r := &arbiter.Result{OpID: id, Target: v.Operation.Target, Attempt: v.Attempt, Executor: "e"}
	if rapid.Bool().Draw(t, "fails") {
		r.Failure = &op.Failure{Message: "no", Terminal: rapid.Bool().Draw(t, "terminal")}
	}
	return arbiter.Input{Result: r}
}

func agree(t *rapid.T, m *arbiter.Machine, p *projection, known []string, now time.Time) {
	st := p.stats(now)
	if !st.Balanced || int(st.Open()) != m.Open() {
		t.Fatalf("open: %d by the counters, %d by the machine, balanced %t", st.Open(), m.Open(), st.Balanced)
	}
	if st.ConflictsResolved > st.ConflictsDetected {
		t.Fatalf("%d conflicts resolved, %d detected", st.ConflictsResolved, st.ConflictsDetected)
	}
	for name, c := range map[string]struct {
		metric prometheus.Counter
		total  uint64
	}{
		"conflicts detected": {p.m.ConflictsDetected, st.ConflictsDetected},
		"conflicts resolved": {p.m.ConflictsResolved, st.ConflictsResolved},
		"grace saves":        {p.m.GraceSaves, st.GraceSaves},
		"protections":        {p.m.ExecutingProtections, st.ExecutingProtections},
		"stale results":      {p.m.StaleResults, st.StaleResults},
		"cancels refused":    {p.m.CancelsRefused, st.CancelsRefused},
		"steps":              {p.m.Steps, st.Steps},
	} {
		if got := testutil.ToFloat64(c.metric); got != float64(c.total) {
			t.Fatalf("%s: %v scraped, %d in the statistics", name, got, c.total)
		}
	}
	var executing []string
	staged := map[string]int{}
	for _, id := range known {
		v, ok := m.Describe(id)
		if !ok || v.Status.Terminal() {
			if p.ops[id] != nil {
				t.Fatalf("%s has ended and is still followed", id)
			}
			continue
		}
		if o := p.ops[id]; o == nil || o.status != v.Status {
			t.Fatalf("%s is %s, followed as %+v", id, v.Status, o)
		}
		if v.Status == op.Executing {
			executing = append(executing, v.Operation.Target)
		} else if !v.Due.After(now) && v.Reason != op.Coalesced {
			staged[v.Operation.Target]++
		}
	}
	slices.Sort(executing)
	for id, tg := range p.targets {
		if tg.staged != staged[id] || (tg.executing != nil) != slices.Contains(executing, id) {
			t.Fatalf("%s: %d staged and executing %v, the machine has %d and %v", id, tg.staged, tg.executing, staged[id], executing)
		}
		if tg.conflict != (tg.staged >= 2) {
			t.Fatalf("%s: %d staged, conflict %t", id, tg.staged, tg.conflict)
		}
		delete(staged, id)
	}
	if len(staged) > 0 {
		t.Fatalf("targets not followed: %v", staged)
	}
}

func histogram(t *testing.T, m prometheus.Metric) *dto.Histogram {
	t.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.GetHistogram()
}
