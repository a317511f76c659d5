package resolver_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// bubble runs a test in a world whose time passes only when everybody waits, so
// that instants can be compared exactly. One resolver is there; executors are
// played by hand.
func bubble(t *testing.T, partitions int, policy string, f func(w *world)) {
	t.Helper()
	natstest.Run(t, func(t *testing.T, s *natstest.Server) {
		w := &world{t: t, connect: func(opts ...nats.Option) (*nats.Conn, error) {
			return nats.Connect("", append([]nats.Option{nats.InProcessServer(s)}, opts...)...)
		}}
		w.setUp(partitions)
		if policy != "" {
			w.policy(policy)
		}
		f(w)
	})
}

// pass lets time pass; only in a bubble.
func pass(d time.Duration) { <-time.After(d) }

// work takes part in the executors' queue.
func (w *world) work(pool string) *bus.WorkFeed {
	w.t.Helper()
	feed, err := w.bus.Work(w.t.Context(), pool, 8)
	if err != nil {
		w.t.Fatal(err)
	}
	return feed
}

// send publishes on any subject of the intake.
func (w *world) send(subject, body string) {
	w.t.Helper()
	if _, err := w.bus.Publish(w.t.Context(), subject, []byte(body), "", nil); err != nil {
		w.t.Fatal(err)
	}
}

// beat gives a sign of life of an attempt.
func (w *world) beat(executor string, k op.Work) op.ResultAck {
	w.t.Helper()
	return w.tell(k.Partition, op.Beat{
		Type: op.BeatType, OpID: k.Operation.ID, Target: k.Operation.Target, Attempt: k.Attempt, Executor: executor,
	})
}

// fail reports that an attempt failed.
func (w *world) fail(k op.Work, f op.Failure) op.ResultAck {
	w.t.Helper()
	return w.tell(k.Partition, op.Result{
		Type: op.ResultType, OpID: k.Operation.ID, Target: k.Operation.Target, Attempt: k.Attempt, Executor: "x", Failure: &f,
	})
}

func (w *world) tell(partition int, report any) op.ResultAck {
	w.t.Helper()
	data, err := op.Marshal(report)
	if err != nil {
		w.t.Fatal(err)
	}
	answer, err := w.bus.Report(w.t.Context(), partition, data)
	if err != nil {
		w.t.Fatal(err)
	}
	var ack op.ResultAck
	if err := json.Unmarshal(answer, &ack); err != nil {
		w.t.Fatal(err)
	}
	return ack
}

// told returns what has been told so far, oldest first.
func (w *world) told() []op.Event {
	w.t.Helper()
	s, err := w.bus.JetStream().Stream(w.t.Context(), bus.StreamEvents)
	if err != nil {
		w.t.Fatal(err)
	}
	last := s.CachedInfo().State.LastSeq
	if last == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	var all []op.Event
	for m, err := range w.bus.Events(ctx, bus.EventQuery{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		var e op.Event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, e)
		if m.Seq >= last {
			break
		}
	}
	return all
}

// heard waits for the first event of a name about an operation.
func (w *world) heard(name op.EventName, opID string) op.Event {
	w.t.Helper()
	var found op.Event
	w.eventually(string(name)+" of "+opID, func() bool {
		for _, e := range w.told() {
			if e.Name == name && e.OpID == opID {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// names lists the events about an operation in order.
func (w *world) names(opID string) []op.EventName {
	w.t.Helper()
	var names []op.EventName
	for _, e := range w.told() {
		if e.OpID == opID {
			names = append(names, e.Name)
		}
	}
	return names
}

// effects returns what the journal holds, checked by another machine.
func (w *world) effects() []arbiter.Effect {
	w.t.Helper()
	var all []arbiter.Effect
	for _, s := range w.journal() {
		all = append(all, s.Out...)
	}
	return all
}

// is waits for a status.
func (w *world) is(id string, s op.Status) op.Record {
	w.t.Helper()
	return w.until(id, func(r op.Record) bool { return r.Status == s })
}

// elsewhere returns a target of another partition for each of n names.
func (w *world) elsewhere(partition, n int) []string {
	var targets []string
	for i := 0; len(targets) < n; i++ {
		if t := "t-" + string(rune('a'+i%26)) + string(rune('a'+i/26)); bus.PartitionOf(t, w.bus.Layout().Partitions) != partition {
			targets = append(targets, t)
		}
	}
	return targets
}
