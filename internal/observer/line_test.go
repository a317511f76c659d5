package observer

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func inherits(c op.Contender, effective op.Priority, path ...string) op.Contender {
	c.Effective, c.Path = effective, path
	return c
}

func TestLines(t *testing.T) {
	fail := &op.Failure{Message: "disk full"}
	order := decision("user-42", "a", ms(0), contends("a", 5, op.VerdictWon), contends("b", 5, op.VerdictRejected))
	order.Decision.Rule = op.RuleOrder
	boosted := contends("a", 2, op.VerdictWon)
	boosted.Effective, boosted.Boost = 6, 4
	many := decision("user-42", "a", ms(0), contends("a", 10, op.VerdictWon), contends("b", 5, op.VerdictRejected),
		contends("c", 5, op.VerdictRejected), contends("d", 5, op.VerdictRejected), contends("e", 5, op.VerdictRejected))
	many.Decision.Total = 9
	for _, c := range []struct {
		name  string
		step  arbiter.Step
		event op.EventName
		quiet bool
		want  string
	}{
		{
			"conflict",
			arbiter.Step{Out: []arbiter.Effect{decision("user-42", "38f0", ms(0),
				inherits(contends("38f0", 5, op.VerdictWon), 8, "77aa", "9c1e"), contends("3943", 5, op.VerdictRejected), contends("3951", 2, op.VerdictRejected))}},
			op.EventConflict, false, "38f0 beat 3943, 3951 on user-42: 8 > 5, inherited from 9c1e",
		},
		{"tie", arbiter.Step{Out: []arbiter.Effect{order}}, op.EventConflict, false, "a beat b on user-42: 5 = 5, first in the log"},
		{"many", arbiter.Step{Out: []arbiter.Effect{many}}, op.EventConflict, false, "a beat b, c, d and 5 more on user-42: 10 > 5"},
		{"alone", arbiter.Step{Out: []arbiter.Effect{decision("x", "a", ms(0), contends("a", 5, op.VerdictWon))}}, op.EventPromoted, true, "a runs on x"},
		{"takeover", arbiter.Step{Takeover: true, Owner: "resolver-2", Partition: 3, Epoch: 7}, op.EventTakeover, false, "resolver-2 took over partition 3, epoch 7"},
		{"submitted", arbiter.Step{In: []arbiter.Input{submit("a", "x", 8)}, Out: []arbiter.Effect{accepted("a")}}, op.EventSubmitted, true, "a asks for modify_field on x at 8"},
		{
			"invalid",
			arbiter.Step{In: []arbiter.Input{{Invalid: &arbiter.Invalid{Target: "x", Error: &op.Error{Code: "OPS-1001", Message: "no JSON"}}}}},
			op.EventInvalid, false, "a submission was refused on x: OPS-1001, no JSON",
		},
		{"succeeded", arbiter.Step{Out: []arbiter.Effect{succeeded("a", "x", 0)}}, op.EventCompleted, true, "a succeeded on x after 2ms"},
		{
			"failed",
			arbiter.Step{Out: []arbiter.Effect{{Failed: &arbiter.Failed{OpID: "a", Target: "x", Attempt: 2, Failure: fail, Duration: 1500 * time.Millisecond}}}},
			op.EventFailed, false, "a failed on x: disk full (attempt 2, 1.5s)",
		},
		{
			"retry",
			arbiter.Step{Out: []arbiter.Effect{{Retry: &arbiter.Retry{OpID: "a", Target: "x", RetryCount: 1, Delay: 123456 * time.Microsecond}}}},
			op.EventRetry, false, "a on x comes back in 123.5ms, retry 1",
		},
		{
			"lapsed",
			arbiter.Step{Out: []arbiter.Effect{{Lapsed: &arbiter.Lapsed{OpID: "a", Target: "x", Attempt: 1, Claimed: true}}}},
			op.EventRetry, false, "a on x lost its executor: the lease of attempt 1 ran out",
		},
		{
			"unclaimed",
			arbiter.Step{Out: []arbiter.Effect{{Lapsed: &arbiter.Lapsed{OpID: "a", Target: "x", Attempt: 1}}}},
			op.EventRetry, false, "a on x found no executor: nobody gave a sign of life in attempt 1",
		},
		{
			"preempted",
			arbiter.Step{Out: []arbiter.Effect{{Preempted: &arbiter.Preempted{OpID: "a", Target: "x", Attempt: 2, By: "b"}}}},
			op.EventPreempted, false, "a had to yield to b on x in attempt 2; it is pending again",
		},
		{
			"shared",
			arbiter.Step{Out: []arbiter.Effect{{Shared: &arbiter.Shared{OpID: "a", Target: "x", With: "b"}}}},
			op.EventCompleted, true, "a succeeded on x with b, which did the same",
		},
		{
			"parted",
			arbiter.Step{Out: []arbiter.Effect{{Parted: &arbiter.Parted{OpID: "a", Target: "x", From: "b"}}}},
			"", true, "a is staged on x again, b ended without an outcome to share",
		},
		{
			"to be cancelled",
			arbiter.Step{Out: []arbiter.Effect{{Protected: &arbiter.Protected{OpID: "a", Target: "x", Cancel: true, Kind: arbiter.ProtectedByGrace, Until: ms(100)}}}},
			"", false, "a on x is to be cancelled when its grace ends, at " + ms(100).Local().Format("15:04:05.000"),
		},
		{
			"superseded",
			arbiter.Step{Out: []arbiter.Effect{{Rejected: &arbiter.Rejected{OpID: "a", Target: "x", Reason: op.Superseded, Winner: "b"}}}},
			op.EventRejected, false, "a on x was superseded by b",
		},
		{
			"patience",
			arbiter.Step{Out: []arbiter.Effect{decision("x", "a", ms(0), boosted, contends("b", 5, op.VerdictRejected))}},
			op.EventConflict, false, "a beat b on x: 6 > 5, 4 of it for waiting",
		},
		{
			"lost",
			arbiter.Step{Out: []arbiter.Effect{{Rejected: &arbiter.Rejected{OpID: "a", Target: "x", Reason: op.LowerPriority, Winner: "b"}}}},
			op.EventRejected, true, "a on x was rejected: lower_priority, b won",
		},
		{
			"gave up",
			arbiter.Step{Out: []arbiter.Effect{{Rejected: &arbiter.Rejected{OpID: "a", Target: "x", Reason: op.MaxRetries, Failure: fail}}}},
			op.EventRejected, false, "a on x was rejected: max_retries, disk full",
		},
		{
			"cancelled",
			arbiter.Step{Out: []arbiter.Effect{{Cancelled: &arbiter.Cancelled{OpID: "a", Target: "x", Reason: op.CancelledByRequest}}}},
			op.EventCancelled, false, "a on x was cancelled",
		},
		{
			"cancelled while executing",
			arbiter.Step{Out: []arbiter.Effect{{Cancelled: &arbiter.Cancelled{OpID: "a", Target: "x", From: op.Executing, Attempt: 2, Reason: op.CancelledByRequest}}}},
			op.EventCancelled, false, "a on x was cancelled in attempt 2",
		},
		{
			"cancelled with its parent",
			arbiter.Step{Out: []arbiter.Effect{{Cancelled: &arbiter.Cancelled{OpID: "a", Target: "x", Reason: op.CancelledWithParent, Ancestor: "p"}}}},
			op.EventCancelled, false, "a on x was cancelled with p",
		},
		{
			"late",
			arbiter.Step{Out: []arbiter.Effect{{Refused: &arbiter.Refused{OpID: "a", Target: "x", Attempt: 1, Executor: "executor-2", Why: "the current attempt is 2"}}}},
			op.EventStaleCommit, false, "a late result of executor-2 for a was refused: the current attempt is 2",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.step.At = ms(5)
			lines := Lines(12, &c.step)
			if len(lines) != 1 {
				t.Fatalf("%d lines, want 1", len(lines))
			}
			l := lines[0]
			if l.Text != c.want || l.Event != c.event || l.Quiet != c.quiet || l.Seq != 12 || !l.At.Equal(ms(5)) {
				t.Errorf("got  %+v\nwant %s %q, quiet %t", l, c.event, c.want, c.quiet)
			}
		})
	}
}

func TestShort(t *testing.T) {
	for id, want := range map[string]string{
		"job-7":                                "job-7",
		"01a1ff7c-3943-7969-a04b-e04374343509": "3509",
		"a-rather-long-name-of-an-operation":   "…ration",
	} {
		if got := Short(id); got != want {
			t.Errorf("Short(%s) = %s, want %s", id, got, want)
		}
	}
}

func TestFilter(t *testing.T) {
	l := Line{Event: op.EventRejected, Target: "x", Reason: op.LowerPriority, Quiet: true}
	for name, c := range map[string]struct {
		f    Filter
		want bool
	}{
		"all":          {Filter{}, true},
		"pattern":      {Filter{Events: []string{"entity.*", "operation.*"}}, true},
		"other event":  {Filter{Events: []string{"entity.*"}}, false},
		"target":       {Filter{Target: "x"}, true},
		"other target": {Filter{Target: "y"}, false},
		"reason":       {Filter{Reason: []op.Reason{op.Expired, op.LowerPriority}}, true},
		"other reason": {Filter{Reason: []op.Reason{op.Expired}}, false},
		"loud":         {Filter{Loud: true}, false},
		"bad pattern":  {Filter{Events: []string{"["}}, false},
	} {
		if got := c.f.Match(&l); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

func TestConsoleLeavesOutWhatNobodyCanRead(t *testing.T) {
	var b strings.Builder
	c := NewConsole(&b)
	for range consoleLines + 5 {
		c.Show(ms(0), Line{At: ms(0), Text: "one"})
	}
	c.Flush(ms(500))
	if n := strings.Count(b.String(), "one"); n != consoleLines || strings.Contains(b.String(), "more") {
		t.Fatalf("%d lines in the first second, want %d and no sum yet:\n%s", n, consoleLines, b.String())
	}
	b.Reset()
	c.Flush(ms(1000))
	c.Show(ms(1100), Line{At: ms(1100), Text: "two"})
	want := []string{"… and 5 more in that second", ms(1100).Local().Format("15:04:05.000") + "  two"}
	var got []string
	for l := range strings.Lines(b.String()) {
		got = append(got, strings.TrimSpace(l))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

type broken struct{ n int }

func (w *broken) Write([]byte) (int, error) { w.n++; return 0, errors.New("gone") }

func TestConsoleStopsAtABrokenWriter(t *testing.T) {
	w := &broken{}
	c := NewConsole(w)
	c.Show(ms(0), Line{})
	c.Show(ms(0), Line{})
	if c.Err() == nil || w.n != 1 {
		t.Errorf("%d writes, error %v", w.n, c.Err())
	}
}
