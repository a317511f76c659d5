package optest_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/pkg/optest"
	"github.com/hierarchy-bus/hierarchy/pkg/worker"
)

type greet struct {
	Name string `json:"name"`
}

func (greet) Kind() string { return "greet" }

const greetSchema = `{"type":"object","required":["name"],"properties":{"name":{"type":"string"}},"additionalProperties":false}`

func greeting(_ context.Context, job *worker.Job[greet]) (worker.Effect, error) {
	e := worker.Set("greeting", "Hello, "+job.Args.Name)
	if job.Entity == nil {
		e = e.Create()
	}
	return e, nil
}

func greetOp(name string) op.Operation {
	return op.Operation{Type: "greet", Target: "user-42", Params: client.Params(map[string]any{"name": name})}
}

// A type of a user's own: its schema is asked before, its handler afterwards.
func TestType(t *testing.T) {
	t.Parallel()
	s := optest.Start(t, optest.WithType(greetSchema, greeting))
	if r := s.Do(greetOp("Bob")); r.Status != op.Succeeded {
		t.Fatalf("%s %s %v", r.Status, r.Reason, r.Error)
	}
	if got := s.Entity("@user-42.greeting"); got != `"Hello, Bob"` {
		t.Errorf("greeting %s", got)
	}
	_, err := s.Submit(op.Operation{Type: "greet", Target: "user-42", Params: json.RawMessage(`{"name":7}`)})
	if !errors.Is(err, client.ErrInvalid) || !strings.Contains(err.Error(), "name") {
		t.Errorf("params that do not fit: %v", err)
	}
	must(t, s.ChangePolicy(t.Context(), `{"paused":{"types":["greet"]}}`))
	// The edge hears of it a moment after the partitions.
	if id, err := s.Submit(greetOp("Rob")); err == nil {
		if r := s.Await(id); r.Reason != op.Paused {
			t.Errorf("paused: %s %s", r.Status, r.Reason)
		}
	} else if !errors.Is(err, client.ErrPaused) {
		t.Errorf("paused: %v", err)
	}
	must(t, s.ChangePolicy(t.Context(), `{"paused":null}`))
	s.Within(20 * time.Second).Verify(t)
}

// Pools have workers of their own, and one that dies loses nothing.
func TestWorkerDies(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	running := make(chan struct{}, 10)
	hold := func(ctx context.Context, job *worker.Job[greet]) (worker.Effect, error) {
		running <- struct{}{}
		if tries.Add(1) == 1 {
			<-ctx.Done() // until it is cut off
			return worker.Effect{}, ctx.Err()
		}
		return greeting(ctx, job)
	}
	s := optest.Start(t, optest.WithType(greetSchema, hold, optest.InPool("mail")), optest.WithAttemptTimeout(300*time.Millisecond),
		optest.WithRetryDelay(time.Millisecond, time.Millisecond))
	id := s.MustSubmit(greetOp("Bob"))
	<-running
	must(t, s.Kill("worker-mail-1"))
	must(t, s.Restart(t.Context(), "worker-mail-1"))
	if r := s.Await(id); r.Status != op.Succeeded || r.Attempt < 2 {
		t.Errorf("%s %s after %d attempts", r.Status, r.Reason, r.Attempt)
	}
	s.Verify(t)
}

// A handler's backoff passes in no time in a bubble.
func TestTypeInBubble(t *testing.T) {
	tries := 0
	flaky := func(ctx context.Context, job *worker.Job[greet]) (worker.Effect, error) {
		if tries++; tries < 4 {
			return worker.Effect{}, errors.New("not yet")
		}
		return greeting(ctx, job)
	}
	optest.Bubble(t, func(t *testing.T, s *optest.System) {
		began := time.Now()
		r := s.Do(greetOp("Bob"))
		if r.Status != op.Succeeded || r.RetryCount != 3 {
			t.Errorf("%s %s after %d retries", r.Status, r.Reason, r.RetryCount)
		}
		if d := time.Since(began); d < 30*time.Second {
			t.Errorf("three retries took %s", d)
		}
		s.Verify(t)
	}, optest.WithType(greetSchema, flaky), optest.WithRetryDelay(20*time.Second, time.Minute))
}

// After grace, a stronger operation takes the place of a preemptible one, whose
// handler hears of it; afterwards that one runs again.
func TestPreemption(t *testing.T) {
	optest.Bubble(t, func(t *testing.T, s *optest.System) {
		began := time.Now()
		weak := greetOp("weak")
		weak.Priority, weak.Preemptible = op.Low, true
		first := s.MustSubmit(weak)
		s.WaitEvent(func(e op.Event) bool { return e.Name == op.EventStarted && e.OpID == first })
		strong := greetOp("strong")
		strong.Priority = op.High
		second := s.MustSubmit(strong)
		if r := s.Await(second); r.Status != op.Succeeded {
			t.Errorf("the stronger one is %s %s", r.Status, r.Reason)
		}
		if d := time.Since(began); d < 10*time.Minute || d > 20*time.Minute {
			t.Errorf("it won after %s, with a grace of ten minutes", d)
		}
		if r := s.Await(first); r.Status != op.Succeeded || r.Preemptions != 1 || r.RetryCount != 0 {
			t.Errorf("the weaker one is %s %s, preempted %d times, retried %d times", r.Status, r.Reason, r.Preemptions, r.RetryCount)
		}
		s.Verify(t)
	},
		optest.WithType(greetSchema, func(ctx context.Context, job *worker.Job[greet]) (worker.Effect, error) {
			if job.Attempt == 1 && job.Args.Name == "weak" {
				<-ctx.Done()
				return worker.Effect{}, context.Cause(ctx)
			}
			return greeting(ctx, job)
		}),
		optest.WithPreemption(), optest.WithGracePeriod(10*time.Minute), optest.WithAttemptTimeout(time.Hour))
}
