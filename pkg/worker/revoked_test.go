package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/pkg/optest"
	"github.com/hierarchy-bus/hierarchy/pkg/worker"
)

// stop is how an attempt was stopped, and when.
type stop struct {
	attempt int
	why     error
	at      time.Time
}

// patient runs for ten seconds unless it is stopped, and says how it ended. It
// never says that it is alive, so it does not learn of its end from heartbeats.
func patient(stops chan<- stop) worker.HandlerFunc[Paint] {
	return func(ctx context.Context, job *worker.Job[Paint]) (worker.Effect, error) {
		t := time.NewTimer(10 * time.Second)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			stops <- stop{job.Attempt, context.Cause(ctx), time.Now()}
		}
		// Even an attempt that was taken away says that it has succeeded.
		return worker.Set("by", job.Operation.ID+" "+string(rune('0'+job.Attempt))), nil
	}
}

// A handler whose operation is preempted is stopped at once. The operation loses
// no retry and runs again.
func TestPreempted(t *testing.T) {
	var stops chan stop
	optest.Bubble(t, func(t *testing.T, s *optest.System) {
		stops = make(chan stop, 8)
		s.Do(op.Operation{Type: op.TypeCreate, Target: "wall"})
		none := 0
		low := s.MustSubmit(op.Operation{ID: "low", Type: "paint", Target: "wall", Priority: op.Low, Preemptible: true, MaxRetries: &none})
		s.WaitFor(low, op.Executing)
		<-time.After(3 * time.Second) // in the bubble
		began := time.Now()
		s.Do(op.Operation{
			ID: "high", Type: op.TypeModifyField, Target: "wall", Priority: op.High,
			Params: json.RawMessage(`{"field_name":"by","new_value":"high"}`),
		})
		if got := <-stops; !errors.Is(got.why, worker.ErrRevoked) || got.attempt != 1 || got.at.Sub(began) > 100*time.Millisecond {
			t.Errorf("attempt %d was stopped after %s: %v", got.attempt, got.at.Sub(began), got.why)
		}
		r := s.Await(low)
		if r.Status != op.Succeeded || r.Attempt != 2 || r.Preemptions != 1 || r.RetryCount != 0 {
			t.Errorf("%+v", r)
		}
		if by := s.Entity("@wall.by"); by != `"low 2"` {
			t.Errorf("the last effect is that of %s", by)
		}
	}, optest.WithPreemption(), optest.WithType("", func(ctx context.Context, job *worker.Job[Paint]) (worker.Effect, error) {
		return patient(stops)(ctx, job)
	}))
}

// So is one whose operation is cancelled.
func TestCancelled(t *testing.T) {
	var stops chan stop
	optest.Bubble(t, func(t *testing.T, s *optest.System) {
		stops = make(chan stop, 8)
		s.Do(op.Operation{Type: op.TypeCreate, Target: "wall"})
		id := s.MustSubmit(op.Operation{ID: "long", Type: "paint", Target: "wall"})
		s.WaitFor(id, op.Executing)
		<-time.After(3 * time.Second) // in the bubble
		began := time.Now()
		if err := s.Client().Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if r := s.Await(id); r.Status != op.Cancelled {
			t.Errorf("%+v", r)
		}
		if got := <-stops; !errors.Is(got.why, worker.ErrRevoked) || got.at.Sub(began) > 100*time.Millisecond {
			t.Errorf("stopped after %s: %v", got.at.Sub(began), got.why)
		}
		s.Quiesce()
		if _, err := s.Client().Get(t.Context(), "@wall.by"); !errors.Is(err, client.ErrNotFound) {
			t.Errorf("an effect after the end: %v", err)
		}
	}, optest.WithType("", func(ctx context.Context, job *worker.Job[Paint]) (worker.Effect, error) {
		return patient(stops)(ctx, job)
	}))
}
