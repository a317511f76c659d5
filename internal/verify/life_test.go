package verify_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/await"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
)

// everyRule is a policy with something of everything.
const everyRule = `{
	"staging_window": "5ms", "grace_period": "1ms", "preemption": "after_grace", "max_staged_per_target": 12,
	"aging": {"every": "4ms", "step": 2, "max": 6}, "paused": {"targets": ["e2*"]}, "submitters": {"ann": {"max": 6}},
	"types": {"modify_field": {"on_conflict": "coalesce", "min_priority": 2}, "version_entity": {"on_conflict": "supersede"}}
}`

// TestEveryRule puts random operations and cancels on a whole system under a policy
// with something of everything, and checks what came of it.
func TestEveryRule(t *testing.T) {
	ctx, b := history(t)
	rule(ctx, t, b, everyRule, "e0", "e1", "e2")
	w := await.Start(ctx, b)
	defer w.Stop()
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // reproducible on purpose
	publish := func(subject, body string) {
		t.Helper()
		if _, err := b.Publish(ctx, subject, []byte(body), "", nil); err != nil {
			t.Fatal(err)
		}
	}
	conflicts := []string{"reject", "queue", "retry"}
	for n := range 150 {
		target := fmt.Sprint("e", rng.IntN(3))
		var list []string
		for i := range 1 + rng.IntN(6) {
			id := fmt.Sprintf("op-%d-%d", n, i)
			o := fmt.Sprintf(`{"op_id":%q,"priority":%d,"on_conflict":%q,"preemptible":true,"submitter":%q,"max_retries":2,"parent_op_id":"op-%d-0"`,
				id, 1+rng.IntN(10), conflicts[rng.IntN(3)], []string{"ann", "bob"}[rng.IntN(2)], rng.IntN(n+1))
			if rng.IntN(2) == 0 {
				o += fmt.Sprintf(`,"op_type":"modify_field","params":{"field_name":"n","new_value":%d}}`, rng.IntN(2))
			} else {
				o += `,"op_type":"version_entity"}`
			}
			list = append(list, o)
			w.Expect(id)
		}
		publish(bus.SubmitSubject(target), "["+strings.Join(list, ",")+"]")
		switch rng.IntN(10) {
		case 0:
			publish(bus.CancelSubject(target), `{"all":true}`)
		case 1, 2:
			publish(bus.CancelSubject(target), fmt.Sprintf(`{"op_id":"op-%d-0","cascade":%t}`, n, rng.IntN(2) == 0))
		}
		if n%3 == 2 {
			if err := w.Wait(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := check(ctx, t, b, verify.Options{Quiescent: true, Patience: 30 * time.Second})
	if !r.OK() {
		t.Errorf("%d violations, the first: %v", r.Total, r.Violations[0])
	}
	if len(r.Lagging) > 0 || r.Records < r.Operations || min(r.Succeeded, r.Rejected, r.Cancelled, r.Coalesced) == 0 {
		t.Errorf("too little happened: %+v", r.Report)
	}
	t.Logf("%d operations: %d succeeded (%d shared), %d rejected, %d cancelled; %d preempted, %d protected",
		r.Operations, r.Succeeded, r.Shared, r.Rejected, r.Cancelled, r.Preempted, r.Protected)
}
