package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
)

// answerTimeout bounds what should be answered at once, over an election.
const answerTimeout = 20 * time.Second

// connect connects, or says why not with the right exit code.
func (a *app) connect(opts ...nats.Option) (*nats.Conn, error) {
	nc, err := a.conn.Connect(append([]nats.Option{nats.Name("hierarchy command line")}, opts...)...)
	if err == nil {
		return nc, nil
	}
	switch code := daemon.ExitCode(err); code {
	case daemon.ExitUsage, daemon.ExitPermission:
		return nil, err
	default: // whatever it was, there is nobody to talk to
		return nil, daemon.Exit(daemon.ExitUnreachable, fmt.Errorf("no connection: %w", err))
	}
}

// withBus connects, runs f and disconnects. A right that is missing ends f: what
// it waits for will never come.
func (a *app) withBus(ctx context.Context, f func(context.Context, *bus.Bus) error) error {
	work, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	nc, err := a.connect(nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			cancel(daemon.Exit(daemon.ExitPermission, err))
		}
	}))
	if err != nil {
		return err
	}
	defer nc.Close()
	b, err := bus.Open(work, nc)
	if err == nil {
		err = f(work, b)
	}
	if err != nil && work.Err() != nil && ctx.Err() == nil {
		return context.Cause(work)
	}
	return err
}

// ask is withBus for a question that should be answered soon.
func (a *app) ask(ctx context.Context, f func(context.Context, *bus.Bus) error) error {
	return a.withBus(ctx, func(ctx context.Context, b *bus.Bus) error {
		ctx, cancel := context.WithTimeout(ctx, answerTimeout)
		defer cancel()
		return f(ctx, b)
	})
}

func (a *app) logger() *slog.Logger {
	if !a.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(a.errs, nil))
}
