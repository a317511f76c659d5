package audit_test

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// withParent cancels a descendant of an operation that is cancelled.
func withParent(id, target, ancestor string) arbiter.Effect {
	e := cancelled(id, target)
	e.Cancelled.Reason, e.Cancelled.Ancestor = op.CancelledWithParent, ancestor
	return e
}

// orphans cancels p, and its child c on e3 with it. Step 2 submits them.
func orphans(h *history) {
	h.step(0, inputs(submit(1, operation("p", "e2", 5)), submit(2, operation("c", "e3", 5, parent("p")))), accepted("p"), accepted("c"))
	h.step(1, inputs(cancel(3, "e2", "p")), cancelled("p", "e2"), withParent("c", "e3", "p"))
}

// foundLate cancels p while nobody knows that it is an ancestor of c: what stands
// between them is looked for. Step 4 brings the answer.
func foundLate(h *history) {
	h.step(0, inputs(submit(1, operation("p", "e2", 5)), submit(2, operation("c", "e3", 5, parent("m")))), accepted("p"), accepted("c"))
	h.step(1, inputs(cancel(3, "e2", "p")), cancelled("p", "e2"))
	h.step(2, inputs(arbiter.Input{Kin: &arbiter.Kin{OpID: "m", Priority: 5, Parent: "p"}}), withParent("c", "e3", "p"))
}

// told is the news that others have cancelled an operation.
func told(seq uint64, ids ...string) arbiter.Input {
	return arbiter.Input{Cancel: &arbiter.Cancel{Place: op.Place{Seq: seq}, Ancestors: ids}}
}

func cascadeMutants() []mutant {
	return []mutant{
		{audit.CausesCascadeLost, nil, "a child stays", altered(orphans, func(h *history) { only(h, 1) })},
		{audit.CausesCascadeLost, nil, "a child that is found later stays", altered(foundLate, func(h *history) { only(h, 0) })},
		{audit.CausesCascadeLost, nil, "a child stays though another partition has told of it", alone(func(h *history) {
			h.stepOf(1, 0, nil)
			h.stepOf(1, 0, inputs(submit(1, operation("p", "e9", 5))), accepted("p"))
			h.stepOf(1, 1, inputs(cancel(2, "e9", "p")), cancelled("p", "e9"))
			h.step(1, inputs(submit(3, operation("c", "e3", 5, parent("p")))), accepted("c"))
			h.step(2, inputs(told(4, "p")))
		})},
		{audit.CausesCascade, nil, "of a parent that is to go alone", altered(orphans, func(h *history) {
			last(h).In[0].Cancel.Alone, last(h).Out[0].Cancelled.Cascade = true, false
		})},
		{audit.CausesCascade, nil, "with somebody else", altered(orphans, func(h *history) { h.get(0, 2).In[1].Submit.Operation.Parent = "" })},
		{audit.CausesCascade, nil, "submitted after the parent was cancelled", alone(func(h *history) {
			orphans(h)
			only(h, 1)
			h.get(0, 2).In, h.get(0, 2).Out = h.get(0, 2).In[:1], h.get(0, 2).Out[:1]
			h.step(2, inputs(submit(4, operation("c", "e3", 5, parent("p")))), accepted("c"), withParent("c", "e3", "p"))
		})},
		{audit.CausesCascade, nil, "while it executes", alone(func(h *history) {
			running(h, parent("p"))
			h.get(0, 2).In = slices.Insert(h.get(0, 2).In, 0, submit(1, operation("p", "e2", 5, onConflict(op.OnConflictQueue), kind(op.TypeModifyField))))
			h.get(0, 2).In[1].Submit.Seq = 2
			h.get(0, 2).Out = slices.Insert(h.get(0, 2).Out, 0, accepted("p"))
			h.get(0, 3).In = inputs(policy(func(p *arbiter.Policy) { p.MaxExecuting = 1 }))
			h.get(0, 3).Out[0].Decision.Contenders[0].Place.Seq = 2
			e := withParent("a", "e1", "p")
			e.Cancelled.From, e.Cancelled.Attempt = op.Executing, 1
			h.step(200, inputs(cancel(3, "e2", "p")), cancelled("p", "e2"), e)
			h.get(0, 2).Cursor, h.get(0, 3).Cursor = 2, 2
		})},
		{audit.CausesCancel, nil, "a child that is taken along spares its own", altered(orphans, func(h *history) { last(h).Out[1].Cancelled.Cascade = false })},
		{audit.CausesAncestor, nil, "told of somebody whom nobody has cancelled", alone(func(h *history) { h.step(1, inputs(told(1, "ghost"))) })},
		{audit.CausesAncestor, nil, "told of one that went alone", alone(func(h *history) {
			h.stepOf(1, 0, nil)
			h.stepOf(1, 0, inputs(submit(1, operation("p", "e9", 5))), accepted("p"))
			h.stepOf(1, 1, inputs(cancel(2, "e9", "p")), cancelled("p", "e9"))
			last(h).In[0].Cancel.Alone, last(h).Out[0].Cancelled.Cascade = true, false
			h.step(2, inputs(told(3, "p")))
		})},
		{audit.CausesCascadeTold, nil, "the other partition is not told", func(h *history) {
			i := slices.IndexFunc(h.steps, func(s *arbiter.Step) bool {
				return len(s.In) > 0 && s.In[0].Cancel != nil && len(s.In[0].Cancel.Ancestors) > 0
			})
			h.steps[i].In = nil
		}},
	}
}

func coalesces(p *arbiter.Policy) {
	p.Types = map[string]arbiter.TypePolicy{op.TypeComplexUpdate: {OnConflict: op.OnConflictCoalesce}}
}

func coalesced(id, into, dec string) arbiter.Effect {
	return arbiter.Effect{Coalesced: &arbiter.Coalesced{OpID: id, Target: "e1", Into: into, Decision: dec}}
}

func shared(id, with string, attempt int) arbiter.Effect {
	return arbiter.Effect{Shared: &arbiter.Shared{OpID: id, Target: "e1", With: with, Attempt: attempt}}
}

func parted(id, from string) arbiter.Effect {
	return arbiter.Effect{Parted: &arbiter.Parted{OpID: id, Target: "e1", From: from}}
}

// merged leaves b coalesced into a, which executes. Step 2 is the policy, 3 submits
// them, 4 decides.
func merged(h *history) {
	a, b := operation("a", "e1", 5), operation("b", "e1", 5)
	under(h, coalesces)
	two(h, a, b)
	h.step(10, nil, decision("d1", "e1", 0, 10, 10, op.RuleOrder,
		contender(a, 1, op.VerdictWon, ""), contender(b, 2, op.VerdictCoalesced, op.Coalesced)), granted("a", "e1", 1, 5, "d1", 10), coalesced("b", "a", "d1"))
}

// both succeed, b with a.
func both(h *history) {
	merged(h)
	h.step(20, inputs(success("a", "e1", 1, created("e1"))), succeeded("a", "e1", 1, 0), shared("b", "a", 1))
}

// neither succeeds: b has the error of a.
func neither(h *history) {
	merged(h)
	with := rejected("b", "e1", op.Pending, op.StaleVersion, stale)
	with.Rejected.Winner = "a"
	h.step(20, inputs(failure("a", "e1", 1, stale)), failed("a", "e1", 1, stale), rejected("a", "e1", op.Failed, op.StaleVersion, stale), with)
}

// left alone: a is cancelled, and b is staged again.
func apart(h *history) {
	merged(h)
	h.step(110, inputs(cancel(3, "e1", "a")), stopped("a", "e1", 1), parted("b", "a"))
}

func sharingMutants() []mutant {
	contenders := func(h *history) []op.Contender { return h.get(0, 4).Out[0].Decision.Contenders }
	return []mutant{
		{audit.LifeShared, nil, "before the other one has succeeded", alone(func(h *history) { merged(h); h.step(20, nil, shared("b", "a", 1)) })},
		{audit.LifeShared, nil, "with another attempt", altered(both, func(h *history) { last(h).Out[1].Shared.Attempt = 2 })},
		{audit.LifeShared, nil, "with somebody else", altered(both, func(h *history) { last(h).Out[1].Shared.With = "c" })},
		{audit.LifeShared, nil, "though the other one failed", altered(neither, func(h *history) { last(h).Out[2] = shared("b", "a", 1) })},
		{audit.LifeShared, nil, "and was never coalesced", alone(func(h *history) { arrives(h, operation("a", "e1", 5), shared("a", "b", 1)) })},
		{audit.LifeTerminalTwice, []string{audit.LifeAccounting}, "shares twice", altered(both, func(h *history) { last(h).Out = append(last(h).Out, last(h).Out[1]) })},
		{audit.LifeRiders, nil, "left hanging after a success", altered(both, func(h *history) { only(h, 1) })},
		{audit.LifeRiders, nil, "left hanging after a failure", altered(neither, func(h *history) { only(h, 2) })},
		{audit.LifeRiders, nil, "left hanging after a cancel", altered(apart, func(h *history) { only(h, 1) })},
		{audit.LifeRiders, nil, "another error than the one it shares", altered(neither, func(h *history) { last(h).Out[2].Rejected.Failure = hiccup })},
		{audit.LifeRiders, nil, "another reason than the one it shares", altered(neither, func(h *history) { last(h).Out[2].Rejected.Reason = op.TerminalError })},
		{audit.LifeRiders, nil, "staged again though the other one goes on", alone(func(h *history) { merged(h); h.step(20, nil, parted("b", "a")) })},
		{audit.LifeRiders, nil, "staged again after a success", altered(both, func(h *history) { last(h).Out[1] = parted("b", "a") })},
		{audit.LifeUndone, []string{audit.LifeOverdue}, "staged again after its deadline", alone(func(h *history) {
			merged(h)
			h.get(0, 3).In[1].Submit.Operation.Deadline = &op.Deadline{After: millis(110)}
			h.step(110, inputs(cancel(3, "e1", "a")), stopped("a", "e1", 1), parted("b", "a"))
		})},
		{audit.ResolutionCoalesced, nil, "another change", altered(both, func(h *history) { h.get(0, 3).In[1].Submit.Operation.Params = json.RawMessage(`{"set":{}}`) })},
		{audit.ResolutionCoalesced, nil, "another source", altered(both, func(h *history) { h.get(0, 3).In[1].Submit.Operation.Source = "e2" })},
		{audit.ResolutionCoalesced, nil, "the policy does not say so", altered(both, func(h *history) { h.get(0, 2).In = nil })},
		{audit.ResolutionCoalesced, nil, "into another one than the winner", altered(merged, func(h *history) { last(h).Out[2].Coalesced.Into = "b" })},
		{audit.ResolutionNoDecision, nil, "coalesced without a decision", alone(func(h *history) { arrives(h, operation("a", "e1", 5), coalesced("a", "b", "d1")) })},
		{audit.ResolutionVerdict, nil, "an identical one is queued", altered(merged, func(h *history) {
			only(h, 2)
			contenders(h)[1].Verdict, contenders(h)[1].Reason = op.VerdictQueued, op.LaterSubmission
		})},
	}
}

func supersedes(p *arbiter.Policy) {
	p.Types = map[string]arbiter.TypePolicy{op.TypeComplexUpdate: {OnConflict: op.OnConflictSupersede}}
}

// replaced lets ann's b supersede her a. Step 2 is the policy, 3 accepts a, 4 b.
func replaced(h *history) {
	under(h, supersedes)
	arrives(h, operation("a", "e1", 5, by("ann")))
	old := rejected("a", "e1", op.Pending, op.Superseded)
	old.Rejected.Winner = "b"
	arrives(h, operation("b", "e1", 5, by("ann")), old)
}

// late lets ann's b supersede her a in a step that is full, so that the next one
// tells it.
func late(h *history) {
	replaced(h)
	s, old := last(h), last(h).Out[1]
	s.In = append(inputs(failure("ghost", "e1", 1, hiccup)), s.In...)
	s.Out = []arbiter.Effect{{Refused: &arbiter.Refused{OpID: "ghost", Target: "e1", Attempt: 1, Why: strings.Repeat("x", arbiter.MaxEffectBytes)}}, s.Out[0]}
	h.step(1, nil, old)
}

func supersedeMutants() []mutant {
	first := func(h *history) *op.Operation { return &h.get(0, 3).In[0].Submit.Operation }
	return []mutant{
		{audit.LifeSuperseded, nil, "of another submitter", altered(replaced, func(h *history) { first(h).Submitter = "bob" })},
		{audit.LifeSuperseded, nil, "of another type", altered(replaced, func(h *history) { first(h).Type = op.TypeModifyField })},
		{audit.LifeSuperseded, nil, "the policy does not say so", altered(replaced, func(h *history) { h.get(0, 2).In = nil })},
		{audit.LifeSuperseded, nil, "by somebody else", altered(replaced, func(h *history) { last(h).Out[1].Rejected.Winner = "c" })},
		{audit.LifeSuperseded, nil, "by itself", alone(func(h *history) {
			under(h, supersedes)
			e := rejected("a", "e1", op.Pending, op.Superseded)
			e.Rejected.Winner = "a"
			arrives(h, operation("a", "e1", 5, by("ann")), e)
		})},
		{audit.LifeSuperseded, nil, "by one that comes too late", alone(func(h *history) {
			replaced(h)
			s := last(h)
			s.In[0].Submit.Operation.Deadline = &op.Deadline{At: at(0)}
			s.Out = append(s.Out, rejected("b", "e1", op.Pending, op.Expired))
		})},
		{audit.LifeSuperseded, nil, "the older one stays", altered(replaced, func(h *history) { only(h, 1) })},
		{audit.LifeSuperseded, nil, "the older one stays beyond the step that was full", alone(func(h *history) {
			late(h)
			only(h, 0)
		})},
	}
}

// aged decides a alone at 10 ms under a policy by which waiting adds 2 each 5 ms.
func aged(h *history) {
	under(h, func(p *arbiter.Policy) { p.Aging = arbiter.Aging{Every: millis(5), Step: 2, Max: 3} })
	running(h)
	h.get(0, 4).Out[0].Decision.Contenders[0].Boost, h.get(0, 4).Out[0].Decision.Contenders[0].Effective = 3, 8
	h.get(0, 4).Out[1].Granted.Effective = 8
}

// agingMutants break what waiting and pauses do to a decision.
func agingMutants() []mutant {
	first := func(h *history) *op.Contender { return &h.get(0, 4).Out[0].Decision.Contenders[0] }
	a, b := operation("a", "e1", 5), operation("b", "e1", 4, kind(op.TypeModifyField))
	return []mutant{
		{audit.ResolutionBoost, nil, "more than the maximum", altered(aged, func(h *history) { first(h).Boost = 4 })},
		{audit.ResolutionBoost, nil, "and waiting counts for nothing", altered(aged, func(h *history) { h.get(0, 2).In, first(h).Effective, h.get(0, 4).Out[1].Granted.Effective = nil, 5, 5 })},
		{audit.ResolutionEffective, nil, "without what waiting adds", altered(aged, func(h *history) { first(h).Effective = 5 })},
		{audit.ResolutionEffective, nil, "granted without what waiting adds", altered(aged, func(h *history) { h.get(0, 4).Out[1].Granted.Effective = 5 })},
		{audit.ResolutionPaused, []string{audit.ResolutionTotal}, "it wins", alone(func(h *history) {
			running(h)
			h.get(0, 3).In = inputs(policy(pausesE1))
		})},
		{audit.ResolutionPaused, nil, "it contends", alone(func(h *history) {
			two(h, a, b)
			h.step(10, inputs(policy(func(p *arbiter.Policy) { p.Paused.Types = []string{op.TypeModifyField} })),
				decision("d1", "e1", 0, 10, 10, op.RuleOnly, contender(a, 1, op.VerdictWon, ""), contender(b, 2, op.VerdictQueued, op.LowerPriority)),
				granted("a", "e1", 1, 5, "d1", 10))
			h.get(0, 3).Out[0].Decision.Total = 1
			h.get(0, 2).In[1].Submit.Operation.OnConflict = op.OnConflictQueue
		})},
		{audit.ResolutionUndecided, nil, "the pause ends and nothing happens", alone(func(h *history) {
			arrives(h, a)
			h.step(5, inputs(policy(pausesE1)))
			h.step(20, nil)
			h.step(30, inputs(policy(func(*arbiter.Policy) {})))
		})},
	}
}
