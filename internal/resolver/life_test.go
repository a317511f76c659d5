package resolver_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func TestAHeartbeatProlongsTheLease(t *testing.T) {
	bubble(t, 1, `{"staging_window":"0s","attempt_timeout":"10s"}`, func(w *world) {
		w.resolver("r1")
		feed := w.work(op.DefaultPool)
		w.submit("door", `{"op_id":"long","op_type":"create_entity","deadline":"50s"}`)
		k := w.take(feed)
		for i := range 5 {
			pass(9 * time.Second)
			ack := w.beat("x", k)
			want := 10 * time.Second
			if i == 4 {
				want = 5 * time.Second // 45 s of 50 are over
			}
			if !ack.Accepted || ack.OpID != "long" || ack.Attempt != 1 || ack.Type != op.AckType || ack.Lease <= want-time.Second || ack.Lease > want {
				t.Errorf("heartbeat %d: %+v, want a lease of about %s", i, ack, want)
			}
		}
		old := k
		old.Attempt = 7
		if ack := w.beat("x", old); ack.Accepted || ack.Why == "" || ack.Lease != 0 {
			t.Errorf("a heartbeat of no attempt: %+v", ack)
		}
		if !w.report("x", k).Accepted {
			t.Error("after 45 s of heartbeats the report was refused")
		}
		if ack := w.beat("x", k); ack.Accepted || ack.Why == "" {
			t.Errorf("a heartbeat after the end: %+v", ack)
		}
		if slices.Contains(w.names("long"), op.EventStaleCommit) {
			t.Error("a late heartbeat was told as a late commit")
		}
	})
}

// A lapse and the backoff that follows are one event; without one the lapse is
// told by itself.
func TestALapseIsToldOnce(t *testing.T) {
	bubble(t, 1, `{"staging_window":"0s","attempt_timeout":"10s"}`, func(w *world) {
		w.resolver("r1")
		feed := w.work(op.DefaultPool)
		w.submit("door", `{"op_id":"hung","op_type":"create_entity","max_retries":1}`)
		w.beat("x", w.take(feed))
		second := w.take(feed)
		e := w.heard(op.EventRetry, "hung")
		if e.From != op.Executing || e.Status != op.Pending || e.Attempt != 1 || *e.RetryCount != 1 || e.BackoffMS <= 0 || !strings.Contains(e.RetryReason, "lease") {
			t.Errorf("the event says %+v", e)
		}
		w.beat("x", second)
		r := w.end("hung")
		if r.Status != op.Rejected || r.Reason != op.MaxRetries || r.Error == nil || r.Error.Code != arbiter.CodeLeaseOver {
			t.Errorf("the record says %+v", r)
		}
		w.heard(op.EventRejected, "hung")
		want := []op.EventName{
			op.EventSubmitted, op.EventPromoted, op.EventStarted, op.EventRetry,
			op.EventPromoted, op.EventStarted, op.EventRetry, op.EventRejected,
		}
		if got := w.names("hung"); !slices.Equal(got, want) {
			t.Errorf("events %v\nwant   %v", got, want)
		}
	})
}

// Every event that changes a state names a transition of the table, and the next
// one begins where the last one ended.
func (w *world) chained(opID string) {
	w.t.Helper()
	var at op.Status
	for _, e := range w.told() {
		if e.OpID != opID || e.Status == "" {
			continue
		}
		if e.From != at {
			w.t.Errorf("%s: %s goes from %q, the event before led to %q", opID, e.Name, e.From, at)
		}
		if at != "" && e.Status != at && !at.CanBecome(e.Status) {
			w.t.Errorf("%s: %s goes from %s to %s", opID, e.Name, at, e.Status)
		}
		at = e.Status
	}
}

func TestIdenticalOperationsShareOneOutcome(t *testing.T) {
	const policy = `{"staging_window":"10ms","types":{"delete_entity":{"on_conflict":"coalesce"},"create_entity":{"on_conflict":"queue"}}}`
	bubble(t, 1, policy, func(w *world) {
		w.resolver("r1")
		feed := w.work(op.DefaultPool)
		w.submit("door", `{"op_id":"make","op_type":"create_entity"}`)
		w.report("x", w.take(feed))
		w.submit("door", `[{"op_id":"one","op_type":"delete_entity"},{"op_id":"two","op_type":"delete_entity"},{"op_id":"three","op_type":"delete_entity"},
			{"op_id":"gone","op_type":"delete_entity"}]`)
		k := w.take(feed)
		if k.Operation.ID != "one" {
			t.Fatalf("%s won", k.Operation.ID)
		}
		if r := w.until("two", func(r op.Record) bool { return r.Reason != "" }); r.Status != op.Pending || r.Reason != op.Coalesced || r.Winner != "one" {
			t.Errorf("while it waits: %+v", r)
		}
		w.send(bus.CancelSubject("door"), `{"op_id":"gone"}`)
		w.end("gone")
		w.result(k, `{"kind":"deleted","base":1,"from":1,"version":true}`)
		for _, id := range []string{"two", "three"} {
			r, own := w.end(id), w.end("one")
			if r.Status != op.Succeeded || r.Reason != op.Coalesced || r.Winner != "one" || r.Version != own.Version || r.Revision != own.Revision || r.Revision != 2 {
				t.Errorf("%s: %+v\none: %+v", id, r, own)
			}
			e := w.heard(op.EventCompleted, id)
			if e.Reason != op.Coalesced || e.Winner != "one" || e.From != op.Pending || e.Revision != 2 {
				t.Errorf("the event of %s: %+v", id, e)
			}
			w.chained(id)
		}
		if r := w.end("gone"); r.Status != op.Cancelled {
			t.Errorf("gone: %+v", r)
		}
		w.journal()
	})
}

// result reports a change that was computed elsewhere.
func (w *world) result(k op.Work, change string) {
	w.t.Helper()
	ack := w.tell(k.Partition, op.Result{
		Type: op.ResultType, OpID: k.Operation.ID, Target: k.Operation.Target, Attempt: k.Attempt, Executor: "x", Change: json.RawMessage(change),
	})
	if !ack.Accepted {
		w.t.Fatalf("%s: %+v", k.Operation.ID, ack)
	}
}

// Thousands may share one outcome. It is told to them in several steps, between
// which the partition may change hands.
func TestASharedOutcomeOutlivesItsStep(t *testing.T) {
	const policy = `{"staging_window":"10ms","types":{"create_entity":{"on_conflict":"coalesce"}}}`
	const many = 1900
	bubble(t, 1, policy, func(w *world) {
		first := w.resolver("r1", func(c *resolver.Config) { c.SnapshotEvery = 1 })
		feed := w.work(op.DefaultPool)
		var all []string
		for i := range many {
			all = append(all, fmt.Sprintf(`{"op_id":"n-%d-%s","op_type":"create_entity"}`, i, strings.Repeat("x", 50)))
		}
		for at := 0; at < many; at += 200 {
			w.submit("door", "[%s]", strings.Join(all[at:min(at+200, many)], ","))
		}
		w.report("x", w.take(feed))
		shared := map[string]bool{}
		steps := 0
		w.eventually("everybody to end", func() bool {
			clear(shared)
			steps = 0
			open := map[string]bool{}
			for _, s := range w.journal() {
				here := len(shared)
				for _, e := range s.Out {
					switch {
					case e.Accepted != nil:
						open[e.Accepted.OpID] = true
					case e.Shared != nil:
						shared[e.Shared.OpID] = true
						delete(open, e.Shared.OpID)
					case e.Succeeded != nil:
						delete(open, e.Succeeded.OpID)
					case e.Rejected != nil: // there was no room for it
						delete(open, e.Rejected.OpID)
					}
				}
				if len(shared) > here {
					steps++
				}
			}
			return len(open) == 0 && len(shared) > 0
		})
		if steps < 2 {
			t.Fatalf("all were told in %d steps: the test proves nothing", steps)
		}
		check := func(when string) {
			for id := range shared {
				if r := w.end(id); r.Status != op.Succeeded || r.Revision != 1 || r.Version != 1 {
					t.Fatalf("%s: %+v", when, r)
				}
			}
		}
		check("as told first")
		first.stop()
		w.forget(true)
		w.resolver("r2")
		check("told again")
	})
}

func TestANewerOperationSupersedesOlderOnes(t *testing.T) {
	const policy = `{"staging_window":"1h","types":{"create_entity":{"on_conflict":"supersede"}}}`
	bubble(t, 1, policy, func(w *world) {
		w.resolver("r1")
		w.submit("door", `{"op_id":"old","op_type":"create_entity","submitter":"import"}`)
		w.submit("door", `{"op_id":"other","op_type":"create_entity","submitter":"desk"}`)
		w.submit("door", `{"op_id":"new","op_type":"create_entity","submitter":"import"}`)
		if r := w.end("old"); r.Status != op.Rejected || r.Reason != op.Superseded || r.Winner != "new" {
			t.Errorf("old: %+v", r)
		}
		if e := w.heard(op.EventRejected, "old"); e.Winner != "new" || e.Code != op.Superseded.Code() {
			t.Errorf("the event says %+v", e)
		}
		w.is("other", op.Pending)
		w.is("new", op.Pending)
	})
}

func TestOverloadSaysWhenToComeAgain(t *testing.T) {
	bubble(t, 1, `{"staging_window":"1h","operation_queue_size":2}`, func(w *world) {
		w.resolver("r1")
		for _, id := range []string{"a", "b", "c"} {
			w.submit(id, `{"op_id":%q,"op_type":"create_entity"}`, id)
		}
		if r := w.end("c"); r.Reason != op.Overloaded || r.RetryAfterMS != 1000 {
			t.Errorf("the record says %+v", r)
		}
		if e := w.heard(op.EventRejected, "c"); e.RetryAfterMS != 1000 {
			t.Errorf("the event says %+v", e)
		}
	})
}

func TestPrioritiesOutsideTheRangeAreOnRecord(t *testing.T) {
	bubble(t, 1, `{"staging_window":"1h","types":{"create_entity":{"max_priority":5}}}`, func(w *world) {
		w.resolver("r1")
		w.submit("door", `{"op_id":"a","op_type":"create_entity","priority":9}`)
		if r := w.is("a", op.Pending); r.Asked != 9 || r.Priority != 5 {
			t.Errorf("%+v", r)
		}
	})
}
