package observer

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// sentences tells the explanation in words.
func (x *Explanation) sentences() []string {
	var text []string
	add := func(s string) {
		if s != "" {
			text = append(text, s)
		}
	}
	if x.Decision != nil {
		add(x.verdict())
		add(inheritance(x.Record.OpID, contenderOf(x.Decision, x.Record.OpID)))
		if x.Decision.Winner != x.Record.OpID {
			add(inheritance(x.Decision.Winner, contenderOf(x.Decision, x.Decision.Winner)))
			add(x.alternative())
		}
	}
	add(x.clamped())
	add(x.state())
	add(x.turns())
	if r := x.Record; r.Reason != "" {
		add(reasonText(r.Reason))
	}
	if d := x.Decision; d != nil {
		policy := "under policy revision " + strconv.FormatUint(d.PolicyRevision, 10)
		if d.PolicyRevision == 0 {
			policy = "under the built-in policy"
		}
		add(fmt.Sprintf("%s decided so %s: decision %s, step %d of partition %d, journal entry %d.",
			x.Owner, policy, d.ID, x.Step, x.Record.Partition, x.DecisionSeq))
	}
	return text
}

// verdict says who won and by what rule.
func (x *Explanation) verdict() string {
	d := x.Decision
	won := contenderOf(d, d.Winner)
	if won == nil {
		return ""
	}
	if d.Winner != x.Record.OpID {
		return x.lost(won)
	}
	if d.Total < 2 || len(d.Contenders) < 2 {
		return "It was the only contender on " + d.Target + "."
	}
	next := &d.Contenders[1]
	against := fmt.Sprintf("%d contenders", d.Total-1)
	if d.Total == 2 {
		against = next.OpID
	}
	if d.Rule == op.RuleOrder {
		return fmt.Sprintf("It won against %s by its place in the log: the best of them, %s, had effective priority %s as well and came later.",
			against, next.OpID, named(next.Effective))
	}
	return fmt.Sprintf("It won against %s by effective priority %s over %s.", against, named(won.Effective), named(next.Effective))
}

func (x *Explanation) lost(won *op.Contender) string {
	own := contenderOf(x.Decision, x.Record.OpID)
	switch {
	case own == nil:
		return fmt.Sprintf("%s won %s; this operation stays staged with %d others.", won.OpID, x.Decision.Target, x.Decision.Total-2)
	case own.Verdict == op.VerdictCoalesced:
		return fmt.Sprintf("%s won %s and asks for the same, so this operation shares its outcome.", won.OpID, x.Decision.Target)
	case own.Effective == won.Effective:
		return fmt.Sprintf("It lost to %s on %s: both had effective priority %s, and %s came earlier in the log.",
			won.OpID, x.Decision.Target, named(won.Effective), won.OpID)
	}
	return fmt.Sprintf("It lost to %s on %s: effective priority %s against %s.",
		won.OpID, x.Decision.Target, named(own.Effective), named(won.Effective))
}

// inheritance says where an effective priority came from.
func inheritance(opID string, c *op.Contender) string {
	if c == nil {
		return ""
	}
	var s string
	if n := len(c.Path); n > 0 {
		s = fmt.Sprintf("%s asked at %s and inherited %s from %s", opID, named(c.Priority), named(c.Effective-op.Priority(c.Boost)), c.Path[n-1])
		if n > 1 {
			s += " via " + strings.Join(c.Path[:n-1], ", ")
		}
		s += "."
	}
	if c.Boost > 0 {
		s += fmt.Sprintf(" Waiting had added %d to the priority of %s.", c.Boost, opID)
	}
	switch {
	case c.Cycle:
		s += " The ancestors of " + opID + " form a circle; each was counted once."
	case c.Truncated:
		s += " The ancestors of " + opID + " go deeper than the limit; the rest was not asked."
	case c.UnknownParent != "":
		s += fmt.Sprintf(" Nobody had submitted %s, an ancestor of %s, so nothing was inherited from it.", c.UnknownParent, opID)
	}
	return strings.TrimSpace(s)
}

// alternative says what would have won.
func (x *Explanation) alternative() string {
	r := x.WouldHaveWon
	switch {
	case r == nil:
		return ""
	case r.Before == nil:
		return fmt.Sprintf("Priority %s would have won.", named(r.Priority))
	case r.Priority == 0:
		return fmt.Sprintf("No priority is higher: it would have had to be submitted before %s.", x.Decision.Winner)
	}
	return fmt.Sprintf("Priority %s would have won if it had been submitted before %s, too.", named(r.Priority), x.Decision.Winner)
}

// clamped says what the policy made of the priority that was asked for.
func (x *Explanation) clamped() string {
	r := &x.Record
	if r.Asked == 0 {
		return ""
	}
	who := r.OpType
	if r.Submitter != "" {
		who += " of " + r.Submitter
	}
	return fmt.Sprintf("It asked for priority %s; the policy allows %s to %s.", named(r.Asked), named(r.Priority), who)
}

// state says where the operation is now.
func (x *Explanation) state() string {
	r := &x.Record
	switch r.Status {
	case op.Pending:
		return pendingText(r, x.Decision)
	case op.Executing:
		return x.executing()
	case op.Failed:
		return fmt.Sprintf("Attempt %d failed: %s.", r.Attempt, failureText(r.Error))
	case op.Succeeded:
		if r.Reason == op.Coalesced {
			return fmt.Sprintf("It succeeded with %s, which did the same; %s is at version %d, revision %d since.", r.Winner, r.Target, r.Version, r.Revision)
		}
		return fmt.Sprintf("It succeeded after %s; %s is at version %d, revision %d since.",
			tell(time.Duration(r.ExecutionMS*float64(time.Millisecond))), r.Target, r.Version, r.Revision)
	case op.Rejected, op.Cancelled:
		return x.ended()
	}
	return ""
}

// executing says since when an attempt runs, and what protects it how long.
func (x *Explanation) executing() string {
	r, e := &x.Record, x.Execution
	if e == nil {
		return fmt.Sprintf("Attempt %d is executing since %s.", r.Attempt, clock(r.UpdatedAt))
	}
	s := fmt.Sprintf("Attempt %d is executing since %s; its lease was granted until %s, and signs of life prolong it.", r.Attempt, clock(e.GrantedAt), clock(e.LeaseEnds))
	if e.GraceEnds != nil {
		s += fmt.Sprintf(" Until %s it was neither to be cancelled nor preempted.", clock(*e.GraceEnds))
	}
	return s
}

// ended says how an operation ended that did not succeed.
func (x *Explanation) ended() string {
	r := &x.Record
	s := fmt.Sprintf("It is %s (%s) since %s", r.Status, r.Reason, clock(r.UpdatedAt))
	switch {
	case r.Reason == op.Superseded:
		s += fmt.Sprintf(", when %s sent %s", submitterOf(r), r.Winner)
	case x.CancelledWith != "":
		s += ", when " + x.CancelledWith + " was cancelled"
	}
	if r.Attempt > 0 {
		s += " after " + count(r.Attempt, "attempt")
	}
	if r.Error != nil {
		s += "; the last error was: " + r.Error.Message
	}
	return s + "."
}

func submitterOf(r *op.Record) string {
	if r.Submitter == "" {
		return "its submitter"
	}
	return r.Submitter
}

// turns says what happened to the operation on its way.
func (x *Explanation) turns() string {
	r := &x.Record
	var parts []string
	if r.Preemptions > 0 {
		s := fmt.Sprintf("It had to yield to a stronger operation %s.", times(r.Preemptions))
		if r.Reason == op.Preempted && r.Winner != "" {
			s = fmt.Sprintf("It had to yield to a stronger operation %s, last to %s.", times(r.Preemptions), r.Winner)
		}
		parts = append(parts, s)
	}
	if r.CancelAt != nil {
		parts = append(parts, fmt.Sprintf("A cancellation takes effect when its grace ends, at %s.", clock(*r.CancelAt)))
	}
	if r.RetryOf != "" {
		parts = append(parts, fmt.Sprintf("It tries again what was given up as %s.", r.RetryOf))
	}
	if r.RetryAfterMS > 0 {
		parts = append(parts, fmt.Sprintf("It is worth submitting again after %s.", tell(time.Duration(r.RetryAfterMS)*time.Millisecond)))
	}
	return strings.Join(parts, " ")
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return strconv.Itoa(n) + " times"
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func pendingText(r *op.Record, d *op.Decision) string {
	switch {
	case r.Reason == op.Coalesced:
		return fmt.Sprintf("It waits for the outcome of %s, which asks for the same.", r.Winner)
	case r.RetryAt != nil:
		s := fmt.Sprintf("It comes back at %s for retry %d of %d", clock(*r.RetryAt), r.RetryCount, r.MaxRetries)
		if r.Error != nil {
			s += "; the last error was: " + r.Error.Message
		}
		return s + "."
	case d != nil && d.Winner != r.OpID:
		return fmt.Sprintf("It stays staged on %s for the next round.", r.Target)
	}
	return fmt.Sprintf("It waits in the staging area of %s since %s; nothing was decided about it yet.", r.Target, clock(r.UpdatedAt))
}

// reasonText is the paragraph of the catalogue.
func reasonText(r op.Reason) string {
	for _, info := range op.Reasons() {
		if info.Reason == r {
			return info.Code + ": " + info.Text
		}
	}
	return ""
}

// named writes a priority as "HIGH(8)", or as its number where it has no name.
func named(p op.Priority) string {
	n := strconv.Itoa(int(p))
	if s := p.String(); s != n {
		return s + "(" + n + ")"
	}
	return n
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000 UTC") }
