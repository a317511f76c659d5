package linear_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/cluster"
	"github.com/hierarchy-bus/hierarchy/internal/linear"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// run has clients work on a whole system in this process while roles are killed,
// and checks what they saw. What is wrong is left in dir.
func run(t *testing.T, dir string, w linear.Workload, kill ...string) *linear.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, err := cluster.Start(ctx, cluster.Options{
		StoreDir: t.TempDir(), Memory: true, Port: cluster.NoListener, Resolvers: 2, Executors: 2,
		LeaseTTL: time.Second, Drain: time.Second, Policy: []byte(`{"attempt_timeout":"1s","retry_base_delay":"5ms"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop, cancel := context.WithTimeout(context.Background(), 20*time.Second) //nolint:usetesting // that of the test has ended
		defer cancel()
		if err := c.Stop(stop); err != nil {
			t.Error(err)
		}
	})
	for range 4 {
		nc, err := c.Connect()
		if err != nil {
			t.Fatal(err)
		}
		w.Conns = append(w.Conns, nc)
	}
	w.Clients, w.Name = 24, "r"
	rec := linear.NewRecorder()
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx, rec) }()
	for i, name := range kill {
		for rec.Len() < (i+1)*int(w.Calls)/(len(kill)+1) && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
		if err := c.Restart(ctx, name); err != nil { // kills it first
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r, err := linear.Check(rec.History(), 30*time.Second, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r)
	return r
}

// Roles die under the clients, and nobody sees anything but a register.
func TestClientsSeeARegisterWhileRolesDie(t *testing.T) {
	r := run(t, "", linear.Workload{Calls: 1500, Entities: 8, Seed: 1, Patience: 3 * time.Second},
		"executor-1", "resolver-1", "submitter-1", "executor-2", "resolver-2")
	if !r.OK() {
		t.Error(r)
	}
	if r.Verdicts[linear.Applied] < 150 || r.Verdicts[linear.Stale] < 10 || r.Repeated < 25 || r.Reads < 400 {
		t.Errorf("the run proves nothing: %s", r)
	}
}

// The mutant: a reader with a cache, which now and then shows what was there a
// moment ago, as a replica that lags behind does.
func TestAStaleReaderIsCaught(t *testing.T) {
	r := run(t, t.TempDir(), linear.Workload{Calls: 1000, Entities: 4, Seed: 2, Read: stale})
	if len(r.Illegal) == 0 {
		t.Errorf("a stale reader was not caught: %s", r)
	}
}

func stale(nc *nats.Conn) (linear.Reader, error) {
	leader, err := linear.FromLeader(nc)
	var mu sync.Mutex
	before := map[string]linear.View{}
	return func(ctx context.Context, id string) (linear.View, error) {
		now, err := leader(ctx, id)
		mu.Lock()
		defer mu.Unlock()
		if old, ok := before[id]; ok && err == nil && now.Revision%8 == 0 {
			return old, nil
		}
		before[id] = now
		return now, err
	}, err
}

// A head that cannot be read is not a read that nobody answered.
func TestAHeadThatCannotBeReadIsAnError(t *testing.T) {
	nc, err := nats.Connect("127.0.0.1:1", nats.RetryOnFailedConnect(true))
	if err != nil {
		t.Fatal(err)
	}
	nc.Close() // who writes is not answered, who reads first is
	w := linear.Workload{Clients: 8, Entities: 1, Calls: 20, Seed: 1, Name: "h", Conns: []*nats.Conn{nc}}
	for head, want := range map[string]string{`{"version":"1"}`: "linear: head: json", `{"version":1}`: ""} {
		w.Read = func(*nats.Conn) (linear.Reader, error) {
			return func(context.Context, string) (linear.View, error) { return linear.ViewOf([]byte(head)) }, nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := w.Run(ctx, linear.NewRecorder())
		cancel()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", head, err)
		}
	}
}

// The mutant: a client that submits again under another id, which is not the same
// submission, so that it has two outcomes and maybe two effects.
func TestANewIDForTheSameSubmissionIsCaught(t *testing.T) {
	var mu sync.Mutex
	sent := map[string]int{}
	r := run(t, t.TempDir(), linear.Workload{Calls: 1000, Entities: 4, Seed: 3, Forge: func(o op.Operation) op.Operation {
		mu.Lock()
		defer mu.Unlock()
		sent[o.ID]++
		if n := sent[o.ID]; n > 1 {
			o.ID = fmt.Sprintf("%s-again-%d", o.ID, n)
		}
		return o
	}})
	if len(r.Disagreements) == 0 || len(r.Illegal) == 0 {
		t.Errorf("two effects of one submission were not caught: %s", r)
	}
}
