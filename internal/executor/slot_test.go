package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Handlers that never return do not keep others from running, up to a bound, and
// those above the bound get out of the way when others return.
func TestAbandoned(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		got := owner(t, b, 1, accept)
		release := make(chan struct{})
		r := start(t, Config{Bus: b, Concurrency: 2, MaxAbandoned: 3, Handlers: handlers(func(_ context.Context, k *Task) (*entity.Change, error) {
			if strings.HasPrefix(k.Operation.ID, "hung") {
				<-release
			}
			return nil, nil
		})})
		hang := func(id string) {
			t.Helper()
			offer(t, b, leased(id, time.Second))
			if res := take(t, got); res.OpID != id || res.Failure == nil || res.Failure.Code != CodeTimeout {
				t.Fatalf("%+v", res)
			}
			time.Sleep(patienceWithHandlers)
			synctest.Wait()
		}
		for i := range 3 {
			hang(fmt.Sprint("hung-", i))
			if c := r.stats.Read(); c.Abandoned != int64(i+1) || c.Running != 0 {
				t.Errorf("%d abandoned, %d running", c.Abandoned, c.Running)
			}
		}
		hang("hung-3") // the bound is reached
		if c := r.stats.Read(); c.Abandoned != 3 || c.Running != 1 {
			t.Errorf("%d abandoned, %d running", c.Abandoned, c.Running)
		}
		offer(t, b, custom("well"))
		if res := take(t, got); res.OpID != "well" || res.Failure != nil {
			t.Errorf("%+v", res)
		}
		release <- struct{}{}
		release <- struct{}{}
		time.Sleep(patienceWithHandlers)
		synctest.Wait()
		if c := r.stats.Read(); c.Running != 0 || c.Abandoned > 2 {
			t.Errorf("%d abandoned, %d running", c.Abandoned, c.Running)
		}
		close(release)
		synctest.Wait()
		if c := r.stats.Read(); c.Running != 0 || c.Abandoned != 0 {
			t.Errorf("%d abandoned, %d running", c.Abandoned, c.Running)
		}
		r.end()
	})
}

// When no slot is left an executor says so and ends, for a new process.
func TestStuck(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		got := owner(t, b, 1, accept)
		release := make(chan struct{})
		defer close(release)
		done := make(chan error, 1)
		go func() {
			done <- Run(context.Background(), Config{Bus: b, Name: "test", Concurrency: 2, MaxAbandoned: -1, Handlers: handlers(
				func(context.Context, *Task) (*entity.Change, error) { <-release; return nil, nil },
			)})
		}()
		for i := range 2 {
			if len(done) > 0 {
				t.Fatalf("ended with %d slots free", 2-i)
			}
			offer(t, b, leased(fmt.Sprint("hung-", i), time.Second))
			take(t, got)
			time.Sleep(patienceWithHandlers)
			synctest.Wait()
		}
		if err := take(t, done); !errors.Is(err, ErrStuck) {
			t.Errorf("%v", err)
		}
	})
}

// A slot that was stuck and is not any more does not count as stuck, whether its
// own handler has returned or another one.
func TestStuckForAWhile(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		got := owner(t, b, 1, accept)
		release := map[string]chan struct{}{}
		for i := range 5 {
			release[fmt.Sprint("hung-", i)] = make(chan struct{})
		}
		r := start(t, Config{Bus: b, Concurrency: 2, MaxAbandoned: 1, Handlers: handlers(
			func(_ context.Context, k *Task) (*entity.Change, error) { <-release[k.Operation.ID]; return nil, nil },
		)})
		for i, free := range []string{"", "hung-1", "hung-0", "hung-3", "hung-2"} {
			offer(t, b, leased(fmt.Sprint("hung-", i), time.Second))
			take(t, got)
			time.Sleep(patienceWithHandlers)
			synctest.Wait()
			stuck := int64(min(i, 1))
			if c := r.stats.Read(); c.Running != stuck || c.Abandoned != 1 || len(r.done) > 0 {
				t.Fatalf("%d: %d running, %d abandoned, ended %v", i, c.Running, c.Abandoned, len(r.done) > 0)
			}
			if free != "" {
				close(release[free])
				time.Sleep(patienceWithHandlers)
				synctest.Wait()
			}
		}
		close(release["hung-4"])
		synctest.Wait()
		if c := r.stats.Read(); c.Running != 0 || c.Abandoned != 0 {
			t.Errorf("%d running, %d abandoned", c.Running, c.Abandoned)
		}
		r.end()
	})
}

// A thousand keys hang at once, in a handler that minds nothing. Each of them
// serves its next operation within its lease and a second.
func TestAThousandHangAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		const keys, lease = 1000, 5 * time.Second
		got := owner(t, b, 1, accept)
		release := make(chan struct{})
		defer close(release)
		start(t, Config{Bus: b, Concurrency: keys, Handlers: handlers(func(_ context.Context, k *Task) (*entity.Change, error) {
			if strings.HasPrefix(k.Operation.ID, "hung") {
				<-release
			}
			return nil, nil
		})})
		began := time.Now()
		for i := range keys {
			w := leased(fmt.Sprint("hung-", i), lease)
			w.Operation.Target = fmt.Sprint("user-", i)
			offer(t, b, w)
		}
		for range keys {
			res := take(t, got)
			if res.Failure == nil || res.Failure.Code != CodeTimeout {
				t.Fatalf("%+v", res)
			}
			// So its owner frees the key, and grants what is next.
			w := leased("next-"+res.OpID, lease)
			w.Operation.Target = res.Target
			offer(t, b, w)
		}
		if took := time.Since(began); took > lease {
			t.Errorf("all failed after %s", took)
		}
		for range keys {
			if res := take(t, got); res.Failure != nil {
				t.Fatalf("%+v", res)
			}
		}
		if took := time.Since(began); took > lease+time.Second {
			t.Errorf("all served again after %s", took)
		}
	})
}

// A handler that ends its goroutine has failed, and at once.
func TestGoexit(t *testing.T) {
	b := real(t)
	got := owner(t, b, 1, accept)
	r := start(t, Config{Bus: b, Handlers: handlers(func(context.Context, *Task) (*entity.Change, error) {
		runtime.Goexit()
		return nil, nil
	})})
	offer(t, b, custom("a"))
	if f := take(t, got).Failure; f == nil || f.Code != CodePanic || f.Terminal {
		t.Errorf("%+v", f)
	}
	eventually(t, "the slot is free", func() bool { return r.stats.Running.Load() == 0 })
}

// Values that no submission could bring are refused from handlers, too.
func TestUnfitValues(t *testing.T) {
	b := real(t)
	got := owner(t, b, 1, accept)
	start(t, Config{Bus: b, Handlers: handlers(func(_ context.Context, k *Task) (*entity.Change, error) {
		n := op.MaxDepth
		value := strings.Repeat("[", n) + `"]\"}"` + strings.Repeat("]", n)
		switch k.Operation.ID {
		case "deep":
			value = `{"a":` + value + `}`
		case "text":
			value = "\"\xff\""
		case "large":
			value = `"` + strings.Repeat("x", 2<<20) + `"`
		}
		return &entity.Change{Kind: entity.Modified, Set: map[string]json.RawMessage{"v": json.RawMessage(value)}}, nil
	})})
	for id, code := range map[string]string{"fits": "", "deep": CodeBadChange, "text": CodeBadChange, "large": CodeTooLarge} {
		offer(t, b, custom(id))
		f := take(t, got).Failure
		if code == "" && f != nil || code != "" && (f == nil || f.Code != code || !f.Terminal) {
			t.Errorf("%s: %+v", id, f)
		}
	}
}
