package arbiter_test

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// most is what a message may be, less its headers.
const most = 1<<20 - 64<<10

func marshalled(t *testing.T, v any) int {
	t.Helper()
	b, err := op.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return len(b)
}

func uuidLike(kind string, i int) string { return fmt.Sprintf("%s-%034d", kind, i) }

// bounded runs one step and checks what it says about its size.
func bounded(t *testing.T, m *arbiter.Machine, n uint64, at time.Time, in ...arbiter.Input) arbiter.Step {
	t.Helper()
	s := arbiter.Step{Schema: arbiter.StepSchema, ID: "step", Number: n, At: at, Owner: "r1", In: in}
	m.Step(&s)
	if size := marshalled(t, &s); len(in) == 0 && size >= most {
		t.Errorf("step %d has %d bytes", n, size)
	}
	if said, is := arbiter.EffectBytes(s.Out), marshalled(t, s.Out); len(s.Out) > 0 && said < is {
		t.Errorf("step %d: effects of %d bytes are taken for %d", n, is, said)
	}
	return s
}

// crowd stages n operations with ancestors on three levels of other partitions.
func crowd(t *testing.T, m *arbiter.Machine, n int, conflict op.Conflict) {
	t.Helper()
	p := arbiter.DefaultPolicy()
	p.StagingWindow = time.Second
	bounded(t, m, 1, epoch, arbiter.Input{Policy: &p},
		arbiter.Input{Kin: &arbiter.Kin{OpID: uuidLike("k", 1), Priority: op.Low, Parent: uuidLike("k", 2)}},
		arbiter.Input{Kin: &arbiter.Kin{OpID: uuidLike("k", 2), Priority: op.Low, Parent: uuidLike("k", 3)}},
		arbiter.Input{Kin: &arbiter.Kin{OpID: uuidLike("k", 3), Priority: op.Critical}})
	for i := range n {
		o := operation(uuidLike("o", i), uuidLike("door", 0))
		o.Priority, o.Parent, o.OnConflict = op.Background, uuidLike("k", 1), conflict
		bounded(t, m, uint64(2+i), epoch, submitted(uint64(1+i), o))
	}
}

// TestLargeDecisionHasItsOwnStep: 1,700 contenders reject each other. What is too
// much to tell was shed before; the rest is decided in a step without inputs.
func TestLargeDecisionHasItsOwnStep(t *testing.T) {
	for _, conflict := range []op.Conflict{op.OnConflictReject, op.OnConflictRetry} {
		m := arbiter.New(3)
		crowd(t, m, 1_700, conflict)
		if m.Open() < 800 || m.Open() >= 1_700 {
			t.Errorf("%d of 1,700 are staged", m.Open())
		}
		end := epoch.Add(time.Second)
		// Even an input from which nothing follows may be large itself.
		silent := arbiter.Input{Kin: &arbiter.Kin{OpID: uuidLike("k", 4), Priority: op.Low}}
		if s := bounded(t, m, 1_999, end, silent); len(s.Out) > 0 || !m.Backlog() {
			t.Fatalf("a step with inputs decides: %d effects, backlog %v", len(s.Out), m.Backlog())
		}
		small := submitted(9_000, operation("small", "window"))
		s := bounded(t, m, 2_000, end, small)
		if said := spoken(s.Out); len(said) != 1 || !m.Backlog() {
			t.Fatalf("a step with inputs decides: %d effects, backlog %v", len(said), m.Backlog())
		}
		if at, ok := m.Next(); !ok || !at.Equal(end) {
			t.Errorf("the next step is due at %s (%v)", at, ok)
		}
		m, _ = restored(t, encoded(t, m.Snapshot()))
		s = bounded(t, m, 2_001, end)
		if d := s.Out[0].Decision; d == nil || d.Total < 800 || len(d.Contenders) != d.Total || m.Backlog() {
			t.Errorf("%d effects, backlog %v", len(s.Out), m.Backlog())
		}
		if size := marshalled(t, &s); size < arbiter.MaxEffectBytes {
			t.Errorf("the decision has only %d bytes: nothing is tested", size)
		}
	}
}

// TestLargeDecisionsTakeTurns: two of them are due, and each has a step.
func TestLargeDecisionsTakeTurns(t *testing.T) {
	m := arbiter.New(0)
	var in []arbiter.Input
	for i := range 1_600 {
		in = append(in, submitted(uint64(i+1), operation(uuidLike("o", i), uuidLike("door", i%2))))
	}
	bounded(t, m, 1, epoch, in...)
	for n := range 2 {
		s := bounded(t, m, uint64(2+n), epoch.Add(10*time.Millisecond))
		if d := s.Out[0].Decision; d == nil || d.Total != 800 || d.Target != uuidLike("door", n) || m.Backlog() != (n == 0) {
			t.Fatalf("step %d: %d effects, backlog %v", 2+n, len(s.Out), m.Backlog())
		}
	}
}

// TestQueuedContendersAreNotTooMuch: those that stay are listed only in part, so
// that nobody is shed for the size of the decision.
func TestQueuedContendersAreNotTooMuch(t *testing.T) {
	m := arbiter.New(3)
	crowd(t, m, 1_700, op.OnConflictQueue)
	s := bounded(t, m, 2_000, epoch.Add(time.Second), submitted(9_000, operation("small", "window")))
	if m.Open() != 1_701 || m.Backlog() || len(spoken(s.Out)) < 3 {
		t.Errorf("%d open, backlog %v", m.Open(), m.Backlog())
	}
}

// kindOf names the one field of an effect that is set.
func kindOf(t *testing.T, e arbiter.Effect) string {
	t.Helper()
	for i, v := range reflect.ValueOf(e).Fields() {
		if !v.IsNil() {
			return i.Name
		}
	}
	t.Fatal("an empty effect")
	return ""
}

var anyID = regexp.MustCompile(`"(o|k|t|s|ghost)(\d+)"`)

// TestEffectBytesIsNeverTooLow plays random histories again with the longest ids
// and with messages that need escaping.
func TestEffectBytesIsNeverTooLow(t *testing.T) {
	effects := 0
	for n := range 40 {
		w := history(n)
		m := arbiter.New(15)
		for i := range w.steps {
			text := anyID.ReplaceAllStringFunc(string(encoded(t, w.steps[i].In)), func(id string) string {
				return id[:len(id)-1] + strings.Repeat("x", op.MaxToken+2-len(id)) + `"`
			})
			text = strings.ReplaceAll(text, "no answer from", `\"\n\\\t\"`)
			in := decoded[[]arbiter.Input](t, text)
			at := w.steps[i].At.Add(123_456_789)
			effects += len(bounded(t, m, 1_000_000_000+uint64(i), at, in...).Out)
		}
	}
	if effects < 5_000 {
		t.Errorf("only %d effects", effects)
	}
}

// TestEveryEffectIsEstimated fills each kind of effect as far as it can be.
func TestEveryEffectIsEstimated(t *testing.T) {
	id, decision := strings.Repeat("i", op.MaxToken), "d15-1000000000-1000"
	at := epoch.Add(123_456_789)
	version := uint64(1) << 40
	failure := &op.Failure{Code: id, Message: strings.Repeat(`"`, 512), Terminal: true, Reason: op.StaleVersion, CurrentVersion: &version}
	place := op.Place{Seq: 1 << 40, Index: 1000}
	c := op.Contender{
		OpID: id, Priority: op.Critical, Effective: op.Critical, Place: place, Verdict: op.VerdictRejected, Reason: op.LaterSubmission,
		Inheritance: op.Inheritance{Path: []string{id, id, id}, UnknownParent: id, Cycle: true, Truncated: true},
		Asked:       op.Critical, Boost: 9,
	}
	d := &op.Decision{
		ID: decision, Target: id, At: at, WindowOpened: at, WindowClosed: at, PolicyRevision: 1 << 20, Winner: id,
		Rule: op.RulePriority, Total: 2000,
	}
	kinds := map[string]bool{}
	full := *d
	full.Contenders = []op.Contender{c, c, c}
	for _, e := range []arbiter.Effect{
		{Accepted: &arbiter.Accepted{OpID: id}},
		{Accepted: &arbiter.Accepted{OpID: id, Asked: op.Critical, Priority: op.Critical}},
		{Repeated: &arbiter.Repeated{OpID: id, Place: place}},
		{Decision: d},
		{Decision: &full},
		{Granted: &arbiter.Granted{OpID: id, Target: id, Attempt: 1000, Effective: op.Critical, Decision: decision, LeaseEnds: at}},
		{Succeeded: &arbiter.Succeeded{OpID: id, Target: id, Attempt: 1000, Input: 500, Duration: time.Hour}},
		{Failed: &arbiter.Failed{OpID: id, Target: id, Attempt: 1000, Failure: failure, Duration: time.Hour}},
		{Retry: &arbiter.Retry{
			OpID: id, Target: id, RetryCount: 1000, N: 1000, Delay: time.Hour, Due: at, Reason: op.LaterSubmission, Winner: id, Decision: decision,
		}},
		{Lapsed: &arbiter.Lapsed{OpID: id, Target: id, Attempt: 1000, RetryCount: 1000, Claimed: true}},
		{Rejected: &arbiter.Rejected{
			OpID: id, Target: id, From: op.Pending, Reason: op.LaterSubmission, Winner: id, Decision: decision, Failure: failure, CurrentVersion: &version,
			RetryAfter: time.Hour,
		}},
		{Cancelled: &arbiter.Cancelled{
			OpID: id, Target: id, From: op.Executing, Reason: op.CancelledWithParent, Attempt: 1000, Ancestor: id, Cascade: true,
		}},
		{Extended: &arbiter.Extended{OpID: id, Target: id, Attempt: 1000, LeaseEnds: at, Input: 500}},
		{Preempted: &arbiter.Preempted{OpID: id, Target: id, Attempt: 1000, By: id, Count: 1000}},
		{Protected: &arbiter.Protected{OpID: id, Target: id, Attempt: 1000, By: id, Cancel: true, Kind: arbiter.ProtectedByExecution, Until: at}},
		{Coalesced: &arbiter.Coalesced{OpID: id, Target: id, Into: id, Decision: decision}},
		{Shared: &arbiter.Shared{OpID: id, Target: id, With: id, Attempt: 1000}},
		{Parted: &arbiter.Parted{OpID: id, Target: id, From: id}},
		{Refused: &arbiter.Refused{
			OpID: id, Target: id, Attempt: 1000, Executor: id, Input: 500, Why: "the other side of a structural operation is not cancelled",
		}},
	} {
		kinds[kindOf(t, e)] = true
		out := []arbiter.Effect{e}
		if said, is := arbiter.EffectBytes(out), marshalled(t, out); said < is {
			t.Errorf("%d bytes are taken for %d: %.200s", is, said, encoded(t, e))
		}
	}
	for f := range reflect.TypeFor[arbiter.Effect]().Fields() {
		if !kinds[f.Name] {
			t.Errorf("nobody knows how large %s may be", f.Name)
		}
	}
}
