package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/hierarchy-bus/hierarchy/internal/await"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/cluster"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/pkg/worker"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	close(never)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// system is a whole system with the type paint in the pool of workers.
type system struct {
	t  testing.TB
	c  *cluster.Cluster
	nc *nats.Conn
	n  atomic.Int64
}

// start starts a system. rules are members of the policy beside the types; each
// begins with a comma.
func start(t testing.TB, rules string) *system {
	t.Helper()
	return startWith(t, cluster.Options{
		Port:   cluster.NoListener,
		Policy: []byte(`{"types":{"paint":{"pool":"workers"},"raw":{}},"retry_base_delay":"10ms","staging_window":"0s"` + rules + `}`),
	})
}

func startWith(t testing.TB, o cluster.Options) *system {
	t.Helper()
	o.StoreDir, o.Drain = t.TempDir(), time.Second
	layout := bus.DefaultLayout()
	layout.Partitions = 4
	o.Layout = &layout
	c, err := cluster.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	nc, err := c.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return &system{t: t, c: c, nc: nc}
}

// run runs a worker until stop is called or the test ends.
func (s *system) run(w *worker.Worker) (stop func()) {
	s.t.Helper()
	done := make(chan error, 1)
	go func() { done <- w.Run(context.Background()) }()
	stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := w.Stop(ctx); err != nil {
			s.t.Error(err)
		}
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(stop)
	select {
	case <-w.Ready():
	case err := <-done:
		done <- nil
		s.t.Fatalf("the worker has ended: %v", err)
	}
	return stop
}

// submit submits an operation and returns its id.
func (s *system) submit(o op.Operation) string {
	s.t.Helper()
	if o.ID == "" {
		o.ID = fmt.Sprintf("op-%d", s.n.Add(1))
	}
	if o.Priority == 0 {
		o.Priority = op.Normal
	}
	body, err := op.Encode(&o)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.c.Bus().Publish(s.t.Context(), bus.SubmitSubject(o.Target), body, o.ID, nil); err != nil {
		s.t.Fatal(err)
	}
	return o.ID
}

// end waits for the end of an operation and returns its record.
func (s *system) end(ids ...string) op.Record {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	w := await.Start(ctx, s.c.Bus())
	defer w.Stop()
	w.Expect(ids...)
	if err := w.Wait(ctx); err != nil {
		s.t.Fatalf("%v: %v", ids, err)
	}
	return s.record(ids[len(ids)-1])
}

func (s *system) do(o op.Operation) op.Record {
	s.t.Helper()
	return s.end(s.submit(o))
}

func (s *system) record(id string) (r op.Record) {
	s.t.Helper()
	data, found, err := s.c.Bus().Record(s.t.Context(), id)
	if err != nil || !found {
		s.t.Fatalf("record of %s: found %v, %v", id, found, err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// make creates an entity.
func (s *system) make(id, fields string) {
	s.t.Helper()
	r := s.do(op.Operation{ID: "make-" + id, Type: op.TypeCreate, Target: id, Params: json.RawMessage(`{"fields":` + fields + `}`)})
	if r.Status != op.Succeeded {
		s.t.Fatalf("%+v", r)
	}
}

// head is an entity as it is.
func (s *system) head(id string) (e struct {
	Version  uint64         `json:"version"`
	Revision uint64         `json:"revision"`
	Fields   map[string]any `json:"fields"`
	LastOpID string         `json:"last_op_id"`
	Deleted  bool           `json:"deleted"`
	Sources  map[string]any `json:"attribute_source"`
	History  []struct {
		Text string `json:"text"`
	} `json:"modification_history"`
},
) {
	s.t.Helper()
	data, found, err := s.c.Bus().Entity(s.t.Context(), id)
	if err != nil || !found {
		s.t.Fatalf("entity %s: found %v, %v", id, found, err)
	}
	if err := json.Unmarshal(data, &e); err != nil {
		s.t.Fatal(err)
	}
	return e
}

// Paint are the params of the type that the tests use.
type Paint struct {
	Colour string `json:"colour"`
	Coats  int    `json:"coats"`
}

// Kind is the name of the type.
func (Paint) Kind() string { return "paint" }

// Validate refuses what no wall can hold.
func (p Paint) Validate() error {
	if p.Coats > 100 {
		return errors.New("more than 100 coats")
	}
	return nil
}

type paintFunc = worker.HandlerFunc[Paint]

// take waits for a value.
func take[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	select {
	case v := <-c:
		return v
	case <-deadline.C:
		t.Fatal("nothing came")
		panic("unreachable")
	}
}
