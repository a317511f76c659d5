package bus_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/failpoint"
)

// arm switches failpoints on for one test.
func arm(t *testing.T, terms string) {
	t.Helper()
	t.Setenv(failpoint.Env, terms)
	if err := failpoint.Enable(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		t.Setenv(failpoint.Env, "")
		if err := failpoint.Enable(); err != nil {
			t.Error(err)
		}
	})
}

// A request that was never sent, and an answer that got lost, are met by sending
// again, and the step is in the journal once.
func TestAnAppendThatFailsIsRepeated(t *testing.T) {
	_, b := single(t, small())
	arm(t, "bus.journal.append.before=error@1,bus.journal.append.after=error@1")
	seq, out, err := b.JournalAppend(within(t, 10*time.Second), 1, "step-1", []byte("{}"), 0)
	if out != bus.Committed || err != nil {
		t.Fatalf("%v, %v", out, err)
	}
	n := 0
	for e, err := range b.JournalRead(t.Context(), 1, 0) {
		if err != nil || e.Seq != seq || e.ID != "step-1" {
			t.Errorf("%+v, %v", e, err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("the step is there %d times", n)
	}
}

// A submission whose answer got lost may be stored: the caller is told that nobody
// knows, and a repeat under the same message id is the same message.
func TestALostAnswerIsUnknown(t *testing.T) {
	_, b := single(t, small())
	arm(t, "bus.submit.publish.after=error@1")
	_, err := b.Publish(t.Context(), bus.SubmitSubject("a"), []byte("{}"), "m", nil)
	if !errors.Is(err, bus.ErrUnknownOutcome) || !errors.Is(err, failpoint.ErrInjected) {
		t.Fatal(err)
	}
	ack, err := b.Publish(t.Context(), bus.SubmitSubject("a"), []byte("{}"), "m", nil)
	if err != nil || !ack.Duplicate {
		t.Errorf("%+v, %v", ack, err)
	}
}

// Outputs that were lost on the way, or whose acknowledgement was, are sent again.
func TestTheEmitterSendsAgainWhatWasLost(t *testing.T) {
	_, b := single(t, small())
	arm(t, "bus.emit.record.before=error@1,bus.emit.head.after=error@1,bus.emit.mark.before=error@1")
	e := b.NewEmitter()
	defer e.Close()
	e.At(7)
	e.Add(bus.RecordMsg("o", []byte(`"r"`)))
	e.Add(bus.EntityMsg("x", []byte(`"h"`)))
	e.Add(bus.MarkMsg(2, 9))
	ctx := within(t, 20*time.Second)
	if err := e.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	r, found, err := b.Record(ctx, "o")
	if err != nil || !found || string(r) != `"r"` {
		t.Errorf("record %q, %v, %v", r, found, err)
	}
	h, found, err := b.Entity(ctx, "x")
	if err != nil || !found || string(h) != `"h"` {
		t.Errorf("head %q, %v, %v", h, found, err)
	}
	if mark, err := b.Mark(ctx, 2); err != nil || mark != 9 {
		t.Errorf("mark %d, %v", mark, err)
	}
}

// A snapshot that was stored and did not come to count is none: the one before
// stays.
func TestASnapshotCountsWithItsPointer(t *testing.T) {
	_, b := single(t, small())
	ctx := within(t, 20*time.Second)
	if err := b.SaveSnapshot(ctx, 0, 1, 10, []byte("one")); err != nil {
		t.Fatal(err)
	}
	arm(t, "bus.snapshot.point.before=error@1")
	if err := b.SaveSnapshot(ctx, 0, 2, 20, []byte("two")); !errors.Is(err, failpoint.ErrInjected) {
		t.Fatal(err)
	}
	step, seq, data, ok, err := b.LoadSnapshot(ctx, 0)
	if err != nil || !ok || step != 1 || seq != 10 || string(data) != "one" {
		t.Errorf("step %d at %d: %q, %v, %v", step, seq, data, ok, err)
	}
	if err := b.SaveSnapshot(ctx, 0, 2, 20, []byte("two")); err != nil {
		t.Fatal(err)
	}
	if step, _, data, _, err = b.LoadSnapshot(ctx, 0); step != 2 || string(data) != "two" {
		t.Errorf("step %d: %q, %v", step, data, err)
	}
}

// A beat that is lost costs nothing: the lease outlives it.
func TestALostBeatIsNotTheEnd(t *testing.T) {
	_, b := single(t, small())
	arm(t, "bus.member.join.after=error@1,bus.member.beat.before=error@1,bus.member.beat.after=error@2")
	m, err := b.Join(within(t, 20*time.Second), "r", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-m.Lost():
		t.Error("the lease was lost")
	case <-time.After(3 * time.Second): // nine beats
	}
	if got := m.Members(); !slices.Equal(got, []string{"r"}) {
		t.Errorf("members %v", got)
	}
	if err := m.Leave(t.Context()); err != nil {
		t.Error(err)
	}
}

// Every point belongs to a role that the torture can start.
func TestEveryPointHasARole(t *testing.T) {
	roles := []string{"resolver", "executor", "submitter", "operator", "setup"}
	n := 0
	for _, i := range failpoint.All() {
		if !slices.Contains(roles, i.Role) || i.When == "" {
			t.Errorf("%+v", i)
		}
		n++
	}
	if n < 50 {
		t.Errorf("only %d points", n)
	}
}
