package observer

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func at(c op.Contender, seq uint64) op.Contender {
	c.Seq = seq
	return c
}

// TestRemedies: what would have won, as the machine computes it, in a sentence. One
// that shares the winner's outcome has lost nothing, and a winner needs no remedy.
func TestRemedies(t *testing.T) {
	shares := at(contends("a", 5, op.VerdictCoalesced), 2)
	for name, c := range map[string]struct {
		own, winner op.Contender
		want        string
	}{
		"one more than the winner": {at(contends("a", 5, ""), 2), at(contends("w", 8, ""), 1), "Priority 9 would have won."},
		"as much when earlier":     {at(contends("a", 5, ""), 1), at(contends("w", 8, ""), 2), "Priority HIGH(8) would have won."},
		"not even ten":             {at(contends("a", 5, ""), 2), at(contends("w", 10, ""), 1), "Priority CRITICAL(10) would have won if it had been submitted before w, too."},
		"a tie at the top":         {at(contends("a", 10, ""), 2), at(contends("w", 10, ""), 1), "No priority is higher: it would have had to be submitted before w."},
		"against an ancestor":      {at(contends("a", 5, ""), 2), inherits(at(contends("w", 2, ""), 1), 8, "p"), "Priority 9 would have won."},
		"shared":                   {shares, at(contends("w", 8, ""), 1), ""},
	} {
		d := &op.Decision{Winner: "w", Contenders: []op.Contender{c.winner, c.own}}
		x := &Explanation{Record: op.Record{OpID: "a"}, Decision: d, WouldHaveWon: remedy(d, "a")}
		if got := x.alternative(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if remedy(d, "w") != nil || remedy(d, "stranger") != nil || remedy(nil, "a") != nil {
			t.Errorf("%s: a winner, a stranger or nobody needs no remedy", name)
		}
	}
}

// told is the explanation of an operation against decision d.
func told(r op.Record, d *op.Decision) []string {
	x := &Explanation{Record: r, Decision: d, WouldHaveWon: remedy(d, r.OpID)}
	if d != nil {
		x.Owner, x.Step, x.DecisionSeq = "resolver-1", 412, 9912
	}
	return x.sentences()
}

func TestSentences(t *testing.T) {
	d := decision("user-42", "38f0", ms(0), inherits(at(contends("38f0", 5, op.VerdictWon), 1), 8, "77aa", "9c1e"),
		at(contends("3943", 5, op.VerdictRejected), 2), at(contends("3951", 2, op.VerdictRejected), 3)).Decision
	decided := "resolver-1 decided so under policy revision 7: decision d0-1-1, step 412 of partition 3, journal entry 9912."
	loser := op.Record{OpID: "3943", Target: "user-42", Status: op.Rejected, Reason: op.LowerPriority, Partition: 3, UpdatedAt: ms(10)}
	winner := op.Record{OpID: "38f0", Target: "user-42", Status: op.Succeeded, Version: 8, Revision: 12, ExecutionMS: 2.1, Partition: 3}
	for name, c := range map[string]struct {
		got  []string
		want []string
	}{
		"loser": {told(loser, d), []string{
			"It lost to 38f0 on user-42: effective priority NORMAL(5) against HIGH(8).",
			"38f0 asked at NORMAL(5) and inherited HIGH(8) from 9c1e via 77aa.",
			"Priority 9 would have won.",
			"It is REJECTED (lower_priority) since 2026-11-21 19:01:33.010 UTC.",
			reasonText(op.LowerPriority), decided,
		}},
		"winner": {told(winner, d), []string{
			"It won against 2 contenders by effective priority HIGH(8) over NORMAL(5).",
			"38f0 asked at NORMAL(5) and inherited HIGH(8) from 9c1e via 77aa.",
			"It succeeded after 2.1ms; user-42 is at version 8, revision 12 since.",
			decided,
		}},
		"nothing decided": {told(op.Record{OpID: "a", Target: "x", Status: op.Pending, UpdatedAt: ms(0)}, nil), []string{
			"It waits in the staging area of x since 2026-11-21 19:01:33.000 UTC; nothing was decided about it yet.",
		}},
	} {
		if d := cmp.Diff(c.want, c.got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestSentencesOfOtherEnds(t *testing.T) {
	tie := decision("x", "w", ms(0), at(contends("w", 10, op.VerdictWon), 1), at(contends("a", 10, op.VerdictQueued), 2)).Decision
	tie.Rule, tie.PolicyRevision = op.RuleOrder, 0
	alone := decision("x", "a", ms(0), op.Contender{OpID: "a", Priority: 5, Effective: 5, Inheritance: op.Inheritance{UnknownParent: "p"}}).Decision
	due := ms(500)
	fail := &op.Failure{Message: "disk full"}
	for name, c := range map[string]struct {
		r    op.Record
		d    *op.Decision
		want []string // each is part of the text
	}{
		"tie, queued": {op.Record{OpID: "a", Target: "x", Status: op.Pending}, tie, []string{
			"both had effective priority CRITICAL(10), and w came earlier", "No priority is higher", "stays staged on x for the next round", "under the built-in policy",
		}},
		"tie, won": {op.Record{OpID: "w", Target: "x", Status: op.Executing, Attempt: 1}, tie, []string{
			"It won against a by its place in the log: the best of them, a, had effective priority CRITICAL(10) as well", "Attempt 1 is executing since",
		}},
		"alone": {op.Record{OpID: "a", Target: "x", Status: op.Executing, Attempt: 2}, alone, []string{
			"the only contender on x", "Nobody had submitted p, an ancestor of a",
		}},
		"backoff": {op.Record{OpID: "a", Target: "x", Status: op.Pending, RetryAt: &due, RetryCount: 1, MaxRetries: 3, Error: fail}, alone, []string{
			"comes back at 2026-11-21 19:01:33.500 UTC for retry 1 of 3; the last error was: disk full.",
		}},
		"gave up": {op.Record{OpID: "a", Target: "x", Status: op.Rejected, Reason: op.MaxRetries, Attempt: 4, Error: fail}, alone, []string{
			"It is REJECTED (max_retries) since", "after 4 attempts; the last error was: disk full.", "OPS-2009",
		}},
		"unlisted": {op.Record{OpID: "z", Target: "x", Status: op.Pending}, tie, []string{"w won x; this operation stays staged with 0 others"}},
	} {
		text := strings.Join(told(c.r, c.d), "\n")
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", name, want, text)
			}
		}
	}
}

// TestSentencesOfTurns: whatever befell an operation on its way reads well.
func TestSentencesOfTurns(t *testing.T) {
	clash := decision("x", "w", ms(0), at(contends("w", 8, op.VerdictWon), 1), at(contends("a", 5, op.VerdictCoalesced), 2)).Decision
	aged := decision("x", "a", ms(0), inherits(at(contends("a", 2, op.VerdictWon), 2), 8, "p"), at(contends("b", 5, op.VerdictQueued), 1)).Decision
	aged.Contenders[0].Boost = 3
	grace := ms(100)
	ran := &Execution{GrantedAt: ms(0), LeaseEnds: ms(30000), GraceEnds: &grace}
	for name, c := range map[string]struct {
		x    Explanation
		want []string
	}{
		"clamped": {
			Explanation{Record: op.Record{OpID: "a", OpType: "resize", Status: op.Rejected, Reason: op.Paused, Asked: 10, Priority: 5, Submitter: "night"}},
			[]string{"It asked for priority CRITICAL(10); the policy allows NORMAL(5) to resize of night.", "It is REJECTED (paused) since", "OPS-2014"},
		},
		"waits for another": {
			Explanation{Record: op.Record{OpID: "a", Status: op.Pending, Reason: op.Coalesced, Winner: "w"}, Decision: clash},
			[]string{"w won x and asks for the same, so this operation shares its outcome.", "It waits for the outcome of w, which asks for the same."},
		},
		"succeeded with another": {
			Explanation{Record: op.Record{OpID: "a", Target: "x", Status: op.Succeeded, Reason: op.Coalesced, Winner: "w", Version: 2, Revision: 7}, Decision: clash},
			[]string{"It succeeded with w, which did the same; x is at version 2, revision 7 since.", "OPS-2016"},
		},
		"superseded": {
			Explanation{Record: op.Record{OpID: "a", Status: op.Rejected, Reason: op.Superseded, Winner: "b", Submitter: "night", UpdatedAt: ms(10)}},
			[]string{"It is REJECTED (superseded) since 2026-11-21 19:01:33.010 UTC, when night sent b."},
		},
		"with its parent": {
			Explanation{Record: op.Record{OpID: "a", Status: op.Cancelled, Reason: op.CancelledWithParent, UpdatedAt: ms(10)}, CancelledWith: "p"},
			[]string{"It is CANCELLED (cancelled_with_parent) since 2026-11-21 19:01:33.010 UTC, when p was cancelled."},
		},
		"in its grace": {
			Explanation{Record: op.Record{OpID: "a", Status: op.Executing, Attempt: 1, CancelAt: &grace}, Execution: ran},
			[]string{
				"Attempt 1 is executing since 2026-11-21 19:01:33.000 UTC; its lease was granted until 2026-11-21 19:02:03.000 UTC",
				"Until 2026-11-21 19:01:33.100 UTC it was neither to be cancelled nor preempted.",
				"A cancellation takes effect when its grace ends, at 2026-11-21 19:01:33.100 UTC.",
			},
		},
		"preempted": {
			Explanation{Record: op.Record{OpID: "a", Status: op.Pending, Reason: op.Preempted, Preemptions: 2, Winner: "w"}},
			[]string{"It had to yield to a stronger operation 2 times, last to w."},
		},
		"preempted before it won": {
			Explanation{Record: op.Record{OpID: "a", Status: op.Executing, Attempt: 2, Preemptions: 1}},
			[]string{"Attempt 2 is executing since", "It had to yield to a stronger operation once."},
		},
		"waited": {
			Explanation{Record: op.Record{OpID: "a", Status: op.Executing}, Decision: aged},
			[]string{"a asked at LOW(2) and inherited NORMAL(5) from p. Waiting had added 3 to the priority of a."},
		},
		"again": {
			Explanation{Record: op.Record{OpID: "a", Status: op.Rejected, Reason: op.Overloaded, RetryOf: "old", RetryAfterMS: 1000, Attempt: 1}},
			[]string{"after 1 attempt.", "It tries again what was given up as old. It is worth submitting again after 1s."},
		},
	} {
		text := strings.Join(c.x.sentences(), "\n")
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", name, want, text)
			}
		}
	}
}

func TestInheritanceSaysWhereTheWalkEnded(t *testing.T) {
	cycle := op.Contender{Inheritance: op.Inheritance{Cycle: true}}
	deep := op.Contender{Inheritance: op.Inheritance{Truncated: true}}
	if got := inheritance("a", &cycle); !strings.Contains(got, "circle") {
		t.Error(got)
	}
	if got := inheritance("a", &deep); !strings.Contains(got, "deeper") {
		t.Error(got)
	}
	if got := inheritance("a", &op.Contender{}) + inheritance("a", nil); got != "" {
		t.Error(got)
	}
}

func TestFindDecision(t *testing.T) {
	s := &arbiter.Step{Out: []arbiter.Effect{
		decision("x", "a", ms(0), contends("a", 5, op.VerdictWon)),
		decision("y", "b", ms(0), contends("b", 5, op.VerdictWon)),
		decision("x", "a", ms(0), contends("a", 5, op.VerdictWon)),
	}}
	for i, id := range []string{"d1", "d2", "d3"} {
		s.Out[i].Decision.ID = id
	}
	for _, c := range [][3]string{{"a", "d1", "d1"}, {"a", "", "d3"}, {"b", "", "d2"}} {
		if d := findDecision(s, c[0], c[1]); d == nil || d.ID != c[2] {
			t.Errorf("%v: %+v", c, d)
		}
	}
	if findDecision(s, "stranger", "") != nil {
		t.Error("found a decision about a stranger")
	}
}

func TestTell(t *testing.T) {
	for d, want := range map[time.Duration]string{1234 * time.Millisecond: "1.23s", 2149 * time.Microsecond: "2.1ms", 1500: "2µs"} {
		if got := tell(d); got != want {
			t.Errorf("tell(%d) = %s, want %s", d, got, want)
		}
	}
}
