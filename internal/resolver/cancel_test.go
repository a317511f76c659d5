package resolver_test

import (
	"slices"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// waits keeps everything pending: nothing is decided for an hour.
const waits = `{"staging_window":"1h"}`

func TestACancelWithinGraceTakesEffectWhenItEnds(t *testing.T) {
	bubble(t, 1, `{"staging_window":"0s","grace_period":"100ms"}`, func(w *world) {
		w.resolver("r1")
		feed := w.work(op.DefaultPool)
		w.submit("door", `{"op_id":"slow","op_type":"create_entity"}`)
		k := w.take(feed)
		granted := k.LeaseEnds.Add(-k.Lease)
		w.send(bus.CancelSubject("door"), `{"op_id":"slow"}`)
		r := w.until("slow", func(r op.Record) bool { return r.CancelAt != nil })
		if r.Status != op.Executing || !r.CancelAt.Equal(granted.Add(100*time.Millisecond)) {
			t.Errorf("within grace: %+v, cancelled at %v, granted at %v", r, r.CancelAt, granted)
		}
		r = w.end("slow")
		if r.Status != op.Cancelled || r.Reason != op.CancelledByRequest || r.CancelAt != nil {
			t.Errorf("after grace: %+v", r)
		}
		e := w.heard(op.EventCancelled, "slow")
		if e.From != op.Executing || e.Attempt != 1 || e.At.Sub(granted) != 100*time.Millisecond {
			t.Errorf("the event says %+v", e)
		}
		if ack := w.report("x", k); ack.Accepted {
			t.Error("the effect of a cancelled attempt was accepted")
		}
		w.submit("door", `{"op_id":"next","op_type":"create_entity"}`)
		next := w.take(feed)
		pass(200 * time.Millisecond)
		w.send(bus.CancelSubject("door"), `{"op_id":"next"}`)
		if r := w.end("next"); r.Status != op.Cancelled || next.Operation.ID != "next" {
			t.Errorf("past its grace: %+v", r)
		}
		w.journal()
	})
}

// A cancel takes pending descendants of any depth with it, wherever they are, and
// only what is submitted before it.
func TestACancelReachesDescendantsInOtherPartitions(t *testing.T) {
	bubble(t, 8, waits, func(w *world) {
		first := w.resolver("r1")
		other := w.elsewhere(bus.PartitionOf("root", 8), 12)
		w.submit("root", `{"op_id":"root","op_type":"create_entity"}`)
		w.submit("root", `{"op_id":"spared","op_type":"create_entity"}`)
		parents := []string{"root"}
		for i, target := range other { // a tree: every operation has two children
			w.submit(target, `{"op_id":%q,"op_type":"create_entity","parent_op_id":%q}`, target, parents[i/2])
			parents = append(parents, target)
		}
		w.submit(other[0], `{"op_id":"stranger","op_type":"create_entity"}`)
		w.submit(other[1], `{"op_id":"orphan","op_type":"create_entity","parent_op_id":"spared"}`)
		for _, id := range append(parents, "stranger", "orphan") {
			w.is(id, op.Pending)
		}
		w.send(bus.CancelSubject("root"), `{"op_id":"spared","cascade":false}`)
		w.send(bus.CancelSubject("root"), `{"op_id":"root"}`)
		for _, id := range other {
			r := w.end(id)
			if r.Status != op.Cancelled || r.Reason != op.CancelledWithParent {
				t.Errorf("%s: %+v", id, r)
			}
			if e := w.heard(op.EventCancelled, id); e.CausedBy == "" || e.From != op.Pending {
				t.Errorf("the event of %s does not name the ancestor: %+v", id, e)
			}
		}
		w.end("spared")
		w.submit(other[2], `{"op_id":"late","op_type":"create_entity","parent_op_id":"root"}`)
		for _, id := range []string{"stranger", "orphan", "late"} {
			if r := w.is(id, op.Pending); r.Status != op.Pending {
				t.Errorf("%s: %+v", id, r)
			}
		}
		// Told again by another owner, it is the same message.
		before := w.cascades()
		first.stop()
		w.forget(true)
		w.resolver("r2")
		w.submit("root", `{"op_id":"after","op_type":"create_entity"}`)
		w.is("after", op.Pending)
		for _, id := range other {
			w.end(id)
		}
		pass(time.Second)
		if after := w.cascades(); before == 0 || after != before {
			t.Errorf("%d cancels of descendants, then %d", before, after)
		}
		w.is("late", op.Pending)
	})
}

// cascades counts the inputs that ask for the cancellation of descendants.
func (w *world) cascades() int {
	n := 0
	for _, s := range w.journal() {
		for _, in := range s.In {
			if in.Cancel != nil && len(in.Cancel.Ancestors) > 0 {
				n++
			}
		}
	}
	return n
}

func TestAllOfATargetOrOfASubmitterAreCancelled(t *testing.T) {
	bubble(t, 4, waits, func(w *world) {
		w.resolver("r1")
		for _, id := range []string{"a", "b", "c", "d"} {
			w.submit(id, `[{"op_id":"%s-1","op_type":"create_entity","submitter":"import"},{"op_id":"%s-2","op_type":"create_entity","submitter":"desk"}]`, id, id)
			w.is(id+"-2", op.Pending)
		}
		w.send(bus.CancelSubject("a"), `{"all":true}`)
		w.end("a-1")
		w.end("a-2")
		for p := range 4 {
			w.send(w.bus.ControlSubject(p), `{"submitter":"import"}`)
		}
		for _, id := range []string{"b", "c", "d"} {
			if r := w.end(id + "-1"); r.Status != op.Cancelled || r.Reason != op.CancelledByRequest {
				t.Errorf("%s-1: %+v", id, r)
			}
			w.is(id+"-2", op.Pending)
		}
	})
}

func TestCancelsThatBreakARuleAreTold(t *testing.T) {
	bubble(t, 2, waits, func(w *world) {
		w.resolver("r1")
		door, control := bus.CancelSubject("door"), w.bus.ControlSubject(1)
		cases := []struct{ subject, body, code string }{
			{door, `{}`, op.CodeMissingField},
			{door, `{"all":false}`, op.CodeMissingField},
			{door, `{"op_id":"a","all":true}`, op.CodeMissingField},
			{door, `{"op_id":"a.b"}`, op.CodeBadID},
			{door, `{"op_id":"a"} {}`, op.CodeBadJSON},
			{door, `{"submitter":"a"}`, op.CodeBadJSON}, // of a partition, not of a target
			{door, `{"ancestors":["a"]}`, op.CodeBadJSON},
			{control, `{}`, op.CodeMissingField},
			{control, `{"ancestors":["a"],"submitter":"b"}`, op.CodeMissingField},
			{control, `{"ancestors":["a","b c"]}`, op.CodeBadID},
			{control, `{"all":true}`, op.CodeBadJSON},
		}
		want := map[string]int{}
		for _, c := range cases {
			w.send(c.subject, c.body)
			want[c.code]++
		}
		got := map[string]int{}
		w.eventually("an event for each", func() bool {
			clear(got)
			n := 0
			for _, e := range w.told() {
				if e.Name == op.EventInvalid {
					got[e.Code]++
					n++
				}
			}
			return n == len(cases)
		})
		for code, n := range want {
			if got[code] != n {
				t.Errorf("%d were refused with %s, want %d", got[code], code, n)
			}
		}
	})
}

func TestPreemptionIsToldAndKeepsTheOperation(t *testing.T) {
	bubble(t, 1, `{"staging_window":"0s","grace_period":"100ms","preemption":"after_grace"}`, func(w *world) {
		w.resolver("r1", func(c *resolver.Config) {})
		feed := w.work(op.DefaultPool)
		w.submit("door", `{"op_id":"make","op_type":"create_entity"}`)
		w.report("x", w.take(feed))
		w.submit("door", `{"op_id":"weak","op_type":"delete_entity","priority":2,"preemptible":true}`)
		weak := w.take(feed)
		w.submit("door", `{"op_id":"strong","op_type":"delete_entity","priority":9}`)
		strong := w.take(feed)
		if strong.Operation.ID != "strong" || strong.LeaseEnds.Sub(weak.LeaseEnds) != 100*time.Millisecond {
			t.Errorf("%s came %s after the first", strong.Operation.ID, strong.LeaseEnds.Sub(weak.LeaseEnds))
		}
		e := w.heard(op.EventPreempted, "weak")
		if e.Winner != "strong" || e.Preemptions != 1 || e.From != op.Executing || e.Status != op.Pending || e.Attempt != 1 {
			t.Errorf("the event says %+v", e)
		}
		if r := w.is("weak", op.Pending); r.Preemptions != 1 || r.RetryCount != 0 {
			t.Errorf("the record says %+v", r)
		}
		if w.fail(weak, op.Failure{Message: "late"}).Accepted {
			t.Error("the preempted attempt could report")
		}
		w.fail(strong, op.Failure{Message: "no", Terminal: true})
		if again := w.take(feed); again.Operation.ID != "weak" || again.Attempt != 2 {
			t.Errorf("then came %s, attempt %d", again.Operation.ID, again.Attempt)
		}
		protected := slices.ContainsFunc(w.effects(), func(e arbiter.Effect) bool {
			return e.Protected != nil && e.Protected.Kind == arbiter.ProtectedByGrace && e.Protected.By == "strong"
		})
		if !protected {
			t.Error("the journal does not say that grace protected it first")
		}
	})
}
