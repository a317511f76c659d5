package bus_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func offer(t *testing.T, b *bus.Bus, n int) {
	t.Helper()
	e := b.NewEmitter()
	defer e.Close()
	for i := range n {
		e.Add(bus.WorkMsg(op.DefaultPool, "t", i%4, fmt.Sprint("a", i), fmt.Append(nil, i)))
	}
	must(t, e.Flush(within(t, 10*time.Second)))
}

func workLeft(t *testing.T, b *bus.Bus) uint64 {
	t.Helper()
	s, err := b.JetStream().Stream(t.Context(), bus.StreamWork)
	must(t, err)
	return s.CachedInfo().State.Msgs
}

func TestWorkIsSharedAndBounded(t *testing.T) {
	s, b := single(t, small())
	offer(t, b, 400)
	nc, err := s.Connect()
	must(t, err)
	t.Cleanup(nc.Close)
	ctx, cancel := context.WithCancel(t.Context())
	one, err := b.Work(ctx, op.DefaultPool, 8)
	must(t, err)
	two, err := open(t, nc).Work(t.Context(), op.DefaultPool, 8)
	must(t, err)
	seen := map[string]bool{}
	var held []bus.WorkItem
	for range 8 {
		held = append(held, <-one.C())
	}
	select {
	case w := <-one.C():
		t.Fatalf("item %s beyond the eight in flight", w.Subject)
	case <-time.After(50 * time.Millisecond):
	}
	for _, w := range held {
		seen[w.Subject] = true
		if w.Delivered != 1 {
			t.Errorf("%s delivered %d times", w.Subject, w.Delivered)
		}
		w.Ack()
	}
	fromOne := 0
	for len(seen) < 400 {
		var w bus.WorkItem
		select {
		case w = <-one.C():
			fromOne++
		case w = <-two.C():
		case <-time.After(10 * time.Second):
			t.Fatalf("stuck at %d of 400", len(seen))
		}
		if seen[w.Subject] {
			t.Errorf("%s delivered twice", w.Subject)
		}
		seen[w.Subject] = true
		w.Ack()
	}
	if fromOne < 20 || fromOne > 380 {
		t.Errorf("one of two executors got %d of 392", fromOne)
	}
	eventually(t, 5*time.Second, "an empty queue", func() bool { return workLeft(t, b) == 0 })
	cancel()
	for range one.C() {
	}
	if one.Err() != nil {
		t.Errorf("after the end of the context: %v", one.Err())
	}
	if _, err := b.Work(t.Context(), op.DefaultPool, 0); err == nil {
		t.Error("work of nothing accepted")
	}
}

// TestWorkComesBack covers what a dead, a hesitant and a patient executor do to
// an item.
func TestWorkComesBack(t *testing.T) {
	bubble(t, func(t *testing.T, s *natstest.Server, b *bus.Bus) {
		offer(t, b, 1)
		f, err := b.Work(t.Context(), op.DefaultPool, 4)
		must(t, err)
		w := <-f.C()
		begin := time.Now()
		w.Nak(7 * time.Second)
		w = <-f.C()
		if d := time.Since(begin); d < 7*time.Second || d > 8*time.Second || w.Delivered != 2 {
			t.Errorf("given back for 7s: delivered for the %d. time after %s", w.Delivered, d)
		}
		for range 5 { // kept alive
			time.Sleep(40 * time.Second)
			w.Touch()
		}
		begin = time.Now()
		w = <-f.C() // nobody touches it any more
		if d := time.Since(begin); d < 59*time.Second || d > 62*time.Second || w.Delivered != 3 {
			t.Errorf("dropped: delivered for the %d. time after %s", w.Delivered, d)
		}
		w.Nak(0)
		w = <-f.C()
		w.Ack()
		w.Ack()
		eventually(t, 5*time.Second, "an empty queue", func() bool { return workLeft(t, b) == 0 })
	})
}

// TestTheNewestAcknowledgementWaits: for a queue that runs empty between two
// executions the server makes a file each time.
func TestTheNewestAcknowledgementWaits(t *testing.T) {
	bubble(t, func(t *testing.T, _ *natstest.Server, b *bus.Bus) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f, err := b.Work(ctx, op.DefaultPool, 8)
		must(t, err)
		holds := func(n uint64) {
			t.Helper()
			synctest.Wait()
			if left := workLeft(t, b); left != n {
				t.Fatalf("%d items left, want %d", left, n)
			}
		}
		began := time.Now()
		offer(t, b, 3)
		for _, left := range []uint64{3, 2, 1} {
			w := <-f.C()
			w.Ack()
			holds(left)
		}
		time.Sleep(time.Second - time.Since(began) - time.Millisecond)
		holds(1)
		time.Sleep(2 * time.Millisecond)
		holds(0)

		began = time.Now()
		offer(t, b, 2)
		one, two := <-f.C(), <-f.C()
		one.Ack()
		holds(2)
		cancel()
		holds(1)
		two.Ack()
		holds(0)
		if d := time.Since(began); d >= time.Second {
			t.Errorf("a feed that has ended holds acknowledgements back for %s", d)
		}
	})
}

// TestWorkFetchedAheadIsGivenBack: an executor that ends hands over at once what
// it has fetched and not begun.
func TestWorkFetchedAheadIsGivenBack(t *testing.T) {
	s, b := single(t, small())
	offer(t, b, 300)
	ctx, cancel := context.WithCancel(t.Context())
	one, err := b.Work(ctx, op.DefaultPool, 200) // fetches 50 ahead
	must(t, err)
	first := <-one.C()
	first.Ack()
	cancel()
	for w := range one.C() {
		w.Nak(0)
	}
	nc, err := s.Connect()
	must(t, err)
	t.Cleanup(nc.Close)
	two, err := open(t, nc).Work(t.Context(), op.DefaultPool, 200)
	must(t, err)
	seen := map[string]bool{}
	patience := time.After(20 * time.Second) // AckWait is a minute
	for len(seen) < 299 {
		select {
		case w := <-two.C():
			seen[w.Subject] = true
			w.Ack()
		case <-patience:
			t.Fatalf("%d of 299 items came back in time", len(seen))
		}
	}
}

// TestWorkOfAPool: what is granted to a pool waits for its executors, also before
// the first of them has ever been there, and for nobody else.
func TestWorkOfAPool(t *testing.T) {
	_, b := single(t, small())
	e := b.NewEmitter()
	defer e.Close()
	for i, pool := range []string{"gpu", op.DefaultPool, "gpu"} {
		e.Add(bus.WorkMsg(pool, "t", i, fmt.Sprint("a", i), nil))
	}
	must(t, e.Flush(within(t, 10*time.Second)))
	rest, err := b.Work(t.Context(), op.DefaultPool, 8)
	must(t, err)
	one, err := b.Work(t.Context(), "gpu", 1)
	must(t, err)
	two, err := b.Work(t.Context(), "gpu", 1) // the consumer is there by now
	must(t, err)
	seen := map[string]bool{}
	for range 2 {
		var w bus.WorkItem
		select {
		case w = <-one.C():
		case w = <-two.C():
		case <-time.After(10 * time.Second):
			t.Fatal("the pool's work does not come")
		}
		seen[w.Subject] = true
		w.Ack()
	}
	if !seen["ops.work.gpu.t.0.a0"] || !seen["ops.work.gpu.t.2.a2"] {
		t.Errorf("the pool got %v", seen)
	}
	w := <-rest.C()
	if w.Subject != "ops.work.default.t.1.a1" {
		t.Errorf("the default pool got %s", w.Subject)
	}
	w.Ack()
	eventually(t, 5*time.Second, "an empty queue", func() bool { return workLeft(t, b) == 0 })
	for _, pool := range []string{"", "a.b", "*"} {
		if _, err := b.Work(t.Context(), pool, 1); err == nil {
			t.Errorf("pool %q accepted", pool)
		}
	}
}
