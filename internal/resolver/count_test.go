package resolver_test

import (
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func TestTheResolverCountsWhatHappensToOperations(t *testing.T) {
	const policy = `{"staging_window":"0s","grace_period":"100ms","preemption":"after_grace","attempt_timeout":"1m",
		"types":{"create_entity":{"on_conflict":"coalesce"},"delete_entity":{"on_conflict":"supersede"}}}`
	bubble(t, 1, policy, func(w *world) {
		m := metrics.New("test")
		w.resolver("r1", func(c *resolver.Config) { c.Metrics = m.Resolver() })
		feed := w.work(op.DefaultPool)
		// Preempted after a grace that saved it first.
		w.submit("a", `{"op_id":"weak","op_type":"version_entity","priority":2,"preemptible":true}`)
		w.take(feed)
		w.submit("a", `{"op_id":"strong","op_type":"version_entity","priority":9}`)
		strong := w.take(feed)
		// Saved from a cancel, and protected by not being preemptible.
		w.send(bus.CancelSubject("a"), `{"op_id":"strong"}`)
		w.end("strong")
		w.submit("b", `{"op_id":"firm","op_type":"version_entity","priority":2}`)
		w.until("firm", func(r op.Record) bool { return r.Attempt == 1 })
		w.submit("b", `{"op_id":"pushy","op_type":"version_entity","priority":9}`)
		w.is("pushy", op.Pending)
		// One that coalesces, one that is superseded.
		w.submit("c", `[{"op_id":"c1","op_type":"create_entity"},{"op_id":"c2","op_type":"create_entity"}]`)
		w.until("c2", func(r op.Record) bool { return r.Reason == op.Coalesced })
		w.submit("c", `{"op_id":"d1","op_type":"delete_entity","submitter":"s"}`)
		w.submit("c", `{"op_id":"d2","op_type":"delete_entity","submitter":"s"}`)
		w.end("d1")
		pass(30 * time.Second)
		if age := gathered(t, m, "ops_resolver_oldest_pending_seconds"); age < 29 || age > 31 {
			t.Errorf("the oldest pending operation is %v s old, want about 30", age)
		}
		if strong.Operation.ID != "strong" {
			t.Errorf("%s was granted", strong.Operation.ID)
		}
		for name, want := range map[string]float64{
			"ops_resolver_grace_period_saves_total":    2,
			"ops_resolver_executing_protections_total": 1,
			"ops_resolver_preemptions_total":           1,
			"ops_resolver_cancels_total":               1,
			"ops_resolver_coalesced_total":             1,
			"ops_resolver_superseded_total":            1,
			"ops_resolver_lapses_total":                0,
			"ops_resolver_losses_total":                3, // weak when it is preempted, c2, d1
			"ops_resolver_policies_refused_total":      0,
			"ops_resolver_promotion_seconds":           4, // weak, strong, firm, c1
		} {
			if got := gathered(t, m, name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		pass(time.Minute)
		w.eventually("the lapses", func() bool { return gathered(t, m, "ops_resolver_lapses_total") >= 3 })
		w.journal()
	})
}
