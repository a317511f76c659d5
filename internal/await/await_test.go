package await

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &Watch{
			done: make(chan struct{}), news: make(chan struct{}, 1),
			open: map[string]struct{}{}, ends: map[string]End{}, early: map[string]End{},
		}
		tell := func(name op.EventName, id string) {
			w.event([]byte(fmt.Sprintf(`{"event":%q,"op_id":%q,"reason":"lower_priority","winner":"x"}`, name, id)))
		}
		tell(op.EventCompleted, "early") // before anybody expects it
		tell(op.EventStarted, "a")       // no end
		w.Expect("early", "a", "b", "c", "a")
		tell(op.EventRejected, "a")
		tell(op.EventCompleted, "a") // the first end counts
		tell(op.EventCancelled, "b")
		w.event([]byte("nonsense"))
		if c := w.Counts(); c != (Counts{Expected: 4, Succeeded: 1, Rejected: 1, Cancelled: 1}) || c.Open() != 1 {
			t.Errorf("%+v", c)
		}
		if e, ok := w.End("a"); !ok || e.Status != op.Rejected || e.Winner != "x" {
			t.Errorf("a: %+v %v", e, ok)
		}
		if open := w.Open(); len(open) != 1 || open[0] != "c" {
			t.Errorf("open: %v", open)
		}
		waited := make(chan error)
		go func() { waited <- w.Wait(t.Context()) }()
		synctest.Wait()
		tell(op.EventCompleted, "c")
		if err := <-waited; err != nil {
			t.Error(err)
		}
		w.Expect("d")
		ctx, cancel := context.WithTimeout(t.Context(), lull/2)
		defer cancel()
		if err := w.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nothing came, and Wait said %v", err)
		}
	})
}

// TestRecords: without any event, the record tells the end.
func TestRecords(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, nc := natstest.One(t)
	if _, err := bus.Setup(ctx, nc, bus.DefaultLayout()); err != nil {
		t.Fatal(err)
	}
	b, err := bus.Open(ctx, nc)
	if err != nil {
		t.Fatal(err)
	}
	w := Start(ctx, b)
	defer w.Stop()
	w.Expect("a", "b")
	for id, status := range map[string]op.Status{"a": op.Succeeded, "b": op.Cancelled, "other": op.Rejected} {
		m := bus.RecordMsg(id, []byte(fmt.Sprintf(`{"type":"ops.v1.status","op_id":%q,"status":%q,"reason":"cancelled"}`, id, status)))
		if _, err := b.Publish(ctx, m.Subject, m.Data, "", nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if c := w.Counts(); c.Succeeded != 1 || c.Cancelled != 1 || c.Rejected != 0 {
		t.Errorf("%+v", c)
	}
}
