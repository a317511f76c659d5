package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// TestForecasts: every outlook says what would happen, against whom, and that
// nothing did.
func TestForecasts(t *testing.T) {
	base := op.Forecast{Target: "x", Priority: 5, Effective: 5, PolicyRevision: 3}
	for name, c := range map[string]struct {
		change func(*op.Forecast)
		want   []string
	}{
		"alone": {func(f *op.Forecast) { f.Outlook = op.WouldWin }, []string{"would win on x, with effective priority NORMAL(5)", "nobody contends with it"}},
		"best": {func(f *op.Forecast) {
			f.Outlook, f.Against, f.AgainstEffective, f.Staged, f.Effective = op.WouldWin, "b", 5, 2, 8
			f.Path = []string{"p"}
		}, []string{"would win on x, with effective priority HIGH(8), inherited from p", "against b with NORMAL(5)", "now: 2 operations staged, nothing executes there"}},
		"waits": {func(f *op.Forecast) {
			f.Outlook, f.Verdict, f.Against, f.AgainstEffective, f.Executing = op.WouldWait, op.VerdictWon, "e", 8, "e"
		}, []string{"would wait on x", "for e with HIGH(8) to end, and win then if nothing better comes", "e executes there"}},
		"queued": {func(f *op.Forecast) {
			f.Outlook, f.Verdict, f.Against = op.WouldWait, op.VerdictQueued, "b"
		}, []string{"behind b: queued for the next round"}},
		"sent back": {func(f *op.Forecast) {
			f.Outlook, f.Verdict, f.Against = op.WouldWait, op.VerdictRetry, "b"
		}, []string{"behind b: sent back to come again after a delay"}},
		"the same": {func(f *op.Forecast) {
			f.Outlook, f.Verdict, f.Against = op.WouldWait, op.VerdictCoalesced, "b"
		}, []string{"behind b: it asks for the same and would share the outcome"}},
		"loses": {func(f *op.Forecast) {
			f.Outlook, f.Verdict, f.Reason, f.Against, f.AgainstEffective = op.WouldLose, op.VerdictRejected, op.LaterSubmission, "b", 5
		}, []string{"would lose on x", "against b with NORMAL(5): later_submission OPS-2002"}},
		"preempts": {func(f *op.Forecast) {
			f.Outlook, f.Against, f.AgainstEffective, f.Executing = op.WouldPreempt, "e", 2, "e"
		}, []string{"would preempt on x", "it would take the place of e with LOW(2) once its grace is over"}},
		"refused": {func(f *op.Forecast) {
			f.Outlook, f.Reason, f.RetryAfterMS = op.WouldRefuse, op.StagingFull, 1000
		}, []string{"would be refused on x", "staging_full OPS-2003", "it is worth trying again after 1s"}},
		"known": {func(f *op.Forecast) {
			f.Outlook, f.Message = op.WouldRefuse, "it was submitted before"
		}, []string{"it was submitted before"}},
		"clamped": {func(f *op.Forecast) { f.Outlook, f.Asked = op.WouldWin, 10 }, []string{"the policy makes NORMAL(5) of the priority CRITICAL(10) that it asks for"}},
	} {
		f := base
		c.change(&f)
		var out bytes.Buffer
		showForecast(&out, &f)
		for _, want := range append(c.want, "policy revision 3; nothing was submitted") {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in\n%s", name, want, out.String())
			}
		}
	}
}
