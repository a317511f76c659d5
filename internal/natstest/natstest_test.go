package natstest_test

import (
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hierarchy-bus/hierarchy/internal/natsd"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
)

// TestClockIsFake is a canary. It hangs until the test timeout when a server
// upgrade adds a goroutine that a bubble cannot see as idle.
func TestClockIsFake(t *testing.T) {
	natstest.Run(t, func(t *testing.T, s *natstest.Server) {
		js, err := jetstream.New(s.Connect(t))
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		st, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "A", Subjects: []string{"a"}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := st.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(ctx, "a", nil); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for want := uint64(1); want <= 2; want++ {
			m, err := c.Next(jetstream.FetchMaxWait(2 * time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			if md, _ := m.Metadata(); md.NumDelivered != want {
				t.Fatalf("delivery %d, want %d", md.NumDelivered, want)
			}
		}
		if d := time.Since(begin); d < time.Hour {
			t.Fatalf("redelivered after %v, want at least AckWait", d)
		}
	})
}

// TestRestartKeepsFiles shows that what was acknowledged survives a restart.
func TestRestartKeepsFiles(t *testing.T) {
	natstest.Run(t, func(t *testing.T, s *natstest.Server) {
		ctx := t.Context()
		js, err := jetstream.New(s.Connect(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "A", Subjects: []string{"a"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(ctx, "a", []byte("kept")); err != nil {
			t.Fatal(err)
		}
		s.Stop()
		s.Start(t)
		js, err = jetstream.New(s.Connect(t))
		if err != nil {
			t.Fatal(err)
		}
		st, err := js.Stream(ctx, "A")
		if err != nil {
			t.Fatal(err)
		}
		m, err := st.GetMsg(ctx, 1)
		if err != nil || string(m.Data) != "kept" {
			t.Fatalf("message 1: %v, %v", m, err)
		}
	})
}

// TestTimersStayInTheirBubble uses the client's pool of timers in turn inside
// and outside. A timer that crosses over ends the whole binary.
func TestTimersStayInTheirBubble(t *testing.T) {
	out, err := natsd.Start(natsd.Options{StoreDir: t.TempDir(), Port: natsd.NoListener})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(out.Stop)
	nc, err := out.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	for range 5 {
		flushMany(t, nc)
		natstest.Run(t, func(t *testing.T, s *natstest.Server) { flushMany(t, s.Connect(t)) })
	}
}

// flushMany has many timers in use at once, so that some are left in the pool
// wherever the next one is looked for.
func flushMany(t *testing.T, nc *nats.Conn) {
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 20 {
				if err := nc.Flush(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
