package replay

import (
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// worlds is how many random histories a test looks at.
const worlds = 40

// TestOwnPolicyChangesNothing is the check of the whole machinery: with the
// recorded policies every step of the replay is the recorded one, whatever had
// happened, and from wherever it begins.
func TestOwnPolicyChangesNothing(t *testing.T) {
	happened := map[string]int{}
	steps := 0
	for n := range uint64(fewer(worlds)) {
		w := newWorld(n)
		w.live(120)
		for k, v := range w.counts {
			happened[k] += v
		}
		steps += len(w.steps)
		for _, from := range []int{0, w.IntN(len(w.steps))} {
			since := w.steps[from].At
			if from == 0 {
				since = time.Time{}
			}
			r, got := replayed(t, w.steps, own, since)
			first := slices.IndexFunc(w.steps, func(s arbiter.Step) bool { return !s.At.Before(since) })
			unchanged(t, n, w.steps[first:], got)
			if !r.Same() || len(r.Turns) > 0 || r.Results.Moved > 0 && r.Open == 0 {
				t.Fatalf("world %d since step %d: %s", n, first+1, text(t, r))
			}
			for _, m := range r.Waits {
				if m.Recorded != m.Replayed {
					t.Fatalf("world %d since step %d: %s", n, first+1, text(t, r.Waits))
				}
			}
		}
	}
	for _, k := range []string{
		"repeated", "retry", "failed", "lapsed", "lapsed, claimed", "refused", "extended", "preempted", "protected", "coalesced", "shared", "parted",
		"cancelled from PENDING cancelled", "cancelled from EXECUTING cancelled", "cancelled from PENDING cancelled_with_parent",
		"rejected lower_priority", "rejected later_submission", "rejected staging_full", "rejected overloaded", "rejected expired",
		"rejected max_retries", "rejected terminal_error", "rejected unknown_type", "rejected paused", "rejected superseded",
	} {
		if happened[k] < fewer(5) {
			t.Errorf("%s happened %d times in all histories", k, happened[k])
		}
	}
	if steps < fewer(4000) {
		t.Errorf("only %d steps", steps)
	}
	t.Logf("%d steps, %v", steps, happened)
}

// unchanged demands that the replay begins with the recorded steps.
func unchanged(t *testing.T, world uint64, want, got []arbiter.Step) {
	t.Helper()
	if len(got) < len(want) {
		t.Fatalf("world %d: %d steps, recorded %d", world, len(got), len(want))
	}
	for i := range want {
		a, b := &want[i], &got[i]
		if a.Number != b.Number || a.ID != b.ID || !a.At.Equal(b.At) || len(a.In) != len(b.In) || text(t, a.Out) != text(t, b.Out) {
			t.Fatalf("world %d: recorded\n%s\nreplayed\n%s", world, text(t, a), text(t, b))
		}
	}
}

// TestBacklog: what was left over in the record is left over in the replay.
func TestBacklog(t *testing.T) {
	l := crowd()
	steps := l.record(0)
	left := 0
	for i := range steps {
		if len(steps[i].In) == 0 && slices.ContainsFunc(steps[i].Out, func(e arbiter.Effect) bool { return e.Cancelled != nil }) {
			left++
		}
	}
	if left < 2 {
		t.Fatalf("%d steps told what was left over", left)
	}
	r, got := replayed(t, steps, own, time.Time{})
	unchanged(t, 0, steps, got)
	if len(got) != len(steps) || !r.Same() {
		t.Errorf("%d steps, recorded %d: %v", len(got), len(steps), r.Turns)
	}
	// Where nothing was left over in the record, further steps at the same instant
	// tell it.
	quiet := newLab()
	quiet.events = crowd().events
	p := arbiter.DefaultPolicy()
	p.Paused.Types = []string{op.TypeModifyField}
	quiet.policy(0, p)
	slices.Reverse(quiet.events) // the policy first
	slices.Reverse(quiet.events[1:])
	quiet.submit(5, op.Operation{ID: "last", Type: op.TypeVersion, Parent: "nobody"})
	steps = quiet.record(0)
	r, got = replayed(t, steps, always(arbiter.DefaultPolicy()), time.Time{})
	want := []Turn{{End{op.Rejected, op.Paused}, End{op.Cancelled, op.CancelledByRequest}, 4000}}
	if !slices.Equal(r.Turns, want) {
		t.Errorf("turns are %v", r.Turns)
	}
	further, answered := 0, -1
	for i := range got {
		s := &got[i]
		if s.At.Equal(begun.Add(millis(5))) && len(s.In) == 0 && len(s.Out) > 0 {
			further++
		}
		if len(s.In) > 0 && s.In[0].Kin != nil {
			answered = further
		}
	}
	if further < 2 || answered != further {
		t.Errorf("%d further steps at the instant of the cancel, %d of them before the next recorded one", further, answered)
	}
}

// crowd is a submitter who cancels thousands of operations at once.
func crowd() *lab {
	l := newLab()
	for i := range 4000 {
		l.submit(1, op.Operation{ID: "o" + strconv.Itoa(i), Target: "t" + strconv.Itoa(i%4), OnConflict: op.OnConflictQueue, Submitter: "s"})
	}
	l.add(5, arbiter.Input{Cancel: &arbiter.Cancel{Submitter: "s"}})
	return l
}

// TestAnyPolicy: whatever the policy, everything has an end, each replay says the
// same, and each operation is counted once.
func TestAnyPolicy(t *testing.T) {
	changed, ends := 0, map[End]bool{}
	for n := range uint64(fewer(worlds)) {
		w := newWorld(n)
		w.live(120)
		p := w.policy()
		p.MaxOperationAge = time.Minute // follow-ups live for ever, but wait for nobody
		since := w.steps[w.IntN(len(w.steps)/2)].At
		r, _ := replayed(t, w.steps, always(p), since)
		again, _ := replayed(t, w.steps, always(p), since)
		if d := cmp.Diff(r, again, cmpopts.IgnoreUnexported(Report{})); d != "" {
			t.Fatalf("world %d: two replays differ:\n%s", n, d)
		}
		for _, c := range r.Changed {
			if !c.Replayed.Status.Terminal() {
				t.Fatalf("world %d: %s has no end: %s", n, c.OpID, c.Replayed)
			}
		}
		recorded, would, turned := 0, 0, 0
		for _, e := range r.Ends {
			recorded += e.Recorded
			would += e.Replayed
			ends[e.End] = true
		}
		for _, x := range r.Turns {
			turned += x.Count
		}
		if recorded != r.Operations || would != r.Operations || turned != len(r.Changed) {
			t.Fatalf("world %d: %d operations, %d recorded ends, %d replayed, %d changed, %d turned", n, r.Operations, recorded, would, len(r.Changed), turned)
		}
		changed += len(r.Changed)
	}
	if changed < fewer(800) || len(ends) < 10 {
		t.Errorf("only %d changes, ends %v", changed, slices.Collect(maps.Keys(ends)))
	}
}
