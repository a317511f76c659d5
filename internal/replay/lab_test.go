package replay

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// begun is the instant at which every test begins.
var begun = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const testPartition = 3

func millis(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// lab records a history: a punctual resolver, and executors that do with each
// operation what is planned for it.
type lab struct {
	m       *arbiter.Machine
	steps   []arbiter.Step
	seq     uint64
	events  []event
	plans   map[string][]outcome // by operation and attempt; beyond them: a success after took
	took    time.Duration
	running []report
	mute    bool   // nobody searches for ancestors
	dead    [2]int // from and to which millisecond the partition has no owner
}

// event is something that comes from outside at an instant.
type event struct {
	at time.Duration
	in arbiter.Input
}

// outcome is what an executor does with one attempt.
type outcome struct {
	took    time.Duration
	failure *op.Failure
	silent  bool          // it does not report
	beat    time.Duration // between two heartbeats; 0: none; a silent one sends one
	deaf    bool          // it reports although it was told to stop
}

// report is what an executor will say about an attempt.
type report struct {
	at      time.Time
	granted *arbiter.Granted
	outcome outcome
	beat    bool
}

func newLab() *lab {
	return &lab{m: arbiter.New(testPartition), plans: map[string][]outcome{}, took: millis(5)}
}

func (l *lab) policy(at int, p arbiter.Policy) { l.add(at, arbiter.Input{Policy: &p}) }

func (l *lab) add(at int, in arbiter.Input) { l.events = append(l.events, event{millis(at), in}) }

// submit plans a submission. The order of the calls is the order of the log among
// those of one instant.
func (l *lab) submit(at int, o op.Operation, plan ...outcome) {
	if o.Type == "" {
		o.Type = op.TypeModifyField
	}
	if o.Target == "" {
		o.Target = "t"
	}
	if o.Priority == 0 {
		o.Priority = op.Normal
	}
	if o.OnConflict == "" {
		o.OnConflict = op.OnConflictReject
	}
	l.plans[o.ID] = plan
	l.add(at, arbiter.Input{Submit: &arbiter.Submit{Operation: o}})
}

// record lets it all happen, and stops when nothing is under way or a time is
// over (0: never).
func (l *lab) record(most int) []arbiter.Step {
	slices.SortStableFunc(l.events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	l.takeOver(begun)
	for {
		at, ok := l.next()
		if !ok || most > 0 && at.Sub(begun) > millis(most) {
			return l.steps
		}
		if from, to := begun.Add(millis(l.dead[0])), begun.Add(millis(l.dead[1])); at.After(from) && at.Before(to) {
			at, l.dead = to, [2]int{}
			l.takeOver(at)
		}
		var in []arbiter.Input
		if !l.m.Backlog() {
			in = l.inputs(at)
		}
		l.step(at, in)
	}
}

func (l *lab) takeOver(at time.Time) {
	l.steps = append(l.steps, l.head(at))
	l.steps[len(l.steps)-1].Takeover = true
}

func (l *lab) head(at time.Time) arbiter.Step {
	n := len(l.steps) + 1
	return arbiter.Step{
		Schema: arbiter.StepSchema, ID: "step-" + strconv.Itoa(n), Partition: testPartition,
		Number: uint64(n), Epoch: 1, Owner: "r1", At: at, Cursor: l.seq,
	}
}

func (l *lab) next() (time.Time, bool) {
	at, ok := l.m.Next()
	sooner := func(t time.Time) {
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	if len(l.events) > 0 {
		sooner(begun.Add(l.events[0].at))
	}
	for _, r := range l.running {
		sooner(r.at)
	}
	return at, ok
}

func (l *lab) inputs(at time.Time) (in []arbiter.Input) {
	var due []report
	l.running = slices.DeleteFunc(l.running, func(r report) bool {
		if r.at.After(at) {
			return false
		}
		due = append(due, r)
		return true
	})
	for _, r := range due {
		g := r.granted
		if r.beat {
			in = append(in, arbiter.Input{Beat: &arbiter.Beat{OpID: g.OpID, Target: g.Target, Attempt: g.Attempt, Executor: "e1"}})
			if !r.outcome.silent {
				l.running = append(l.running, report{at: r.at.Add(r.outcome.beat), granted: g, outcome: r.outcome, beat: true})
			}
			continue
		}
		in = append(in, arbiter.Input{Result: &arbiter.Result{
			OpID: g.OpID, Target: g.Target, Attempt: g.Attempt, Executor: "e1", Duration: r.outcome.took, Failure: r.outcome.failure,
			Change: json.RawMessage(`{}`),
		}})
	}
	for len(l.events) > 0 && !begun.Add(l.events[0].at).After(at) {
		e := l.events[0]
		l.events = l.events[1:]
		if e.in.Submit != nil {
			l.seq++
			e.in.Submit.Place = op.Place{Seq: l.seq}
		}
		in = append(in, e.in)
	}
	return in
}

// step takes one step, and answers what it asks in the next.
func (l *lab) step(at time.Time, in []arbiter.Input) {
	s := l.head(at)
	s.In = in
	l.m.Step(&s)
	l.steps = append(l.steps, s)
	for i := range s.Out {
		switch e := &s.Out[i]; {
		case e.Granted != nil:
			l.execute(e.Granted, at)
		case e.Succeeded != nil:
			l.stop(e.Succeeded.OpID, false)
		case e.Failed != nil:
			l.stop(e.Failed.OpID, false)
		case e.Lapsed != nil:
			l.stop(e.Lapsed.OpID, true)
		case e.Preempted != nil:
			l.stop(e.Preempted.OpID, true)
		case e.Cancelled != nil:
			l.stop(e.Cancelled.OpID, true)
		}
	}
	var kin []arbiter.Input
	for _, id := range l.m.Wants() {
		if !l.mute {
			kin = append(kin, arbiter.Input{Kin: &arbiter.Kin{OpID: id, Unknown: true, Upto: l.seq}})
		}
	}
	if len(kin) > 0 {
		l.step(at, kin)
	}
}

// execute does what is planned for an attempt.
func (l *lab) execute(g *arbiter.Granted, at time.Time) {
	o := outcome{took: l.took}
	if plan := l.plans[g.OpID]; g.Attempt <= len(plan) {
		o = plan[g.Attempt-1]
	}
	if o.beat > 0 {
		l.running = append(l.running, report{at: at.Add(o.beat), granted: g, outcome: o, beat: true})
	}
	if !o.silent {
		l.running = append(l.running, report{at: at.Add(o.took), granted: g, outcome: o})
	}
}

// stop ends what executors do with an attempt, unless they do not listen.
func (l *lab) stop(id string, told bool) {
	l.running = slices.DeleteFunc(l.running, func(r report) bool {
		return r.granted.OpID == id && (!told || !r.outcome.deaf || r.beat)
	})
}

// copied reads a step back from its own JSON, as from the journal.
func copied(t *testing.T, s *arbiter.Step) *arbiter.Step {
	t.Helper()
	var back arbiter.Step
	if err := json.Unmarshal([]byte(text(t, s)), &back); err != nil {
		t.Fatal(err)
	}
	return &back
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := op.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func own(recorded arbiter.Policy) arbiter.Policy { return recorded }

// always is one policy instead of every recorded one.
func always(p arbiter.Policy) func(arbiter.Policy) arbiter.Policy {
	return func(arbiter.Policy) arbiter.Policy { return p }
}

// replayed plays a history under another policy, and returns the steps as well.
func replayed(t *testing.T, steps []arbiter.Step, policy func(arbiter.Policy) arbiter.Policy, since time.Time) (Report, []arbiter.Step) {
	t.Helper()
	r := New(testPartition, policy)
	r.Since(since)
	return played(t, r, steps)
}

func played(t *testing.T, r *Replay, steps []arbiter.Step) (Report, []arbiter.Step) {
	t.Helper()
	for i := range steps {
		if err := r.Step(copied(t, &steps[i])); err != nil {
			t.Fatal(err)
		}
	}
	var seen []arbiter.Step
	if r.run != nil {
		r.run.watch = func(s *arbiter.Step) { seen = append(seen, *s) }
	}
	return r.Finish(), seen
}

// said are the replay's effects in a few words, for comparing.
func said(steps []arbiter.Step) (lines []string) {
	for i := range steps {
		s := &steps[i]
		say := func(format string, args ...any) {
			lines = append(lines, fmt.Sprintf("%d ", s.At.Sub(begun).Milliseconds())+fmt.Sprintf(format, args...))
		}
		for k := range s.Out {
			switch e := &s.Out[k]; {
			case e.Granted != nil:
				say("%s runs as %d", e.Granted.OpID, e.Granted.Attempt)
			case e.Succeeded != nil:
				say("%s succeeds", e.Succeeded.OpID)
			case e.Failed != nil:
				say("%s fails", e.Failed.OpID)
			case e.Lapsed != nil:
				say("%s lapses, claimed %t", e.Lapsed.OpID, e.Lapsed.Claimed)
			case e.Preempted != nil:
				say("%s yields to %s", e.Preempted.OpID, e.Preempted.By)
			case e.Rejected != nil:
				say("%s", strings.TrimSpace(fmt.Sprintf("%s is rejected: %s %s", e.Rejected.OpID, e.Rejected.Reason, e.Rejected.Winner)))
			case e.Cancelled != nil:
				say("%s is cancelled", e.Cancelled.OpID)
			case e.Extended != nil:
				say("%s goes on", e.Extended.OpID)
			case e.Refused != nil:
				say("%s is refused", e.Refused.OpID)
			}
		}
	}
	return lines
}
