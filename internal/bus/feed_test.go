package bus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
)

func TestIntakeStartsAfter(t *testing.T) {
	_, b := single(t, small())
	var seqs []uint64
	for i := range 5 {
		ack, err := b.Publish(t.Context(), bus.SubmitSubject("a"), fmt.Append(nil, i), "", nats.Header{"X": {"y"}})
		must(t, err)
		seqs = append(seqs, ack.Seq)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f, err := b.Intake(ctx, bus.PartitionOf("a", 4), seqs[2])
	must(t, err)
	for i := 3; i < 5; i++ {
		m := <-f.C()
		if m.Seq != seqs[i] || string(m.Data) != fmt.Sprint(i) || m.Header.Get("X") != "y" || m.Time.IsZero() {
			t.Fatalf("got %+v, want sequence %d", m, seqs[i])
		}
	}
	ack, err := b.Publish(t.Context(), bus.CancelSubject("a"), nil, "", nil)
	must(t, err)
	if m := <-f.C(); m.Seq != ack.Seq || m.Kind != bus.KindCancel {
		t.Fatalf("got %+v, want the cancel at %d", m, ack.Seq)
	}
	cancel()
	if _, ok := <-f.C(); ok || f.Err() != nil {
		t.Fatalf("after the end of the context: open %v, error %v", ok, f.Err())
	}
	if _, err := b.Intake(t.Context(), 4, 0); err == nil {
		t.Error("partition 4 of 4 accepted")
	}
}

func TestFeedEndsWithTheConnection(t *testing.T) {
	s, _ := single(t, small())
	nc, err := s.Connect()
	must(t, err)
	f, err := open(t, nc).Intake(t.Context(), 0, 0)
	must(t, err)
	nc.Close()
	select {
	case <-f.C():
	case <-time.After(20 * time.Second):
		t.Fatal("the feed outlives its connection")
	}
	if f.Err() == nil {
		t.Error("no reason given")
	}
}

// TestFeedSurvivesRestart has the server stop and come back on the same files.
func TestFeedSurvivesRestart(t *testing.T) {
	natstest.Run(t, func(t *testing.T, s *natstest.Server) {
		nc := s.Connect(t, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
		_, err := bus.Setup(t.Context(), nc, small())
		must(t, err)
		b := open(t, nc)
		f, err := b.Intake(t.Context(), bus.PartitionOf("a", 4), 0)
		must(t, err)
		for i := range 3 {
			if i > 0 {
				s.Stop()
				s.Start(t)
				nc2 := s.Connect(t)
				b, err = bus.Open(t.Context(), nc2)
				must(t, err)
				f, err = b.Intake(t.Context(), bus.PartitionOf("a", 4), uint64(i))
				must(t, err)
			}
			ack, err := b.Publish(t.Context(), bus.SubmitSubject("a"), nil, "", nil)
			must(t, err)
			if m := <-f.C(); m.Seq != ack.Seq {
				t.Fatalf("round %d: sequence %d, want %d", i, m.Seq, ack.Seq)
			}
		}
	})
}

// TestIntakeAcrossServers stops and starts every server under a running feed:
// its consumer lives on one of them, and its connection on another.
func TestIntakeAcrossServers(t *testing.T) {
	if testing.Short() {
		t.Skip("restarts three servers")
	}
	c := cluster(t, small())
	p := bus.PartitionOf("a", 4)
	f, err := open(t, join(t, c)).Intake(t.Context(), p, 0)
	must(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	acked := map[uint64]bool{}
	writer, chaos := open(t, join(t, c)), join(t, c)
	wg.Go(func() { publishUntil(ctx, t, writer, acked) })
	for i := range 3 {
		c.StopServer(i)
		must(t, c.StartServer(i))
		waitLeader(t, c, bus.StreamIntake)
		_ = c.StepDown(within(t, 5*time.Second), chaos, bus.StreamIntake) // a try will do
	}
	b := open(t, join(t, c))
	eventually(t, time.Minute, "a hundred messages", func() bool {
		n, err := b.LastIntake(within(t, 5*time.Second), p)
		return err == nil && n >= 100
	})
	cancel()
	wg.Wait()

	last, err := b.LastIntake(within(t, 20*time.Second), p)
	must(t, err)
	prev := uint64(0)
	for prev < last {
		select {
		case m := <-f.C():
			if m.Seq <= prev {
				t.Fatalf("sequence %d after %d", m.Seq, prev)
			}
			delete(acked, m.Seq)
			prev = m.Seq
		case <-time.After(20 * time.Second):
			t.Fatalf("stuck behind %d of %d: %v", prev, last, f.Err())
		}
	}
	if len(acked) > 0 {
		t.Errorf("%d acknowledged messages of %d never came", len(acked), last)
	}
}

func waitLeader(t *testing.T, c *natsd.Cluster, stream string) {
	t.Helper()
	eventually(t, 15*time.Second, "a leader of "+stream, func() bool { return c.Leader(stream) >= 0 })
}

func publishUntil(ctx context.Context, t *testing.T, b *bus.Bus, acked map[uint64]bool) {
	for i := 0; ctx.Err() == nil; i++ {
		for {
			attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			ack, err := b.Publish(attempt, bus.SubmitSubject("a"), nil, fmt.Sprint("m", i), nil)
			cancel()
			if err == nil {
				acked[ack.Seq] = true
				break
			}
			if !errors.Is(err, bus.ErrUnknownOutcome) {
				t.Errorf("publish: %v", err)
				return
			}
		}
	}
}
