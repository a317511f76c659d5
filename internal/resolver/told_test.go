package resolver_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// depose takes the only partition away from its owner, as another resolver would,
// which tries again when the owner has committed something meanwhile.
func (w *world) depose(id string) {
	w.t.Helper()
	w.eventually("the partition to be taken over", func() bool {
		last, _, err := w.bus.JournalLast(w.t.Context(), 0)
		if err != nil {
			w.t.Fatal(err)
		}
		var s arbiter.Step
		if err := json.Unmarshal(last.Data, &s); err != nil {
			w.t.Fatal(err)
		}
		s.ID, s.Number, s.Epoch, s.Owner, s.Takeover, s.In, s.Out = id, s.Number+1, s.Epoch+1, "rival", true, nil, nil
		data, err := op.Marshal(&s)
		if err != nil {
			w.t.Fatal(err)
		}
		_, out, err := w.bus.JournalAppend(w.t.Context(), 0, id, data, last.Seq)
		if out != bus.Committed && out != bus.Deposed {
			w.t.Fatalf("%v, %v", out, err)
		}
		return out == bus.Committed
	})
}

// A step that the journal refuses has no consequence: nobody is told of it, and
// nobody is answered.
func TestWhatIsRefusedIsNotTold(t *testing.T) {
	w := newWorld(t, 1)
	w.policy(`{"staging_window":"0s"}`)
	w.resolver("r1")
	feed, err := w.bus.Work(t.Context(), op.DefaultPool, 8)
	if err != nil {
		t.Fatal(err)
	}
	w.submit("door", `{"op_id":"first","op_type":"create_entity"}`)
	k := w.take(feed)

	w.depose("rival-1")
	if accepted := w.reportOnce(k); accepted && !w.succeeded("first") {
		t.Fatal("a result was answered that is not in the journal")
	}
	w.eventually("the owner to be back", func() bool { return w.reportOnce(k) || w.succeeded("first") })

	w.depose("rival-2")
	w.submit("gate", `{"op_id":"second","op_type":"create_entity"}`)
	w.until("second", func(r op.Record) bool { return r.Status == op.Executing })
	w.eventsAreOfSteps()
}

// reportOnce reports a success and says whether it was accepted; false also when
// nobody answered.
func (w *world) reportOnce(k op.Work) bool {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
	defer cancel()
	ack, err := w.tryReport(ctx, "x1", k)
	if err != nil && !errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, context.DeadlineExceeded) {
		w.t.Fatal(err)
	}
	return ack.Accepted
}

// succeeded reports whether the journal says so.
func (w *world) succeeded(id string) bool {
	w.t.Helper()
	for _, s := range w.journal() {
		for _, e := range s.Out {
			if e.Succeeded != nil && e.Succeeded.OpID == id {
				return true
			}
		}
	}
	return false
}

// eventsAreOfSteps fails for every event that does not come from a step of the
// journal.
func (w *world) eventsAreOfSteps() {
	w.t.Helper()
	steps := map[uint64]arbiter.Step{}
	for e, err := range w.bus.JournalRead(w.t.Context(), -1, 0) {
		var s arbiter.Step
		if err = errors.Join(err, json.Unmarshal(e.Data, &s)); err != nil {
			w.t.Fatal(err)
		}
		steps[e.Seq] = s
	}
	told := 0
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	st, err := w.bus.JetStream().Stream(ctx, bus.StreamEvents)
	if err != nil {
		w.t.Fatal(err)
	}
	last := st.CachedInfo().State.LastSeq
	for stored, err := range w.bus.Events(ctx, bus.EventQuery{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		var e op.Event
		if err := json.Unmarshal(stored.Data, &e); err != nil {
			w.t.Fatal(err)
		}
		told++
		if s, ok := steps[e.Seq]; e.Name != op.EventStaleCommit && (!ok || s.Owner != e.Process || !s.At.Equal(e.At)) {
			w.t.Errorf("%s of %s was told of a step that is not in the journal: sequence %d, %s at %s", e.Name, e.OpID, e.Seq, e.Process, e.At)
		}
		if stored.Seq >= last {
			break
		}
	}
	if told < 8 {
		w.t.Errorf("only %d events are told", told)
	}
}

// Who is told that an operation is done can read what it did: its head and its
// record are stored before the event is sent.
func TestWhoWasToldCanRead(t *testing.T) {
	const many = 20
	w := newWorld(t, 1)
	w.policy(`{"staging_window":"0s"}`)
	nc, _ := w.conn()
	sent := make(chan *nats.Msg, 64*many) // one line, so in the order in which the server passes them on
	for _, subject := range []string{"ops.event.operation.completed.>", "$KV.OPS_ENTITIES.>", "$KV.OPS_OPERATIONS.>"} {
		if _, err := nc.ChanSubscribe(subject, sent); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	w.resolver("r1")
	w.executor("x1", nil)
	for range many {
		id := w.id("e")
		w.submit(id, `{"op_id":%q,"op_type":"create_entity"}`, id)
	}
	heads, records := map[string]bool{}, map[string]bool{}
	for completed := 0; completed < many; {
		var m *nats.Msg
		select {
		case m = <-sent:
		case <-time.After(20 * time.Second):
			t.Fatalf("%d are completed after 20 s", completed)
		}
		key := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
		switch {
		case strings.HasPrefix(m.Subject, "$KV.OPS_ENTITIES."):
			heads[key] = true
		case strings.HasPrefix(m.Subject, "$KV.OPS_OPERATIONS."):
			var r op.Record
			if err := json.Unmarshal(m.Data, &r); err != nil {
				t.Fatal(err)
			}
			records[key] = r.Status == op.Succeeded
		default:
			completed++
			if !heads[key] || !records[key] {
				t.Errorf("%s is told to be completed and cannot be read: head %v, record %v", key, heads[key], records[key])
			}
		}
	}
}

// What two owners write in turn is a history without a fault.
func TestTheJournalOfATakeOverIsClean(t *testing.T) {
	w := newWorld(t, 2)
	first := w.resolver("r1")
	w.executor("x1", nil)
	turn := func(n string) {
		for _, o := range []string{
			`{"op_id":"parent-%s","op_type":"create_entity","target_entity_id":"a%s"}`,
			`{"op_id":"child-%s","op_type":"create_entity","target_entity_id":"b%s","params":{"parent_id":"a` + n + `"}}`,
			`{"op_id":"note-%s","op_type":"version_entity","target_entity_id":"b%s"}`,
		} {
			body := strings.ReplaceAll(o, "%s", n)
			var head struct {
				ID     string `json:"op_id"`
				Target string `json:"target_entity_id"`
			}
			if err := json.Unmarshal([]byte(body), &head); err != nil {
				t.Fatal(err)
			}
			w.submit(head.Target, "%s", body)
			if r := w.end(head.ID); r.Status != op.Succeeded {
				t.Fatalf("%s: %+v", head.ID, r)
			}
		}
	}
	turn("1")
	first.stop()
	w.resolver("r2", func(c *resolver.Config) { c.SnapshotEvery = 5 })
	turn("2")
	r, err := verify.Run(t.Context(), w.bus, verify.Options{Quiescent: true, Patience: 8 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range r.Violations {
		t.Error(v)
	}
	if r.Succeeded != 8 { // a follow-up each turn
		t.Errorf("%d have succeeded: %+v", r.Succeeded, r.Report)
	}
}
