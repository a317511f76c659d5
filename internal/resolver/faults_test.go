package resolver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func TestASecondResolverTakesOverWhenTheFirstIsGone(t *testing.T) {
	w := newWorld(t, 4)
	first := w.resolver("r1")
	w.executor("x1", nil)
	submit := func(from, to int) {
		for i := from; i < to; i++ {
			w.submit(fmt.Sprintf("e-%d", i), `{"op_id":"op-%d","op_type":"create_entity"}`, i)
		}
	}
	submit(0, 50)
	first.cut() // in the middle of them
	w.resolver("r2")
	submit(50, 80)
	for i := range 80 {
		if r := w.end(fmt.Sprintf("op-%d", i)); r.Status != op.Succeeded {
			t.Errorf("op-%d: %+v", i, r)
		}
	}
	w.journal()
}

// An executor that sleeps past its attempt's lease is fenced off: another
// attempt is granted, and the late effect is refused and recorded.
func TestALateEffectIsRefused(t *testing.T) {
	w := newWorld(t, 1)
	w.policy(`{"staging_window":"0s","attempt_timeout":"200ms"}`)
	w.resolver("r1")
	feed, err := w.bus.Work(t.Context(), op.DefaultPool, 8)
	if err != nil {
		t.Fatal(err)
	}
	w.submit("door", `{"op_id":"slow","op_type":"create_entity"}`)
	late, current := w.take(feed), w.take(feed) // the second comes when the lease of the first has run out
	if late.Attempt != 1 || current.Attempt != 2 {
		t.Fatalf("attempts %d and %d", late.Attempt, current.Attempt)
	}
	if w.report("x1", late).Accepted {
		t.Error("the late effect was accepted while another attempt runs")
	}
	if !w.report("x2", current).Accepted {
		t.Error("the current effect was refused")
	}
	if w.report("x1", late).Accepted || w.report("x2", current).Accepted {
		t.Error("an effect was accepted after the operation had ended")
	}
	w.end("slow")
	if e := w.entity("door"); e.Revision != 1 {
		t.Errorf("the entity counts %d effects", e.Revision)
	}
	refused := 0
	for _, s := range w.journal() {
		for _, e := range s.Out {
			if e.Refused != nil && e.Refused.OpID == "slow" {
				refused++
			}
		}
	}
	if refused != 3 {
		t.Errorf("%d refusals are on record, want 3", refused)
	}
}

// take receives one work message as an executor does.
func (w *world) take(feed *bus.WorkFeed) op.Work {
	w.t.Helper()
	select {
	case m := <-feed.C():
		m.Ack()
		var k op.Work
		if err := json.Unmarshal(m.Data, &k); err != nil {
			w.t.Fatal(err)
		}
		return k
	case <-time.After(20 * time.Second):
		w.t.Fatal("no work after 20 s")
		return op.Work{}
	}
}

// report computes the effect of an attempt and reports it.
func (w *world) report(executor string, k op.Work) op.ResultAck {
	w.t.Helper()
	ack, err := w.tryReport(w.t.Context(), executor, k)
	if err != nil {
		w.t.Fatal(err)
	}
	return ack
}

// tryReport is report with the error of the request.
func (w *world) tryReport(ctx context.Context, executor string, k op.Work) (ack op.ResultAck, err error) {
	w.t.Helper()
	change, failure := entity.Compute(&k.Operation, nil, nil)
	if failure != nil {
		w.t.Fatal(failure)
	}
	body, err := op.Marshal(change)
	if err != nil {
		w.t.Fatal(err)
	}
	data, err := op.Marshal(op.Result{
		Type: op.ResultType, OpID: k.Operation.ID, Target: k.Operation.Target, Attempt: k.Attempt, Executor: executor, Change: body,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	answer, err := w.bus.Report(ctx, k.Partition, data)
	if err == nil {
		err = json.Unmarshal(answer, &ack)
	}
	return ack, err
}

func TestRetriesEndWithTheLastRealError(t *testing.T) {
	w := newWorld(t, 1)
	w.policy(`{"staging_window":"0s","retry_base_delay":"1ms"}`)
	w.resolver("r1")
	var tries int
	w.executor("x1", func(k op.Work) error { tries++; return fmt.Errorf("try %d went wrong", k.Attempt) })
	w.submit("door", `{"op_id":"doomed","op_type":"create_entity","max_retries":2}`)
	r := w.end("doomed")
	if r.Status != op.Rejected || r.Reason != op.MaxRetries || r.RetryCount != 2 || r.Attempt != 3 {
		t.Errorf("%+v", r)
	}
	if r.Error == nil || !strings.Contains(r.Error.Message, "try 3 went wrong") {
		t.Errorf("the last real error is lost: %+v", r.Error)
	}
}

func TestPolicyIsLiveAndNamedByItsDecisions(t *testing.T) {
	w := newWorld(t, 1)
	w.resolver("r1")
	w.executor("x1", nil)
	w.policy(`{"staging_window":"1ms"}`)
	rev := uint64(0)
	w.eventually("a decision under the new policy", func() bool {
		id := w.id("op")
		w.submit(id, `{"op_id":%q,"op_type":"create_entity"}`, id)
		w.end(id)
		for _, s := range w.journal() {
			for _, e := range s.Out {
				if e.Decision != nil && e.Decision.Winner == id {
					rev = e.Decision.PolicyRevision
					return rev > 0 && e.Decision.WindowClosed.Sub(e.Decision.WindowOpened) == time.Millisecond
				}
			}
		}
		return false
	})
}

// Submitting an id again is the same submission, also long after the machine has
// forgotten it, and after a restart.
func TestAnOldIDIsTheSameSubmission(t *testing.T) {
	const many = 9000 // more than a partition remembers
	w := newWorld(t, 1)
	w.policy(`{"staging_window":"0s"}`)
	first := w.resolver("r1", func(c *resolver.Config) { c.SnapshotEvery = 20 })
	w.executor("x1", nil)
	w.submit("door", `{"op_id":"old","op_type":"create_entity","params":{"fields":{"n":0}}}`)
	w.end("old")
	w.submit("door", `{"op_id":"plus","op_type":"complex_update","params":{"increment":{"n":1}}}`)
	w.end("plus")
	for i := 0; i < many; i += 100 {
		batch := make([]string, 100)
		for j := range batch {
			// Past their deadline: they end at once and cost nothing.
			batch[j] = fmt.Sprintf(`{"op_id":"f-%d","op_type":"version_entity","target_entity_id":"x-%d","deadline":"2020-01-01T00:00:00Z"}`, i+j, i+j)
		}
		if _, err := w.bus.Publish(t.Context(), bus.BulkSubject("x-1"), []byte("["+strings.Join(batch, ",")+"]"), "", nil); err != nil {
			t.Fatal(err)
		}
	}
	w.end(fmt.Sprintf("f-%d", many-1))
	w.eventually("everything to end", w.quiet)
	again := func() {
		w.submit("door", `{"op_id":"plus","op_type":"complex_update","params":{"increment":{"n":1}}}`)
		marker := w.id("marker")
		w.submit("door", `{"op_id":%q,"op_type":"version_entity"}`, marker)
		w.end(marker)
		if got := string(w.entity("door").Fields["n"]); got != "1" {
			t.Fatalf("the door counts %s effects, want 1", got)
		}
	}
	again()
	first.stop()
	w.resolver("r2")
	again()
	known := 0
	for _, s := range w.journal() {
		for _, in := range s.In {
			if in.Submit != nil && in.Submit.Known {
				known++
			}
		}
	}
	if known == 0 {
		t.Error("no submission was recognised by its record: the test proves nothing")
	}
}

func TestTheResolverCountsWhatItDoes(t *testing.T) {
	w := newWorld(t, 2)
	m := metrics.New("test")
	w.resolver("r1", func(c *resolver.Config) { c.Metrics = m.Resolver() })
	w.executor("x1", nil)
	w.submit("door", `{"op_id":"one","op_type":"create_entity","parent_op_id":"nobody"}`)
	w.end("one")
	for name, want := range map[string]float64{
		"ops_resolver_steps_total": 3, "ops_resolver_takeovers_total": 2, "ops_resolver_partitions": 2,
		"ops_resolver_outputs_total": 5, "ops_resolver_results_total": 1, "ops_resolver_kin_lookups_total": 1, "ops_resolver_members": 1,
	} {
		if got := gathered(t, m, name); got < want {
			t.Errorf("%s is %v, want at least %v", name, got, want)
		}
	}
}

// gathered sums the samples of a counter or gauge.
func gathered(t *testing.T, m *metrics.Registry, name string) float64 {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, s := range f.GetMetric() {
			sum += s.GetCounter().GetValue() + s.GetGauge().GetValue() + float64(s.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// Somebody takes the partition over and dies before it says so. The owner has
// nothing to commit and would not find out; but until the journal's last step is
// told, everybody who waits for that would wait.
func TestAnIdleOwnerFindsOutThatItWasDeposed(t *testing.T) {
	bubble(t, 1, "", func(w *world) {
		w.resolver("r1")
		last, _, err := w.bus.JournalLast(w.t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		rogue := arbiter.Step{Schema: arbiter.StepSchema, ID: "rogue", Number: 2, Epoch: 2, Owner: "r2", At: time.Now(), Takeover: true}
		data, err := op.Marshal(&rogue)
		if err != nil {
			t.Fatal(err)
		}
		if _, out, err := w.bus.JournalAppend(w.t.Context(), 0, rogue.ID, data, last.Seq); out != bus.Committed {
			t.Fatal(out, err)
		}
		pass(10 * time.Second)
		w.eventually("the take-over to be told", func() bool {
			mark, err := w.bus.Mark(w.t.Context(), 0)
			return err == nil && mark > rogue.Number
		})
	})
}
