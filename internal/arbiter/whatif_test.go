package arbiter_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// scene is a partition at rest: somebody may execute on the door, others may be
// staged, and nothing else is going to happen.
type scene struct {
	source
	m   *arbiter.Machine
	n   uint64
	seq uint64
	now time.Time
	kin map[string]arbiter.Kin
}

func (c *scene) step(in ...arbiter.Input) []arbiter.Effect {
	c.n++
	s := arbiter.Step{ID: "s" + strconv.FormatUint(c.n, 10), Number: c.n, At: c.now, In: in}
	c.m.Step(&s)
	out := s.Out
	for _, id := range c.m.Wants() {
		k, known := c.kin[id]
		if !known {
			k = arbiter.Kin{OpID: id, Unknown: true, Upto: c.seq}
		}
		out = append(out, c.step(arbiter.Input{Kin: &k})...)
	}
	return out
}

func (c *scene) submit(o op.Operation) []arbiter.Effect {
	c.seq++
	return c.step(submitted(c.seq, o))
}

func (c *scene) operation(id string) op.Operation {
	retries := c.draw("retries", 3)
	o := op.Operation{
		ID: id, Type: []string{op.TypeModifyField, op.TypeModifyField, op.TypeVersion, "paint"}[c.draw("type", 4)], Target: "door",
		Priority: op.Priority(1 + c.draw("priority", 10)), MaxRetries: &retries, OnConflict: conflicts[c.draw("on conflict", 3)],
		Params: []byte(strconv.Itoa(c.draw("params", 2))), Submitter: "s" + strconv.Itoa(c.draw("submitter", 2)), Preemptible: c.draw("preemptible", 2) == 0,
	}
	if c.draw("parent", 3) == 0 {
		o.Parent = "k" + strconv.Itoa(c.draw("which", 8)) // half of them are unknown
	}
	return o
}

func newScene(s source) *scene {
	c := &scene{source: s, m: arbiter.New(1), now: epoch, kin: map[string]arbiter.Kin{}}
	for i := range 4 {
		c.kin["k"+strconv.Itoa(i)] = arbiter.Kin{OpID: "k" + strconv.Itoa(i), Priority: op.Priority(1 + c.draw("kin", 10)), Parent: "k" + strconv.Itoa(i-1)}
	}
	w := &world{source: s, m: c.m}
	p := w.anyPolicy()
	p.MaxOperationAge, p.MaxExecuting = 24*time.Hour, 4
	p.AttemptTimeout = time.Hour
	for name, t := range p.Types {
		t.AttemptTimeout = 0
		p.Types[name] = t
	}
	if c.draw("room", 4) > 0 {
		p.MaxStaged = 50
	}
	paused := p.Paused
	p.Paused = arbiter.Paused{}
	c.step(arbiter.Input{Policy: p})
	if c.draw("busy", 2) == 0 {
		c.submit(c.operation("busy"))
		c.rest(2 * time.Second)
	}
	for i := range c.draw("staged", 8) {
		o := c.operation("o" + strconv.Itoa(i))
		c.submit(o)
		c.rest(time.Duration(c.draw("pause", 20)) * time.Millisecond)
	}
	c.rest(time.Duration(c.draw("pause", 300)) * time.Millisecond)
	if c.draw("held back", 3) == 0 {
		p.Paused = paused
		c.step(arbiter.Input{Policy: p})
	}
	return c
}

// rest lets time pass.
func (c *scene) rest(d time.Duration) (out []arbiter.Effect) {
	end := c.now.Add(d)
	for at, ok := c.m.Next(); ok && !at.After(end); at, ok = c.m.Next() {
		c.now = latest(c.now, at)
		out = append(out, c.step()...)
	}
	c.now = end
	return out
}

// quiet reports whether nothing but the windows, the grace and the attempt on the
// door is still to come: nobody is away or was coalesced.
func (c *scene) quiet() bool {
	s := c.m.Snapshot()
	return len(s.Chores) == 0 && !slices.ContainsFunc(s.Entries, func(e arbiter.StateEntry) bool {
		return e.Status == op.Pending && !e.Staged || !e.StopAt.IsZero()
	})
}

// happened is what became of an operation in the next decision about its target,
// in the words of a forecast.
type happened struct {
	outlook   op.Outlook
	verdict   op.Verdict
	reason    op.Reason
	rule      op.Rule
	against   string
	effective op.Priority
	path      string
}

func (h happened) String() string {
	return fmt.Sprintf("%s %s %s %s against %q, effective %d by %q", h.outlook, h.verdict, h.reason, h.rule, h.against, h.effective, h.path)
}

// really submits o and lets the next decision about the door be made. What executes
// there ends well when the window has passed, unless it is to be preempted.
func (c *scene) really(o op.Operation, busy string, preempts bool) happened {
	h := happened{outlook: op.WouldWin}
	told := c.submit(o)
	for _, e := range told {
		if e.Repeated != nil || e.Rejected != nil && e.Rejected.OpID == o.ID && e.Rejected.Winner == "" {
			h.outlook = op.WouldRefuse
			if e.Rejected != nil {
				h.reason = e.Rejected.Reason
			}
			return h
		}
	}
	if busy == "" || preempts {
		told = append(told, c.rest(5*time.Second)...) // longer than any window and grace
	} else {
		told = append(told, c.rest(c.closes().Sub(c.now))...)
	}
	if busy != "" {
		h.outlook, h.against = op.WouldWait, busy
		v, _ := c.m.Describe(busy)
		if v.Status == op.Executing && !decidedAbout(told, o.ID) {
			told = append(told, c.step(arbiter.Input{Result: &arbiter.Result{OpID: busy, Target: "door", Attempt: v.Attempt}})...)
		}
	}
	for _, e := range told {
		if e.Preempted != nil && e.Preempted.By == o.ID {
			h.outlook = op.WouldPreempt
		}
		if r := e.Rejected; r != nil && r.OpID == o.ID {
			h.outlook, h.reason = op.WouldLose, r.Reason
			if r.Reason == op.Expired {
				h.outlook = op.WouldRefuse
				return h
			}
		}
		if d := e.Decision; d != nil {
			c.outcome(&h, d, o.ID, busy)
			break
		}
	}
	for _, e := range told {
		if r := e.Rejected; r != nil && r.OpID == o.ID {
			h.outlook, h.reason = op.WouldLose, r.Reason
		}
	}
	return h
}

// closes is when the window of the door does, or now.
func (c *scene) closes() time.Time {
	for _, t := range c.m.Snapshot().Targets {
		if t.ID == "door" {
			return latest(c.now, t.Closes)
		}
	}
	return c.now
}

// preempts reports whether o takes the place of who executes on the door, if that
// one goes on and on.
func (c scene) preempts(t *testing.T, o op.Operation) bool {
	c.m, _ = restoredBy(t, c.m)
	told := append(c.submit(o), c.rest(5*time.Second)...)
	return slices.ContainsFunc(told, func(e arbiter.Effect) bool { return e.Preempted != nil && e.Preempted.By == o.ID })
}

func decidedAbout(told []arbiter.Effect, id string) bool {
	return slices.ContainsFunc(told, func(e arbiter.Effect) bool {
		return e.Decision != nil && slices.ContainsFunc(e.Decision.Contenders, func(x op.Contender) bool { return x.OpID == id })
	})
}

func (c *scene) outcome(h *happened, d *op.Decision, id, busy string) {
	var mine op.Contender
	for _, x := range d.Contenders {
		if x.OpID == id {
			mine = x
		}
	}
	h.verdict, h.reason = mine.Verdict, mine.Reason
	h.effective, h.path = mine.Effective-op.Priority(mine.Boost), inherited(mine.Inheritance)
	switch {
	case mine.Verdict == op.VerdictWon:
		h.rule = d.Rule
		if busy == "" && d.Total > 1 {
			h.against = d.Contenders[1].OpID
		}
		return
	case mine.Effective < d.Contenders[0].Effective:
		h.rule = op.RulePriority
	default:
		h.rule = op.RuleOrder
	}
	h.outlook, h.against = op.WouldWait, d.Winner
}

// TestAForecastComesTrue asks what would happen to a thousand operations, and then
// submits them.
func TestAForecastComesTrue(t *testing.T) {
	seen := map[string]int{}
	tried := 0
	for n := 0; tried < 1_000; n++ {
		c := newScene(newSeeded(*seed, 10_000_000+uint64(n)))
		if !c.quiet() {
			continue
		}
		tried++
		o := c.operation("new")
		if c.draw("again", 20) == 0 {
			o = c.operation("o0")
		}
		if c.draw("deadline", 8) == 0 {
			o.Deadline = &op.Deadline{After: time.Duration(c.draw("after", 40)) * time.Millisecond}
		}
		if c.draw("unknown type", 20) == 0 {
			o.Type = "unheard"
		}
		before := encoded(t, c.m.Snapshot())
		busy := ""
		for _, e := range c.m.Snapshot().Entries {
			if e.Status == op.Executing {
				busy = e.Operation.ID
			}
		}
		var kin []arbiter.Kin
		for _, id := range []string{"k0", "k1", "k2", "k3"} {
			kin = append(kin, c.kin[id])
		}
		f := c.m.WhatIf(o, c.now, kin)
		if string(before) != string(encoded(t, c.m.Snapshot())) {
			t.Fatalf("-seed %d, scene %d: a forecast changes the machine", *seed, n)
		}
		if f.Outlook != op.WouldRefuse && o.Deadline != nil {
			o.Deadline = nil // it may come while the other one executes, for ever so long
		}
		want := happened{
			outlook: f.Outlook, verdict: f.Verdict, reason: f.Reason, rule: f.Rule, against: f.Against, effective: f.Effective, path: inherited(f.Inheritance),
		}
		if aging := c.m.Policy().Aging.Every > 0; !aging && c.preempts(t, o) != (f.Outlook == op.WouldPreempt) {
			t.Fatalf("-seed %d, scene %d: forecast %s; it preempts %v", *seed, n, want, c.preempts(t, o))
		}
		got := c.really(o, busy, f.Outlook == op.WouldPreempt)
		if got.outlook == op.WouldRefuse {
			want = happened{outlook: f.Outlook, reason: f.Reason}
		}
		if got != want {
			t.Fatalf("-seed %d, scene %d: forecast %s\nhappened          %s\nforecast %+v", *seed, n, want, got, f)
		}
		seen[strings.TrimSpace(fmt.Sprintf("%s %s %s", f.Outlook, f.Verdict, f.Reason))]++
	}
	t.Logf("%v", seen)
	for _, kind := range []string{
		"win won", "wait won", "preempt won", "lose rejected lower_priority", "lose rejected later_submission", "lose rejected max_retries",
		"wait queued lower_priority", "wait retry lower_priority", "wait coalesced coalesced", "refused", "refused  unknown_type",
		"refused  paused", "refused  invalid", "refused  overloaded", "refused  staging_full", "refused  expired",
	} {
		if seen[kind] == 0 {
			t.Errorf("%s was never foreseen", kind)
		}
	}
}
