package arbiter_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// epoch is the instant at which every test begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// source draws numbers from 0 to n-1: from a seed, or from rapid, which shrinks.
type source interface {
	draw(what string, n int) int
}

// want is a question of the machine: the search for the answer covers all that
// was submitted before the question.
type want struct {
	id   string
	upto uint64
}

type seeded struct{ *rand.Rand }

func newSeeded(seed, stream uint64) seeded { return seeded{rand.New(rand.NewPCG(seed, stream))} }

func (s seeded) draw(_ string, n int) int { return s.IntN(n) }

// world submits random operations to a machine, answers its questions, reports
// random results, and compares it with the oracle after every step.
type world struct {
	source
	m      *arbiter.Machine
	oracle *oracle // nil: do not compare
	watch  *watch
	wild   bool // also lapses, expiries, cancellations, shedding and policies

	now     time.Time
	seq     uint64
	in      []arbiter.Input
	steps   []arbiter.Step
	wants   []want // not answered yet
	targets []string
	ids     []string // submitted
	next    int
	foreign map[string]arbiter.Kin
	sent    map[string]arbiter.Submit
	grants  []arbiter.Granted // not answered yet
	decided int
	wrong   string
}

func newWorld(s source) *world {
	w := &world{
		source: s, m: arbiter.New(3), oracle: newOracle(), watch: newWatch(), now: epoch,
		foreign: map[string]arbiter.Kin{}, sent: map[string]arbiter.Submit{},
	}
	for i := range 1 + w.draw("targets", 5) {
		w.targets = append(w.targets, "t"+strconv.Itoa(i))
	}
	// Ancestors of other partitions: chains, some of them longer than the depth
	// limit, cycles, and dead ends.
	n := 1 + w.draw("foreign", 12)
	long := w.draw("long chain", 8) == 0
	if long {
		n = 40
	}
	for i := range n {
		k := arbiter.Kin{OpID: "k" + strconv.Itoa(i), Priority: op.Priority(1 + w.draw("kin priority", 10))}
		switch parent := w.draw("kin parent", 4); {
		case long || parent == 0:
			k.Parent = "k" + strconv.Itoa((i+1)%(n+1)) // the last one has an unknown parent
		case parent == 1:
			k.Parent = "k" + strconv.Itoa(w.draw("which", n))
		case parent == 2:
			k.Parent = "o" + strconv.Itoa(w.draw("which", 40))
		}
		w.foreign[k.OpID] = k
	}
	return w
}

// flip is true once in so many times, and false where rapid shrinks to.
func (w *world) flip(what string, oneIn int) bool { return w.draw(what, oneIn) == oneIn-1 }

// step hands the collected inputs to the machine and to the oracle.
func (w *world) step() {
	s := arbiter.Step{
		Schema: arbiter.StepSchema, ID: "step-" + strconv.Itoa(len(w.steps)+1), Partition: 3,
		Number: uint64(len(w.steps) + 1), Epoch: 1, Owner: "r1", At: w.now, Cursor: w.seq, In: w.in,
	}
	w.in = nil
	w.m.Step(&s)
	w.steps = append(w.steps, s)
	w.watch.see(&s)
	asked := w.m.Wants()
	for _, id := range asked {
		w.wants = append(w.wants, want{id, w.seq})
	}
	for _, e := range s.Out {
		switch {
		case e.Granted != nil:
			w.grants = append(w.grants, *e.Granted)
		case e.Decision != nil:
			w.decided++
		}
	}
	if w.oracle != nil {
		w.compare(&s)
		w.questions(asked)
	}
	if len(w.watch.broken) > 0 {
		w.wrong = strings.Join(w.watch.broken, "\n")
	}
}

func (w *world) compare(s *arbiter.Step) {
	o := w.oracle
	for _, e := range s.Out {
		if r := e.Retry; r != nil {
			o.due[r.OpID] = append(o.due[r.OpID], r.Due)
		}
	}
	o.now, o.said, o.order, o.yielded = s.At, nil, nil, nil
	for _, e := range s.Out {
		if e.Decision != nil {
			o.order = append(o.order, e.Decision.Target)
		}
		if e.Preempted != nil {
			o.yielded = append(o.yielded, e.Preempted.OpID)
		}
	}
	for _, in := range s.In {
		o.input(in)
	}
	o.pass()
	got := spoken(s.Out)
	slices.Sort(got)
	slices.Sort(o.said)
	if !slices.Equal(got, o.said) && w.wrong == "" {
		w.wrong = fmt.Sprintf("step %d at %s\nmachine:\n  %s\noracle:\n  %s", s.Number, s.At.Sub(epoch),
			strings.Join(got, "\n  "), strings.Join(o.said, "\n  "))
	}
}

// questions compares what the machine asks with what the oracle would: nothing in
// vain, and whoever waits has a question under way that covers it.
func (w *world) questions(asked []string) {
	var needed []string
	for _, c := range w.oracle.claims {
		id := w.oracle.asks(c)
		needed = append(needed, id)
		if id != "" && !slices.ContainsFunc(w.wants, func(q want) bool { return q.id == id && q.upto >= c.Seq }) && w.wrong == "" {
			w.wrong = fmt.Sprintf("step %d: %s waits for %s, which nobody looks for", len(w.steps), c.Operation.ID, id)
		}
	}
	for _, id := range asked {
		if !slices.Contains(needed, id) && w.wrong == "" {
			w.wrong = fmt.Sprintf("step %d: the machine asks for %s, which nobody waits for", len(w.steps), id)
		}
	}
}

// spoken says effects in the oracle's words.
func spoken(effects []arbiter.Effect) (said []string) {
	say := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	for _, e := range effects {
		switch {
		case e.Accepted != nil && e.Accepted.Asked > 0:
			say("%s is accepted with %d, asked %d", e.Accepted.OpID, e.Accepted.Priority, e.Accepted.Asked)
		case e.Accepted != nil:
			say("%s is accepted", e.Accepted.OpID)
		case e.Repeated != nil:
			say("%s is repeated", e.Repeated.OpID)
		case e.Decision != nil:
			d := e.Decision
			say("%s: %s wins by %s out of %d", d.Target, d.Winner, d.Rule, d.Total)
			for _, c := range d.Contenders {
				say("%s: %s %d boost %d asked %d %q %s", d.Target, c.OpID, c.Effective, c.Boost, c.Asked, inherited(c.Inheritance), strings.TrimSpace(string(c.Verdict)+" "+string(c.Reason)))
			}
		case e.Granted != nil:
			say("%s executes attempt %d", e.Granted.OpID, e.Granted.Attempt)
		case e.Succeeded != nil:
			say("%s is SUCCEEDED", e.Succeeded.OpID)
		case e.Failed != nil:
			say("%s failed", e.Failed.OpID)
		case e.Retry != nil:
			say("%s waits for retry %d", e.Retry.OpID, e.Retry.RetryCount)
		case e.Lapsed != nil:
			say("%s lapsed, claimed %v", e.Lapsed.OpID, e.Lapsed.Claimed)
		case e.Rejected != nil && e.Rejected.Winner != "":
			say("%s is REJECTED %s to %s", e.Rejected.OpID, e.Rejected.Reason, e.Rejected.Winner)
		case e.Rejected != nil:
			say("%s is REJECTED %s", e.Rejected.OpID, e.Rejected.Reason)
		case e.Cancelled != nil && e.Cancelled.Ancestor != "":
			say("%s is CANCELLED %s of %s from %s", e.Cancelled.OpID, e.Cancelled.Reason, e.Cancelled.Ancestor, e.Cancelled.From)
		case e.Cancelled != nil:
			say("%s is CANCELLED %s from %s", e.Cancelled.OpID, e.Cancelled.Reason, e.Cancelled.From)
		case e.Extended != nil:
			say("%s may go on until %s", e.Extended.OpID, e.Extended.LeaseEnds.Sub(epoch))
		case e.Preempted != nil:
			say("%s is preempted by %s", e.Preempted.OpID, e.Preempted.By)
		case e.Coalesced != nil:
			say("%s is coalesced into %s", e.Coalesced.OpID, e.Coalesced.Into)
		case e.Shared != nil:
			say("%s is SUCCEEDED with %s", e.Shared.OpID, e.Shared.With)
		case e.Parted != nil:
			say("%s is parted from %s", e.Parted.OpID, e.Parted.From)
		case e.Refused != nil:
			say("%s is refused", e.Refused.OpID)
		case e.Protected != nil && e.Protected.Cancel:
			say("%s is protected from a cancel by %s", e.Protected.OpID, e.Protected.Kind)
		case e.Protected != nil:
			say("%s is protected from %s by %s", e.Protected.OpID, e.Protected.By, e.Protected.Kind)
		default:
			say("something without words: %+v", e)
		}
	}
	return said
}

func inherited(i op.Inheritance) string {
	s := strings.Join(i.Path, ">")
	if i.Cycle {
		s += " cycle"
	}
	if i.Truncated {
		s += " cut"
	}
	if i.UnknownParent != "" {
		s += " unknown:" + i.UnknownParent
	}
	return s
}

var conflicts = []op.Conflict{op.OnConflictReject, op.OnConflictQueue, op.OnConflictRetry}

// operation draws one operation. Its parent may come later, or never.
func (w *world) operation() op.Operation {
	retries := w.draw("max retries", 4)
	o := op.Operation{
		ID: "o" + strconv.Itoa(w.next), Type: op.TypeModifyField, Target: w.targets[w.draw("target", len(w.targets))],
		Priority: op.Priority(1 + 3*w.draw("priority", 4)), MaxRetries: &retries, OnConflict: conflicts[w.draw("on conflict", 3)],
	}
	w.next++
	switch w.draw("parent", 6) {
	case 0:
		o.Parent = "o" + strconv.Itoa(w.draw("which", w.next+4))
	case 1:
		o.Parent = "k" + strconv.Itoa(w.draw("which", len(w.foreign)))
	case 2:
		if w.flip("ghost", 4) {
			o.Parent = "ghost" + strconv.Itoa(w.draw("which", 2))
		}
	}
	if w.flip("other type", 5) {
		o.Type = op.TypeVersion
	}
	o.Preemptible = w.flip("preemptible", 2)
	if w.wild {
		w.adorn(&o)
	}
	return o
}

// adorn draws what only wild histories have.
func (w *world) adorn(o *op.Operation) {
	switch w.draw("kind", 12) {
	case 1:
		o.Type = op.TypeFollowUp
	case 2, 3, 4:
		o.Type = "paint" // registered, sometimes
	}
	if w.flip("submitter", 2) {
		o.Submitter = "s" + strconv.Itoa(w.draw("which", 2))
	}
	if w.flip("params", 3) {
		o.Params = []byte(strconv.Itoa(w.draw("which", 2)))
	}
	if w.flip("source", 12) {
		o.Source = "t0"
	}
	if w.flip("expected version", 12) {
		version := int64(w.draw("which", 2))
		o.ExpectedVersion = &version
	}
	if w.flip("deadline", 12) {
		o.Deadline = &op.Deadline{After: time.Duration(1+w.draw("after", 300)) * time.Millisecond}
	}
}

func (w *world) submit(o op.Operation, index int) {
	if index == 0 {
		w.seq++
	}
	s := arbiter.Submit{Place: op.Place{Seq: w.seq, Index: index}, Operation: o}
	w.ids = append(w.ids, o.ID)
	w.sent[o.ID] = s
	w.in = append(w.in, arbiter.Input{Submit: &s})
}

// answer tells the machine about one ancestor that it misses.
func (w *world) answer(i int) {
	id, upto := w.wants[i].id, w.wants[i].upto
	w.wants = slices.Delete(w.wants, i, i+1)
	k, known := w.foreign[id]
	if _, here := w.sent[id]; here {
		return // it came in the meantime
	}
	if !known {
		k = arbiter.Kin{OpID: id, Unknown: true, Upto: upto}
	}
	w.in = append(w.in, arbiter.Input{Kin: &k})
}

// report ends a random attempt, well or badly.
func (w *world) report() {
	i := w.draw("which attempt", len(w.grants))
	g := w.grants[i]
	w.grants = slices.Delete(w.grants, i, i+1)
	r := arbiter.Result{OpID: g.OpID, Target: g.Target, Attempt: g.Attempt, Executor: "e1", Duration: time.Millisecond}
	switch w.draw("outcome", 7) {
	case 0, 1:
		r.Failure = &op.Failure{Message: "no answer from " + g.OpID}
	case 2:
		r.Failure = &op.Failure{Message: "no such field", Terminal: true}
	case 3:
		version := uint64(5)
		r.Failure = &op.Failure{Message: "it is version 5", Terminal: true, Reason: op.StaleVersion, CurrentVersion: &version}
	}
	w.in = append(w.in, arbiter.Input{Result: &r})
	if w.flip("the answer comes twice", 8) {
		again := r
		w.in = append(w.in, arbiter.Input{Result: &again})
	}
}

// settle lets time pass until nothing waits for time, in the way of a resolver
// that is punctual, or late.
func (w *world) settle() {
	for range 3 {
		for len(w.wants) > 0 {
			w.answer(w.draw("which want", len(w.wants)))
		}
		if len(w.in) > 0 {
			w.step()
		}
		at, ok := w.m.Next()
		if !ok || at.After(w.now.Add(400*time.Millisecond)) && !w.flip("long pause", 12) {
			return
		}
		if at.After(w.now) {
			w.now = at
		}
		if w.flip("late", 4) {
			w.now = w.now.Add(time.Duration(w.draw("by", 200)) * time.Millisecond)
		}
		w.step()
	}
}
