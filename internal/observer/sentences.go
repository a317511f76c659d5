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
	add(x.state())
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
		s = fmt.Sprintf("%s asked at %s and inherited %s from %s", opID, named(c.Priority), named(c.Effective), c.Path[n-1])
		if n > 1 {
			s += " via " + strings.Join(c.Path[:n-1], ", ")
		}
		s += "."
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
	if x.WouldHaveWon != nil {
		return fmt.Sprintf("Priority %s would have won.", named(*x.WouldHaveWon))
	}
	if contenderOf(x.Decision, x.Record.OpID) == nil {
		return ""
	}
	return "No priority would have been enough: the winner had the highest and came earlier in the log."
}

// state says where the operation is now.
func (x *Explanation) state() string {
	r := &x.Record
	switch r.Status {
	case op.Pending:
		return pendingText(r, x.Decision)
	case op.Executing:
		return fmt.Sprintf("Attempt %d is executing since %s.", r.Attempt, clock(r.UpdatedAt))
	case op.Failed:
		return fmt.Sprintf("Attempt %d failed: %s.", r.Attempt, failureText(r.Error))
	case op.Succeeded:
		return fmt.Sprintf("It succeeded after %s; %s is at version %d, revision %d since.",
			tell(time.Duration(r.ExecutionMS*float64(time.Millisecond))), r.Target, r.Version, r.Revision)
	case op.Rejected, op.Cancelled:
		s := fmt.Sprintf("It is %s (%s) since %s", r.Status, r.Reason, clock(r.UpdatedAt))
		if r.Attempt > 0 {
			s += fmt.Sprintf(" after %d attempts", r.Attempt)
		}
		if r.Error != nil {
			s += "; the last error was: " + r.Error.Message
		}
		return s + "."
	}
	return ""
}

func pendingText(r *op.Record, d *op.Decision) string {
	switch {
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
