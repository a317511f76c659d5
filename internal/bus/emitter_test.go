package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func emitter(t testing.TB, b *bus.Bus) *bus.Emitter {
	e := b.NewEmitter()
	t.Cleanup(e.Close)
	return e
}

func entity(t *testing.T, b *bus.Bus, id string) string {
	t.Helper()
	v, found, err := b.Entity(within(t, 10*time.Second), id)
	must(t, err)
	if !found {
		return "none"
	}
	return string(v)
}

func TestEmitterPublishesEverything(t *testing.T) {
	_, b := single(t, small())
	e := emitter(t, b)
	must(t, e.Flush(t.Context())) // nothing added
	for round := range 3 {
		e.At(uint64(round + 1))
		for i := range 3000 { // more than the window, in all kinds
			id := fmt.Sprint(i)
			e.Add(bus.EntityMsg(id, fmt.Appendf(nil, "%d.%d", round, i)))
			e.Add(bus.EventMsg(bus.EventSubject(op.EventEntityModified, id), fmt.Sprintf("%d.%d", round, i), nil))
		}
		e.Add(bus.RecordMsg("o1", fmt.Append(nil, round)))
		e.Add(bus.WorkMsg(op.DefaultPool, "t", 1, "a", nil))
		e.Add(bus.MarkMsg(1, uint64(round)))
		must(t, e.Flush(within(t, 20*time.Second)))
		for _, i := range []int{0, 1500, 2999} {
			if got := entity(t, b, fmt.Sprint(i)); got != fmt.Sprintf("%d.%d", round, i) {
				t.Errorf("entity %d after round %d: %s", i, round, got)
			}
		}
		if v, _, err := b.Record(t.Context(), "o1"); err != nil || string(v) != fmt.Sprint(round) {
			t.Errorf("record after round %d: %s, %v", round, v, err)
		}
		if n, err := b.Mark(t.Context(), 1); err != nil || n != uint64(round) {
			t.Errorf("mark after round %d: %d, %v", round, n, err)
		}
	}
	for stream, want := range map[string]uint64{bus.StreamEvents: 9000, bus.StreamWork: 3, "KV_OPS_ENTITIES": 3000} {
		s, err := b.JetStream().Stream(t.Context(), stream)
		must(t, err)
		if got := s.CachedInfo().State.Msgs; got != want {
			t.Errorf("%s holds %d messages, want %d", stream, got, want)
		}
	}
}

// TestEmitterKeepsTheNewest has values for one key queue up behind each other.
func TestEmitterKeepsTheNewest(t *testing.T) {
	_, b := single(t, small())
	e := emitter(t, b)
	for i := 1; i <= 1000; i++ {
		e.At(uint64(i))
		e.Add(bus.EntityMsg("a", fmt.Append(nil, i)))
	}
	must(t, e.Flush(within(t, 10*time.Second)))
	if got := entity(t, b, "a"); got != "1000" {
		t.Errorf("after 1000 values: %s", got)
	}
}

// TestViewsNeverGoBack is the deposed owner that wakes up: its outputs are
// older than what its successor has published.
func TestViewsNeverGoBack(t *testing.T) {
	_, b := single(t, small())
	old, next := emitter(t, b), emitter(t, b)
	old.At(5)
	old.Add(bus.EntityMsg("a", []byte("5")))
	must(t, old.Flush(t.Context()))

	next.At(5) // the take-over publishes it again
	next.Add(bus.EntityMsg("a", []byte("5, again")))
	next.At(9)
	next.Add(bus.EntityMsg("a", []byte("9")))
	next.Add(bus.EntityMsg("b", []byte("9")))
	must(t, next.Flush(t.Context()))

	old.At(7)
	old.Add(bus.EntityMsg("a", []byte("7")))
	old.Add(bus.EntityMsg("b", []byte("7")))
	old.Add(bus.EntityMsg("c", []byte("7")))
	must(t, old.Flush(t.Context()))
	for id, want := range map[string]string{"a": "9", "b": "9", "c": "7"} {
		if got := entity(t, b, id); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	old.At(10) // both may go on
	old.Add(bus.EntityMsg("a", []byte("10")))
	must(t, old.Flush(t.Context()))
	if got := entity(t, b, "a"); got != "10" {
		t.Errorf("a newer value after all: %s", got)
	}
}

// What is used stays known, among thousands that are written once. What is not used
// costs a read, and is replaced all the same.
func TestEmitterForgetsWhatIsNotUsed(t *testing.T) {
	s, b := single(t, small())
	nc, err := s.Connect()
	must(t, err)
	t.Cleanup(nc.Close)
	reads, err := nc.SubscribeSync("$JS.API.STREAM.MSG.GET.KV_OPS_ENTITIES")
	must(t, err)
	must(t, nc.Flush())
	e := emitter(t, b)
	tell := func(step int, ids ...string) {
		t.Helper()
		e.At(uint64(step)) //nolint:gosec // not negative
		for _, id := range ids {
			e.Add(bus.EntityMsg(id, fmt.Append(nil, step)))
		}
		must(t, e.Flush(t.Context()))
	}
	wantReads := func(n int) {
		t.Helper()
		must(t, nc.Flush())
		if got, _, err := reads.Pending(); got != n || err != nil {
			t.Errorf("%d reads, want %d: %v", got, n, err)
		}
	}
	tell(1, "used", "unused")
	for step := 2; step <= 5; step++ {
		ids := []string{"used"}
		for i := range 3000 {
			ids = append(ids, fmt.Sprintf("once-%d-%d", step, i))
		}
		tell(step, ids...)
	}
	wantReads(0)
	tell(6, "used", "unused")
	wantReads(1)
	for _, id := range []string{"used", "unused"} {
		if got := entity(t, b, id); got != "6" {
			t.Errorf("%s: %s", id, got)
		}
	}
}

func TestEmitterFlushEndsWithContext(t *testing.T) {
	s, b := single(t, small())
	e := emitter(t, b)
	e.Add(bus.EntityMsg("a", nil))
	must(t, e.Flush(t.Context()))
	s.Stop()
	e.Add(bus.EntityMsg("a", []byte("x")))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := e.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrConnectionClosed) {
		t.Fatalf("flush to nobody: %v", err)
	}
}

func TestEmitterReportsWhatIsRefused(t *testing.T) {
	_, b := single(t, small())
	e := emitter(t, b)
	e.Add(bus.EntityMsg("a", make([]byte, 2<<20)))
	e.Add(bus.EntityMsg("b", []byte("fine")))
	if err := e.Flush(within(t, 10*time.Second)); !errors.Is(err, nats.ErrMaxPayload) {
		t.Fatalf("2 MiB: %v", err)
	}
	if got := entity(t, b, "b"); got != "fine" {
		t.Errorf("its neighbour: %s", got)
	}
	must(t, e.Flush(t.Context()))
}

// TestEmitterAcrossStepDowns loses answers, and must lose nothing else.
func TestEmitterAcrossStepDowns(t *testing.T) {
	if testing.Short() {
		t.Skip("elections")
	}
	c := cluster(t, small())
	b := open(t, join(t, c))
	e := emitter(t, b)
	chaos := join(t, c)
	for round := 1; round <= 6; round++ {
		e.At(uint64(round))
		for i := range 2000 {
			e.Add(bus.EntityMsg(fmt.Sprint(i%500), fmt.Append(nil, round)))
			e.Add(bus.EventMsg(bus.EventSubject(op.EventEntityModified, "a"), fmt.Sprintf("%d.%d", round, i), nil))
			if i == 1000 {
				must(t, c.StepDown(within(t, 5*time.Second), chaos, "KV_OPS_ENTITIES"))
				must(t, c.StepDown(within(t, 5*time.Second), chaos, bus.StreamEvents))
			}
		}
		must(t, e.Flush(within(t, 30*time.Second)))
		for i := range 500 {
			if got := entity(t, b, fmt.Sprint(i)); got != fmt.Sprint(round) {
				t.Fatalf("entity %d after round %d: %s", i, round, got)
			}
		}
	}
	s, err := b.JetStream().Stream(t.Context(), bus.StreamEvents)
	must(t, err)
	if got := s.CachedInfo().State.Msgs; got != 12000 {
		t.Errorf("%d events, want each of 12000 once", got)
	}
}

// TestLateViewsStayLate: what a deposed owner has queued for one key, more than
// one value of it, does not bring back any of them.
func TestLateViewsStayLate(t *testing.T) {
	_, b := single(t, small())
	old, current := b.NewEmitter(), b.NewEmitter()
	defer old.Close()
	defer current.Close()
	tell := func(e *bus.Emitter, orders ...uint64) {
		t.Helper()
		for _, order := range orders {
			e.At(order)
			e.Add(bus.RecordMsg("a", fmt.Append(nil, order)))
		}
		must(t, e.Flush(within(t, 5*time.Second)))
	}
	tell(old, 1)
	tell(current, 10)
	tell(old, 5, 6, 7)
	tell(old, 8)
	v, found, err := b.Record(t.Context(), "a")
	must(t, err)
	if !found || string(v) != "10" {
		t.Errorf("the view shows %q, want the value of step 10", v)
	}
	tell(old, 11)
	if v, _, _ := b.Record(t.Context(), "a"); string(v) != "11" {
		t.Errorf("the view shows %q, want the value of step 11", v)
	}
}
