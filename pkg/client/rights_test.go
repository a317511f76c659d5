package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/executor"
	"github.com/hierarchy-bus/hierarchy/internal/observer"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
	"github.com/hierarchy-bus/hierarchy/internal/service"
	"github.com/hierarchy-bus/hierarchy/internal/submitter"
	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// rights are what the documentation of the package says.
var rights = &server.Permissions{
	Publish: &server.SubjectPermission{Allow: []string{
		"ops.api.>",
		"$JS.API.STREAM.INFO.OPS_INTAKE", "$JS.API.STREAM.INFO.OBJ_OPS_SNAPSHOTS", "$JS.API.STREAM.INFO.OPS_EVENTS",
		"$JS.API.CONSUMER.CREATE.OPS_EVENTS.>", "$JS.API.CONSUMER.INFO.OPS_EVENTS.>", "$JS.API.CONSUMER.DELETE.OPS_EVENTS.>",
		"$JS.API.CONSUMER.MSG.NEXT.OPS_EVENTS.>", "$JS.ACK.OPS_EVENTS.>",
	}},
	Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>", "ops.event.>"}},
}

// guarded is a server where a client may do what rights say, and the user "nobody"
// nothing at all.
func guarded(t *testing.T) (connect func(user string) *nats.Conn) {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		DontListen: true, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Users: []*server.User{
			{Username: "roles", Password: "x"},
			{Username: "client", Password: "x", Permissions: rights},
			{Username: "reader", Password: "x", Permissions: &server.Permissions{ // without the consumers of the feed
				Publish: &server.SubjectPermission{Allow: rights.Publish.Allow[:4]}, Subscribe: rights.Subscribe,
			}},
			{Username: "nobody", Password: "x", Permissions: &server.Permissions{
				Publish:   &server.SubjectPermission{Deny: []string{">"}},
				Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(longEnough) {
		t.Fatal("the server is not ready")
	}
	return func(user string) *nats.Conn {
		t.Helper()
		nc, err := nats.Connect("", nats.InProcessServer(s), nats.UserInfo(user, "x"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
}

// roles runs one of each until the test ends.
func roles(t *testing.T, nc *nats.Conn) {
	t.Helper()
	if _, err := bus.Setup(t.Context(), nc, *layout()); err != nil {
		t.Fatal(err)
	}
	b, err := bus.Open(t.Context(), nc)
	if err != nil {
		t.Fatal(err)
	}
	svc, err := service.Start(nc, service.Config{Role: "submitter", Name: "s"})
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan bool, 16)
	tell := func(is bool) {
		if is {
			ready <- true
		}
	}
	o, err := observer.New(observer.Config{Bus: b, Name: "o", Ready: tell})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 4)
	for _, run := range []func() error{
		func() error {
			return submitter.Serve(ctx, submitter.ServeConfig{Submitter: submitter.New(submitter.Config{Bus: b}), Service: svc, Ready: tell})
		},
		func() error { return resolver.Run(ctx, resolver.Config{Bus: b, Name: "r", Ready: tell}) },
		func() error { return executor.Run(ctx, executor.Config{Bus: b, Name: "e", Ready: tell}) },
		func() error { return o.Run(ctx) },
	} {
		go func() { done <- run() }()
	}
	t.Cleanup(func() {
		cancel()
		for range 4 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	for range 4 {
		select {
		case <-ready:
		case err := <-done:
			t.Fatal(err)
		}
	}
}

// What the documentation calls the rights of a client is enough for all of it.
func TestTheRightsOfAClient(t *testing.T) {
	connect := guarded(t)
	roles(t, connect("roles"))
	c := client.New(connect("client"))
	ctx := patient(t)
	events := c.Watch(ctx, client.WatchOptions{Pattern: "entity.created"})
	s := must[*client.Subscription](t)(c.OnRejected(ctx, client.Filter{}, func(context.Context, client.Rejection) client.Answer {
		return client.Resubmit(client.AtMost(1))
	}, client.Named("desk")))
	defer s.Stop()
	resubmissions := c.Watch(ctx, client.WatchOptions{Pattern: "operation.completed", Target: "user-1"})
	do(t, c, create("a", "user-1"))
	for e, err := range events {
		if err != nil || e.OpID != "a" {
			t.Errorf("%+v, %v", e, err)
		}
		break
	}
	lose(t, c, "loser", "winner", "user-1")
	resubmitted(t, c, resubmissions, "loser")
	if _, err := c.SubmitAll(ctx, []op.Operation{create("", "x"), create("", "y")}); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"explain": call(c.Explain(ctx, "loser")), "get": call(c.Get(ctx, "@user-1.name")), "history": call(c.History(ctx, "user-1")),
		"diff": call(c.Diff(ctx, "user-1", 1, 0)), "provenance": call(c.Provenance(ctx, "user-1.name")), "dry run": call(c.DryRun(ctx, create("", "z"))),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for e, err := range c.Watch(ctx, client.WatchOptions{FromSeq: 1, Pattern: "entity.created"}) { // without the journal
		if err != nil || e.OpID != "a" {
			t.Errorf("%+v, %v", e, err)
		}
		break
	}
	s.Stop()
	if err := c.Forget(ctx, "desk"); err != nil {
		t.Error(err)
	}
}

// A right that is missing is told as such, and soon.
func TestWithoutRights(t *testing.T) {
	connect := guarded(t)
	c := client.New(connect("nobody"))
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	began := time.Now()
	for name, err := range map[string]error{
		"submit": call(c.Submit(ctx, create("a", "user-1"))), "get": call(c.Get(ctx, "@user-1")), "await": call(c.Await(ctx, "a")),
		"on": call(c.On(ctx, client.WatchOptions{}, nil)), "forget": c.Forget(ctx, "desk"), "watch": watched(ctx, c),
	} {
		if !errors.Is(err, client.ErrPermission) || errors.Is(err, client.ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	roles(t, connect("roles"))
	reader := client.New(connect("reader"))
	for name, err := range map[string]error{
		"watch": watched(ctx, reader), "named": call(reader.On(ctx, client.WatchOptions{}, nil, client.Named("desk"))),
	} {
		if !errors.Is(err, client.ErrPermission) {
			t.Errorf("%s without consumers: %v", name, err)
		}
	}
	if took := time.Since(began); took > longEnough/2 {
		t.Errorf("after %s", took)
	}
}

// watched is the error with which a watch ends.
func watched(ctx context.Context, c *client.Client) error {
	for _, err := range c.Watch(ctx, client.WatchOptions{}) {
		return err
	}
	return nil
}
