package audit_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// mutant breaks one thing in the story, or tells a short history of its own.
type mutant struct {
	breaks string   // the invariant that has to catch it
	also   []string // those that cannot hold either, once it is broken
	text   string
	mutate func(h *history)
}

func mutants() []mutant {
	return slices.Concat(logMutants(), lifeMutants(), retryMutants(), ruleMutants(), resolutionMutants(), shortResolutionMutants(), effectMutants(),
		admissionMutants(), leaseMutants(), preemptionMutants(), cancelMutants(), cascadeMutants(), sharingMutants(), supersedeMutants(), agingMutants())
}

func TestEachMutantIsCaughtByItsInvariant(t *testing.T) {
	for _, m := range mutants() {
		t.Run(m.breaks+"/"+strings.ReplaceAll(m.text, " ", "_"), func(t *testing.T) {
			h := story()
			m.mutate(h)
			r := h.read(t, audit.Options{}).Finish(!h.busy)
			wantOnly(t, r, append([]string{m.breaks}, m.also...)...)
		})
	}
}

// The views, the intake, the clients and the replay are not in the journal, and uniformity needs a
// thousand draws: their tests stand elsewhere in this package.
var elsewhere = []string{
	audit.ViewsHead, audit.ViewsRecord, audit.ViewsEvent, audit.ViewsEventLost, audit.LogSkipped, audit.LogInvented,
	audit.ClientsLost, audit.ClientsRefused, audit.ClientsResult, audit.ResolutionReplayDiffers, audit.LifeJitter,
}

func TestEveryInvariantHasAMutant(t *testing.T) {
	has := map[string]bool{}
	for _, m := range mutants() {
		has[m.breaks] = true
	}
	for _, i := range audit.Invariants() {
		if !has[i.Name] && !slices.Contains(elsewhere, i.Name) {
			t.Errorf("%s has no mutant", i.Name)
		}
	}
}

// alone replaces the story by the history that f tells.
func alone(f func(h *history)) func(h *history) {
	return func(h *history) {
		*h = *newHistory()
		h.busy = true
		h.step(0, nil)
		f(h)
	}
}

func logMutants() []mutant {
	return []mutant{
		{audit.LogUndecodable, nil, "an unknown field", func(h *history) {
			b, _ := json.Marshal(h.steps[len(h.steps)-1])
			h.cut(21)
			h.steps = append(h.steps, &arbiter.Step{})
			h.raw[len(h.steps)-1] = append([]byte(`{"surprise":1,`), b[1:]...)
		}},
		{audit.LogUndecodable, nil, "text after the step", func(h *history) {
			b, _ := json.Marshal(h.steps[len(h.steps)-1])
			h.cut(21)
			h.steps = append(h.steps, &arbiter.Step{})
			h.raw[len(h.steps)-1] = append(b, "{}"...)
		}},
		{audit.LogSchema, nil, "another schema", func(h *history) {
			h.cut(22)
			h.get(0, 22).Schema = "ops.v2.step"
		}},
		{audit.LogSequence, nil, "a sequence twice", func(h *history) { h.seqs[3] = 3 }},
		{audit.LogPartition, nil, "on another subject", func(h *history) { h.parts[3] = 5 }},
		{audit.LogMisplaced, nil, "another partition's target", alone(func(h *history) {
			h.step(1, inputs(submit(1, operation("a", "e9", 5))), accepted("a"))
		})},
		{audit.LogChain, nil, "a step is missing", func(h *history) {
			for _, s := range h.steps {
				if s.Partition == 0 && s.Number >= 6 {
					s.Number++
				}
			}
		}},
		{audit.LogEpoch, nil, "a new epoch without a takeover", func(h *history) { h.get(0, 11).Takeover = false }},
		{audit.LogEpoch, nil, "a takeover in the same epoch", func(h *history) { h.get(0, 6).Takeover = true }},
		{audit.LogEpoch, nil, "an epoch is skipped", alone(func(h *history) { h.takeover(h.step(1, nil), "r2"); h.get(0, 2).Epoch = 3 })},
		{audit.LogEpoch, nil, "an epoch goes back", func(h *history) {
			h.steps = h.steps[:0]
			h.busy = true
			h.step(0, nil)
			h.takeover(h.step(1, nil), "r2")
			s := h.step(2, nil)
			s.Epoch, s.Owner = 1, "r1"
		}},
		{audit.LogTakeover, nil, "a takeover that learns", alone(func(h *history) {
			h.takeover(h.step(1, inputs(arbiter.Input{Kin: &arbiter.Kin{OpID: "a", Unknown: true, Upto: 16}})), "r2")
		})},
		{audit.LogOwner, nil, "a second owner within an epoch", alone(func(h *history) { h.step(1, nil).Owner = "r2" })},
		{audit.LogOwner, nil, "no owner", alone(func(h *history) { h.takeover(h.step(1, nil), "") })},
		{audit.LogTime, nil, "time runs backwards", alone(func(h *history) { h.step(10, nil); h.step(9, nil) })},
		{audit.LogCursor, nil, "the cursor goes back", alone(func(h *history) {
			h.step(1, nil).Cursor = 7
			h.step(2, nil).Cursor = 6
		})},
		{audit.LogCursor, nil, "an input behind the cursor", func(h *history) {
			h.get(0, 15).In[0].Submit.Seq = 4
		}},
		{audit.LogCursor, nil, "an input beyond the cursor", func(h *history) {
			h.get(0, 15).Cursor = 9
		}},
		{audit.LogOrder, nil, "two inputs swapped", func(h *history) {
			in := h.get(0, 16).In
			in[1].Submit.Seq, in[2].Invalid.Seq = 13, 12
			h.get(0, 16).Out[1].Repeated.Seq = 13
		}},
		{audit.LogStepID, nil, "an id used twice", func(h *history) { h.steps[4].ID = h.steps[3].ID }},
		{audit.LogShape, nil, "an empty input", func(h *history) { h.steps[5].In = inputs(arbiter.Input{}) }},
		{audit.LogShape, nil, "an effect that says two things", func(h *history) {
			h.get(0, 16).Out[1].Cancelled = &arbiter.Cancelled{}
		}},
		{audit.LogUnanswered, nil, "a submission without an effect", func(h *history) {
			h.cut(15)
			h.get(0, 15).Out = nil
		}},
		{audit.LogUnanswered, nil, "a result without an effect", func(h *history) {
			h.get(0, 14).Out = h.get(0, 14).Out[1:]
		}},
	}
}

func TestReplayErrorIsAViolation(t *testing.T) {
	h := story()
	n := 0
	r := h.read(t, audit.Options{Replay: func(*arbiter.Step) error {
		if n++; n == 3 {
			return errors.New("other effects")
		}
		return nil
	}}).Finish(true)
	wantOnly(t, r, audit.ResolutionReplayDiffers)
	if n != len(h.steps) {
		t.Errorf("replayed %d of %d steps", n, len(h.steps))
	}
}

func TestJitterOutsideUniformIsAViolation(t *testing.T) {
	for _, c := range []struct {
		name string
		draw func(i int) time.Duration
		want []string
	}{
		{"uniform", func(i int) time.Duration { return 80*time.Millisecond + time.Duration(i%400)*100*time.Microsecond }, nil},
		{"constant", func(int) time.Duration { return 100 * time.Millisecond }, []string{audit.LifeJitter}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHistory()
			h.step(0, nil)
			atMost(h, 1200)
			var in []arbiter.Input
			var out []arbiter.Effect
			for i := range 1200 {
				in = append(in, submit(uint64(i+1), operation(fmt.Sprint("o", i), fmt.Sprint("t", i), 5)))
				out = append(out, accepted(fmt.Sprint("o", i)))
			}
			h.step(0, in, out...)
			in, out = nil, nil
			for i := range 1200 {
				id, target := fmt.Sprint("o", i), fmt.Sprint("t", i)
				out = append(out, decision("d"+id, target, 0, 10, 10, op.RuleOnly, contender(operation(id, target, 5), uint64(i+1), op.VerdictWon, "")),
					granted(id, target, 1, 5, "d"+id, 10))
			}
			h.step(10, nil, out...)
			out = nil
			for i := range 1200 {
				id, target := fmt.Sprint("o", i), fmt.Sprint("t", i)
				in = append(in, failure(id, target, 1, hiccup))
				e := retry(id, target, 1, 20, 0)
				e.Retry.Delay = c.draw(i)
				e.Retry.Due = at(20).Add(e.Retry.Delay)
				out = append(out, failed(id, target, 1, hiccup), e)
			}
			h.step(20, in, out...)
			wantOnly(t, h.read(t, audit.Options{}).Finish(false), c.want...)
		})
	}
}

func effectMutants() []mutant {
	result := func(h *history, partition int, step uint64) *arbiter.Result {
		return h.get(partition, step).In[0].Result
	}
	change := func(r *arbiter.Result, f func(c *entity.Change)) {
		var c entity.Change
		if err := json.Unmarshal(r.Change, &c); err != nil {
			panic(err)
		}
		f(&c)
		r.Change, _ = json.Marshal(&c)
	}
	return []mutant{
		{audit.EffectsOverlap, []string{audit.ResolutionBusy}, "a second attempt on the target", alone(func(h *history) {
			a, b := operation("a", "e1", 5), operation("b", "e1", 5)
			h.step(0, inputs(submit(1, a)), accepted("a"))
			h.step(10, nil, decision("d1", "e1", 0, 10, 10, op.RuleOnly, contender(a, 1, op.VerdictWon, "")), granted("a", "e1", 1, 5, "d1", 10))
			h.step(20, inputs(submit(2, b)), accepted("b"))
			h.step(30, nil, decision("d2", "e1", 20, 30, 30, op.RuleOnly, contender(b, 2, op.VerdictWon, "")), granted("b", "e1", 1, 5, "d2", 30))
		})},
		{audit.EffectsNoResult, nil, "a success without a change", func(h *history) { result(h, 0, 20).Change = nil }},
		{audit.EffectsNoResult, nil, "a success out of a failure", func(h *history) { result(h, 0, 20).Failure = hiccup }},
		{audit.EffectsNoResult, []string{audit.LogUnanswered}, "a success out of an input that is not there", func(h *history) { h.get(0, 20).Out[0].Succeeded.Input = 7 }},
		{audit.EffectsNoResult, nil, "a failure without one", func(h *history) { result(h, 0, 5).Failure = nil }},
		{audit.EffectsSuperseded, nil, "a superseded attempt succeeds", func(h *history) {
			s := h.get(0, 14)
			s.In, s.Out = s.In[:1], []arbiter.Effect{succeeded("d", "e1", 2, 0)}
		}},
		// Its operation goes on executing, and what comes next on the target collides.
		{audit.EffectsRefusedCurrent, []string{audit.EffectsBase, audit.LifeOpen, audit.ResolutionBusy, audit.EffectsOverlap}, "the current attempt is refused", func(h *history) {
			h.get(0, 14).Out[1] = arbiter.Effect{Refused: &arbiter.Refused{OpID: "d", Target: "e1", Attempt: 3, Input: 1}}
		}},
		{audit.EffectsUndecodable, nil, "a change of another shape", func(h *history) { result(h, 0, 20).Change = json.RawMessage(`{"kind":3}`) }},
		{audit.EffectsBase, nil, "a change for another revision", func(h *history) {
			change(h.get(0, 14).In[1].Result, func(c *entity.Change) { c.Base = 4 })
		}},
		{audit.EffectsVersion, nil, "a change for another version", func(h *history) {
			change(h.get(0, 14).In[1].Result, func(c *entity.Change) { c.From = 4 })
		}},
		{audit.EffectsStale, nil, "another version was expected", func(h *history) {
			two := int64(2)
			h.get(0, 2).In[3].Submit.Operation.ExpectedVersion = &two
		}},
		{audit.EffectsFold, nil, "a change that cannot be folded", func(h *history) {
			change(result(h, 0, 20), func(c *entity.Change) { c.Kind = "magic" })
		}},
		{audit.EffectsRevision, nil, "another entity's change", func(h *history) {
			change(result(h, 0, 20), func(c *entity.Change) { c.ID = "e33" })
		}},
		{audit.EffectsBorrow, nil, "another value than the source had", func(h *history) {
			change(result(h, 0, 22), func(c *entity.Change) { c.Set["n"] = json.RawMessage("9") })
		}},
		{audit.EffectsBorrow, nil, "a revision that is yet to come", func(h *history) {
			change(result(h, 0, 22), func(c *entity.Change) { c.Source["n"].Revision = 2 })
		}},
		{audit.EffectsBorrow, nil, "a field that never was", func(h *history) {
			change(result(h, 0, 22), func(c *entity.Change) { c.Source["n"].Field = "m" })
		}},
		{audit.CausesType, []string{audit.CausesFollowUp}, "a follow-up of nothing", func(h *history) { h.get(0, 21).In[0].Submit.CausedBy = "" }},
		{audit.CausesMissing, []string{audit.CausesFollowUp}, "a follow-up of another cause", func(h *history) { h.get(0, 21).In[0].Submit.CausedBy = "x" }},
		{audit.CausesFollowUp, nil, "a follow-up that never came", func(h *history) { h.cut(20); h.busy = false }},
		{audit.CausesFollowUpLost, nil, "a follow-up is cancelled", lostFollowUp(
			cancelled("z", "e1"), cancel(19, "e1", "z"))},
		{audit.CausesFollowUpLost, nil, "a follow-up expires", lostFollowUp(rejected("z", "e1", op.Pending, op.Expired))},
		{audit.CausesFollowUpLost, nil, "a follow-up is shed", lostFollowUp(rejected("z", "e1", op.Pending, op.StagingFull))},
		{audit.CausesCancel, nil, "nobody asked for the cancel", func(h *history) {
			s := h.get(0, 16)
			s.In, s.Out[1].Repeated.Seq = s.In[1:], 12
		}},
	}
}

// lostFollowUp ends the story with z, which is given up instead of decided.
func lostFollowUp(e arbiter.Effect, in ...arbiter.Input) func(h *history) {
	return func(h *history) {
		h.cut(21)
		s := h.get(0, 21)
		s.In, s.Out = append(s.In, in...), []arbiter.Effect{s.Out[0], e}
		s.Cursor = 19
	}
}
