package arbiter_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// round is what reaches a partition within one window: the order of each
// target's operations is given, nothing else.
type round struct {
	ops     []message
	outcome map[string]*op.Failure // of an attempt, by operation
}

// message is a submission, or the cancellation of one that came before it.
type message struct {
	op.Operation
	cancel bool
}

// TestDeliveryOrderChangesNothing delivers the same operations again and again:
// those of different targets interleaved differently, other step boundaries,
// some of them twice, answers about ancestors sooner or later, results in another
// order, timers in one step or in several, a restart in between. Each target has
// the same winners, losers and reasons every time.
//
// Operations that come back after a backoff are left out: the delay is drawn from
// the id of the step, so another step is another draw. So is what depends on how
// much time passes: preemption, aging, and cancels of what executes.
func TestDeliveryOrderChangesNothing(t *testing.T) {
	for n := range fewer(120) {
		rounds := newRounds(newSeeded(*seed, 4_000_000+uint64(n)))
		want := deliver(t, rounds, newSeeded(*seed, 1))
		for again := range 4 {
			got := deliver(t, rounds, newSeeded(*seed, 2+uint64(again)))
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("-seed %d, rounds %d, delivery %d (-first +other):\n%s", *seed, n, again, d)
			}
		}
	}
}

func TestDeliveryOrderChangesNothingShrunk(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rounds := newRounds(shrinking{rt})
		first := deliver(t, rounds, newSeeded(*seed, 1))
		if d := cmp.Diff(first, deliver(t, rounds, shrinking{rt})); d != "" {
			rt.Fatalf("(-first +other):\n%s", d)
		}
	})
}

func newRounds(s source) []round {
	id := 0
	var rounds []round
	for range 1 + s.draw("rounds", 3) {
		r := round{outcome: map[string]*op.Failure{}}
		for range 1 + s.draw("operations", 24) {
			none := 0
			o := op.Operation{
				ID: "o" + strconv.Itoa(id), Type: op.TypeModifyField, Target: "t" + strconv.Itoa(s.draw("target", 4)),
				Priority: op.Priority(1 + s.draw("priority", 4)*3), MaxRetries: &none, OnConflict: conflicts[s.draw("on conflict", 2)],
			}
			id++
			o.Type = []string{op.TypeModifyField, op.TypeModifyField, op.TypeVersion, "paint", "unheard"}[s.draw("type", 5)]
			o.Submitter, o.Params = "s"+strconv.Itoa(s.draw("submitter", 2)), []byte(strconv.Itoa(s.draw("params", 2)))
			switch s.draw("parent", 4) {
			case 1:
				o.Parent = "o" + strconv.Itoa(s.draw("which", id+3))
			case 2:
				o.Parent = "far" + strconv.Itoa(s.draw("which", 6)) // every second one is known
			}
			if s.draw("fails", 4) == 3 {
				r.outcome[o.ID] = &op.Failure{Message: "it broke", Terminal: s.draw("terminal", 2) == 1}
			}
			r.ops = append(r.ops, message{Operation: o})
			if s.draw("cancelled", 8) == 7 {
				some := r.ops[s.draw("which", len(r.ops))]
				r.ops = append(r.ops, message{Operation: some.Operation, cancel: true})
			}
		}
		rounds = append(rounds, r)
	}
	return rounds
}

// carrier delivers rounds to one machine.
type carrier struct {
	source
	t     *testing.T
	m     *arbiter.Machine
	now   time.Time
	seq   uint64
	steps uint64
	in    []arbiter.Input
	wants []string
	sent  map[string]arbiter.Submit
	busy  []arbiter.Granted
	told  map[string][]string // by target
}

func deliver(t *testing.T, rounds []round, s source) map[string][]string {
	t.Helper()
	c := &carrier{source: s, t: t, m: arbiter.New(1), now: epoch, sent: map[string]arbiter.Submit{}, told: map[string][]string{}}
	outcome := map[string]*op.Failure{}
	p := arbiter.DefaultPolicy()
	p.Types = map[string]arbiter.TypePolicy{
		op.TypeModifyField: {OnConflict: op.OnConflictCoalesce}, "paint": {OnConflict: op.OnConflictSupersede, Range: arbiter.Range{Min: 2, Max: 9}},
	}
	p.Submitters = map[string]arbiter.Range{"s1": {Max: op.High}}
	p.Paused.Targets = []string{"t3"}
	c.in = append(c.in, arbiter.Input{Policy: &p})
	for _, r := range rounds {
		maps.Copy(outcome, r.outcome)
		c.submitAll(r.ops)
		// All windows pass: at their instants, or long after.
		for range c.draw("instants", 3) {
			if at, ok := c.m.Next(); ok && !at.After(c.now.Add(time.Second)) {
				c.now = latest(c.now, at)
				c.step()
			}
		}
		c.now = c.now.Add(time.Second)
		c.step()
		for len(c.busy) > 0 || len(c.in) > 0 {
			c.results(outcome)
		}
	}
	return c.told
}

// submitAll delivers operations within less than a window, in an order that
// keeps the order of each target.
func (c *carrier) submitAll(ops []message) {
	queues := map[string][]message{}
	var targets []string
	for _, o := range ops {
		if !slices.Contains(targets, o.Target) {
			targets = append(targets, o.Target)
		}
		queues[o.Target] = append(queues[o.Target], o)
	}
	end := c.now.Add(9 * time.Millisecond)
	for len(targets) > 0 {
		i := c.draw("next target", len(targets))
		target := targets[i]
		o := queues[target][0]
		if queues[target] = queues[target][1:]; len(queues[target]) == 0 {
			targets = slices.Delete(targets, i, i+1)
		}
		c.seq++
		if o.cancel {
			c.in = append(c.in, arbiter.Input{Cancel: &arbiter.Cancel{Place: op.Place{Seq: c.seq}, OpID: o.ID, Target: o.Target, Alone: true}})
			continue
		}
		s := arbiter.Submit{Place: op.Place{Seq: c.seq}, Operation: o.Operation}
		c.sent[o.ID] = s
		c.in = append(c.in, arbiter.Input{Submit: &s})
		if c.draw("redelivered", 6) == 5 {
			twice := c.sent["o"+strconv.Itoa(c.draw("which", len(c.sent)))]
			if twice.Operation.ID != "" {
				c.in = append(c.in, arbiter.Input{Submit: &twice})
			}
		}
		if c.draw("step boundary", 3) == 2 {
			c.step()
			if c.draw("pause", 2) == 1 && c.now.Before(end) {
				c.now = c.now.Add(time.Millisecond)
			}
		}
		if c.draw("answer", 4) == 3 {
			c.answer()
		}
	}
	c.step()
	for len(c.wants) > 0 {
		c.answer()
		c.step()
	}
}

// answer is about one ancestor of another partition.
func (c *carrier) answer() {
	if len(c.wants) == 0 {
		return
	}
	i := c.draw("which want", len(c.wants))
	id := c.wants[i]
	c.wants = slices.Delete(c.wants, i, i+1)
	k := arbiter.Kin{OpID: id, Unknown: true, Upto: 1 << 62}
	if n, far := strings.CutPrefix(id, "far"); far && (n == "0" || n == "2" || n == "4") {
		k = arbiter.Kin{OpID: id, Priority: op.Priority(2 + 3*int(n[0]-'0')/2), Parent: "far" + string(n[0]+1)}
	}
	c.in = append(c.in, arbiter.Input{Kin: &k})
}

// results reports some of the attempts, in any order, and late duplicates.
func (c *carrier) results(outcome map[string]*op.Failure) {
	for range 1 + c.draw("results", 3) {
		if len(c.busy) == 0 {
			break
		}
		i := c.draw("which attempt", len(c.busy))
		g := c.busy[i]
		c.busy = slices.Delete(c.busy, i, i+1)
		r := arbiter.Result{OpID: g.OpID, Target: g.Target, Attempt: g.Attempt, Executor: "e", Failure: outcome[g.OpID]}
		c.in = append(c.in, arbiter.Input{Result: &r})
		if c.draw("reported twice", 4) == 3 {
			c.in = append(c.in, arbiter.Input{Result: &r})
		}
	}
	c.now = c.now.Add(time.Duration(c.draw("pause", 3)) * time.Millisecond)
	c.step()
	for len(c.wants) > 0 {
		c.answer()
		c.step()
	}
}

func (c *carrier) step() {
	c.steps++
	s := arbiter.Step{ID: fmt.Sprintf("%d-%d", c.steps, c.draw("id", 1000)), Number: c.steps, At: c.now, In: c.in}
	c.in = nil
	c.m.Step(&s)
	if c.draw("restart", 8) == 7 {
		c.m, _ = restored(c.t, encoded(c.t, c.m.Snapshot()))
		c.wants = nil // the new owner asks again
	}
	c.wants = append(c.wants, c.m.Wants()...)
	for _, e := range s.Out {
		var target string
		switch {
		case e.Decision != nil:
			target = e.Decision.Target
		case e.Granted != nil:
			target = e.Granted.Target
			c.busy = append(c.busy, *e.Granted)
		case e.Succeeded != nil:
			target = e.Succeeded.Target
		case e.Failed != nil:
			target = e.Failed.Target
		case e.Rejected != nil:
			target = e.Rejected.Target
		case e.Cancelled != nil:
			target = e.Cancelled.Target
		case e.Coalesced != nil:
			target = e.Coalesced.Target
		case e.Shared != nil:
			target = e.Shared.Target
		case e.Parted != nil:
			target = e.Parted.Target
		case e.Retry != nil, e.Lapsed != nil, e.Preempted != nil:
			c.t.Fatalf("step %d has effects that this test does not know: %v", c.steps, spoken(s.Out))
		default:
			continue
		}
		c.told[target] = append(c.told[target], spoken([]arbiter.Effect{e})...)
	}
}
