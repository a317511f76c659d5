package resolver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/internal/executor"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// world is a server with the streams on it and roles that come and go.
type world struct {
	t       *testing.T
	connect func(...nats.Option) (*nats.Conn, error)
	bus     *bus.Bus
	n       int
}

func newWorld(t *testing.T, partitions int) *world {
	t.Helper()
	s, err := natsd.Start(natsd.Options{StoreDir: t.TempDir(), Port: natsd.NoListener})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	w := &world{t: t, connect: s.Connect}
	w.setUp(partitions)
	return w
}

func (w *world) setUp(partitions int) {
	w.t.Helper()
	nc, _ := w.conn()
	layout := bus.DefaultLayout()
	layout.Partitions = partitions
	if _, err := bus.Setup(w.t.Context(), nc, layout); err != nil {
		w.t.Fatal(err)
	}
	w.bus = w.open(nc)
}

func (w *world) conn() (*nats.Conn, func()) {
	w.t.Helper()
	nc, err := w.connect()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(nc.Close)
	return nc, nc.Close
}

func (w *world) open(nc *nats.Conn) *bus.Bus {
	w.t.Helper()
	b, err := bus.Open(w.t.Context(), nc)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *world) policy(text string) {
	w.t.Helper()
	if _, err := w.bus.PutPolicy(w.t.Context(), []byte(text)); err != nil {
		w.t.Fatal(err)
	}
}

// role is a running role. stop ends it in good order; cut takes its connection
// away in the middle of whatever it does, as a crash would.
type role struct {
	stop, cut func()
}

func (w *world) role(run func(context.Context, *bus.Bus, func(bool)) error) role {
	w.t.Helper()
	nc, closeConn := w.conn()
	b := w.open(nc)
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	var wg sync.WaitGroup
	ready := make(chan struct{})
	var once sync.Once
	wg.Add(1)
	go func() {
		defer wg.Done()
		err := run(ctx, b, func(ok bool) {
			if ok {
				once.Do(func() { close(ready) })
			}
		})
		if err != nil && ctx.Err() == nil {
			w.t.Error(err)
		}
	}()
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	w.t.Cleanup(stop)
	select {
	case <-ready:
	case <-time.After(20 * time.Second):
		w.t.Fatal("a role is not ready after 20 s")
	}
	return role{stop: stop, cut: func() { closeConn(); cancel() }}
}

func (w *world) resolver(name string, change ...func(*resolver.Config)) role {
	return w.role(func(ctx context.Context, b *bus.Bus, ready func(bool)) error {
		cfg := resolver.Config{Bus: b, Name: name, Ready: ready, LeaseTTL: time.Second, Logger: logger(w.t)}
		for _, f := range change {
			f(&cfg)
		}
		return resolver.Run(ctx, cfg)
	})
}

func (w *world) executor(name string, before func(op.Work) error) role {
	return w.role(func(ctx context.Context, b *bus.Bus, ready func(bool)) error {
		return executor.Run(ctx, executor.Config{Bus: b, Name: name, Ready: ready, Before: before, DrainTimeout: time.Second})
	})
}

func logger(t *testing.T) *slog.Logger {
	if os.Getenv("OPS_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// submit publishes a body as the plain nats CLI does and returns its sequence.
func (w *world) submit(target, format string, args ...any) uint64 {
	w.t.Helper()
	ack, err := w.bus.Publish(w.t.Context(), bus.SubmitSubject(target), fmt.Appendf(nil, format, args...), "", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return ack.Seq
}

// until waits for the record of an operation to satisfy ok.
func (w *world) until(id string, ok func(op.Record) bool) op.Record {
	w.t.Helper()
	var r op.Record
	w.eventually("the record of "+id, func() bool {
		data, found, err := w.bus.Record(w.t.Context(), id)
		if err != nil || !found {
			return false
		}
		r = op.Record{}
		if err := json.Unmarshal(data, &r); err != nil {
			w.t.Fatal(err)
		}
		return ok(r)
	})
	return r
}

func (w *world) end(id string) op.Record {
	w.t.Helper()
	return w.until(id, func(r op.Record) bool { return r.Status.Terminal() })
}

func (w *world) entity(id string) *entity.Entity {
	w.t.Helper()
	data, found, err := w.bus.Entity(w.t.Context(), id)
	if err != nil || !found {
		w.t.Fatalf("entity %s: found %v, error %v", id, found, err)
	}
	var h resolver.Head
	if err := json.Unmarshal(data, &h); err != nil {
		w.t.Fatal(err)
	}
	return &h.Entity
}

// eventually asks until ok or the patience of a test is over.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			w.t.Fatalf("waited 2 min for %s", what)
		}
	}
}

// journal returns every step, in order, after replaying it into the machine of
// its partition: a step that the machine would not have written fails the test.
func (w *world) journal() []arbiter.Step {
	w.t.Helper()
	machines := map[int]*arbiter.Machine{}
	var steps []arbiter.Step
	for e, err := range w.bus.JournalRead(w.t.Context(), -1, 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		var s arbiter.Step
		if err := json.Unmarshal(e.Data, &s); err != nil {
			w.t.Fatal(err)
		}
		m := machines[s.Partition]
		if m == nil {
			m = arbiter.New(s.Partition)
			machines[s.Partition] = m
		}
		if err := m.Replay(&s); err != nil {
			w.t.Fatal(err)
		}
		steps = append(steps, s)
	}
	return steps
}

// quiet reports whether every operation on record has ended, follow-ups included.
func (w *world) quiet() bool {
	w.t.Helper()
	open := map[string]bool{}
	for _, s := range w.journal() {
		for _, e := range s.Out {
			switch {
			case e.Accepted != nil:
				open[e.Accepted.OpID] = true
			case e.Succeeded != nil:
				delete(open, e.Succeeded.OpID)
				var c entity.Change
				if err := json.Unmarshal(s.In[e.Succeeded.Input].Result.Change, &c); err != nil {
					w.t.Fatal(err)
				}
				for i, f := range c.Follow {
					if id := entity.FollowUpID(e.Succeeded.OpID, f, i); !w.ended(id) {
						open[id] = true
					}
				}
			case e.Rejected != nil:
				delete(open, e.Rejected.OpID)
			}
		}
	}
	return len(open) == 0
}

func (w *world) ended(id string) bool {
	data, found, err := w.bus.Record(w.t.Context(), id)
	var r op.Record
	return err == nil && found && json.Unmarshal(data, &r) == nil && r.Status.Terminal()
}

// id returns a fresh operation id.
func (w *world) id(prefix string) string {
	w.n++
	return fmt.Sprintf("%s-%d", prefix, w.n)
}
