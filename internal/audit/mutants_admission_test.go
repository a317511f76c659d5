package audit_test

import (
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// under begins a short history with a policy, in step 2.
func under(h *history, set func(p *arbiter.Policy)) { h.step(0, inputs(policy(set))) }

// kind sets the type of an operation.
func kind(name string) func(*op.Operation) { return func(o *op.Operation) { o.Type = name } }

func by(submitter string) func(*op.Operation) {
	return func(o *op.Operation) { o.Submitter = submitter }
}

// arrives submits an operation to e1 and lets it be accepted, as what it asked for.
func arrives(h *history, o op.Operation, then ...arbiter.Effect) {
	h.step(1, inputs(submit(h.steps[len(h.steps)-1].Cursor+1, o)), append([]arbiter.Effect{accepted(o.ID)}, then...)...)
}

// clamped is accepted with another priority than it asked for.
func clamped(id string, asked, priority op.Priority) arbiter.Effect {
	return arbiter.Effect{Accepted: &arbiter.Accepted{OpID: id, Asked: asked, Priority: priority}}
}

// notAllowed refuses a priority.
func notAllowed(id string) arbiter.Effect {
	return rejected(id, "e1", op.Pending, op.Invalid, &op.Failure{Code: arbiter.CodeNotAllowed, Message: "no"})
}

var (
	pausesE1    = func(p *arbiter.Policy) { p.Paused.Targets = []string{"e*"} }
	fullWithOne = func(p *arbiter.Policy) { p.MaxOpen = 1 }
	refuses     = func(p *arbiter.Policy) {
		p.RefusePriority, p.Submitters = true, map[string]arbiter.Range{"ann": {Max: 4}}
	}
	registers = func(p *arbiter.Policy) { p.Types = map[string]arbiter.TypePolicy{"paint": {}} }
)

// admissionMutants break the rules of what is turned away.
func admissionMutants() []mutant {
	a, ann, paint := operation("a", "e1", 5), operation("a", "e1", 5, by("ann")), operation("a", "e1", 5, kind("paint"))
	return []mutant{
		{audit.LifeAdmitted, nil, "staged though its target is paused", alone(func(h *history) { under(h, pausesE1); arrives(h, a) })},
		{audit.LifeAdmitted, nil, "staged though there is no room", alone(func(h *history) {
			under(h, fullWithOne)
			arrives(h, operation("b", "e2", 5))
			arrives(h, a)
		})},
		{audit.LifeAdmitted, nil, "staged though nobody registered its type", alone(func(h *history) { arrives(h, paint) })},
		{audit.LifeAdmitted, nil, "pending of a type that is registered no longer", alone(func(h *history) {
			under(h, registers)
			arrives(h, paint)
			h.step(2, inputs(policy(func(*arbiter.Policy) {})))
		})},
		{audit.LifeAdmitted, nil, "back from an attempt after its type is gone", alone(func(h *history) {
			under(h, registers)
			running(h, kind("paint"))
			h.step(20, inputs(policy(func(*arbiter.Policy) {})))
			h.step(30, inputs(failure("a", "e1", 1, hiccup)), failed("a", "e1", 1, hiccup), retry("a", "e1", 1, 30, 100))
			h.step(130, nil)
		})},
		{audit.LifeUnknownType, nil, "of a type that is built in", alone(func(h *history) { arrives(h, a, rejected("a", "e1", op.Pending, op.UnknownType)) })},
		{audit.LifeUnknownType, nil, "of a type that is still registered", alone(func(h *history) {
			under(h, registers)
			arrives(h, paint)
			h.step(2, inputs(policy(registers)), rejected("a", "e1", op.Pending, op.UnknownType))
		})},
		{audit.LifePaused, nil, "and nothing is paused", alone(func(h *history) { arrives(h, a, rejected("a", "e1", op.Pending, op.Paused)) })},
		{audit.LifePaused, nil, "another target is paused", alone(func(h *history) {
			under(h, func(p *arbiter.Policy) { p.Paused.Targets = []string{"e", "e11", "f*"} })
			arrives(h, a, rejected("a", "e1", op.Pending, op.Paused))
		})},
		{audit.LifePaused, nil, "while it is pending", alone(func(h *history) {
			arrives(h, a)
			h.step(2, inputs(policy(pausesE1)), rejected("a", "e1", op.Pending, op.Paused))
		})},
		{audit.LifeNotAllowed, nil, "in its range", alone(func(h *history) {
			under(h, refuses)
			arrives(h, operation("a", "e1", 4, by("ann")), notAllowed("a"))
		})},
		{audit.LifeNotAllowed, nil, "without saying so", alone(func(h *history) {
			under(h, refuses)
			h.step(1, inputs(submit(1, ann)), clamped("a", 5, 4), rejected("a", "e1", op.Pending, op.Invalid))
		})},
		{audit.LifeOverloaded, nil, "with room for another", alone(func(h *history) {
			under(h, fullWithOne)
			arrives(h, a, rejected("a", "e1", op.Pending, op.Overloaded))
		})},
		{audit.LifeOverloaded, nil, "while it is staged", func(h *history) {
			r := h.get(0, 20).Out[1].Rejected
			r.Reason, r.RetryAfter = op.Overloaded, time.Second
		}},
		{audit.LifeReason, nil, "turned away for another reason", alone(func(h *history) {
			under(h, pausesE1)
			arrives(h, a, rejected("a", "e1", op.Pending, op.UnknownType))
		})},
		{audit.LifeRetryAfter, nil, "later than the policy says", alone(func(h *history) {
			under(h, fullWithOne)
			arrives(h, operation("b", "e2", 5))
			e := rejected("a", "e1", op.Pending, op.Overloaded)
			e.Rejected.RetryAfter = 2 * time.Second
			arrives(h, a, e)
		})},
		{audit.LifeRetryAfter, nil, "of one that lost", func(h *history) { h.get(0, 3).Out[2].Rejected.RetryAfter = time.Second }},
		{audit.LifeError, nil, "the last error is lost", alone(expiresAfterFailure(nil))},
		{audit.LifeError, nil, "another error than the last", alone(expiresAfterFailure(stale))},
		{audit.LifeTwoPartitions, nil, "an id for targets of two partitions", alone(func(h *history) {
			arrives(h, a)
			h.stepOf(1, 1, nil)
			h.stepOf(1, 2, inputs(submit(2, operation("a", "e9", 5))), accepted("a"))
		})},
		{audit.ResolutionPriority, nil, "more than is allowed", alone(func(h *history) {
			under(h, func(p *arbiter.Policy) { refuses(p); p.RefusePriority = false })
			arrives(h, ann)
		})},
		{audit.ResolutionPriority, nil, "less than was asked for", alone(func(h *history) {
			h.step(1, inputs(submit(1, ann)), clamped("a", 5, 4))
		})},
		{audit.ResolutionPriority, nil, "another than the nearest", alone(func(h *history) {
			under(h, func(p *arbiter.Policy) {
				p.Types = map[string]arbiter.TypePolicy{op.TypeComplexUpdate: {Range: arbiter.Range{Min: 7}}}
			})
			h.step(1, inputs(submit(1, ann)), clamped("a", 5, 8))
		})},
		{audit.ResolutionContender, nil, "silent about what was asked for", alone(func(h *history) {
			under(h, func(p *arbiter.Policy) { p.Submitters = map[string]arbiter.Range{"ann": {Max: 4}} })
			h.step(1, inputs(submit(1, ann)), clamped("a", 5, 4))
			ann.Priority = 4
			h.step(11, nil, decision("d1", "e1", 1, 11, 11, op.RuleOnly, contender(ann, 1, op.VerdictWon, "")), granted("a", "e1", 1, 4, "d1", 11))
		})},
	}
}

// expiresAfterFailure lets an operation expire while it backs off from hiccup.
func expiresAfterFailure(last *op.Failure) func(h *history) {
	return func(h *history) {
		running(h, deadline(60))
		h.get(0, 3).Out[1].Granted.LeaseEnds = at(60)
		h.step(20, inputs(failure("a", "e1", 1, hiccup)), failed("a", "e1", 1, hiccup), retry("a", "e1", 1, 20, 100))
		h.step(60, nil, rejected("a", "e1", op.Pending, op.Expired, last))
	}
}

// leaseMutants break what heartbeats and lapses do.
func leaseMutants() []mutant {
	beaten := func(h *history, lease int) {
		running(h)
		h.step(20, inputs(beat("a", "e1", 1)), extended("a", "e1", 1, lease))
	}
	claimed := func(e arbiter.Effect) arbiter.Effect {
		e.Lapsed.Claimed = true
		return e
	}
	return []mutant{
		{audit.LifeExtended, nil, "without a heartbeat", alone(func(h *history) { running(h); h.step(20, nil, extended("a", "e1", 1, 30020)) })},
		{audit.LifeExtended, nil, "by the heartbeat of another attempt", alone(func(h *history) {
			running(h)
			h.step(20, inputs(beat("a", "e1", 2)), extended("a", "e1", 2, 30020))
		})},
		{audit.LifeExtended, nil, "while it is pending", alone(func(h *history) {
			arrives(h, operation("a", "e1", 5))
			h.step(2, inputs(beat("a", "e1", 0)), extended("a", "e1", 0, 30002))
		})},
		{audit.LifeLease, nil, "prolonged for longer", alone(func(h *history) { beaten(h, 30021) })},
		{audit.LifeLease, nil, "prolonged beyond the deadline", alone(func(h *history) {
			running(h, deadline(50))
			h.get(0, 3).Out[1].Granted.LeaseEnds = at(50)
			h.step(20, inputs(beat("a", "e1", 1)), extended("a", "e1", 1, 30020))
		})},
		{audit.LifeLapseEarly, nil, "lapses in spite of its heartbeat", alone(func(h *history) {
			beaten(h, 30020)
			h.step(30010, nil, claimed(lapsed("a", "e1", 1, 0)), retry("a", "e1", 1, 30010, 100))
		})},
		{audit.LifeOverdue, nil, "a prolonged lease runs on", alone(func(h *history) { beaten(h, 30020); h.step(30020, nil) })},
		{audit.LifeClaimed, nil, "claimed by nobody", alone(func(h *history) {
			running(h)
			h.step(30010, nil, claimed(lapsed("a", "e1", 1, 0)), away("a", "e1", 0, 0, 30010, 100))
		})},
		{audit.LifeClaimed, nil, "claimed and not said so", alone(func(h *history) {
			beaten(h, 30020)
			h.step(30020, nil, lapsed("a", "e1", 1, 0), retry("a", "e1", 1, 30020, 100))
		})},
		{audit.LifeRetryCount, nil, "a claimed attempt lapses for nothing", alone(func(h *history) {
			beaten(h, 30020)
			h.step(30020, nil, claimed(lapsed("a", "e1", 1, 0)), away("a", "e1", 0, 0, 30020, 100))
		})},
		{audit.LifeRetryCount, nil, "an attempt that nobody claimed costs a retry", alone(func(h *history) {
			running(h)
			h.step(30010, nil, lapsed("a", "e1", 1, 0), retry("a", "e1", 1, 30010, 100))
		})},
		{audit.LifeReason, nil, "exhausted though nobody claimed the attempt", alone(func(h *history) {
			running(h, retries(0))
			h.step(30010, nil, lapsed("a", "e1", 1, 0), rejected("a", "e1", op.Pending, op.MaxRetries))
		})},
		{audit.LifeBackoffNumber, nil, "a higher number", alone(func(h *history) {
			running(h)
			h.step(20, inputs(failure("a", "e1", 1, hiccup)), failed("a", "e1", 1, hiccup), away("a", "e1", 1, 1, 20, 100))
		})},
		{audit.EffectsRefusedCurrent, nil, "its heartbeat is refused", alone(func(h *history) {
			running(h)
			h.step(20, inputs(beat("a", "e1", 1)), arbiter.Effect{Refused: &arbiter.Refused{OpID: "a", Target: "e1", Attempt: 1}})
		})},
		{audit.LogUnanswered, nil, "a heartbeat without an effect", alone(func(h *history) { running(h); h.step(20, inputs(beat("a", "e1", 1))) })},
		{audit.LifeTransition, nil, "succeeds while it is pending", alone(func(h *history) {
			running(h)
			h.step(30010, nil, lapsed("a", "e1", 1, 0), away("a", "e1", 0, 0, 30010, 100))
			h.step(30011, inputs(success("a", "e1", 1, created("e1"))), succeeded("a", "e1", 1, 0))
		})},
	}
}

func extended(id, target string, attempt, until int) arbiter.Effect {
	return arbiter.Effect{Extended: &arbiter.Extended{OpID: id, Target: target, Attempt: attempt, LeaseEnds: at(until)}}
}
