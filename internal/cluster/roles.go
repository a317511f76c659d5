package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/executor"
	"github.com/hierarchy-bus/hierarchy/internal/observer"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
	"github.com/hierarchy-bus/hierarchy/internal/service"
	"github.com/hierarchy-bus/hierarchy/internal/submitter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// plan names every role, in the order in which they are started and stopped.
func (c *Cluster) plan() []*part {
	parts := []*part{{name: "submitter-1", begin: c.submitter("submitter-1")}}
	for _, pool := range c.opts.pools() {
		for i := range pool.Executors {
			name := fmt.Sprintf("executor-%d", i+1)
			if pool.Name != op.DefaultPool {
				name = fmt.Sprintf("executor-%s-%d", pool.Name, i+1)
			}
			parts = append(parts, &part{name: name, begin: c.executor(name, pool)})
		}
	}
	for _, w := range c.opts.Workers {
		parts = append(parts, &part{name: w.Name, begin: handlers(w)})
	}
	for i := range c.opts.Resolvers {
		name := fmt.Sprintf("resolver-%d", i+1)
		parts = append(parts, &part{name: name, begin: c.resolver(name)})
	}
	return append(parts, &part{name: "observer-1", begin: c.watcher("observer-1")})
}

func (c *Cluster) register(b *bus.Bus, role, name, description string) (*service.Service, error) {
	return service.Start(b.Conn(), service.Config{
		Role: role, Name: name, Version: c.opts.Version, Description: description, Logger: c.opts.Logger,
	})
}

// both tells a role's readiness to its service, too.
func both(ready func(bool), s *service.Service) func(bool) {
	return func(is bool) {
		s.SetReady(is)
		ready(is)
	}
}

func (c *Cluster) submitter(name string) begin {
	return func(_ context.Context, b *bus.Bus, ready func(bool)) (func(context.Context) error, error) {
		s, err := c.register(b, "submitter", name, "Takes operations and makes them durable.")
		if err != nil {
			return nil, err
		}
		cfg := submitter.ServeConfig{
			Submitter: submitter.New(submitter.Config{Bus: b, Metrics: c.metrics.Submitter()}),
			Service:   s, Logger: c.opts.Logger, Ready: both(ready, s), DrainTimeout: c.opts.Drain,
		}
		return func(ctx context.Context) error { return submitter.Serve(ctx, cfg) }, nil
	}
}

func (c *Cluster) executor(name string, pool Pool) begin {
	return func(_ context.Context, b *bus.Bus, ready func(bool)) (func(context.Context) error, error) {
		s, err := c.register(b, "executor", name, "Runs the attempts that the resolvers grant.")
		if err != nil {
			return nil, err
		}
		stats := &executor.Stats{}
		s.Describe(func() any { return stats.Read() })
		cfg := executor.Config{
			Bus: b, Name: name, Logger: c.opts.Logger, Metrics: c.metrics.Executor(), Stats: stats, Ready: both(ready, s),
			Pool: pool.Name, Concurrency: c.opts.Concurrency, DrainTimeout: c.opts.Drain,
		}
		return func(ctx context.Context) error { return errors.Join(executor.Run(ctx, cfg), s.Stop()) }, nil
	}
}

func handlers(w Worker) begin {
	return func(_ context.Context, b *bus.Bus, ready func(bool)) (func(context.Context) error, error) {
		w := w.New(b.Conn())
		return func(ctx context.Context) error {
			go func() {
				select {
				case <-w.Ready():
					ready(true)
				case <-ctx.Done():
				}
			}()
			return w.Run(ctx)
		}, nil
	}
}

func (c *Cluster) resolver(name string) begin {
	return func(_ context.Context, b *bus.Bus, ready func(bool)) (func(context.Context) error, error) {
		s, err := c.register(b, "resolver", name, "Decides which operations may run, and why the others may not.")
		if err != nil {
			return nil, err
		}
		cfg := resolver.Config{
			Bus: b, Name: name, Logger: c.opts.Logger, Ready: both(ready, s), Metrics: c.metrics.Resolver(), LeaseTTL: c.opts.LeaseTTL,
		}
		return func(ctx context.Context) error { return errors.Join(resolver.Run(ctx, cfg), s.Stop()) }, nil
	}
}

func (c *Cluster) watcher(name string) begin {
	return func(_ context.Context, b *bus.Bus, ready func(bool)) (func(context.Context) error, error) {
		o, err := observer.New(observer.Config{
			Bus: b, Name: name, Version: c.opts.Version, Logger: c.opts.Logger,
			Metrics: c.metrics.Observer(), Ready: ready, ProbeEvery: c.opts.ProbeEvery,
		})
		if err != nil {
			return nil, err
		}
		c.observer.Store(o)
		return o.Run, nil
	}
}
