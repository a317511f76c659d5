package scenarios

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/executor"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Three replicas in this process, two resolvers and two executors, while the
// leaders of the streams step down one after another.
func TestLeadersOfThreeReplicasStepDownUnderLoad(t *testing.T) {
	const targets, n = 20, 900
	cluster, err := natsd.StartCluster(3, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	layout := bus.DefaultLayout()
	layout.Replicas, layout.Partitions = 3, 8
	admin := dial(t, cluster)
	setup, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if _, err := bus.Setup(setup, admin, layout); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, bus: openBus(t, admin)}
	if _, err := s.bus.PutPolicy(t.Context(), []byte(quick)); err != nil {
		t.Fatal(err)
	}
	stop := inProcess(t, cluster, 2, 2)
	defer stop()
	made := s.create(targets)
	s.settle(60*time.Second, made)

	downs, halt := stepDowns(t, cluster, admin)
	done := s.submit(t.Context(), "op", n, targets, nil)
	counts := s.settle(120*time.Second, made, done)
	halt()
	t.Logf("%d operations: %v; %d step-downs, %d take-overs", n+targets, counts, *downs, s.events(op.EventTakeover))
	if *downs < 3 {
		t.Errorf("only %d leaders stepped down: the run proves nothing", *downs)
	}
	s.account(counts, targets)
	r, err := verify.Run(t.Context(), s.bus, verify.Options{Quiescent: true, Patience: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range r.Violations {
		t.Errorf("%+v", v)
	}
}

func dial(t *testing.T, c *natsd.Cluster) *nats.Conn {
	t.Helper()
	nc, err := c.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func openBus(t *testing.T, nc *nats.Conn) *bus.Bus {
	t.Helper()
	b, err := bus.Open(t.Context(), nc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// inProcess runs roles on connections of their own until the returned function
// is called.
func inProcess(t *testing.T, c *natsd.Cluster, resolvers, executors int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	run := func(f func(b *bus.Bus) error) {
		b := openBus(t, dial(t, c))
		wg.Go(func() {
			if err := f(b); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	for i := range resolvers {
		run(func(b *bus.Bus) error {
			return resolver.Run(ctx, resolver.Config{Bus: b, Name: fmt.Sprintf("r%d", i)})
		})
	}
	for i := range executors {
		run(func(b *bus.Bus) error {
			return executor.Run(ctx, executor.Config{Bus: b, Name: fmt.Sprintf("x%d", i)})
		})
	}
	return sync.OnceFunc(func() { cancel(); wg.Wait() })
}

// enough step-downs are three rounds through the streams that matter. Without an end
// of them a slow machine would not get anywhere.
const enough = 18

// stepDowns has one leader after another step down, until that is enough or halt is
// called.
func stepDowns(t *testing.T, c *natsd.Cluster, nc *nats.Conn) (count *int, halt func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	n := new(int)
	var wg sync.WaitGroup
	streams := []string{bus.StreamJournal, bus.StreamIntake, bus.StreamWork, "KV_OPS_OPERATIONS", bus.StreamEvents, "KV_OPS_ENTITIES"}
	wg.Go(func() {
		tick := time.NewTicker(400 * time.Millisecond)
		defer tick.Stop()
		for i := 0; *n < enough; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if c.StepDown(ctx, nc, streams[i%len(streams)]) == nil {
					*n++
				}
			}
		}
	})
	return n, sync.OnceFunc(func() { cancel(); wg.Wait() })
}
