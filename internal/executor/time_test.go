package executor

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// The report of an attempt that nobody answers is given up half a minute after
// its lease, and its work is not left in the queue: a new grant brings new work.
func TestDeadOwner(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		r := start(t, Config{Bus: b})
		w := work("a")
		w.Lease = 10 * time.Second
		offer(t, b, w)
		began := time.Now()
		time.Sleep(39 * time.Second)
		if r.stats.Unanswered.Load() != 0 || left(t, b) != 1 {
			t.Errorf("given up too early: %+v", r.stats.Read())
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if r.stats.Unanswered.Load() != 1 || left(t, b) != 0 {
			t.Errorf("after %s: %+v, %d left", time.Since(began), r.stats.Read(), left(t, b))
		}
		if n := r.stats.Repeats.Load(); n < 20 || n > 120 {
			t.Errorf("%d repeats: the pause neither grows nor stays bounded", n)
		}
		r.end()
	})
}

// An owner that dies between hearing a report and answering it has the report
// repeated to whoever comes next.
func TestRepeatsWhatWasHeardButNotAnswered(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		heard := 0
		got := owner(t, b, 1, func(op.Result) *op.ResultAck {
			if heard++; heard == 1 {
				return nil
			}
			return &op.ResultAck{Accepted: true}
		})
		start(t, Config{Bus: b})
		offer(t, b, work("a"))
		first, second := take(t, got), take(t, got)
		if first.OpID != second.OpID || string(first.Change) != string(second.Change) || first.Duration != second.Duration {
			t.Errorf("the repeat differs: %+v, %+v", first, second)
		}
		empty(t, b)
	})
}

// A report to an owner that died is repeated when somebody takes over, and not
// only when the patience with the dead is over.
func TestTakeover(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		answers := false
		got := owner(t, b, 1, func(op.Result) *op.ResultAck {
			if !answers {
				return nil
			}
			return &op.ResultAck{Accepted: true}
		})
		start(t, Config{Bus: b})
		offer(t, b, work("a"))
		take(t, got)
		synctest.Wait()
		answers = true
		began := time.Now()
		offerRaw(t, b, bus.EventSubject(op.EventTakeover, "2"), nil) // another partition
		time.Sleep(time.Second)
		synctest.Wait()
		if len(got) > 0 {
			t.Error("repeated for the take-over of another partition")
		}
		offerRaw(t, b, bus.EventSubject(op.EventTakeover, "1"), nil)
		take(t, got)
		if took := time.Since(began); took > 1100*time.Millisecond {
			t.Errorf("repeated after %s", took)
		}
	})
}

// The lease ends the attempt, whether or not the handler minds its context, and
// early enough for the owner to hear of it. A handler that does not mind keeps its
// slot for a moment more.
func TestLease(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		got := owner(t, b, 1, accept)
		release := make(chan struct{})
		r := start(t, Config{Bus: b, Handlers: handlers(func(ctx context.Context, k *Task) (*entity.Change, error) {
			if k.Operation.ID == "stubborn" {
				<-release
				return nil, nil
			}
			<-ctx.Done()
			if why := context.Cause(ctx); !errors.Is(why, ErrLeaseOver) || !errors.Is(why, context.DeadlineExceeded) {
				t.Errorf("the context ended because %v", why)
			}
			return nil, ctx.Err()
		})})
		began := time.Now()
		for _, id := range []string{"polite", "stubborn"} {
			w := custom(id)
			w.Lease = 7 * time.Second
			offer(t, b, w)
		}
		for range 2 {
			f := take(t, got).Failure
			if f == nil || f.Terminal || f.Code != CodeTimeout {
				t.Errorf("%+v", f)
			}
			if took := time.Since(began); took != 6750*time.Millisecond {
				t.Errorf("reported after %s", took)
			}
		}
		synctest.Wait()
		if c := r.stats.Read(); c.Running != 1 || c.Abandoned != 0 {
			t.Errorf("at once %d running, %d abandoned", c.Running, c.Abandoned)
		}
		time.Sleep(patienceWithHandlers)
		synctest.Wait()
		if c := r.stats.Read(); c.Running != 0 || c.Abandoned != 1 {
			t.Errorf("later %d running, %d abandoned", c.Running, c.Abandoned)
		}
		close(release)
		synctest.Wait()
		if c := r.stats.Read(); c.Running != 0 || c.Abandoned != 0 {
			t.Errorf("in the end %d running, %d abandoned", c.Running, c.Abandoned)
		}
		r.end()
	})
}

// A lease longer than the queue's patience does not bring the work to somebody
// else while its handler runs.
func TestLongHandlerKeepsItsWork(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		got := owner(t, b, 1, accept)
		r := start(t, Config{Bus: b, Handlers: map[string]Handler{
			"greet": func(context.Context, *Task) (*entity.Change, error) {
				time.Sleep(3 * time.Minute)
				return nil, nil
			},
		}})
		w := custom("a")
		w.Lease = 5 * time.Minute
		offer(t, b, w)
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		if len(got) != 1 || r.stats.Received.Load() != 1 {
			t.Errorf("%d reports, received %d times", len(got), r.stats.Received.Load())
		}
		r.end()
	})
}

// At the end of its context an executor takes nothing more, finishes what runs
// and reports it.
func TestDrain(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		got := owner(t, b, 1, accept)
		began, release := make(chan struct{}, 9), make(chan struct{})
		handlers := map[string]Handler{"greet": func(ctx context.Context, _ *Task) (*entity.Change, error) {
			began <- struct{}{}
			<-release
			return nil, ctx.Err()
		}}
		r := start(t, Config{Bus: b, Handlers: handlers, DrainTimeout: time.Minute})
		offer(t, b, custom("running"))
		take(t, began)
		r.stop()
		synctest.Wait()
		if on := take(t, r.ready); on {
			t.Error("still ready")
		}
		offer(t, b, custom("late"))
		time.Sleep(time.Second)
		synctest.Wait()
		if len(began) > 0 || len(r.done) > 0 {
			t.Error("took work while draining, or did not wait")
		}
		close(release)
		r.end()
		if res := take(t, got); res.OpID != "running" || res.Failure != nil {
			t.Errorf("%+v", res)
		}
		next := start(t, Config{Bus: b, Handlers: handlers})
		if res := take(t, got); res.OpID != "late" {
			t.Errorf("%+v", res)
		}
		next.end()
	})
}

// What is not done when the drain's time is over is left to another executor,
// which does not have to wait for the queue's patience or the lease.
func TestDrainTimeout(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		got := owner(t, b, 1, accept)
		release := make(chan struct{})
		began := make(chan struct{})
		r := start(t, Config{Bus: b, DrainTimeout: 5 * time.Second, Handlers: handlers(func(ctx context.Context, _ *Task) (*entity.Change, error) {
			close(began)
			<-release
			if !errors.Is(context.Cause(ctx), ErrDrained) {
				t.Errorf("the context ended because %v", context.Cause(ctx))
			}
			return nil, nil
		})})
		offer(t, b, custom("a"))
		take(t, began)
		at := time.Now()
		r.end()
		if took := time.Since(at); took != 5*time.Second {
			t.Errorf("drained for %s", took)
		}
		start(t, Config{Bus: b, Handlers: map[string]Handler{
			"greet": func(context.Context, *Task) (*entity.Change, error) { return nil, nil },
		}})
		if res := take(t, got); res.Failure != nil || time.Since(at) > 6*time.Second {
			t.Errorf("%+v after %s", res, time.Since(at))
		}
		close(release)
		synctest.Wait()
	})
}

// A wrong clock costs a look at the record and changes nothing: the lease counts
// from the receipt.
func TestLeaseLongPast(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		got := owner(t, b, 1, accept)
		r := start(t, Config{Bus: b, Handlers: map[string]Handler{
			"greet": func(ctx context.Context, _ *Task) (*entity.Change, error) { return nil, ctx.Err() },
		}})
		w := custom("a")
		w.LeaseEnds = time.Now().Add(-time.Hour)
		offer(t, b, w)
		if res := take(t, got); res.Failure != nil {
			t.Errorf("%+v", res.Failure)
		}
		r.end()
	})
}
