package audit_test

import (
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

var (
	hiccup = &op.Failure{Message: "hiccup"}
	stale  = &op.Failure{Message: "stale", Terminal: true, Reason: op.StaleVersion}
)

// story is a clean history in which nearly everything happens once:
//
//	1     r1 takes partition 0 over
//	2     four operations on e1: a (reject), b (retry), c (HIGH), d (queue)
//	3     c wins; a is rejected, b sent back, d stays
//	4     c creates e1; d is next
//	5     d fails and backs off
//	6, 7  b is back and wins alone
//	8     b fails for good; d is back
//	9     d has its second attempt
//	10    whose lease runs out: it backs off
//	11    r2 takes over
//	12,13 d is back and has its third attempt
//	14    the second attempt's executor is refused, the third modifies e1
//	15-17 k is cancelled; a is submitted again; an invalid message; a policy
//	      partition 1, which holds f, is told of it
//	18-20 x inherits from f; y expires waiting
//	21,22 z follows up on f
func story() *history {
	h := newHistory()
	a, b := operation("a", "e1", 5), operation("b", "e1", 5, onConflict(op.OnConflictRetry))
	c, d := operation("c", "e1", 8), operation("d", "e1", 5, onConflict(op.OnConflictQueue))
	h.step(0, nil)
	h.step(10, inputs(submit(1, a), submit(2, b), submit(3, c), submit(4, d)), accepted("a"), accepted("b"), accepted("c"), accepted("d"))
	back := retry("b", "e1", 1, 20, 100)
	back.Retry.Reason, back.Retry.Winner, back.Retry.Decision = op.LowerPriority, "c", "d3"
	h.step(20, nil,
		decision("d3", "e1", 10, 20, 20, op.RulePriority,
			contender(c, 3, op.VerdictWon, ""),
			contender(a, 1, op.VerdictRejected, op.LowerPriority),
			contender(b, 2, op.VerdictRetry, op.LowerPriority),
			contender(d, 4, op.VerdictQueued, op.LowerPriority)),
		granted("c", "e1", 1, 8, "d3", 20), lost("a", "e1", op.LowerPriority, "c", "d3"), back)
	h.step(30, inputs(success("c", "e1", 1, created("e1"))),
		succeeded("c", "e1", 1, 0),
		decision("d4", "e1", 10, 20, 30, op.RuleOnly, contender(d, 4, op.VerdictWon, "")), granted("d", "e1", 1, 5, "d4", 30))
	h.step(40, inputs(failure("d", "e1", 1, hiccup)), failed("d", "e1", 1, hiccup), retry("d", "e1", 1, 40, 100))
	h.step(120, nil)
	h.step(130, nil, decision("d7", "e1", 120, 130, 130, op.RuleOnly, contender(b, 2, op.VerdictWon, "")), granted("b", "e1", 1, 5, "d7", 130))
	h.step(140, inputs(failure("b", "e1", 1, stale)), failed("b", "e1", 1, stale), rejected("b", "e1", op.Failed, op.StaleVersion, stale))
	h.step(150, nil, decision("d9", "e1", 140, 150, 150, op.RuleOnly, contender(d, 4, op.VerdictWon, "")), granted("d", "e1", 2, 5, "d9", 150))
	h.step(30150, nil, lapsed("d", "e1", 2, 1), retry("d", "e1", 1, 30150, 90))
	h.takeover(h.step(30155, nil), "r2")
	h.step(30240, nil)
	h.step(30250, nil, decision("d11", "e1", 30240, 30250, 30250, op.RuleOnly, contender(d, 4, op.VerdictWon, "")),
		granted("d", "e1", 3, 5, "d11", 30250))
	h.step(30260, inputs(success("d", "e1", 2, modified(1, "2")), success("d", "e1", 3, modified(1, "3"))),
		arbiter.Effect{Refused: &arbiter.Refused{OpID: "d", Target: "e1", Attempt: 2, Why: "the current attempt is 3"}},
		succeeded("d", "e1", 3, 1))
	storyOfOthers(h, a)
	return h
}

func storyOfOthers(h *history, a op.Operation) {
	h.step(30300, inputs(submit(10, operation("k", "e2", 5))), accepted("k"))
	h.step(30305, inputs(
		cancel(11, "e2", "k"),
		submit(12, a),
		arbiter.Input{Invalid: &arbiter.Invalid{Place: op.Place{Seq: 13}, Error: op.Errorf(op.CodeBadJSON, "", "no")}}),
		cancelled("k", "e2"),
		arbiter.Effect{Repeated: &arbiter.Repeated{OpID: "a", Place: op.Place{Seq: 12}}})
	h.step(30310, inputs(policy(func(p *arbiter.Policy) { p.Revision, p.StagingWindow = 7, 0 })))

	f := operation("f", "e9", 9, parent("nobody"))
	nobody := unknown("nobody", 17)
	h.stepOf(1, 30300, nil)
	h.stepOf(1, 30301, inputs(submit(14, f)), accepted("f"))
	fc := contender(f, 14, op.VerdictWon, "")
	fc.UnknownParent = "nobody"
	h.stepOf(1, 30311, inputs(nobody), decision("p1", "e9", 30301, 30311, 30311, op.RuleOnly, fc), granted("f", "e9", 1, 9, "p1", 30311))
	change := created("e9")
	change.Follow = []entity.FollowUp{{Target: "e1", Params: entity.FollowParams{Note: "seen"}}}
	h.stepOf(1, 30312, inputs(success("f", "e9", 1, change)), succeeded("f", "e9", 1, 0))

	h.stepOf(1, 30313, inputs(arbiter.Input{Cancel: &arbiter.Cancel{Place: op.Place{Seq: 15}, Ancestors: []string{"k"}}}))

	x, y := operation("x", "e3", 5, parent("f")), operation("y", "e4", 5, deadline(5), parent("someone"))
	h.step(30315, inputs(submit(16, x), submit(17, y)), accepted("x"), accepted("y"))
	xc := contender(x, 16, op.VerdictWon, "")
	xc.Effective, xc.Path, xc.UnknownParent = 9, []string{"f"}, "nobody"
	dec := decision("d17", "e3", 30315, 30315, 30317, op.RuleOnly, xc)
	dec.Decision.PolicyRevision = 7
	h.step(30317, inputs(arbiter.Input{Kin: &arbiter.Kin{OpID: "f", Priority: 9, Parent: "nobody"}}, nobody), dec, granted("x", "e3", 1, 9, "d17", 30317))
	h.step(30320, inputs(success("x", "e3", 1, created("e3"))), succeeded("x", "e3", 1, 0), rejected("y", "e4", op.Pending, op.Expired))

	z := operation("z", "e1", 10, func(o *op.Operation) { o.Type = op.TypeFollowUp })
	in := submit(18, z)
	in.Submit.CausedBy = "f"
	dec = decision("d19", "e1", 30330, 30330, 30330, op.RuleOnly, contender(z, 18, op.VerdictWon, ""))
	dec.Decision.PolicyRevision = 7
	h.step(30330, inputs(in), accepted("z"), dec, granted("z", "e1", 1, 10, "d19", 30330))
	borrow := &entity.Change{Kind: entity.Borrowed, Base: 2, From: 1, Set: created("").Set, Source: map[string]*entity.Source{
		"n": {EntityID: "e9", Version: 1, Revision: 1, Field: "n"},
	}}
	h.step(30340, inputs(success("z", "e1", 1, borrow)), succeeded("z", "e1", 1, 0))
}

// The short histories that mutants break are clean without them.
func TestCleanShortHistoriesBreakNothing(t *testing.T) {
	for name, tell := range map[string]func(h *history){
		"preempted": preempted(110), "cancelled at last": ended, "cancelled at once": cancelledAt(110),
		"orphans": orphans, "orphans found late": foundLate, "shared": both, "failed together": neither, "parted": apart,
		"superseded": replaced, "superseded a step later": late, "aged": aged, "the first of a crowd are listed": func(h *history) { listing(h, 0, op.MaxListed) }, "expired after a failure": expiresAfterFailure(hiccup),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory()
			alone(tell)(h)
			wantOnly(t, h.read(t, audit.Options{}).Finish(false))
		})
	}
}

func TestCleanHistoryBreaksNothing(t *testing.T) {
	a := story().read(t, audit.Options{})
	r := a.Finish(true)
	wantOnly(t, r)
	got := [...]int{
		r.Steps, r.Takeovers, r.Operations, r.Repeated, r.Succeeded, r.Rejected, r.Cancelled, r.Open,
		r.Decisions, r.Attempts, r.Retries, r.Lapsed, r.Refused, r.Effects, r.Invalid, r.Entities,
	}
	want := [...]int{27, 3, 9, 1, 5, 3, 1, 0, 8, 8, 3, 1, 1, 5, 1, 3}
	if got != want {
		t.Errorf("counts are %v, want %v", got, want)
	}
}
