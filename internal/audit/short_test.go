package audit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// What is due at once for more operations than fit into one step waits for the
// next steps, and nothing of it is lost.
func TestStepsThatAreCutShortBreakNothing(t *testing.T) {
	const crowd, mob = 1700, 800 // the mob is on one target: a decision that has a step of its own
	w := newWorld(1)
	policy := arbiter.DefaultPolicy()
	policy.AttemptTimeout, policy.MaxOperationAge, policy.MaxExecuting = 200*time.Millisecond, 5*time.Second, 2*crowd
	in := []arbiter.Input{{Policy: &policy}}
	for i := range crowd {
		one := 1
		o := operation(fmt.Sprint("o", i), fmt.Sprint("t0", i), op.Priority(1+i%10), func(o *op.Operation) { o.MaxRetries = &one })
		switch i % 3 {
		case 0:
			o.Target = fmt.Sprint("t0", i+1) // against the next one
			o.OnConflict = op.OnConflictRetry
		case 1:
			o.OnConflict = op.OnConflictQueue
		default:
			o.Deadline = &op.Deadline{After: 100 * time.Millisecond}
		}
		in = append(in, arbiter.Input{Submit: &arbiter.Submit{Place: op.Place{Seq: 1, Index: i}, Operation: o}})
	}
	for i := range mob {
		o := operation(fmt.Sprint("m", i), "t0m", 5)
		in = append(in, arbiter.Input{Submit: &arbiter.Submit{Place: op.Place{Seq: 1, Index: crowd + i}, Operation: o}})
	}
	w.intake = 1
	w.commit(0, in...)
	steps, most := 0, 0
	for ; w.machines[0].Open() > 0; steps++ {
		next, ok := w.machines[0].Next()
		if !ok {
			t.Fatal("operations are open and nothing is due")
		}
		if next.After(w.now) {
			w.now = next.Add(time.Duration(w.rng.IntN(400)) * time.Millisecond) // late, so that much is due at once
		}
		w.commit(0)
		if steps > 10_000 {
			t.Fatalf("%d operations are still open", w.machines[0].Open())
		}
		for _, e := range w.last[0].Out {
			if e.Decision != nil {
				most = max(most, len(e.Decision.Contenders))
			}
		}
	}
	r := w.audit(audit.Options{}, nil).Finish(true)
	wantOnly(t, r)
	if r.Rejected != crowd+mob || steps < 5 || most != mob {
		t.Errorf("%d rejected in %d steps, the largest decision was about %d", r.Rejected, steps, most)
	}
}

// A decision that waits for a step of its own lets nobody pass. That one of its
// contenders has an ancestor that the partition may have forgotten, so that nobody
// demands the decision, changes nothing about that.
func TestWhoWaitsForRoomMayHaveForgottenSomebody(t *testing.T) {
	const mob = 900
	w := newWorld(3)
	policy := arbiter.DefaultPolicy()
	policy.MaxOpen, policy.Paused.Types = 0, []string{op.TypeModifyField}
	w.commit(0, arbiter.Input{Policy: &policy})
	submissions := func(list ...op.Operation) (in []arbiter.Input) {
		w.intake++
		for i := range list {
			w.known[list[i].ID] = list[i]
			in = append(in, arbiter.Input{Submit: &arbiter.Submit{Place: op.Place{Seq: w.intake, Index: i}, Operation: list[i]}})
		}
		return in
	}
	// The root ends, and after it as many as the partition remembers.
	turned := func(id string) op.Operation { return operation(id, "t0r", 9, kind(op.TypeModifyField)) }
	w.commit(0, submissions(turned("root"))...)
	for n := 0; n < arbiter.RecentOperations; n += 400 {
		var list []op.Operation
		for i := range 400 {
			list = append(list, turned(fmt.Sprint("r", n+i)))
		}
		w.commit(0, submissions(list...)...)
	}
	var list []op.Operation
	for i := range mob {
		list = append(list, operation(fmt.Sprint("m", i), "t0m", 5))
	}
	list = append(list, operation("child", "t0m", 5, parent("root")), operation("alone", "t0s", 5))
	w.commit(0, submissions(list...)...)
	w.now = w.now.Add(5 * time.Millisecond)
	for n := 0; len(w.wants[0]) > 0 && n < 100; n++ {
		w.commit(0, w.answers(0)...)
	}
	w.now = w.now.Add(20 * time.Millisecond)
	w.commit(0, submissions(turned("late"))...) // with which there is no room for the mob
	if n := len(w.last[0].Out); n > 2 {
		t.Fatalf("there was room: %d effects", n)
	}
	w.commit(0)
	w.commit(0)
	r := w.audit(audit.Options{}, nil).Finish(false)
	wantOnly(t, r)
	if r.Decisions != 2 {
		t.Errorf("%d decisions", r.Decisions)
	}
}
