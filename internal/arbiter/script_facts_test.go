package arbiter_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// facts says effects as a person would.
func (s *script) facts(effects []arbiter.Effect) (told []string) {
	say := func(format string, args ...any) {
		told = append(told, strings.TrimRight(fmt.Sprintf(format, args...), " "))
	}
	for i := range effects {
		switch e := &effects[i]; {
		case e.Accepted != nil:
			if a := e.Accepted; a.Asked > 0 {
				say("%s is PENDING with %s, it asked for %s", a.OpID, a.Priority, a.Asked)
			} else {
				say("%s is PENDING", a.OpID)
			}
		case e.Repeated != nil:
			say("%s was submitted before", e.Repeated.OpID)
		case e.Decision != nil:
			told = append(told, s.decision(e.Decision)...)
		case e.Granted != nil:
			g := e.Granted
			say("%s is EXECUTING on %s: attempt %d, %s, until %s", g.OpID, g.Target, g.Attempt, g.Effective, s.since(g.LeaseEnds))
		case e.Succeeded != nil:
			say("%s is SUCCEEDED by attempt %d", e.Succeeded.OpID, e.Succeeded.Attempt)
		case e.Failed != nil:
			say("%s is FAILED in attempt %d: %s", e.Failed.OpID, e.Failed.Attempt, e.Failed.Failure.Message)
		case e.Retry != nil:
			r := e.Retry
			say("%s is PENDING: retry %d in %s%s", r.OpID, r.RetryCount, r.Delay.Round(time.Microsecond), lostTo(r.Reason, r.Winner))
		case e.Lapsed != nil:
			l := e.Lapsed
			say("%s lapsed in attempt %d and is PENDING: retry %d%s", l.OpID, l.Attempt, l.RetryCount, map[bool]string{true: ", somebody had begun it"}[l.Claimed])
		case e.Rejected != nil:
			say("%s", rejection(e.Rejected))
		case e.Cancelled != nil:
			say("%s", cancellation(e.Cancelled))
		case e.Refused != nil:
			r := e.Refused
			say("refused about %s: %s %s", r.OpID, r.Why, map[bool]string{true: "(from " + r.Executor + ")"}[r.Executor != ""])
		default:
			told = append(told, s.seldom(e)...)
		}
	}
	return told
}

// seldom says what not every life has.
func (s *script) seldom(e *arbiter.Effect) []string {
	switch {
	case e.Extended != nil:
		return []string{fmt.Sprintf("%s may go on with attempt %d until %s", e.Extended.OpID, e.Extended.Attempt, s.since(e.Extended.LeaseEnds))}
	case e.Preempted != nil:
		p := e.Preempted
		return []string{fmt.Sprintf("%s is preempted in attempt %d by %s and is PENDING, time %d", p.OpID, p.Attempt, p.By, p.Count)}
	case e.Protected != nil:
		p := e.Protected
		from := p.By
		if p.Cancel {
			from = "a cancel"
		}
		return []string{fmt.Sprintf("%s is protected from %s by %s until %s", p.OpID, from, p.Kind, s.since(p.Until))}
	case e.Coalesced != nil:
		return []string{fmt.Sprintf("%s is coalesced into %s", e.Coalesced.OpID, e.Coalesced.Into)}
	case e.Shared != nil:
		return []string{fmt.Sprintf("%s is SUCCEEDED with %s by its attempt %d", e.Shared.OpID, e.Shared.With, e.Shared.Attempt)}
	case e.Parted != nil:
		return []string{fmt.Sprintf("%s is parted from %s and staged again", e.Parted.OpID, e.Parted.From)}
	}
	return []string{"an effect without words"}
}

func cancellation(c *arbiter.Cancelled) string {
	text := fmt.Sprintf("%s is CANCELLED: %s", c.OpID, c.Reason)
	if c.From == op.Executing {
		text = fmt.Sprintf("%s is CANCELLED from %s: %s, attempt %d is stopped", c.OpID, c.From, c.Reason, c.Attempt)
	}
	if c.Ancestor != "" {
		text += ", because of " + c.Ancestor
	}
	if !c.Cascade {
		text += ", alone"
	}
	return text
}

// forecast says what would happen.
func forecast(f *op.Forecast) string {
	text := fmt.Sprintf("%s would %s", f.OpID, f.Outlook)
	if f.Outlook == op.WouldRefuse {
		text = f.OpID + " would be refused"
	}
	for _, part := range []struct{ name, value string }{
		{"verdict", string(f.Verdict)},
		{"rule", string(f.Rule)},
		{"reason", string(f.Reason)},
		{"against", f.Against},
		{"executing", f.Executing},
		{"unknown parent", f.UnknownParent},
		{"path", strings.Join(f.Path, ",")},
	} {
		if part.value != "" {
			text += ", " + part.name + " " + part.value
		}
	}
	text += fmt.Sprintf(", %s effective %s", f.Priority, f.Effective)
	if f.AgainstEffective > 0 {
		text += fmt.Sprintf(" against %s", f.AgainstEffective)
	}
	if f.Asked > 0 {
		text += fmt.Sprintf(", it asks for %s", f.Asked)
	}
	text += fmt.Sprintf(", %d staged", f.Staged)
	if f.RetryAfterMS > 0 {
		text += fmt.Sprintf(", try again after %dms", f.RetryAfterMS)
	}
	if f.Message != "" {
		text += ": " + f.Message
	}
	return text
}

func lostTo(reason op.Reason, winner string) string {
	if reason == "" {
		return ""
	}
	return fmt.Sprintf(", %s, lost to %s", reason, winner)
}

func rejection(r *arbiter.Rejected) string {
	text := fmt.Sprintf("%s is REJECTED from %s: %s", r.OpID, r.From, r.Reason)
	if r.Winner != "" {
		text += ", lost to " + r.Winner
	}
	if r.Failure != nil {
		text += ", last error: " + r.Failure.Message
	}
	if r.CurrentVersion != nil {
		text += fmt.Sprintf(", current version %d", *r.CurrentVersion)
	}
	if r.RetryAfter > 0 {
		text += fmt.Sprintf(", try again after %s", r.RetryAfter)
	}
	return text
}

func (s *script) decision(d *op.Decision) []string {
	told := []string{fmt.Sprintf("decision %s: %s wins %s by %s, %d staged, window %s to %s, policy %d",
		d.ID, d.Winner, d.Target, d.Rule, d.Total, s.since(d.WindowOpened), s.since(d.WindowClosed), d.PolicyRevision)}
	for i, c := range d.Contenders {
		if i == 20 {
			return append(told, fmt.Sprintf("  and %d more", len(d.Contenders)-i))
		}
		line := fmt.Sprintf("  %s %s", c.OpID, c.Effective)
		if inherited := c.Effective - op.Priority(c.Boost); inherited != c.Priority {
			line = fmt.Sprintf("  %s %s, inherited by %s through %s", c.OpID, c.Effective, c.Priority, path(c.Path))
		}
		if c.Boost > 0 {
			line += fmt.Sprintf(", %d of it for waiting", c.Boost)
		}
		if c.Asked > 0 {
			line += fmt.Sprintf(", it asked for %s", c.Asked)
		}
		if c.UnknownParent != "" {
			line += ", " + c.UnknownParent + " is unknown"
		}
		if c.Cycle {
			line += ", its ancestors form a cycle"
		}
		if c.Truncated {
			line += ", has too many ancestors"
		}
		line += ": " + string(c.Verdict)
		if c.Reason != "" {
			line += ", " + string(c.Reason)
		}
		told = append(told, line)
	}
	return told
}

// path is a long one cut in the middle.
func path(ids []string) string {
	if len(ids) > 6 {
		return fmt.Sprintf("%s, … %d ancestors …, %s", ids[0], len(ids)-2, ids[len(ids)-1])
	}
	return strings.Join(ids, ", ")
}

// summary counts what a step with very many effects did.
func summary(effects []arbiter.Effect) []string {
	counts := map[string]int{}
	for _, e := range effects {
		switch {
		case e.Accepted != nil:
			counts["PENDING"]++
		case e.Decision != nil:
			counts["decided by "+string(e.Decision.Rule)]++
		case e.Granted != nil:
			counts["EXECUTING, "+e.Granted.Effective.String()]++
		case e.Succeeded != nil:
			counts["SUCCEEDED"]++
		case e.Retry != nil:
			counts["PENDING again"]++
		case e.Lapsed != nil:
			counts["lapsed"]++
		case e.Rejected != nil:
			counts["REJECTED: "+string(e.Rejected.Reason)]++
		case e.Cancelled != nil:
			counts["CANCELLED: "+string(e.Cancelled.Reason)]++
		case e.Protected != nil:
			counts["protected by "+string(e.Protected.Kind)]++
		case e.Coalesced != nil:
			counts["coalesced"]++
		case e.Shared != nil:
			counts["SUCCEEDED with another"]++
		case e.Parted != nil:
			counts["parted"]++
		default:
			counts["other"]++
		}
	}
	told := []string{fmt.Sprintf("%d effects", len(effects))}
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		told = append(told, fmt.Sprintf("  %d %s", counts[k], k))
	}
	for _, e := range effects {
		if d := e.Decision; d != nil && d.Total > 1 && counts["decided by "+string(d.Rule)] == 1 {
			told = append(told, fmt.Sprintf("%s wins %s out of %d", d.Winner, d.Target, d.Total))
		}
	}
	return told
}

func (s *script) explain(id string) string {
	v, ok := s.m.Describe(id)
	if !ok {
		return "nothing is known of " + id
	}
	text := fmt.Sprintf("%s is %s, %s effective %s, attempt %d, retries %d", id, v.Status, v.Operation.Priority, v.Effective, v.Attempt, v.Retries)
	if v.Preemptions > 0 {
		text += fmt.Sprintf(", preempted %d times", v.Preemptions)
	}
	if v.Asked > 0 {
		text += fmt.Sprintf(", asked for %s", v.Asked)
	}
	if v.CancelAt != nil {
		text += ", cancelled when grace ends at " + s.since(*v.CancelAt)
	}
	if v.RetryAfter > 0 {
		text += fmt.Sprintf(", try again after %s", v.RetryAfter)
	}
	if v.Reason != "" {
		text += ", " + string(v.Reason)
	}
	if v.Winner != "" {
		text += ", lost to " + v.Winner
	}
	if v.Failure != nil {
		text += ", last error: " + v.Failure.Message
	}
	return text
}
