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
