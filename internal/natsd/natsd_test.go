package natsd_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hierarchy-bus/hierarchy/internal/natsd"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
)

func TestStart(t *testing.T) {
	var text bytes.Buffer
	dir := t.TempDir()
	s, err := natsd.Start(natsd.Options{StoreDir: dir + "/new/deep", SyncAlways: true, Logger: slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(s.ClientURL(), "nats://127.0.0.1:") {
		t.Errorf("address %q, want one on loopback", s.ClientURL())
	}
	for name, connect := range map[string]func() (*nats.Conn, error){
		"in process": func() (*nats.Conn, error) { return s.Connect() },
		"by address": func() (*nats.Conn, error) { return nats.Connect(s.ClientURL()) },
	} {
		nc, err := connect()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "A"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		nc.Close()
	}
	s.Stop()
	s.Stop()
	if !strings.Contains(text.String(), "level=DEBUG") || strings.Contains(text.String(), "level=ERROR") {
		t.Errorf("log:\n%s", text.String())
	}
}

func TestStartRefuses(t *testing.T) {
	if _, err := natsd.Start(natsd.Options{}); err == nil {
		t.Error("no store directory accepted")
	}
}

func TestNoListener(t *testing.T) {
	s, err := natsd.Start(natsd.Options{StoreDir: t.TempDir(), Port: natsd.NoListener})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	if s.ClientURL() != "" {
		t.Errorf("listens on %s", s.ClientURL())
	}
}

func TestCluster(t *testing.T) {
	c, nc := natstest.Three(t, t.TempDir())
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "A", Replicas: 3}); err != nil {
		t.Fatal(err)
	}
	first := waitLeader(ctx, t, c, -1)
	if err := c.StepDown(ctx, nc, "A"); err != nil {
		t.Fatal(err)
	}
	second := waitLeader(ctx, t, c, first)
	c.StopServer(second)
	waitLeader(ctx, t, c, second)
	if err := c.StartServer(second); err != nil {
		t.Fatal(err)
	}
	if err := c.StepDown(ctx, nc, "none"); err == nil {
		t.Error("a stream that does not exist has stepped down")
	}
}

// waitLeader returns the leader of the stream once there is one other than not.
func waitLeader(ctx context.Context, t *testing.T, c *natsd.Cluster, not int) int {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if i := c.Leader("A"); i >= 0 && i != not {
			return i
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("no other leader")
		}
	}
}
