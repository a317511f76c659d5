package audit_test

import (
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func preemptible(o *op.Operation) { o.Preemptible = true }

func preempts(p *arbiter.Policy) { p.Preemption = true }

// rivalled leaves a executing on e1, and b of the given priority staged behind it.
func rivalled(h *history, b op.Operation, told ...arbiter.Effect) {
	running(h, preemptible)
	h.step(20, inputs(submit(2, b)), append([]arbiter.Effect{accepted("b")}, told...)...)
}

// preempted takes a off its target in favour of b, which is granted. Step 2 is the
// policy, 5 the protection, 6 the preemption with the decision after it.
func preempted(ms int, set ...func(p *arbiter.Policy)) func(h *history) {
	return func(h *history) {
		a, b := operation("a", "e1", 5, preemptible), operation("b", "e1", 8)
		under(h, func(p *arbiter.Policy) {
			for _, f := range append(set, preempts) {
				f(p)
			}
		})
		rivalled(h, b, protected("a", "e1", 1, "b", arbiter.ProtectedByGrace, 110))
		h.step(ms, nil,
			arbiter.Effect{Preempted: &arbiter.Preempted{OpID: "a", Target: "e1", Attempt: 1, By: "b", Count: 1}},
			decision("d2", "e1", 20, 30, ms, op.RulePriority, contender(b, 2, op.VerdictWon, ""), contender(a, 1, op.VerdictQueued, op.Preempted)),
			granted("b", "e1", 1, 8, "d2", ms))
	}
}

// altered lets f change a history that is clean without it.
func altered(clean, f func(h *history)) func(h *history) {
	return alone(func(h *history) { clean(h); f(h) })
}

func last(h *history) *arbiter.Step { return h.steps[len(h.steps)-1] }

// only leaves the first effects of the last step.
func only(h *history, n int) { last(h).Out = last(h).Out[:n] }

func preemptionMutants() []mutant {
	clean := preempted(110)
	taken := func(h *history) *arbiter.Preempted { return last(h).Out[0].Preempted }
	guard := func(h *history) *arbiter.Protected { return h.get(0, 5).Out[1].Protected }
	cut := func(h *history) { h.steps = h.steps[:5] }
	return []mutant{
		{audit.LifeGrace, nil, "preempted within grace", alone(preempted(109))},
		{audit.LifePreemptions, nil, "miscounted", altered(clean, func(h *history) { taken(h).Count = 2 })},
		{audit.LifePreemptions, nil, "more often than is allowed", altered(clean, func(h *history) {
			last(h).In = inputs(policy(func(p *arbiter.Policy) { p.Preemption, p.MaxPreemptions = true, 0 }))
		})},
		{audit.LifeTransition, nil, "preempted twice", altered(clean, func(h *history) { last(h).Out = slices.Insert(last(h).Out, 1, last(h).Out[0]) })},
		{audit.EffectsSuperseded, []string{audit.ResolutionBusy, audit.EffectsOverlap, audit.ResolutionTotal, audit.ResolutionNotStaged, audit.ResolutionRule}, "another attempt is preempted", altered(clean, func(h *history) { taken(h).Attempt = 2 })},
		{audit.ResolutionPreemption, nil, "the policy does not allow it", altered(clean, func(h *history) {
			last(h).In = inputs(policy(func(*arbiter.Policy) {}))
		})},
		{audit.ResolutionPreemption, nil, "by nobody", altered(clean, func(h *history) { taken(h).By = "ghost" })},
		{audit.ResolutionPreemption, nil, "it is not preemptible", alone(func(h *history) {
			clean(h)
			h.get(0, 3).In[0].Submit.Operation.Preemptible = false
			guard(h).Kind, guard(h).Until = arbiter.ProtectedByExecution, at(30010)
		})},
		{audit.ResolutionPreemption, nil, "by an equal", alone(func(h *history) {
			a, b := operation("a", "e1", 5), operation("b", "e1", 5)
			under(h, preempts)
			rivalled(h, b)
			h.step(110, nil,
				arbiter.Effect{Preempted: &arbiter.Preempted{OpID: "a", Target: "e1", Attempt: 1, By: "b", Count: 1}},
				decision("d2", "e1", 20, 30, 110, op.RuleOrder, contender(a, 1, op.VerdictWon, ""), contender(b, 2, op.VerdictRejected, op.LaterSubmission)),
				granted("a", "e1", 2, 5, "d2", 110), lost("b", "e1", op.LaterSubmission, "a", "d2"))
		})},
		{audit.ResolutionPreemption, nil, "by one that is paused", altered(clean, func(h *history) {
			h.get(0, 5).In[0].Submit.Operation.Type = op.TypeModifyField
			last(h).In = inputs(policy(func(p *arbiter.Policy) { p.Preemption, p.Paused.Types = true, []string{op.TypeModifyField} }))
			only(h, 1)
			last(h).Out = append(last(h).Out, decision("d2", "e1", 20, 30, 110, op.RuleOnly, contender(operation("a", "e1", 5), 1, op.VerdictWon, "")),
				granted("a", "e1", 2, 5, "d2", 110))
		})},
		{audit.ResolutionPreemption, nil, "before its window has passed", alone(func(h *history) {
			preempted(110, func(p *arbiter.Policy) { p.WindowByType = map[string]time.Duration{op.TypeModifyField: time.Second} })(h)
			h.get(0, 5).In[0].Submit.Operation.Type = op.TypeModifyField
			only(h, 1)
			last(h).In = inputs(policy(func(p *arbiter.Policy) {
				p.Preemption, p.WindowByPrefix = true, map[string]time.Duration{"e1": time.Hour}
			}))
		})},
		{audit.ResolutionPreemption, nil, "while an ancestor is looked for", altered(clean, func(h *history) {
			h.get(0, 5).In[0].Submit.Operation.Parent = "nobody"
			only(h, 1)
		})},
		{audit.ResolutionPreemption, nil, "though it wins again", alone(func(h *history) {
			preempted(110, func(p *arbiter.Policy) { p.Aging = arbiter.Aging{Every: millis(10), Step: 9, Max: 9} })(h)
			h.get(0, 4).Out[0].Decision.Contenders[0].Boost, h.get(0, 4).Out[0].Decision.Contenders[0].Effective = 5, 10
			h.get(0, 4).Out[1].Granted.Effective = 10
			only(h, 1)
			a, b := contender(operation("a", "e1", 5), 1, op.VerdictWon, ""), contender(operation("b", "e1", 8), 2, op.VerdictRejected, op.LaterSubmission)
			a.Boost, a.Effective, b.Boost, b.Effective = 5, 10, 2, 10
			last(h).Out = append(last(h).Out, decision("d2", "e1", 20, 30, 110, op.RuleOrder, a, b),
				granted("a", "e1", 2, 10, "d2", 110), lost("b", "e1", op.LaterSubmission, "a", "d2"))
		})},
		{audit.ResolutionNotPreempted, nil, "its grace ends and it goes on", altered(clean, func(h *history) { only(h, 0) })},
		{audit.ResolutionVerdict, []string{audit.ResolutionNotCarriedOut}, "a preempted one is rejected when it loses", altered(clean, func(h *history) {
			last(h).Out[1].Decision.Contenders[1].Verdict = op.VerdictRejected
		})},
		{audit.LifeProtected, nil, "and nobody says so", altered(clean, func(h *history) { cut(h); only(h, 1) })},
		{audit.LifeProtected, nil, "by its execution, though it may be preempted", altered(clean, func(h *history) {
			cut(h)
			guard(h).Kind, guard(h).Until = arbiter.ProtectedByExecution, at(30010)
			last(h).Out = append(last(h).Out, protected("a", "e1", 1, "b", arbiter.ProtectedByGrace, 110))
		})},
		{audit.LifeProtected, nil, "for longer than its grace", altered(clean, func(h *history) { cut(h); guard(h).Until = at(111) })},
		{audit.LifeProtected, nil, "told twice", altered(clean, func(h *history) { cut(h); last(h).Out = append(last(h).Out, last(h).Out[1]) })},
		{audit.LifeProtected, nil, "from nobody", altered(clean, func(h *history) { cut(h); guard(h).By = "ghost" })},
		{audit.LifeProtected, nil, "from one that is no stronger", alone(func(h *history) {
			rivalled(h, operation("b", "e1", 5), protected("a", "e1", 1, "b", arbiter.ProtectedByExecution, 30010))
		})},
	}
}

// waits cancels a within its grace, and ended lets that take effect.
func waits(h *history) {
	running(h)
	h.step(20, inputs(cancel(2, "e1", "a")), protected("a", "e1", 1, "", arbiter.ProtectedByGrace, 110))
}

func ended(h *history) { waits(h); h.step(110, nil, stopped("a", "e1", 1)) }

// cancelMutants break what becomes of cancels.
func cancelMutants() []mutant {
	all := arbiter.Input{Cancel: &arbiter.Cancel{Place: op.Place{Seq: 2}, Target: "e1", All: true}}
	refusal := arbiter.Effect{Refused: &arbiter.Refused{OpID: "a", Target: "e1"}}
	return []mutant{
		{audit.LogShape, nil, "a cancel of two things", alone(func(h *history) {
			h.step(1, inputs(arbiter.Input{Cancel: &arbiter.Cancel{Place: op.Place{Seq: 1}, Target: "e1", All: true, Submitter: "ann"}}))
		})},
		{audit.LifeCancelLost, nil, "its grace ends and it goes on", alone(func(h *history) { waits(h); h.step(110, nil) })},
		{audit.LifeCancelLost, nil, "its attempt fails and it is tried again", alone(func(h *history) {
			waits(h)
			h.step(30, inputs(failure("a", "e1", 1, hiccup)), failed("a", "e1", 1, hiccup), retry("a", "e1", 1, 30, 100))
		})},
		{audit.LifeCancelLost, nil, "it is preempted instead", alone(func(h *history) {
			preempted(110)(h)
			h.get(0, 5).In = append(h.get(0, 5).In, cancel(3, "e1", "a"))
			h.get(0, 5).Out = slices.Insert(h.get(0, 5).Out, 1, protected("a", "e1", 1, "", arbiter.ProtectedByGrace, 110))
			for _, s := range h.steps[4:] {
				s.Cursor = 3
			}
		})},
		{audit.LifeCancelLost, nil, "refused while it executes", alone(func(h *history) {
			running(h)
			h.step(20, inputs(cancel(2, "e1", "a")), refusal)
		})},
		{audit.LifeCancelLost, nil, "refused while it is pending", alone(func(h *history) {
			arrives(h, operation("a", "e1", 5))
			h.step(2, inputs(cancel(2, "e1", "a")), refusal)
		})},
		{audit.LifeCancelLost, nil, "all of a target but one", alone(func(h *history) {
			arrives(h, operation("a", "e1", 5))
			h.step(2, inputs(all))
		})},
		{audit.LifeCancelLost, nil, "all of a target but the one that executes", alone(func(h *history) { running(h); h.step(20, inputs(all)) })},
		{audit.LifeCancelLost, nil, "all of a submitter but one", alone(func(h *history) {
			arrives(h, operation("a", "e1", 5, by("ann")))
			h.step(2, inputs(arbiter.Input{Cancel: &arbiter.Cancel{Place: op.Place{Seq: 2}, Submitter: "ann"}}))
		})},
		{audit.LifeGrace, nil, "a cancel that waits takes effect early", altered(ended, func(h *history) { last(h).At = at(109) })},
		{audit.LifeProtected, nil, "from a cancel, for longer than its grace", altered(ended, func(h *history) { h.steps = h.steps[:4]; last(h).Out[0].Protected.Until = at(111) })},
		{audit.LifeProtected, []string{audit.LifeCancelLost}, "from a cancel, after its grace", alone(func(h *history) {
			running(h)
			h.step(110, inputs(cancel(2, "e1", "a")), protected("a", "e1", 1, "", arbiter.ProtectedByGrace, 110))
			h.step(110, nil, stopped("a", "e1", 1))
		})},
		{audit.EffectsSuperseded, nil, "another attempt is stopped", altered(ended, func(h *history) { last(h).Out[0].Cancelled.Attempt = 2 })},
		{audit.LifeFrom, nil, "cancelled from another status", altered(ended, func(h *history) { last(h).Out[0].Cancelled.From = op.Pending })},
		{audit.CausesCancel, nil, "nobody asked for what it is protected from", alone(func(h *history) {
			running(h)
			h.step(20, nil, protected("a", "e1", 1, "", arbiter.ProtectedByGrace, 110))
		})},
		{audit.CausesCancel, nil, "nobody asked for its end", alone(func(h *history) { running(h); h.step(110, nil, stopped("a", "e1", 1)) })},
		{audit.CausesCancel, nil, "its descendants are spared, though nobody said so", altered(ended, func(h *history) { last(h).Out[0].Cancelled.Cascade = false })},
		{audit.CausesCancel, nil, "its descendants are taken along, though they are to be spared", altered(ended, func(h *history) { h.steps[3].In[0].Cancel.Alone = true })},
	}
}
