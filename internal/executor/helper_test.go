package executor

import (
	"context"
	"encoding/json"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

const patience = 20 * time.Second

// real starts a server without a fake clock.
func real(t testing.TB) *bus.Bus {
	t.Helper()
	_, nc := natstest.One(t)
	return setUp(t, nc)
}

// bubble starts a server with a fake clock.
func bubble(t *testing.T, f func(*testing.T, *bus.Bus)) {
	t.Helper()
	// The client library pools its timers; one of another bubble must not turn
	// up in this one. A pool is empty after two collections.
	runtime.GC()
	runtime.GC()
	natstest.Run(t, func(t *testing.T, s *natstest.Server) { f(t, setUp(t, s.Connect(t))) })
}

func setUp(t testing.TB, nc *nats.Conn) *bus.Bus {
	t.Helper()
	l := bus.DefaultLayout()
	l.Partitions, l.MaxIntakeBytes = 4, 0
	if _, err := bus.Setup(t.Context(), nc, l); err != nil {
		t.Fatal(err)
	}
	b, err := bus.Open(t.Context(), nc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// running is an executor in the background.
type running struct {
	t     testing.TB
	stats *Stats
	ready chan bool
	stop  context.CancelFunc
	done  chan error
	end   func() // stops it and waits; the end of the test does so, too
}

// start runs an executor that is stopped with the test.
func start(t testing.TB, cfg Config) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, stats: &Stats{}, ready: make(chan bool, 4), stop: cancel, done: make(chan error, 1)}
	cfg.Name, cfg.Stats, cfg.Ready = "test", r.stats, func(on bool) { r.ready <- on }
	go func() { r.done <- Run(ctx, cfg) }()
	r.end = sync.OnceFunc(r.finish)
	t.Cleanup(r.end)
	if on := take(t, r.ready); !on {
		t.Fatal("not ready")
	}
	return r
}

func (r *running) finish() {
	r.t.Helper()
	r.stop()
	if err := take(r.t, r.done); err != nil {
		r.t.Error(err)
	}
}

// take waits for a value.
func take[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	return takeWithin(t, c, patience)
}

func takeWithin[T any](t testing.TB, c <-chan T, d time.Duration) T {
	t.Helper()
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	select {
	case v := <-c:
		return v
	case <-deadline.C:
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// eventually waits until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// owner answers reports like the owner of a partition, and no heartbeats.
func owner(t testing.TB, b *bus.Bus, partition int, answer func(op.Result) *op.ResultAck) <-chan op.Result {
	t.Helper()
	got, _ := ownerOf(t, b, partition, answer, func(op.Beat) *op.ResultAck { return nil })
	return got
}

// ownerOf answers reports and heartbeats; nil is no answer.
func ownerOf(t testing.TB, b *bus.Bus, partition int, answer func(op.Result) *op.ResultAck, beat func(op.Beat) *op.ResultAck) (
	<-chan op.Result, <-chan op.Beat,
) {
	t.Helper()
	results, beats := make(chan op.Result, 10_000), make(chan op.Beat, 10_000)
	stop, err := b.Results(partition, func(data []byte, reply func([]byte)) {
		var r op.Result
		if err := json.Unmarshal(data, &r); err != nil {
			t.Errorf("report %s: %v", data, err)
			return
		}
		var a *op.ResultAck
		if r.Type == op.BeatType {
			v := op.Beat{Type: r.Type, OpID: r.OpID, Target: r.Target, Attempt: r.Attempt, Executor: r.Executor}
			a = beat(v)
			defer func() { beats <- v }()
		} else {
			a = answer(r)
			defer func() { results <- r }()
		}
		if a == nil {
			return
		}
		a.Type, a.OpID, a.Attempt = op.AckType, r.OpID, r.Attempt
		body, err := op.Marshal(a)
		if err != nil {
			t.Error(err)
		}
		reply(body)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return results, beats
}

// prolong answers heartbeats with a lease.
func prolong(lease time.Duration) func(op.Beat) *op.ResultAck {
	return func(op.Beat) *op.ResultAck { return &op.ResultAck{Accepted: true, Lease: lease} }
}

// handlers serves the type greet.
func handlers(h Handler) map[string]Handler { return map[string]Handler{"greet": h} }

func accept(op.Result) *op.ResultAck { return &op.ResultAck{Accepted: true} }

// work is an attempt to set a counter of an entity at revision 7, version 2.
func work(id string) op.Work {
	return op.Work{
		Type: op.WorkType, Partition: 1, Attempt: 1, Lease: 30 * time.Second, LeaseEnds: time.Now().Add(30 * time.Second),
		Operation: op.Operation{
			ID: id, Type: op.TypeModifyField, Target: "user-1", Priority: op.Normal,
			Params: json.RawMessage(`{"field_name":"counter","new_value":1}`),
		},
		Entity: snapshot(entity.Entity{ID: "user-1", Version: 2, Revision: 7, RootID: "user-1"}),
	}
}

func snapshot(e entity.Entity) json.RawMessage {
	raw, err := op.Marshal(e)
	if err != nil {
		panic(err)
	}
	return raw
}

// custom is an attempt of a custom type.
func custom(id string) op.Work {
	w := work(id)
	w.Operation.Type, w.Operation.Params = "greet", nil
	return w
}

func offer(t testing.TB, b *bus.Bus, w op.Work) {
	t.Helper()
	body, err := op.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	offerRaw(t, b, bus.WorkSubject(op.DefaultPool, w.Operation.Type, w.Partition, w.Operation.Target), body)
}

func offerRaw(t testing.TB, b *bus.Bus, subject string, body []byte) {
	t.Helper()
	if _, err := b.Publish(t.Context(), subject, body, "", nil); err != nil {
		t.Fatal(err)
	}
}

// write puts a value into a view.
func write(t testing.TB, b *bus.Bus, m *nats.Msg) {
	t.Helper()
	if _, err := b.Publish(t.Context(), m.Subject, m.Data, "", nil); err != nil {
		t.Fatal(err)
	}
}

// left is how many items the queue still holds.
func left(t testing.TB, b *bus.Bus) uint64 {
	t.Helper()
	s, err := b.JetStream().Stream(t.Context(), bus.StreamWork)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

func empty(t testing.TB, b *bus.Bus) {
	t.Helper()
	eventually(t, "the queue is empty", func() bool { return left(t, b) == 0 })
}

// wait reports false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool { return bus.Sleep(ctx, d) == nil }
