package arbiter_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// graced is a machine on which a preemptible operation executes.
type graced struct {
	m    *arbiter.Machine
	n    uint64
	ends time.Time // of its grace
}

// newGraced lets an operation win at some instant, under some grace.
func newGraced(t *rapid.T) *graced {
	p := arbiter.DefaultPolicy()
	p.StagingWindow, p.Preemption = 0, true
	p.GracePeriod = time.Duration(rapid.Int64Range(int64(2*time.Millisecond), int64(2*time.Second)).Draw(t, "grace"))
	g := &graced{m: arbiter.New(0)}
	at := epoch.Add(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "granted")))
	o := operation("low", "door")
	o.Priority, o.Preemptible = op.Low, true
	g.ends = at.Add(p.GracePeriod)
	if s := g.step(at, arbiter.Input{Policy: &p}, submitted(1, o)); len(s.Out) != 3 || s.Out[2].Granted == nil {
		t.Fatalf("it did not win: %v", spoken(s.Out))
	}
	return g
}

func (g *graced) step(at time.Time, in ...arbiter.Input) *arbiter.Step {
	g.n++
	s := &arbiter.Step{ID: "s" + strconv.FormatUint(g.n, 10), Number: g.n, At: at, In: in}
	g.m.Step(s)
	return s
}

// around are instants before, at and after the end of grace.
var around = []time.Duration{-2 * time.Millisecond, -time.Millisecond, -1, 0, 1, time.Millisecond, 10 * time.Second}

// gone returns the effect by which the operation left its target, if it did.
func gone(s *arbiter.Step) string {
	for _, e := range s.Out {
		if c := e.Cancelled; c != nil && c.OpID == "low" {
			return fmt.Sprintf("cancelled from %s, attempt %d", c.From, c.Attempt)
		}
		if p := e.Preempted; p != nil && p.OpID == "low" {
			return fmt.Sprintf("preempted by %s, attempt %d", p.By, p.Attempt)
		}
	}
	return ""
}

// spared returns what an operation was promised instead.
func spared(s *arbiter.Step) *arbiter.Protected {
	for _, e := range s.Out {
		if e.Protected != nil && e.Protected.OpID == "low" {
			return e.Protected
		}
	}
	return nil
}

// TestGraceEndsToTheNanosecond asks for a cancel and for a preemption around the
// end of grace. What comes before takes effect when grace ends, not a nanosecond
// earlier; what comes then or later takes effect at once.
func TestGraceEndsToTheNanosecond(t *testing.T) {
	asked := map[string]struct {
		in   func() arbiter.Input
		want string
	}{
		"a cancel": {func() arbiter.Input {
			return arbiter.Input{Cancel: &arbiter.Cancel{Place: op.Place{Seq: 2}, OpID: "low", Target: "door"}}
		}, "cancelled from EXECUTING, attempt 1"},
		"all of the target": {func() arbiter.Input {
			return arbiter.Input{Cancel: &arbiter.Cancel{Place: op.Place{Seq: 2}, All: true, Target: "door"}}
		}, "cancelled from EXECUTING, attempt 1"},
		"a stronger one": {func() arbiter.Input {
			o := operation("high", "door")
			o.Priority = op.High
			return submitted(2, o)
		}, "preempted by high, attempt 1"},
	}
	for name, c := range asked {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				for _, offset := range around {
					g := newGraced(t)
					s := g.step(g.ends.Add(offset), c.in())
					if offset >= 0 {
						if gone(s) != c.want {
							t.Fatalf("%s after grace: %v", offset, spoken(s.Out))
						}
						continue
					}
					if p := spared(s); gone(s) != "" || p == nil || p.Kind != arbiter.ProtectedByGrace || !p.Until.Equal(g.ends) {
						t.Fatalf("%s before the end of grace: %v", -offset, spoken(s.Out))
					}
					if s = g.step(g.ends.Add(-1)); len(s.Out) > 0 {
						t.Fatalf("a nanosecond before the end of grace: %v", spoken(s.Out))
					}
					if at, ok := g.m.Next(); !ok || !at.Equal(g.ends) {
						t.Fatalf("the next is due %s after the end of grace", at.Sub(g.ends))
					}
					late := time.Duration(rapid.SampledFrom([]int64{0, 1, int64(time.Second)}).Draw(t, "late"))
					if s = g.step(g.ends.Add(late)); gone(s) != c.want {
						t.Fatalf("%s after the end of grace: %v", late, spoken(s.Out))
					}
				}
			})
		})
	}
}

// TestGraceIsOfTheAttempt: a second attempt has a grace of its own.
func TestGraceIsOfTheAttempt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := newGraced(t)
		grace := g.m.Policy().GracePeriod
		high := operation("high", "door")
		high.Priority = op.High
		s := g.step(g.ends, submitted(2, high))
		if gone(s) == "" {
			t.Fatalf("not preempted: %v", spoken(s.Out))
		}
		ended := g.ends.Add(time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "high executes")))
		s = g.step(ended, arbiter.Input{Result: &arbiter.Result{OpID: "high", Target: "door", Attempt: 1}})
		if len(s.Out) != 3 || s.Out[2].Granted == nil || s.Out[2].Granted.Attempt != 2 {
			t.Fatalf("low has no second attempt: %v", spoken(s.Out))
		}
		higher := operation("higher", "door")
		higher.Priority = op.Critical
		if s = g.step(ended.Add(grace-1), submitted(3, higher)); gone(s) != "" || spared(s) == nil {
			t.Fatalf("inside the grace of the second attempt: %v", spoken(s.Out))
		}
		if s = g.step(ended.Add(grace)); gone(s) != "preempted by higher, attempt 2" {
			t.Fatalf("after the grace of the second attempt: %v", spoken(s.Out))
		}
	})
}

// fences follows what executes by the effects alone, and knows which attempts are
// over: it has no other idea of the rules.
type fences struct {
	policy    arbiter.Policy
	executing map[string]arbiter.Granted // by target
	granted   map[string]time.Time       // by operation, the current attempt
	preempted map[string]int
	over      []arbiter.Granted // preempted or cancelled attempts
	broken    []string
}

func newFences() *fences {
	return &fences{executing: map[string]arbiter.Granted{}, granted: map[string]time.Time{}, preempted: map[string]int{}}
}

func (f *fences) see(s *arbiter.Step) {
	for _, in := range s.In {
		if in.Policy != nil {
			f.policy = *in.Policy
		}
	}
	fault := func(format string, args ...any) {
		f.broken = append(f.broken, fmt.Sprintf("step %d: ", s.Number)+fmt.Sprintf(format, args...))
	}
	end := func(id, target string) arbiter.Granted {
		g := f.executing[target]
		if g.OpID == id {
			delete(f.executing, target)
		}
		return g
	}
	fenced := func(id, target string, attempt int) {
		g := end(id, target)
		if g.OpID != id || g.Attempt != attempt {
			fault("attempt %d of %s is stopped, %s executes attempt %d", attempt, id, g.OpID, g.Attempt)
		}
		if s.At.Before(f.granted[id].Add(f.policy.GracePeriod)) {
			fault("%s is stopped inside its grace", id)
		}
		f.over = append(f.over, g)
	}
	for _, e := range s.Out {
		switch {
		case e.Granted != nil:
			if g, busy := f.executing[e.Granted.Target]; busy {
				fault("%s executes together with %s", e.Granted.OpID, g.OpID)
			}
			f.executing[e.Granted.Target], f.granted[e.Granted.OpID] = *e.Granted, s.At
		case e.Succeeded != nil:
			for _, g := range f.over {
				if g.OpID == e.Succeeded.OpID && g.Attempt == e.Succeeded.Attempt {
					fault("attempt %d of %s was stopped and succeeds", g.Attempt, g.OpID)
				}
			}
			end(e.Succeeded.OpID, e.Succeeded.Target)
		case e.Failed != nil:
			end(e.Failed.OpID, e.Failed.Target)
		case e.Lapsed != nil:
			end(e.Lapsed.OpID, e.Lapsed.Target)
		case e.Preempted != nil:
			fenced(e.Preempted.OpID, e.Preempted.Target, e.Preempted.Attempt)
			if f.preempted[e.Preempted.OpID]++; f.preempted[e.Preempted.OpID] > f.policy.MaxPreemptions {
				fault("%s is preempted for the %dth time", e.Preempted.OpID, f.preempted[e.Preempted.OpID])
			}
		case e.Cancelled != nil && e.Cancelled.From == op.Executing:
			fenced(e.Cancelled.OpID, e.Cancelled.Target, e.Cancelled.Attempt)
		}
	}
}

// pushy is a world under one policy that preempts, with operations that can be.
func pushy(n uint64) *world {
	w := newWorld(newSeeded(*seed, 6_000_000+n))
	p := arbiter.DefaultPolicy()
	p.Revision, p.Preemption, p.MaxPreemptions = 1, true, w.draw("preemptions", 4)
	p.GracePeriod = time.Duration(w.draw("grace", 60)) * time.Millisecond
	p.StagingWindow = time.Duration(w.draw("window", 20)) * time.Millisecond
	if w.flip("aging", 3) {
		p.Aging = arbiter.Aging{Every: 50 * time.Millisecond, Step: 1, Max: 1 + w.draw("max", 4)}
	}
	w.in = append(w.in, arbiter.Input{Policy: &p})
	return w
}

// TestPreemptionKeepsItsPromises plays random histories in which much is preempted
// and cancelled, and reports every attempt that was stopped once more.
func TestPreemptionKeepsItsPromises(t *testing.T) {
	preempted, stopped, most := 0, 0, 0
	for n := range fewer(250) {
		w, f := pushy(uint64(n)), newFences()
		seen := 0
		look := func() {
			for ; seen < len(w.steps); seen++ {
				f.see(&w.steps[seen])
			}
			if len(f.broken) > 0 || w.wrong != "" {
				t.Fatalf("-seed %d, history %d: %v\n%s", *seed, n, f.broken, w.wrong)
			}
		}
		for range 60 {
			o := w.operation()
			o.Preemptible, o.Priority = w.draw("preemptible", 4) > 0, op.Priority(1+w.draw("priority", 10))
			w.submit(o, 0)
			if w.flip("cancel", 8) {
				some := w.sent[w.ids[w.draw("which", len(w.ids))]].Operation
				w.cancel(arbiter.Cancel{OpID: some.ID, Target: some.Target})
			}
			if len(w.grants) > 0 && w.flip("result", 3) {
				w.report()
			}
			w.step()
			for len(w.wants) > 0 {
				w.answer(0)
			}
			w.now = w.now.Add(time.Duration(w.draw("pause", 30)) * time.Millisecond)
			w.step()
			look()
			for _, g := range f.over {
				w.in = append(w.in, arbiter.Input{Result: &arbiter.Result{OpID: g.OpID, Target: g.Target, Attempt: g.Attempt, Executor: "fenced"}})
			}
			if len(f.over) == 0 {
				continue
			}
			w.step()
			late := w.steps[len(w.steps)-1]
			for i, g := range f.over {
				if r := late.Out[i].Refused; r == nil || r.OpID != g.OpID || r.Input != i {
					t.Fatalf("-seed %d, history %d: a result of a stopped attempt of %s: %v", *seed, n, g.OpID, spoken(late.Out))
				}
			}
			look()
			stopped += len(f.over)
			f.over = nil
		}
		for _, k := range f.preempted {
			preempted += k
			most = max(most, k)
		}
	}
	t.Logf("%d preemptions, at most %d of one operation, %d attempts stopped and reported", preempted, most, stopped)
	often := 3 // the bound; few histories reach it
	if fewer(5) < 5 {
		often = 2
	}
	if preempted < fewer(600) || most < often || stopped < preempted {
		t.Errorf("%d preemptions, at most %d of one operation, %d attempts stopped: too little happened", preempted, most, stopped)
	}
}

// TestFencesSee shows that the test above can fail.
func TestFencesSee(t *testing.T) {
	policy := arbiter.Input{Policy: &arbiter.Policy{GracePeriod: 100 * time.Millisecond, MaxPreemptions: 1}}
	grant := func(id string, attempt int) arbiter.Effect {
		return arbiter.Effect{Granted: &arbiter.Granted{OpID: id, Target: "door", Attempt: attempt}}
	}
	yield := func(id string, attempt int) arbiter.Effect {
		return arbiter.Effect{Preempted: &arbiter.Preempted{OpID: id, Target: "door", Attempt: attempt}}
	}
	abort := arbiter.Effect{Cancelled: &arbiter.Cancelled{OpID: "a", Target: "door", From: op.Executing, Attempt: 1}}
	success := arbiter.Effect{Succeeded: &arbiter.Succeeded{OpID: "a", Target: "door", Attempt: 1}}
	for name, steps := range map[string][][]arbiter.Effect{
		"two at once":        {{grant("a", 1)}, {grant("b", 1)}},
		"inside its grace":   {{grant("a", 1), yield("a", 1)}},
		"cancelled too soon": {{grant("a", 1), abort}},
		"too often":          {{grant("a", 1)}, {yield("a", 1), grant("a", 2)}, {yield("a", 2)}},
		"another attempt":    {{grant("a", 1)}, {yield("a", 2)}},
		"a zombie":           {{grant("a", 1)}, {yield("a", 1)}, {success}},
	} {
		f := newFences()
		for i, out := range steps {
			f.see(&arbiter.Step{Number: uint64(i + 1), At: epoch.Add(time.Duration(i) * 100 * time.Millisecond), In: []arbiter.Input{policy}, Out: out})
		}
		if len(f.broken) != 1 {
			t.Errorf("%s: %v", name, f.broken)
		}
	}
}
