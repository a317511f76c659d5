package resolver_test

import (
	"context"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// A report that names another target than its operation's is not taken: what it
// brings was never tried on the entity, and a step that cannot be applied would end
// the partition for good.
func TestAReportOfAnotherTargetIsNotTaken(t *testing.T) {
	for name, c := range map[string]struct{ target, change string }{
		"a change that does not fit": {"gate", `{"kind":"modified","base":7,"from":3,"set":{"a":1}}`},
		"a change that would":        {"gate", `{"kind":"created","id":"door"}`},
		"not an id":                  {`a"b`, `{"kind":"noted"}`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			w.policy(`{"staging_window":"0s","retry_base_delay":"1ms"}`)
			w.resolver("r1")
			feed, err := w.bus.Work(t.Context(), op.DefaultPool, 8)
			if err != nil {
				t.Fatal(err)
			}
			w.submit("door", `{"op_id":"first","op_type":"create_entity","max_retries":0}`)
			k := w.take(feed)
			data, err := op.Marshal(op.Result{
				Type: op.ResultType, OpID: "first", Target: c.target, Attempt: k.Attempt, Executor: "x1", Change: []byte(c.change),
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if _, err := w.bus.Report(ctx, k.Partition, data); err != nil {
				t.Fatalf("nobody answers any more: %v", err)
			}
			for _, s := range w.journal() {
				for _, e := range s.Out {
					if e.Succeeded != nil {
						t.Fatalf("%+v", e.Succeeded)
					}
				}
			}
			w.submit("other", `{"op_id":"second","op_type":"create_entity"}`)
			w.until("second", func(r op.Record) bool { return r.Status == op.Executing })
		})
	}
}
