package arbiter_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// bulk drives a machine through what is too much for one step. Another machine is
// restored from its snapshot before every step, and has to do the same.
type bulk struct {
	t      *testing.T
	m      *arbiter.Machine
	watch  *watch
	n, seq uint64
	now    time.Time
	full   int // steps that left something over
	other  bool
}

func newBulk(t *testing.T, change func(p *arbiter.Policy)) *bulk {
	t.Helper()
	b := &bulk{t: t, m: arbiter.New(7), watch: newWatch(), now: epoch}
	b.policy(change)
	return b
}

func (b *bulk) policy(change func(p *arbiter.Policy)) {
	b.t.Helper()
	p := arbiter.DefaultPolicy()
	p.Revision, p.MaxOpen, p.MaxExecuting = b.n+1, 20_000, 5_000
	change(&p)
	b.step(arbiter.Input{Policy: &p})
}

// step runs one step, which has to fit into one message.
func (b *bulk) step(in ...arbiter.Input) *arbiter.Step {
	b.t.Helper()
	b.n++
	s := &arbiter.Step{Schema: arbiter.StepSchema, ID: uuidLike("step", int(b.n)), Partition: 7, Number: b.n, At: b.now, Owner: "r1", Cursor: b.seq, In: in}
	var twin *arbiter.Machine
	if b.other {
		twin, _ = restored(b.t, encoded(b.t, b.m.Snapshot()))
	}
	b.m.Step(s)
	if twin != nil {
		copied := again(b.t, s)
		if err := twin.Replay(&copied); err != nil {
			b.t.Fatalf("taken over before step %d: %v", b.n, err)
		}
		if next(twin) != next(b.m) || twin.Backlog() != b.m.Backlog() {
			b.t.Fatalf("taken over before step %d: the next is due %s, not %s", b.n, next(twin), next(b.m))
		}
	}
	said, is := arbiter.EffectBytes(s.Out), marshalled(b.t, s.Out)
	if len(s.Out) > 0 && said < is {
		b.t.Fatalf("step %d: effects of %d bytes are taken for %d", b.n, is, said)
	}
	decided := len(s.Out) > 0 && s.Out[0].Decision != nil // one may be larger, alone
	if is > arbiter.MaxEffectBytes+8<<10 && !decided || marshalled(b.t, s) >= most && len(in) < 500 {
		b.t.Fatalf("step %d: %d effects have %d bytes", b.n, len(s.Out), is)
	}
	if b.m.Backlog() {
		b.full++
	}
	b.watch.see(s)
	if len(b.watch.broken) > 0 {
		b.t.Fatal(strings.Join(b.watch.broken, "\n"))
	}
	return s
}

// submit takes operations in, 400 in a step.
func (b *bulk) submit(n int, with func(i int, o *op.Operation)) {
	b.t.Helper()
	var in []arbiter.Input
	for i := range n {
		o := operation(uuidLike("o", int(b.seq)), uuidLike("door", 0))
		with(i, &o)
		b.seq++
		in = append(in, submitted(b.seq, o))
		if len(in) == 400 || i == n-1 {
			b.step(in...)
			in = nil
		}
	}
}

// settle goes on as long as something is left over, taken over before each step.
func (b *bulk) settle() (effects map[string]int) {
	b.t.Helper()
	effects = map[string]int{}
	b.other = true
	for n := 0; b.m.Backlog(); n++ {
		if n > 200 {
			b.t.Fatal("it never ends")
		}
		count(effects, b.step())
	}
	b.other = false
	return effects
}

func count(effects map[string]int, s *arbiter.Step) {
	for _, e := range s.Out {
		switch {
		case e.Cancelled != nil:
			effects["cancelled "+string(e.Cancelled.Reason)]++
		case e.Rejected != nil:
			effects["rejected "+string(e.Rejected.Reason)]++
		case e.Shared != nil:
			effects["shared"]++
		case e.Parted != nil:
			effects["parted"]++
		case e.Coalesced != nil:
			effects["coalesced"]++
		}
	}
}

func (b *bulk) finish(id string, failure *op.Failure) *arbiter.Step {
	b.t.Helper()
	v, _ := b.m.Describe(id)
	return b.step(arbiter.Input{Result: &arbiter.Result{OpID: id, Target: v.Operation.Target, Attempt: v.Attempt, Failure: failure}})
}

// TestTenThousandAreCancelledAtOnce: by submitter, by ancestor, and by a type that
// is registered no longer. It takes many steps; each fits into a message, anybody
// may take over in between, and what comes meanwhile waits its turn.
func TestTenThousandAreCancelledAtOnce(t *testing.T) {
	many := 10_000
	if testing.Short() || fewer(many) < many {
		many = 3_000 // still more than one step
	}
	for name, c := range map[string]struct {
		in   func(b *bulk) arbiter.Input
		want string
	}{
		"a submitter": {func(*bulk) arbiter.Input {
			return arbiter.Input{Cancel: &arbiter.Cancel{Place: op.Place{Seq: uint64(many + 1)}, Submitter: "nightly"}}
		}, "cancelled cancelled"},
		"an ancestor": {func(*bulk) arbiter.Input {
			return arbiter.Input{Cancel: &arbiter.Cancel{Place: op.Place{Seq: uint64(many + 1)}, Ancestors: []string{uuidLike("k", 1)}}}
		}, "cancelled cancelled_with_parent"},
		"a type": {func(b *bulk) arbiter.Input {
			p := b.m.Policy()
			p.Types = nil
			return arbiter.Input{Policy: &p}
		}, "rejected unknown_type"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBulk(t, func(p *arbiter.Policy) {
				p.StagingWindow, p.Types = time.Hour, map[string]arbiter.TypePolicy{"paint": {}}
			})
			b.step(arbiter.Input{Kin: &arbiter.Kin{OpID: uuidLike("k", 1), Priority: op.Low}})
			b.submit(many, func(i int, o *op.Operation) {
				o.Type, o.Submitter, o.Target, o.Parent = "paint", "nightly", uuidLike("t", i%3_000), uuidLike("k", 1)
			})
			effects := map[string]int{}
			b.other = true
			count(effects, b.step(c.in(b)))
			if !b.m.Backlog() || effects[c.want] == 0 {
				t.Fatalf("%v in the first step, backlog %v", effects, b.m.Backlog())
			}
			for what, k := range b.settle() {
				effects[what] += k
			}
			if effects[c.want] != many || len(effects) != 1 || b.m.Open() != 0 {
				t.Errorf("%v, %d open", effects, b.m.Open())
			}
			if _, due := b.m.Next(); due {
				t.Error("something is still due")
			}
			t.Logf("%d operations in %d steps", many, b.full+1)
		})
	}
}

// TestAllOfATargetAreCancelled: what executes is protected by its grace, whatever
// is staged, away or coalesced is not.
func TestAllOfATargetAreCancelled(t *testing.T) {
	b := newBulk(t, func(p *arbiter.Policy) {
		p.StagingWindow, p.Types = 0, map[string]arbiter.TypePolicy{op.TypeModifyField: {OnConflict: op.OnConflictCoalesce}}
	})
	b.submit(1, func(_ int, o *op.Operation) { o.ID = "leader" })
	b.submit(1_900, func(_ int, o *op.Operation) { o.OnConflict, o.Type = op.OnConflictQueue, op.TypeVersion })
	effects := map[string]int{}
	b.other = true
	b.seq++
	count(effects, b.step(arbiter.Input{Cancel: &arbiter.Cancel{Place: op.Place{Seq: b.seq}, All: true, Target: uuidLike("door", 0)}}))
	for what, k := range b.settle() {
		effects[what] += k
	}
	if effects["cancelled cancelled"] != 1_900 || b.m.Open() != 1 || len(b.m.Executing()) != 1 {
		t.Errorf("%v, %d open, executing on %v", effects, b.m.Open(), b.m.Executing())
	}
	b.now = b.now.Add(100 * time.Millisecond)
	if s := b.step(); len(s.Out) != 1 || s.Out[0].Cancelled == nil || b.m.Open() != 0 {
		t.Errorf("when grace ends: %v", spoken(s.Out))
	}
}

// leading coalesces two thousand operations into one that executes.
func leading(t *testing.T, riders int) *bulk {
	t.Helper()
	b := newBulk(t, func(p *arbiter.Policy) {
		p.StagingWindow, p.Types = 10*time.Millisecond, map[string]arbiter.TypePolicy{op.TypeModifyField: {OnConflict: op.OnConflictCoalesce}}
		p.GracePeriod = 0
	})
	three := 3
	b.submit(1, func(_ int, o *op.Operation) { o.ID, o.Priority, o.MaxRetries = "leader", op.Critical, &three })
	effects := map[string]int{}
	for coalesced := 0; ; {
		b.submit(min(riders-coalesced, 900), func(int, *op.Operation) {})
		b.now = b.now.Add(10 * time.Millisecond)
		count(effects, b.step())
		for b.m.Backlog() {
			count(effects, b.step())
		}
		if coalesced = effects["coalesced"]; coalesced >= riders {
			break
		}
		b.finish("leader", &op.Failure{Message: "not yet"})
		v, ok := b.m.Describe("leader")
		if !ok || v.Due.Before(b.now) {
			t.Fatalf("%d are coalesced, the leader is %+v", coalesced, v)
		}
		b.now = v.Due // it has to be there before the next ones
		b.step()
	}
	if v, _ := b.m.Describe("leader"); v.Status != op.Executing || b.m.Open() != riders+1 {
		t.Fatalf("the leader is %s, %d open, %v", v.Status, b.m.Open(), effects)
	}
	return b
}

// TestTwoThousandShareOneOutcome: success, failure or an end of its own.
func TestTwoThousandShareOneOutcome(t *testing.T) {
	const riders = 2_000
	for name, c := range map[string]struct {
		end  func(b *bulk) *arbiter.Step
		want string
	}{
		"success": {func(b *bulk) *arbiter.Step { return b.finish("leader", nil) }, "shared"},
		"failure": {func(b *bulk) *arbiter.Step {
			return b.finish("leader", &op.Failure{Code: "no_such_door", Message: strings.Repeat("the door is gone ", 28), Terminal: true})
		}, "rejected terminal_error"},
	} {
		t.Run(name, func(t *testing.T) {
			b := leading(t, riders)
			effects := map[string]int{}
			b.other = true
			s := c.end(b)
			count(effects, s)
			for what, k := range b.settle() {
				effects[what] += k
			}
			if effects["rejected terminal_error"] > riders {
				effects["rejected terminal_error"]-- // the leader
			}
			if effects[c.want] != riders || len(effects) != 1 || b.m.Open() != 0 || b.full == 0 {
				t.Errorf("%v, %d open, %d full steps", effects, b.m.Open(), b.full)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		b := leading(t, riders)
		effects := map[string]int{}
		b.other = true
		b.seq++
		count(effects, b.step(arbiter.Input{Cancel: &arbiter.Cancel{Place: op.Place{Seq: b.seq}, OpID: "leader", Target: uuidLike("door", 0)}}))
		for what, k := range b.settle() {
			effects[what] += k
		}
		// They are staged again, as many as the target may have.
		if effects["parted"] != riders || effects["cancelled cancelled"] != 1 || b.m.Open()+effects["rejected staging_full"] != riders {
			t.Errorf("%v, %d open", effects, b.m.Open())
		}
		b.now = b.now.Add(10 * time.Millisecond)
		b.other = true
		count(effects, b.step())
		for what, k := range b.settle() {
			effects[what] += k
		}
		if len(b.m.Executing()) != 1 {
			t.Errorf("%v, executing on %v", effects, b.m.Executing())
		}
	})
}

// TestManyAreSupersededAtOnce: those that were staged before the operator chose so.
func TestManyAreSupersededAtOnce(t *testing.T) {
	b := newBulk(t, func(p *arbiter.Policy) { p.StagingWindow = time.Hour })
	b.submit(2_000, func(_ int, o *op.Operation) { o.Submitter, o.OnConflict = "panel", op.OnConflictQueue })
	b.policy(func(p *arbiter.Policy) {
		p.StagingWindow, p.Types = time.Hour, map[string]arbiter.TypePolicy{op.TypeModifyField: {OnConflict: op.OnConflictSupersede}}
	})
	newest := operation("newest", uuidLike("door", 0))
	newest.Submitter, newest.Priority = "panel", op.Critical
	b.seq++
	effects := map[string]int{}
	b.other = true
	count(effects, b.step(submitted(b.seq, newest)))
	for what, k := range b.settle() {
		effects[what] += k
	}
	if effects["rejected superseded"] < 1_999 || b.m.Open() != 1 || b.full == 0 {
		t.Errorf("%v, %d open, %d full steps", effects, b.m.Open(), b.full)
	}
	if v, ok := b.m.Describe("newest"); !ok || v.Status != op.Pending {
		t.Errorf("the newest is %+v", v)
	}
}

// TestACancelThatIsDueIsNotOvertaken: so much expires that the end of a grace, for
// which a cancel waits, does not fit into the step. Whoever comes in that very step
// and is stronger does not preempt what is as good as cancelled.
func TestACancelThatIsDueIsNotOvertaken(t *testing.T) {
	b := newBulk(t, func(p *arbiter.Policy) { p.StagingWindow, p.Preemption = 0, true })
	b.submit(1, func(_ int, o *op.Operation) { o.ID, o.Priority, o.Preemptible = "weak", op.Low, true })
	b.policy(func(p *arbiter.Policy) { p.StagingWindow, p.Preemption = time.Hour, true })
	b.submit(1_500, func(i int, o *op.Operation) {
		o.Target, o.Deadline = uuidLike("t", i), &op.Deadline{After: 99 * time.Millisecond}
	})
	b.policy(func(p *arbiter.Policy) { p.StagingWindow, p.Preemption = 0, true })
	b.seq++
	b.step(arbiter.Input{Cancel: &arbiter.Cancel{Place: op.Place{Seq: b.seq}, OpID: "weak", Target: uuidLike("door", 0)}})
	b.now = b.now.Add(time.Second)
	b.seq++
	strong := operation("strong", uuidLike("door", 0))
	s := b.step(submitted(b.seq, strong))
	if at, _ := b.m.Next(); at.After(b.now) || len(s.Out) < 500 {
		t.Fatalf("the step is not full: %d effects", len(s.Out))
	}
	for n := 0; ; n++ {
		for _, e := range s.Out {
			if e.Preempted != nil || n > 10 {
				t.Fatalf("step %d: %+v", n, e.Preempted)
			}
			if g := e.Granted; g != nil && g.OpID == "strong" {
				return
			}
		}
		s = b.step()
	}
}
