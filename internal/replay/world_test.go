package replay

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// world records a random history in which everything happens that can happen to
// an operation, by a resolver that is punctual or late.
type world struct {
	*rand.Rand
	m      *arbiter.Machine
	now    time.Time
	seq    uint64
	next   int // operation
	epoch  uint64
	in     []arbiter.Input
	steps  []arbiter.Step
	wants  []question
	grants []arbiter.Granted
	counts map[string]int // of effects, to know that it all happened
}

func newWorld(seed uint64) *world {
	return &world{Rand: rand.New(rand.NewPCG(seed, 20260101)), m: arbiter.New(testPartition), now: begun, epoch: 1, counts: map[string]int{}}
}

func (w *world) oneIn(n int) bool { return w.IntN(n) == 0 }

func (w *world) live(rounds int) {
	w.step()
	for range rounds {
		w.pass()
		if w.m.Backlog() {
			w.step() // what was left over comes first, and alone
			continue
		}
		w.ask()
		w.report()
		w.answer()
		w.command()
		if w.oneIn(40) {
			w.takeOver()
			continue
		}
		w.step()
	}
	if w.oneIn(3) {
		w.takeOver()
	}
}

// pass lets time pass, to the instant at which something is due or not.
func (w *world) pass() {
	at, ok := w.m.Next()
	switch {
	case ok && w.oneIn(2):
		if at.After(w.now) && at.Sub(w.now) < time.Minute {
			w.now = at
		}
	case w.oneIn(4): // the same instant again
	default:
		w.now = w.now.Add(time.Duration(w.IntN(30_000)) * time.Microsecond)
	}
}

func (w *world) ask() {
	for range w.IntN(4) {
		w.seq++
		for i := range 1 + w.IntN(2) {
			s := &arbiter.Submit{Place: op.Place{Seq: w.seq, Index: i}, Operation: w.operation()}
			w.in = append(w.in, arbiter.Input{Submit: s})
		}
	}
}

func (w *world) operation() op.Operation {
	retries := w.IntN(4)
	o := op.Operation{
		ID: "o" + strconv.Itoa(w.next), Type: []string{op.TypeModifyField, op.TypeVersion, op.TypeComplexUpdate, "paint", op.TypeFollowUp}[w.IntN(5)],
		Target: "t" + strconv.Itoa(w.IntN(6)), Priority: op.Priority(1 + w.IntN(10)), MaxRetries: &retries,
		OnConflict: []op.Conflict{op.OnConflictReject, op.OnConflictQueue, op.OnConflictRetry}[w.IntN(3)],
		Params:     []byte(`{"n":` + strconv.Itoa(w.IntN(2)) + `}`), Submitter: []string{"", "s1", "s2"}[w.IntN(3)], Preemptible: w.oneIn(2),
	}
	if o.Type == op.TypeFollowUp && !w.oneIn(4) {
		o.Type = op.TypeModifyField
	}
	if w.oneIn(20) && w.next > 0 {
		o.ID = "o" + strconv.Itoa(w.IntN(w.next)) // again
	} else {
		w.next++
	}
	switch w.IntN(8) {
	case 0, 1:
		o.Parent = "o" + strconv.Itoa(w.IntN(w.next+3))
	case 2:
		o.Parent = "k" + strconv.Itoa(w.IntN(6)) // of another partition
	}
	if w.oneIn(8) {
		o.Deadline = &op.Deadline{After: millis(1 + w.IntN(400))}
	}
	return o
}

// report lets executors say something, also long after they were fenced off.
func (w *world) report() {
	for i := 0; i < len(w.grants); i++ {
		g := w.grants[i]
		switch w.IntN(8) {
		case 0, 1, 2:
			r := arbiter.Result{OpID: g.OpID, Target: g.Target, Attempt: g.Attempt, Executor: "e1", Duration: millis(w.IntN(9)), Change: []byte(`{}`)}
			switch w.IntN(6) {
			case 0:
				r.Failure = &op.Failure{Message: "no answer from " + g.OpID}
			case 1:
				r.Failure = &op.Failure{Message: "no such field", Terminal: true}
			}
			w.in = append(w.in, arbiter.Input{Result: &r})
			if w.oneIn(6) {
				again := r
				w.in = append(w.in, arbiter.Input{Result: &again})
			}
			if !w.oneIn(6) {
				w.grants = slices.Delete(w.grants, i, i+1)
				i--
			}
		case 3:
			w.in = append(w.in, arbiter.Input{Beat: &arbiter.Beat{OpID: g.OpID, Target: g.Target, Attempt: g.Attempt, Executor: "e1"}})
		case 4:
			if w.oneIn(8) {
				w.grants = slices.Delete(w.grants, i, i+1) // it dies
				i--
			}
		}
	}
}

// answer tells about ancestors, sometimes late, and sometimes never.
func (w *world) answer() {
	for i := 0; i < len(w.wants); i++ {
		if w.oneIn(3) {
			continue
		}
		q := w.wants[i]
		w.wants = slices.Delete(w.wants, i, i+1)
		i--
		if w.oneIn(20) {
			continue // whoever searched has died
		}
		k := arbiter.Kin{OpID: q.id, Unknown: true, Upto: q.upto}
		if n, err := strconv.Atoi(q.id[1:]); err == nil && q.id[0] == 'k' && n < 4 {
			k = arbiter.Kin{OpID: q.id, Priority: op.Priority(2 * (n + 1)), Parent: "k" + strconv.Itoa(n+1)}
		}
		w.in = append(w.in, arbiter.Input{Kin: &k})
	}
}

// command lets operators and clients intervene.
func (w *world) command() {
	switch w.IntN(30) {
	case 0, 1, 2:
		n := w.IntN(w.next + 1)
		for _, in := range slices.Backward(w.steps) {
			if len(in.Out) > 0 && in.Out[0].Accepted != nil {
				id := in.Out[0].Accepted.OpID
				w.cancel(arbiter.Cancel{OpID: id, Target: "t" + strconv.Itoa(w.IntN(6)), Alone: w.oneIn(3)})
				break
			}
		}
		w.cancel(arbiter.Cancel{OpID: "o" + strconv.Itoa(n), Target: "t" + strconv.Itoa(w.IntN(6))})
	case 3:
		for _, g := range w.grants {
			w.cancel(arbiter.Cancel{OpID: g.OpID, Target: g.Target, Alone: w.oneIn(2)})
		}
	case 4:
		w.cancel(arbiter.Cancel{Target: "t" + strconv.Itoa(w.IntN(6)), All: true})
	case 5:
		w.cancel(arbiter.Cancel{Submitter: "s1"})
	case 6:
		w.cancel(arbiter.Cancel{Ancestors: []string{"k1", "o" + strconv.Itoa(w.IntN(w.next+1))}})
	case 7, 8:
		p := w.policy()
		w.in = append(w.in, arbiter.Input{Policy: &p})
	case 9:
		w.in = append(w.in, arbiter.Input{Invalid: &arbiter.Invalid{Error: op.Errorf(op.CodeBadJSON, "", "no")}})
	}
}

func (w *world) cancel(c arbiter.Cancel) {
	w.seq++
	c.Place.Seq = w.seq
	w.in = append(w.in, arbiter.Input{Cancel: &c})
}

// policy draws one in which much happens soon.
func (w *world) policy() arbiter.Policy {
	p := arbiter.DefaultPolicy()
	p.Revision = uint64(1 + w.IntN(1000))
	p.StagingWindow = millis([]int{0, 3, 10, 40}[w.IntN(4)])
	p.GracePeriod = millis([]int{0, 20, 100}[w.IntN(3)])
	p.AttemptTimeout = millis([]int{100, 200, 30_000}[w.IntN(3)])
	p.RetryBase, p.RetryMax = millis(1+w.IntN(100)), millis(200)
	p.MaxStaged = []int{3, 2000}[w.IntN(2)]
	p.MaxExecuting = []int{2, 64}[w.IntN(2)]
	p.MaxOpen = []int{12, 10_000}[w.IntN(2)]
	p.Preemption = w.oneIn(2)
	if w.oneIn(3) {
		p.Aging = arbiter.Aging{Every: millis(20), Step: 1, Max: 5}
	}
	if w.oneIn(5) {
		p.Paused.Targets = []string{"t1"}
	}
	p.Types = map[string]arbiter.TypePolicy{}
	if !w.oneIn(4) {
		p.Types["paint"] = arbiter.TypePolicy{Range: arbiter.Range{Max: 5}}
	}
	for _, name := range []string{op.TypeModifyField, op.TypeVersion} {
		if w.oneIn(2) {
			p.Types[name] = arbiter.TypePolicy{OnConflict: []op.Conflict{op.OnConflictCoalesce, op.OnConflictSupersede, op.OnConflictQueue}[w.IntN(3)]}
		}
	}
	return p
}

func (w *world) takeOver() {
	w.epoch++
	s := w.head()
	s.Takeover = true
	w.m.Step(&s)
	w.steps = append(w.steps, s)
}

func (w *world) head() arbiter.Step {
	n := len(w.steps) + 1
	return arbiter.Step{
		Schema: arbiter.StepSchema, ID: "step-" + strconv.Itoa(n), Partition: testPartition,
		Number: uint64(n), Epoch: w.epoch, Owner: "r1", At: w.now, Cursor: w.seq,
	}
}

func (w *world) step() {
	s := w.head()
	s.In, w.in = w.in, nil
	w.m.Step(&s)
	w.steps = append(w.steps, s)
	for _, id := range w.m.Wants() {
		w.wants = append(w.wants, question{id, w.seq})
	}
	for i := range s.Out {
		if g := s.Out[i].Granted; g != nil {
			w.grants = append(w.grants, *g)
		}
		w.counts[kindOf(&s.Out[i])]++
	}
}

func kindOf(e *arbiter.Effect) string {
	switch {
	case e.Repeated != nil:
		return "repeated"
	case e.Decision != nil:
		return "decision"
	case e.Succeeded != nil:
		return "succeeded"
	case e.Failed != nil:
		return "failed"
	case e.Retry != nil:
		return "retry"
	case e.Lapsed != nil && e.Lapsed.Claimed:
		return "lapsed, claimed"
	case e.Lapsed != nil:
		return "lapsed"
	case e.Rejected != nil:
		return "rejected " + string(e.Rejected.Reason)
	case e.Cancelled != nil:
		return "cancelled from " + string(e.Cancelled.From) + " " + string(e.Cancelled.Reason)
	case e.Refused != nil:
		return "refused"
	case e.Extended != nil:
		return "extended"
	case e.Preempted != nil:
		return "preempted"
	case e.Protected != nil:
		return "protected"
	case e.Coalesced != nil:
		return "coalesced"
	case e.Shared != nil:
		return "shared"
	case e.Parted != nil:
		return "parted"
	}
	return "other"
}
