package audit_test

import (
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// running leaves operation a executing its first attempt on e1, granted at 10 ms.
func running(h *history, set ...func(*op.Operation)) {
	a := operation("a", "e1", 5, set...)
	h.step(0, inputs(submit(1, a)), accepted("a"))
	h.step(10, nil, decision("d1", "e1", 0, 10, 10, op.RuleOnly, contender(a, 1, op.VerdictWon, "")), granted("a", "e1", 1, 5, "d1", 10))
}

func lifeMutants() []mutant {
	return []mutant{
		{audit.LifeUnknownOperation, nil, "an effect for nobody", func(h *history) {
			h.get(0, 6).Out = []arbiter.Effect{{Lapsed: &arbiter.Lapsed{OpID: "ghost", Target: "e1", Attempt: 1}}}
		}},
		{audit.LifeUnknownOperation, []string{audit.LogUnanswered, audit.LifeAccounting}, "rejected before it is accepted", alone(func(h *history) {
			h.step(1, inputs(submit(1, operation("a", "e1", 5))), rejected("a", "e1", op.Pending, op.Paused))
		})},
		{audit.LifeUnasked, nil, "accepted unasked", func(h *history) { h.get(0, 6).Out = []arbiter.Effect{accepted("ghost")} }},
		{audit.LifeUnasked, nil, "repeated at another place", func(h *history) {
			h.get(0, 16).Out[1].Repeated.Seq = 99
			h.get(0, 16).Out = append(h.get(0, 16).Out, arbiter.Effect{Repeated: &arbiter.Repeated{OpID: "a", Place: op.Place{Seq: 12}}})
		}},
		{audit.LifeUnasked, nil, "refused unasked", func(h *history) {
			h.get(0, 14).Out = append(h.get(0, 14).Out, arbiter.Effect{Refused: &arbiter.Refused{OpID: "d", Target: "e1", Attempt: 2, Input: 7}})
		}},
		{audit.LifeAcceptedTwice, nil, "a repetition is accepted", func(h *history) { h.get(0, 16).Out[1] = accepted("a") }},
		{audit.LifeRepeatedUnknown, nil, "a new operation is repeated", func(h *history) {
			h.get(0, 16).In[1].Submit.Operation.ID = "new"
			h.get(0, 16).Out[1].Repeated.OpID = "new"
		}},
		{audit.LifeTarget, nil, "an effect on another target", func(h *history) { h.get(0, 5).Out[0].Failed.Target = "e2" }},
		{audit.LifeTransition, nil, "pending lapses", alone(func(h *history) {
			h.step(0, inputs(submit(1, operation("a", "e1", 5))), accepted("a"))
			h.step(1, nil, arbiter.Effect{Lapsed: &arbiter.Lapsed{OpID: "a", Target: "e1"}})
		})},
		{audit.LifeTransition, []string{audit.ResolutionNoDecision}, "granted while it executes", alone(func(h *history) {
			running(h)
			last(h).Out = append(last(h).Out, granted("a", "e1", 2, 5, "d1", 10))
		})},
		{audit.LifeFrom, nil, "rejected from another status", func(h *history) { h.get(0, 8).Out[1].Rejected.From = op.Pending }},
		{audit.LifeTerminalTwice, []string{audit.LifeAccounting}, "succeeds twice", func(h *history) {
			h.get(0, 20).Out = append(h.get(0, 20).Out, succeeded("x", "e3", 1, 0))
		}},
		{audit.LifeAccounting, []string{audit.LifeTerminalTwice}, "rejected after its success", func(h *history) {
			h.get(0, 20).Out = append(h.get(0, 20).Out, rejected("x", "e3", op.Executing, op.MaxRetries))
		}},
		{audit.LifeAfterTerminal, nil, "lapses after its success", func(h *history) {
			h.get(0, 20).Out = append(h.get(0, 20).Out, lapsed("x", "e3", 1, 0))
		}},
		{audit.LifeAttemptNumber, nil, "an attempt is skipped", func(h *history) {
			h.get(0, 19).Out[1].Granted.Attempt = 2
			h.get(0, 20).In[0].Result.Attempt, h.get(0, 20).Out[0].Succeeded.Attempt = 2, 2
		}},
		{audit.LifeAttempts, []string{audit.LifeAttemptNumber}, "an attempt too many", alone(func(h *history) {
			running(h, retries(0))
			h.get(0, 3).Out[1].Granted.Attempt = 2
		})},
		{audit.LifeAttempts, []string{audit.LifeAttemptNumber}, "more attempts than a lapse allows for", alone(func(h *history) {
			running(h, retries(0))
			h.step(30010, nil, lapsed("a", "e1", 1, 0), away("a", "e1", 0, 0, 30010, 100))
			h.step(30110, nil)
			h.step(30120, nil, decision("d2", "e1", 30110, 30120, 30120, op.RuleOnly, contender(operation("a", "e1", 5), 1, op.VerdictWon, "")),
				granted("a", "e1", 3, 5, "d2", 30120))
		})},
		{audit.LifeRetryCount, nil, "a retry is skipped", alone(func(h *history) {
			running(h)
			e := retry("a", "e1", 1, 20, 100)
			e.Retry.RetryCount = 2
			h.step(20, inputs(failure("a", "e1", 1, hiccup)), failed("a", "e1", 1, hiccup), e)
		})},
		{audit.LifeRetryCount, nil, "a lapse that costs a retry", alone(func(h *history) {
			running(h)
			h.step(30010, nil, lapsed("a", "e1", 1, 1), away("a", "e1", 0, 0, 30010, 100))
		})},
		{audit.LifeRetryBound, nil, "a retry too many", alone(func(h *history) {
			running(h, retries(0))
			h.step(20, inputs(failure("a", "e1", 1, hiccup)), failed("a", "e1", 1, hiccup), retry("a", "e1", 1, 20, 100))
		})},
	}
}

// retryMutants break the pace of retries, and what has to follow in the same step.
func retryMutants() []mutant {
	return []mutant{
		{audit.LifeBackoff, nil, "too short", alone(func(h *history) {
			running(h)
			h.step(20, inputs(failure("a", "e1", 1, hiccup)), failed("a", "e1", 1, hiccup), retry("a", "e1", 1, 20, 79))
		})},
		{audit.LifeBackoff, nil, "too long", alone(func(h *history) {
			running(h)
			h.step(20, inputs(failure("a", "e1", 1, hiccup)), failed("a", "e1", 1, hiccup), retry("a", "e1", 1, 20, 121))
		})},
		{audit.LifeBackoff, nil, "ends at another instant", alone(func(h *history) {
			running(h)
			e := retry("a", "e1", 1, 20, 100)
			e.Retry.Due = e.Retry.Due.Add(time.Millisecond)
			h.step(20, inputs(failure("a", "e1", 1, hiccup)), failed("a", "e1", 1, hiccup), e)
		})},
		{audit.LifeUndone, nil, "failed and forgotten", alone(func(h *history) {
			running(h)
			h.step(20, inputs(failure("a", "e1", 1, hiccup)), failed("a", "e1", 1, hiccup))
		})},
		{audit.LifeUndone, []string{audit.LifeOverdue}, "lapsed at its deadline and forgotten", alone(func(h *history) {
			running(h, deadline(50))
			h.get(0, 3).Out[1].Granted.LeaseEnds = at(50)
			h.step(50, nil, lapsed("a", "e1", 1, 0))
		})},
		{audit.LifeOpen, nil, "no terminal record", func(h *history) { h.cut(21); h.busy = false }},
	}
}

// ruleMutants break what the life cycle says about reasons and deadlines.
func ruleMutants() []mutant {
	return []mutant{
		{audit.LifeReason, nil, "another reason than the failure's", func(h *history) { h.get(0, 8).Out[1].Rejected.Reason = op.TerminalError }},
		{audit.LifeReason, nil, "exhausted with retries left", alone(func(h *history) {
			running(h)
			h.step(20, inputs(failure("a", "e1", 1, hiccup)), failed("a", "e1", 1, hiccup), rejected("a", "e1", op.Failed, op.MaxRetries, hiccup))
		})},
		{audit.LifeReason, nil, "exhausted by a lapse", alone(func(h *history) {
			running(h, deadline(50), retries(0))
			h.get(0, 3).Out[1].Granted.LeaseEnds = at(50)
			h.step(50, nil, lapsed("a", "e1", 1, 0), rejected("a", "e1", op.Pending, op.MaxRetries))
		})},
		{audit.LifeReason, nil, "a terminal error of nobody", func(h *history) { h.get(0, 20).Out[1].Rejected.Reason = op.TerminalError }},
		{audit.LifeReason, nil, "a failure that is not terminal", alone(func(h *history) {
			running(h)
			h.step(20, inputs(failure("a", "e1", 1, hiccup)), failed("a", "e1", 1, hiccup), rejected("a", "e1", op.Failed, op.TerminalError, hiccup))
		})},
		{audit.LifeReason, nil, "coalesced, which is no reason to be rejected", alone(func(h *history) { arrives(h, operation("a", "e1", 5), rejected("a", "e1", op.Pending, op.Coalesced)) })},
		{audit.LifeReason, nil, "cancelled for another reason", func(h *history) { h.get(0, 16).Out[0].Cancelled.Reason = op.Paused }},
		{audit.LifeLease, nil, "a longer lease", func(h *history) {
			g := h.get(0, 19).Out[1].Granted
			g.LeaseEnds = g.LeaseEnds.Add(1)
		}},
		{audit.LifeLease, nil, "a lease beyond the deadline", alone(func(h *history) { running(h, deadline(50)) })},
		{audit.LifeLapseEarly, nil, "lapses before the end of its lease", alone(func(h *history) {
			running(h)
			h.step(30009, nil, lapsed("a", "e1", 1, 0), away("a", "e1", 0, 0, 30009, 100))
		})},
		{audit.LifeGrace, nil, "cancelled within grace", alone(cancelledAt(109))},
		{audit.LifeExpiredEarly, nil, "expires before its deadline", func(h *history) {
			h.get(0, 18).In[1].Submit.Operation.Deadline.After = millis(6)
		}},
		{audit.LifeGrantedExpired, []string{audit.LifeOverdue}, "granted at its deadline", alone(func(h *history) {
			running(h, deadline(10))
			h.get(0, 3).Out[1].Granted.LeaseEnds = at(10)
		})},
		{audit.LifeOverdue, nil, "a lease runs on", alone(func(h *history) { running(h); h.step(30010, nil) })},
		{audit.LifeOverdue, nil, "a deadline passes", func(h *history) {
			s := h.get(0, 20)
			s.Out = s.Out[:1]
			h.cut(20)
		}},
		{audit.LifeOverdue, nil, "a backoff outlives the deadline", alone(func(h *history) {
			running(h, deadline(60))
			h.get(0, 3).Out[1].Granted.LeaseEnds = at(60)
			h.step(20, inputs(failure("a", "e1", 1, hiccup)), failed("a", "e1", 1, hiccup), retry("a", "e1", 1, 20, 100))
			h.step(60, nil)
		})},
	}
}

// cancelledAt cancels an executing operation, which was granted at 10 ms.
func cancelledAt(ms int) func(h *history) {
	return func(h *history) {
		running(h)
		h.step(ms, inputs(cancel(2, "e1", "a")), stopped("a", "e1", 1))
	}
}
