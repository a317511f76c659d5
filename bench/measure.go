package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hierarchy-bus/hierarchy/internal/natsd"
)

// system is a case: something that takes operations and tells when each ended.
type system interface {
	// start brings everything up on a fresh server.
	start(ctx context.Context, s *natsd.Server) error
	// load returns n operations for the throughput phase, and then single ones.
	load(n int) []unit
	// send submits units as fast as the case allows, or one of them.
	send(ctx context.Context, units []unit) error
	// window is what a latency includes by design.
	window() time.Duration
	stop()
}

// unit is what is submitted at once: one operation, or one burst.
type unit struct {
	ids     []string
	subject string
	body    []byte
}

// tracker learns from notifications when operations ended.
type tracker struct {
	mu        sync.Mutex
	begun     map[string]time.Time
	latencies []float64 // milliseconds
	succeeded int
	left      int
	done      chan struct{}
}

func newTracker() *tracker { return &tracker{begun: map[string]time.Time{}} }

// expect begins a phase and returns the channel that is closed at its end.
func (t *tracker) expect(n int) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.latencies, t.succeeded, t.left, t.done = nil, 0, n, make(chan struct{})
	clear(t.begun)
	return t.done
}

func (t *tracker) begin(ids []string) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		t.begun[id] = now
	}
}

// ended notes a terminal state. A repeated notification counts once.
func (t *tracker) ended(id string, succeeded bool) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	begun, ok := t.begun[id]
	if !ok {
		return
	}
	delete(t.begun, id)
	t.latencies = append(t.latencies, float64(now.Sub(begun))/float64(time.Millisecond))
	if succeeded {
		t.succeeded++
	}
	if t.left--; t.left == 0 {
		close(t.done)
	}
}

var track = newTracker()

// measure runs one case on a server of its own in this process.
func measure(ctx context.Context, name string, n int) (measurement, error) {
	m := measurement{Case: name}
	dir, err := os.MkdirTemp("", "hierarchy-bench-")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	server, err := natsd.Start(natsd.Options{StoreDir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return m, err
	}
	defer server.Stop()
	var sys system
	if name == "floor" {
		sys = &floor{}
	} else {
		sys = &hierarchy{name: name}
	}
	if err := sys.start(ctx, server); err != nil {
		return m, err
	}
	defer sys.stop()
	if err := throughput(ctx, sys, server, n, &m); err != nil {
		return m, err
	}
	if err := latencies(ctx, sys, &m); err != nil {
		return m, err
	}
	m.RSS = peakRSS()
	return m, nil
}

func throughput(ctx context.Context, sys system, server *natsd.Server, n int, m *measurement) error {
	if err := phase(ctx, sys, sys.load(n/10), 0); err != nil { // warm up: caches, consumers, the allocator
		return err
	}
	units := sys.load(n)
	before, steps, err := stored(ctx, server)
	if err != nil {
		return err
	}
	cpu, begun := cpuTime(), time.Now()
	if err := phase(ctx, sys, units, 0); err != nil {
		return err
	}
	took := time.Since(begun)
	after, stepsAfter, err := stored(ctx, server)
	if err != nil {
		return err
	}
	ops := len(track.latencies)
	m.Operations = ops
	m.Rate = float64(ops) / took.Seconds()
	m.Effects = float64(track.succeeded) / took.Seconds()
	m.SucceededPart = float64(track.succeeded) / float64(ops)
	m.CPU = (cpuTime() - cpu).Seconds() / float64(ops) * 1000
	m.Stored = float64(after-before) / float64(ops)
	if stepsAfter > steps {
		m.Group = float64(ops) / float64(stepsAfter-steps)
	}
	return nil
}

func latencies(ctx context.Context, sys system, m *measurement) error {
	w := float64(sys.window()) / float64(time.Millisecond)
	var idle []float64
	for range 150 {
		if err := phase(ctx, sys, sys.load(1)[:1], 0); err != nil {
			return err
		}
		idle = append(idle, track.latencies[0]-w)
	}
	m.IdleP50, m.IdleP99 = quantile(idle, 0.5), quantile(idle, 0.99)
	if err := phase(ctx, sys, sys.load(1500), 500); err != nil {
		return err
	}
	m.PacedP50, m.PacedP99 = quantile(track.latencies, 0.5)-w, quantile(track.latencies, 0.99)-w
	return nil
}

// phase submits units and waits until each operation has ended: all at once, or
// as Poisson arrivals of rate operations a second.
func phase(ctx context.Context, sys system, units []unit, rate float64) error {
	total := 0
	for i := range units {
		total += len(units[i].ids)
	}
	done := track.expect(total)
	if rate == 0 {
		for i := range units {
			track.begin(units[i].ids)
		}
		if err := sys.send(ctx, units); err != nil {
			return err
		}
	} else if err := paced(ctx, sys, units, rate); err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(2 * time.Minute):
		track.mu.Lock()
		defer track.mu.Unlock()
		return fmt.Errorf("%d of %d operations have not ended after two minutes", track.left, total)
	}
}

func paced(ctx context.Context, sys system, units []unit, rate float64) error {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // arrivals, not secrets
	due := time.Now()
	for i := range units {
		due = due.Add(time.Duration(r.ExpFloat64() * float64(len(units[i].ids)) / rate * float64(time.Second)))
		if wait := time.Until(due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		track.begin(units[i].ids)
		if err := sys.send(ctx, units[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// stored counts the messages that the server has stored so far, and the steps
// among them.
func stored(ctx context.Context, server *natsd.Server) (all, steps uint64, err error) {
	nc, err := server.Connect()
	if err != nil {
		return 0, 0, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, 0, err
	}
	list := js.ListStreams(ctx)
	for info := range list.Info() {
		all += info.State.LastSeq
		if strings.HasSuffix(info.Config.Name, "_JOURNAL") {
			steps += info.State.LastSeq
		}
	}
	return all, steps, list.Err()
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peakRSS returns the highest resident memory of this process in MB.
func peakRSS() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Maxrss) / 1024
}

// sendAll publishes units asynchronously and waits for the acknowledgements.
func sendAll(ctx context.Context, js jetstream.JetStream, units []unit) error {
	for i := range units {
		if _, err := js.PublishMsgAsync(&nats.Msg{Subject: units[i].subject, Data: units[i].body}, jetstream.WithStallWait(time.Minute)); err != nil {
			return err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
