package audit_test

import (
	"fmt"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// resolutionMutants break the decisions of the story, above all the one of step
// 3 about c, a, b and d.
func resolutionMutants() []mutant {
	first := func(h *history) *op.Decision { return h.get(0, 3).Out[0].Decision }
	inherited := func(h *history) *op.Decision { return h.get(0, 19).Out[0].Decision }
	return []mutant{
		{audit.ResolutionDecisionID, nil, "an id used twice", func(h *history) {
			inherited(h).ID, h.get(0, 19).Out[1].Granted.Decision = "d3", "d3"
		}},
		{audit.ResolutionTime, nil, "another instant", func(h *history) { first(h).At = at(21) }},
		{audit.ResolutionPolicy, nil, "a revision that is not in force", func(h *history) { inherited(h).PolicyRevision = 6 }},
		{audit.ResolutionWindow, nil, "before the window has passed", func(h *history) {
			s := h.get(0, 3)
			s.At, first(h).At = at(19), at(19)
			s.Out[1].Granted.LeaseEnds = s.Out[1].Granted.LeaseEnds.Add(-time.Millisecond)
			s.Out[3].Retry.Due = s.Out[3].Retry.Due.Add(-time.Millisecond)
		}},
		{audit.ResolutionWindow, nil, "a window that was not", func(h *history) { first(h).WindowOpened = at(9) }},
		{audit.ResolutionNotStaged, nil, "an operation of another target", func(h *history) {
			h.cut(18)
			h.step(30317, nil, arbiter.Effect{Decision: inheritedWith(h, "y", 17)})
			h.steps[len(h.steps)-1].Out[0].Decision.Total = 0
		}},
		{audit.ResolutionNotStaged, nil, "an operation twice", func(h *history) {
			d := first(h)
			d.Contenders = append(d.Contenders, d.Contenders[3])
		}},
		{audit.ResolutionTotal, nil, "another total", func(h *history) { first(h).Total = 5 }},
		{audit.ResolutionUnlisted, []string{audit.ResolutionNoDecision}, "a loser is left out", func(h *history) {
			d := first(h)
			d.Contenders = append(d.Contenders[:1:1], d.Contenders[2:]...)
		}},
		{audit.ResolutionUnlisted, nil, "one that stays is left out", func(h *history) { first(h).Contenders = first(h).Contenders[:3] }},
		{audit.ResolutionUnlisted, nil, "one that stays is listed instead of a better one", alone(func(h *history) { listing(h, 2, op.MaxListed) })},
		{audit.ResolutionUnlisted, nil, "more that stay are listed than may be", alone(func(h *history) { listing(h, 0, op.MaxListed+1) })},
		{audit.ResolutionContender, nil, "another priority", func(h *history) { first(h).Contenders[0].Priority = 7 }},
		{audit.ResolutionContender, nil, "another place", func(h *history) { first(h).Contenders[0].Seq = 1 }},
		{audit.ResolutionEffective, nil, "another effective priority", func(h *history) { inherited(h).Contenders[0].Effective = 10 }},
		{audit.ResolutionEffective, nil, "another path", func(h *history) { inherited(h).Contenders[0].Path = []string{"nobody"} }},
		{audit.ResolutionEffective, nil, "silent about the unknown ancestor", func(h *history) { inherited(h).Contenders[0].UnknownParent = "" }},
		{audit.ResolutionEffective, nil, "a cycle that is none", func(h *history) { inherited(h).Contenders[0].Cycle = true }},
		{audit.ResolutionEffective, nil, "a depth that was not reached", func(h *history) { inherited(h).Contenders[0].Truncated = true }},
		{audit.ResolutionEffective, nil, "granted with another", func(h *history) { h.get(0, 19).Out[1].Granted.Effective = 5 }},
		{audit.ResolutionUnaskedParent, nil, "nobody looked", func(h *history) { h.get(0, 19).In = h.get(0, 19).In[:1] }},
		{audit.ResolutionUnaskedParent, nil, "nobody looked as far as the child", func(h *history) { h.get(0, 19).In[1].Kin.Upto = 15 }},
		{audit.ResolutionParentMissed, nil, "an ancestor of another partition is missed", func(h *history) {
			h.get(0, 19).In[0].Kin = &arbiter.Kin{OpID: "f", Unknown: true, Upto: 17}
			c := &inherited(h).Contenders[0]
			c.Effective, c.Path, c.UnknownParent = 5, nil, "f"
			h.get(0, 19).Out[1].Granted.Effective = 5
		}},
		{audit.ResolutionKin, nil, "an answer with another priority", func(h *history) {
			h.get(0, 19).In[0].Kin.Priority = 8
			inherited(h).Contenders[0].Effective = 8
			h.get(0, 19).Out[1].Granted.Effective = 8
		}},
		{audit.ResolutionKin, nil, "an answer about nobody", func(h *history) {
			h.get(0, 6).In = inputs(arbiter.Input{Kin: &arbiter.Kin{OpID: "ghost", Priority: 3}})
		}},
		{audit.ResolutionOrder, nil, "worse before better", func(h *history) {
			c := first(h).Contenders
			c[1], c[2] = c[2], c[1]
		}},
		{audit.ResolutionRule, nil, "another rule", func(h *history) { first(h).Rule = op.RuleOrder }},
		{audit.ResolutionRule, nil, "alone by priority", func(h *history) { inherited(h).Rule = op.RulePriority }},
		{audit.ResolutionReason, nil, "another reason in the decision", func(h *history) { first(h).Contenders[3].Reason = op.LaterSubmission }},
		{audit.ResolutionReason, nil, "another reason in the rejection", func(h *history) { h.get(0, 3).Out[2].Rejected.Reason = op.LaterSubmission }},
		{audit.ResolutionReason, nil, "another winner in the rejection", func(h *history) { h.get(0, 3).Out[2].Rejected.Winner = "b" }},
		{audit.ResolutionReason, nil, "another winner in the retry", func(h *history) { h.get(0, 3).Out[3].Retry.Winner = "a" }},
		{audit.ResolutionVerdict, []string{audit.ResolutionNotCarriedOut}, "a queued one is rejected", func(h *history) {
			first(h).Contenders[3].Verdict = op.VerdictRejected
		}},
	}
}

func inheritedWith(h *history, id string, seq uint64) *op.Decision {
	d := decision("dx", "e5", 30315, 30315, 30317, op.RuleOnly, contender(operation(id, "e4", 5), seq, op.VerdictQueued, "")).Decision
	d.PolicyRevision = 7
	return d
}

// two are staged on e1 from the beginning: a NORMAL before b.
func two(h *history, a, b op.Operation) {
	h.step(0, inputs(submit(1, a), submit(2, b)), accepted(a.ID), accepted(b.ID))
}

// atMost lets no more than n operations execute.
func atMost(h *history, n int) {
	h.step(0, inputs(policy(func(p *arbiter.Policy) { p.MaxExecuting = n })))
}

// crowd has n operations staged on e1.
func crowd(h *history, n int, set ...func(*op.Operation)) {
	var in []arbiter.Input
	var out []arbiter.Effect
	for i := range n {
		o := operation(fmt.Sprint("o", i), "e1", 5, set...)
		in, out = append(in, submit(uint64(i+1), o)), append(out, accepted(o.ID))
	}
	h.step(0, in, out...)
}

// listing has o0 win against 20 others that stay. The decision lists the first n of
// them, without the one of the given number.
func listing(h *history, without, n int) {
	crowd(h, 21, onConflict(op.OnConflictQueue))
	list := []op.Contender{contender(operation("o0", "e1", 5), 1, op.VerdictWon, "")}
	for i := 1; len(list) <= n; i++ {
		if i != without {
			list = append(list, contender(operation(fmt.Sprint("o", i), "e1", 5), uint64(i+1), op.VerdictQueued, op.LaterSubmission)) //nolint:gosec // not negative
		}
	}
	h.step(10, nil, decision("d1", "e1", 0, 10, 10, op.RuleOrder, list...), granted("o0", "e1", 1, 5, "d1", 10))
	last(h).Out[0].Decision.Total = 21
}

func shortResolutionMutants() []mutant {
	a, b, c := operation("a", "e1", 5), operation("b", "e1", 5), operation("c", "e2", 5)
	twoStay := func(h *history) {
		h.step(0, inputs(policy(func(p *arbiter.Policy) { p.MaxStaged = 1 })))
		two(h, a, b)
	}
	return []mutant{
		{audit.ResolutionWinner, nil, "the later of two equals wins", alone(func(h *history) {
			two(h, a, b)
			h.step(10, nil, decision("d1", "e1", 0, 10, 10, op.RuleOrder,
				contender(a, 1, op.VerdictRejected, op.LaterSubmission), contender(b, 2, op.VerdictWon, "")),
				granted("b", "e1", 1, 5, "d1", 10), lost("a", "e1", op.LaterSubmission, "b", "d1"))
			h.get(0, 3).Out[0].Decision.Winner = "b"
		})},
		{audit.ResolutionNotCarriedOut, nil, "a loser is left alone", alone(func(h *history) {
			two(h, a, b)
			h.step(10, nil, decision("d1", "e1", 0, 10, 10, op.RuleOrder,
				contender(a, 1, op.VerdictWon, ""), contender(b, 2, op.VerdictRejected, op.LaterSubmission)), granted("a", "e1", 1, 5, "d1", 10))
		})},
		{audit.ResolutionNoDecision, nil, "granted without a decision", alone(func(h *history) {
			h.step(0, inputs(submit(1, a)), accepted("a"))
			h.step(10, nil, granted("a", "e1", 1, 5, "d1", 10))
		})},
		{audit.ResolutionNoDecision, nil, "rejected without a decision", alone(func(h *history) {
			h.step(0, inputs(submit(1, a)), accepted("a"))
			h.step(1, nil, lost("a", "e1", op.LowerPriority, "b", "d1"))
		})},
		{audit.ResolutionNoDecision, nil, "exhausted without a decision", alone(func(h *history) {
			o := operation("a", "e1", 5, retries(0), onConflict(op.OnConflictRetry))
			h.step(0, inputs(submit(1, o)), accepted("a"))
			h.step(1, nil, lost("a", "e1", op.MaxRetries, "b", "d1"))
		})},
		{audit.ResolutionNoDecision, nil, "sent back without a decision", alone(func(h *history) {
			h.step(0, inputs(submit(1, a)), accepted("a"))
			h.step(1, nil, retry("a", "e1", 1, 1, 100))
		})},
		{audit.ResolutionExecutingLost, nil, "an executing operation loses", alone(func(h *history) {
			running(h)
			e := lost("a", "e1", op.LowerPriority, "b", "d2")
			e.Rejected.From = op.Executing
			h.step(20, nil, e)
		})},
		{audit.ResolutionBusy, []string{audit.ResolutionNotCarriedOut}, "decided while one executes", alone(func(h *history) {
			running(h)
			h.step(20, inputs(submit(2, b)), accepted("b"))
			h.step(30, nil, decision("d2", "e1", 20, 30, 30, op.RuleOnly, contender(b, 2, op.VerdictWon, "")))
		})},
		{audit.ResolutionUndecided, nil, "the window closes and nothing happens", alone(func(h *history) {
			two(h, a, b)
			h.step(10, nil)
		})},
		{audit.ResolutionUndecided, nil, "one stays behind a success", func(h *history) {
			h.get(0, 4).Out = h.get(0, 4).Out[:1]
			h.cut(4)
		}},
		{audit.ResolutionUndecided, nil, "the last answer comes and nothing happens", alone(func(h *history) {
			h.step(0, inputs(submit(1, operation("a", "e1", 5, parent("nobody")))), accepted("a"))
			h.step(10, inputs(arbiter.Input{Kin: &arbiter.Kin{OpID: "nobody", Unknown: true, Upto: 1}}))
		})},
		{audit.ResolutionUndecided, nil, "one may execute again and nothing happens", alone(func(h *history) {
			atMost(h, 1)
			running(h)
			h.step(20, inputs(submit(2, c)), accepted("c"))
			h.step(30, nil)
			h.step(40, inputs(success("a", "e1", 1, created("e1"))), succeeded("a", "e1", 1, 0))
		})},
		{audit.ResolutionUndecided, nil, "many are staged and a step of their own decides nothing", alone(func(h *history) {
			h.step(0, nil)
			crowd(h, 1000)
			h.step(10, inputs(arbiter.Input{Kin: &arbiter.Kin{OpID: "nobody", Unknown: true, Upto: 1}})) // no room
			h.step(11, nil)
		})},
		{audit.ResolutionExecutingBound, nil, "one too many", alone(func(h *history) {
			atMost(h, 1)
			running(h)
			h.step(20, inputs(submit(2, c)), accepted("c"))
			h.step(30, nil, decision("d2", "e2", 20, 30, 30, op.RuleOnly, contender(c, 2, op.VerdictWon, "")), granted("c", "e2", 1, 5, "d2", 30))
		})},
		{audit.ResolutionShed, nil, "shed though there is room", alone(func(h *history) {
			two(h, a, b)
			h.get(0, 2).Out = append(h.get(0, 2).Out, rejected("b", "e1", op.Pending, op.StagingFull))
		})},
		{audit.ResolutionStagingBound, nil, "two where one may be", alone(twoStay)},
		{audit.ResolutionShed, nil, "shed while it backs off", alone(func(h *history) {
			running(h)
			h.step(20, inputs(failure("a", "e1", 1, hiccup)), failed("a", "e1", 1, hiccup), retry("a", "e1", 1, 20, 100))
			h.step(119, nil, rejected("a", "e1", op.Pending, op.StagingFull, hiccup))
		})},
		{audit.ResolutionShed, nil, "shed though another ranks lower", alone(func(h *history) {
			h.step(0, inputs(policy(func(p *arbiter.Policy) { p.MaxStaged = 2 })))
			two(h, a, b)
			h.step(1, inputs(submit(3, operation("c", "e1", 5))), accepted("c"), rejected("b", "e1", op.Pending, op.StagingFull))
		})},
		{audit.ResolutionShed, nil, "the better one is shed", alone(func(h *history) {
			twoStay(h)
			s := h.get(0, 3)
			s.Out = append(s.Out, rejected("a", "e1", op.Pending, op.StagingFull))
		})},
	}
}
