package observer

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Line is one thing that happened, told in a sentence.
type Line struct {
	Seq    uint64       `json:"seq"` // of the journal
	At     time.Time    `json:"at"`
	Event  op.EventName `json:"event"` // the public event that it is part of
	OpID   string       `json:"op_id,omitempty"`
	Target string       `json:"target_entity_id,omitempty"`
	Reason op.Reason    `json:"reason,omitempty"`
	Text   string       `json:"text"`
	// Quiet marks everyday life: what a console leaves out.
	Quiet bool `json:"quiet,omitempty"`
}

// linesShort is how many losers a line names.
const linesShort = 3

// Lines tells what a step did, in the order of its effects. seq is the sequence
// of its journal entry.
func Lines(seq uint64, s *arbiter.Step) []Line {
	var out []Line
	add := func(l Line) {
		l.Seq, l.At = seq, s.At
		out = append(out, l)
	}
	if s.Takeover {
		add(Line{Event: op.EventTakeover, Text: fmt.Sprintf("%s took over partition %d, epoch %d", s.Owner, s.Partition, s.Epoch)})
		return out
	}
	ops := map[string]*op.Operation{}
	for i := range s.In {
		switch in := &s.In[i]; {
		case in.Submit != nil:
			ops[in.Submit.Operation.ID] = &in.Submit.Operation
		case in.Invalid != nil:
			add(invalidLine(in.Invalid))
		case in.Policy != nil:
			add(Line{Text: fmt.Sprintf("partition %d follows policy revision %d", s.Partition, in.Policy.Revision), Quiet: true})
		}
	}
	for i := range s.Out {
		if l, ok := effectLine(&s.Out[i], ops); ok {
			add(l)
		}
	}
	return out
}

func invalidLine(in *arbiter.Invalid) Line {
	l := Line{Event: op.EventInvalid, OpID: in.OpID, Target: in.Target, Reason: op.Invalid, Text: "a submission was refused"}
	if in.Target != "" {
		l.Text += " on " + in.Target
	}
	if in.Error != nil {
		l.Text += ": " + in.Error.Code + ", " + in.Error.Message
	}
	return l
}

func effectLine(e *arbiter.Effect, ops map[string]*op.Operation) (Line, bool) {
	switch {
	case e.Accepted != nil:
		o := ops[e.Accepted.OpID]
		if o == nil {
			return Line{}, false
		}
		return Line{
			Event: op.EventSubmitted, OpID: o.ID, Target: o.Target, Quiet: true,
			Text: fmt.Sprintf("%s asks for %s on %s at %d", Short(o.ID), o.Type, o.Target, o.Priority),
		}, true
	case e.Decision != nil:
		return decisionLine(e.Decision), true
	case e.Succeeded != nil:
		s := e.Succeeded
		return Line{
			Event: op.EventCompleted, OpID: s.OpID, Target: s.Target, Quiet: true,
			Text: fmt.Sprintf("%s succeeded on %s after %s", Short(s.OpID), s.Target, tell(s.Duration)),
		}, true
	case e.Failed != nil:
		f := e.Failed
		return Line{
			Event: op.EventFailed, OpID: f.OpID, Target: f.Target,
			Text: fmt.Sprintf("%s failed on %s: %s (attempt %d, %s)", Short(f.OpID), f.Target, failureText(f.Failure), f.Attempt, tell(f.Duration)),
		}, true
	case e.Cancelled != nil:
		return cancelledLine(e.Cancelled), true
	case e.Preempted != nil:
		p := e.Preempted
		return Line{
			Event: op.EventPreempted, OpID: p.OpID, Target: p.Target, Reason: op.Preempted,
			Text: fmt.Sprintf("%s had to yield to %s on %s in attempt %d; it is pending again", Short(p.OpID), Short(p.By), p.Target, p.Attempt),
		}, true
	case e.Shared != nil:
		s := e.Shared
		return Line{
			Event: op.EventCompleted, OpID: s.OpID, Target: s.Target, Reason: op.Coalesced, Quiet: true,
			Text: fmt.Sprintf("%s succeeded on %s with %s, which did the same", Short(s.OpID), s.Target, Short(s.With)),
		}, true
	}
	return troubleLine(e)
}

func cancelledLine(c *arbiter.Cancelled) Line {
	l := Line{Event: op.EventCancelled, OpID: c.OpID, Target: c.Target, Reason: c.Reason}
	switch {
	case c.Ancestor != "":
		l.Text = fmt.Sprintf("%s on %s was cancelled with %s", Short(c.OpID), c.Target, Short(c.Ancestor))
	case c.From == op.Executing:
		l.Text = fmt.Sprintf("%s on %s was cancelled in attempt %d", Short(c.OpID), c.Target, c.Attempt)
	default:
		l.Text = fmt.Sprintf("%s on %s was cancelled", Short(c.OpID), c.Target)
	}
	return l
}

func troubleLine(e *arbiter.Effect) (Line, bool) {
	switch {
	case e.Retry != nil:
		r := e.Retry
		return Line{
			Event: op.EventRetry, OpID: r.OpID, Target: r.Target, Reason: r.Reason, Quiet: r.Reason != "",
			Text: fmt.Sprintf("%s on %s comes back in %s, retry %d", Short(r.OpID), r.Target, tell(r.Delay), r.RetryCount),
		}, true
	case e.Lapsed != nil:
		l := e.Lapsed
		text := "%s on %s lost its executor: the lease of attempt %d ran out"
		if !l.Claimed {
			text = "%s on %s found no executor: nobody gave a sign of life in attempt %d"
		}
		return Line{Event: op.EventRetry, OpID: l.OpID, Target: l.Target, Text: fmt.Sprintf(text, Short(l.OpID), l.Target, l.Attempt)}, true
	case e.Protected != nil && e.Protected.Cancel:
		p := e.Protected
		return Line{
			OpID: p.OpID, Target: p.Target,
			Text: fmt.Sprintf("%s on %s is to be cancelled when its grace ends, at %s", Short(p.OpID), p.Target, p.Until.Local().Format("15:04:05.000")),
		}, true
	case e.Parted != nil:
		p := e.Parted
		return Line{
			OpID: p.OpID, Target: p.Target, Quiet: true,
			Text: fmt.Sprintf("%s is staged on %s again, %s ended without an outcome to share", Short(p.OpID), p.Target, Short(p.From)),
		}, true
	case e.Rejected != nil:
		return rejectedLine(e.Rejected), true
	case e.Refused != nil && e.Refused.Executor != "":
		r := e.Refused
		return Line{
			Event: op.EventStaleCommit, OpID: r.OpID, Target: r.Target,
			Text: fmt.Sprintf("a late result of %s for %s was refused: %s", r.Executor, Short(r.OpID), r.Why),
		}, true
	}
	return Line{}, false
}

func rejectedLine(r *arbiter.Rejected) Line {
	l := Line{Event: op.EventRejected, OpID: r.OpID, Target: r.Target, Reason: r.Reason}
	l.Text = fmt.Sprintf("%s on %s was rejected: %s", Short(r.OpID), r.Target, r.Reason)
	if r.Reason == op.Superseded {
		l.Text = fmt.Sprintf("%s on %s was superseded by %s", Short(r.OpID), r.Target, Short(r.Winner))
		return l
	}
	// The line of the decision has said it.
	l.Quiet = r.Reason == op.LowerPriority || r.Reason == op.LaterSubmission
	switch {
	case r.Failure != nil:
		l.Text += ", " + failureText(r.Failure)
	case r.Winner != "":
		l.Text += ", " + Short(r.Winner) + " won"
	}
	return l
}

// decisionLine tells who beat whom: "38f0 beat 3943, 3951 on user-42: 8 > 5,
// inherited from 9c1e".
func decisionLine(d *op.Decision) Line {
	l := Line{Event: op.EventConflict, OpID: d.Winner, Target: d.Target}
	if d.Total < 2 || len(d.Contenders) < 2 {
		l.Event, l.Quiet = op.EventPromoted, true
		l.Text = Short(d.Winner) + " runs on " + d.Target
		return l
	}
	won, next := &d.Contenders[0], &d.Contenders[1]
	var names []string
	for i := 1; i < len(d.Contenders) && i <= linesShort; i++ {
		names = append(names, Short(d.Contenders[i].OpID))
	}
	l.Text = Short(d.Winner) + " beat " + strings.Join(names, ", ")
	if more := d.Total - 1 - len(names); more > 0 {
		l.Text += " and " + strconv.Itoa(more) + " more"
	}
	l.Text += " on " + d.Target + ": "
	if d.Rule == op.RuleOrder {
		l.Text += fmt.Sprintf("%d = %d, first in the log", won.Effective, next.Effective)
	} else {
		l.Text += fmt.Sprintf("%d > %d", won.Effective, next.Effective)
	}
	if len(won.Path) > 0 {
		l.Text += ", inherited from " + Short(won.Path[len(won.Path)-1])
	}
	if won.Boost > 0 {
		l.Text += fmt.Sprintf(", %d of it for waiting", won.Boost)
	}
	return l
}

// Short is how a person names an operation: its id, or the end of a long one.
// UUIDs of the same moment begin alike, so the end tells them apart.
func Short(id string) string {
	const most, end = 16, 6
	if len(id) <= most {
		return id
	}
	if len(id) == 36 && id[8] == '-' && id[23] == '-' {
		return id[32:]
	}
	return "…" + id[len(id)-end:]
}

func failureText(f *op.Failure) string {
	if f == nil {
		return "no error was given"
	}
	return f.Message
}

// tell rounds a duration for a person.
func tell(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}
