package bus_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
)

// small is a layout for tests: no reservations on the disk.
func small() bus.Layout {
	l := bus.DefaultLayout()
	l.Partitions, l.MaxIntakeBytes = 4, 0
	return l
}

// single starts one server and sets it up.
func single(t testing.TB, l bus.Layout) (*natsd.Server, *bus.Bus) {
	t.Helper()
	s, nc := natstest.One(t)
	if _, err := bus.Setup(t.Context(), nc, l); err != nil {
		t.Fatal(err)
	}
	return s, open(t, nc)
}

func open(t testing.TB, nc *nats.Conn) *bus.Bus {
	t.Helper()
	b, err := bus.Open(t.Context(), nc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// cluster starts three servers and sets them up with three replicas.
func cluster(t testing.TB, l bus.Layout) *natsd.Cluster {
	t.Helper()
	c, err := natsd.StartCluster(3, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	nc := join(t, c)
	l.Replicas = 3
	if _, err := bus.Setup(t.Context(), nc, l); err != nil {
		t.Fatal(err)
	}
	return c
}

func join(t testing.TB, c *natsd.Cluster) *nats.Conn {
	t.Helper()
	nc, err := c.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// within bounds a step of a test.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until ok holds.
func eventually(t testing.TB, d time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(begin) > d {
			t.Fatalf("not within %s: %s", d, what)
		}
		<-tick.C
	}
	return time.Since(begin)
}

// must fails the test on an error of a step that is not under test.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
