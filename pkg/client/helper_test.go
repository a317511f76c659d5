package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/cluster"
	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

const longEnough = 30 * time.Second

// layout is small, so that a system starts quickly.
func layout() *bus.Layout {
	l := bus.DefaultLayout()
	l.Partitions = 4
	return &l
}

// system starts everything and connects a client to it. Both end with the test.
func system(t testing.TB, change ...func(*cluster.Options)) (*cluster.Cluster, *client.Client) {
	t.Helper()
	o := cluster.Options{StoreDir: t.TempDir(), Port: cluster.NoListener, Layout: layout()}
	for _, f := range change {
		f(&o)
	}
	c, err := cluster.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, c) })
	return c, connect(t, c)
}

// connect returns a client on a connection through no socket.
func connect(t testing.TB, c *cluster.Cluster, opts ...client.Option) *client.Client {
	t.Helper()
	nc, err := c.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return client.New(nc, opts...)
}

func end(t testing.TB, c *cluster.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), longEnough)
	defer cancel()
	if err := c.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// patient is a context that outlives everything but a test that hangs.
func patient(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func create(id, target string) op.Operation {
	return op.Operation{ID: id, Type: op.TypeCreate, Target: target}
}

func set(id, target, field string, value any) op.Operation {
	return op.Operation{
		ID: id, Type: op.TypeModifyField, Target: target,
		Params: client.Params(map[string]any{"field_name": field, "new_value": value}),
	}
}

// do submits an operation and demands that it succeeds.
func do(t testing.TB, c *client.Client, o op.Operation) client.Outcome {
	t.Helper()
	out, err := c.Do(patient(t), o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// record reads the record of an operation that was accepted, which may take a
// moment to appear.
func record(ctx context.Context, c *client.Client, id string) (op.Record, error) {
	for {
		r, err := c.Status(ctx, id)
		if !errors.Is(err, client.ErrNotFound) || ctx.Err() != nil {
			return r, err
		}
	}
}

// kill takes the roles of a kind away and returns when nobody answers any more.
func kill(t testing.TB, sys *cluster.Cluster, c *client.Client, kind, subject string) {
	t.Helper()
	for _, name := range sys.Names() {
		if strings.HasPrefix(name, kind) {
			if err := sys.Kill(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	for {
		if _, err := c.Conn().Request(subject, nil, time.Second); errors.Is(err, nats.ErrNoResponders) {
			return
		}
	}
}

func restart(t testing.TB, sys *cluster.Cluster, kind string) {
	t.Helper()
	for _, name := range sys.Names() {
		if strings.HasPrefix(name, kind) {
			if err := sys.Restart(patient(t), name); err != nil {
				t.Fatal(err)
			}
		}
	}
}
