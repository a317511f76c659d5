package arbiter_test

import (
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// away is a machine on which the operation "gone" is in its backoff.
type away struct {
	t    *rapid.T
	m    *arbiter.Machine
	n    uint64
	seq  uint64
	due  time.Time
	step func(at time.Time, in ...arbiter.Input) *arbiter.Step
}

// newAway sends an operation away: it failed, nobody began it, its executor fell
// silent, or it lost.
func newAway(t *rapid.T) *away {
	a := &away{t: t, m: arbiter.New(0)}
	a.step = func(at time.Time, in ...arbiter.Input) *arbiter.Step {
		a.n++
		s := &arbiter.Step{ID: "s" + strconv.FormatUint(a.n, 10), Number: a.n, At: at, In: in}
		a.m.Step(s)
		for _, e := range s.Out {
			if e.Retry != nil && e.Retry.OpID == "gone" {
				a.due = e.Retry.Due
			}
		}
		return s
	}
	p := arbiter.DefaultPolicy()
	p.StagingWindow = 0
	p.Types = map[string]arbiter.TypePolicy{op.TypeModifyField: {OnConflict: op.OnConflictSupersede}, "paint": {}}
	retries := 3
	gone := op.Operation{
		ID: "gone", Type: op.TypeModifyField, Target: "door", Priority: op.Low, MaxRetries: &retries, Parent: "root",
		Submitter: "s", OnConflict: op.OnConflictRetry,
	}
	if rapid.Bool().Draw(t, "of a registered type") {
		gone.Type = "paint"
	}
	a.seq = 2
	kin := arbiter.Input{Kin: &arbiter.Kin{OpID: "root", Priority: op.Low}}
	first := []arbiter.Input{{Policy: &p}, kin, submitted(1, gone)}
	grace := epoch.Add(p.GracePeriod)
	switch how := rapid.IntRange(0, 3).Draw(t, "how"); {
	case how == 0:
		a.step(epoch, first...)
		a.step(grace, arbiter.Input{Result: &arbiter.Result{OpID: "gone", Target: "door", Attempt: 1, Failure: &op.Failure{Message: "no"}}})
	case how == 1:
		a.step(epoch, first...)
		a.step(epoch.Add(p.AttemptTimeout))
	case how == 2:
		a.step(epoch, first...)
		a.step(epoch, arbiter.Input{Beat: &arbiter.Beat{OpID: "gone", Target: "door", Attempt: 1}})
		a.step(epoch.Add(p.AttemptTimeout))
	case gone.Type == "paint":
		o := operation("other", "door")
		o.Submitter = "t"
		a.step(epoch, append(first, submitted(2, o))...)
	default: // one that supersedes does not lose
		a.step(epoch, first...)
		a.step(grace, arbiter.Input{Result: &arbiter.Result{OpID: "gone", Target: "door", Attempt: 1, Failure: &op.Failure{Message: "no"}}})
	}
	if v, ok := a.m.Describe("gone"); !ok || v.Status != op.Pending || !a.due.After(a.m.At()) {
		t.Fatalf("it is not in its backoff: %+v", v)
	}
	return a
}

// TestWhatEndedInItsBackoffStaysSo: superseded, cancelled in whichever way, or of a
// type that is gone, an operation in its backoff has one end and is never heard of
// again: not when its delay is over, and not after a take-over.
func TestWhatEndedInItsBackoffStaysSo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := newAway(t)
		if rapid.Bool().Draw(t, "take-over before") {
			a.m, _ = restoredBy(t, a.m)
		}
		v, _ := a.m.Describe("gone")
		at := a.m.At().Add(time.Duration(rapid.Int64Range(0, int64(a.due.Sub(a.m.At()))-1).Draw(t, "when")))
		newer := v.Operation
		newer.ID, newer.Parent = "newer", ""
		p := a.m.Policy()
		p.Types = map[string]arbiter.TypePolicy{op.TypeModifyField: {OnConflict: op.OnConflictSupersede}}
		place := op.Place{Seq: a.seq + 1}
		ends := map[string]arbiter.Input{
			"cancel":     {Cancel: &arbiter.Cancel{Place: place, OpID: "gone", Target: "door"}},
			"all":        {Cancel: &arbiter.Cancel{Place: place, All: true, Target: "door"}},
			"submitter":  {Cancel: &arbiter.Cancel{Place: place, Submitter: "s"}},
			"ancestor":   {Cancel: &arbiter.Cancel{Place: place, Ancestors: []string{"root"}}},
			"supersede":  submitted(place.Seq, newer),
			"unregister": {Policy: &p},
		}
		names := []string{"cancel", "all", "submitter", "ancestor", "supersede"}
		if v.Operation.Type == "paint" {
			names[4] = "unregister"
		}
		how := rapid.SampledFrom(names).Draw(t, "end")
		s := a.step(at, ends[how])
		if last := told(s, "gone"); last != 1 {
			t.Fatalf("%s: %d effects: %v", how, last, spoken(s.Out))
		}
		if rapid.Bool().Draw(t, "take-over after") {
			a.m, _ = restoredBy(t, a.m)
		}
		if stillOpen(a.m, "gone") {
			t.Fatalf("%s: it is open", how)
		}
		for _, later := range []time.Duration{-1, 0, 1, time.Second, time.Minute, 25 * time.Hour} {
			if s := a.step(a.due.Add(later)); told(s, "gone") > 0 {
				t.Fatalf("%s: %s after its delay it is told of: %v", how, later, spoken(s.Out))
			}
		}
		for at, ok := a.m.Next(); ok; at, ok = a.m.Next() {
			if s := a.step(at); told(s, "gone") > 0 {
				t.Fatalf("%s: in the end it is told of: %v", how, spoken(s.Out))
			}
			if a.n > 100_000 {
				t.Fatal("the machine does not come to rest")
			}
		}
		if s := a.step(a.m.At(), arbiter.Input{Submit: &arbiter.Submit{Place: op.Place{Seq: 99}, Operation: v.Operation}}); len(s.Out) != 1 || s.Out[0].Repeated == nil {
			t.Fatalf("%s: submitted again: %v", how, spoken(s.Out))
		}
	})
}

// told counts the effects that are about an operation, but for refusals.
func told(s *arbiter.Step, id string) (n int) {
	for _, e := range s.Out {
		for _, about := range []bool{
			e.Granted != nil && e.Granted.OpID == id, e.Retry != nil && e.Retry.OpID == id, e.Rejected != nil && e.Rejected.OpID == id,
			e.Cancelled != nil && e.Cancelled.OpID == id, e.Succeeded != nil && e.Succeeded.OpID == id, e.Failed != nil && e.Failed.OpID == id,
			e.Lapsed != nil && e.Lapsed.OpID == id, e.Preempted != nil && e.Preempted.OpID == id, e.Coalesced != nil && e.Coalesced.OpID == id,
			e.Shared != nil && e.Shared.OpID == id, e.Parted != nil && e.Parted.OpID == id,
		} {
			if about {
				n++
			}
		}
		if e.Decision != nil {
			for _, c := range e.Decision.Contenders {
				if c.OpID == id {
					n++
				}
			}
		}
	}
	return n
}

func stillOpen(m *arbiter.Machine, id string) bool {
	for _, e := range m.Snapshot().Entries {
		if e.Operation.ID == id {
			return true
		}
	}
	return false
}
