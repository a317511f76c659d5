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
)

// readiness collects who has become ready.
type readiness struct {
	c    *Cluster
	want int
	told chan string
}

// announce returns what a role tells its readiness to. The first time counts;
// later changes only reach the service's status.
func (r *readiness) announce(name string, s *service.Service) func(bool) {
	r.want++
	told := false
	return func(is bool) {
		if s != nil {
			s.SetReady(is)
		}
		if is && !told {
			told = true
			r.told <- name
		}
	}
}

// wait returns when every role has been ready once.
func (r *readiness) wait(ctx context.Context) error {
	for range r.want {
		select {
		case <-r.told:
		case err := <-r.c.failed:
			return err
		case <-ctx.Done():
			return fmt.Errorf("cluster: the roles were not ready in time: %w", ctx.Err())
		}
	}
	return nil
}

// startRoles starts the roles, in the order in which they will be stopped, and
// waits until all of them are ready.
func (c *Cluster) startRoles(ctx context.Context) error {
	r := &readiness{c: c, told: make(chan string, 2+c.opts.Executors+c.opts.Resolvers)}
	if err := c.startSubmitter(ctx, r); err != nil {
		return err
	}
	for i := range c.opts.Executors {
		if err := c.startExecutor(ctx, i+1, r); err != nil {
			return err
		}
	}
	for i := range c.opts.Resolvers {
		if err := c.startResolver(ctx, i+1, r); err != nil {
			return err
		}
	}
	if err := c.startObserver(ctx, r); err != nil {
		return err
	}
	return r.wait(ctx)
}

func (c *Cluster) register(b *bus.Bus, role, name, description string) (*service.Service, error) {
	return service.Start(b.Conn(), service.Config{
		Role: role, Name: name, Version: c.opts.Version, Description: description, Logger: c.opts.Logger,
	})
}

func (c *Cluster) startSubmitter(ctx context.Context, r *readiness) error {
	const name = "submitter-1"
	b, err := c.open(ctx, name)
	if err != nil {
		return err
	}
	s, err := c.register(b, "submitter", name, "Takes operations and makes them durable.")
	if err != nil {
		return err
	}
	cfg := submitter.ServeConfig{
		Submitter: submitter.New(submitter.Config{Bus: b, Metrics: c.metrics.Submitter()}),
		Service:   s, Logger: c.opts.Logger, Ready: r.announce(name, s),
	}
	c.run(name, func(ctx context.Context) error { return submitter.Serve(ctx, cfg) })
	return nil
}

func (c *Cluster) startExecutor(ctx context.Context, n int, r *readiness) error {
	name := fmt.Sprintf("executor-%d", n)
	b, err := c.open(ctx, name)
	if err != nil {
		return err
	}
	s, err := c.register(b, "executor", name, "Runs the attempts that the resolvers grant.")
	if err != nil {
		return err
	}
	stats := &executor.Stats{}
	s.Describe(func() any { return stats.Read() })
	cfg := executor.Config{
		Bus: b, Name: name, Logger: c.opts.Logger, Metrics: c.metrics.Executor(), Stats: stats, Ready: r.announce(name, s),
	}
	c.run(name, func(ctx context.Context) error { return errors.Join(executor.Run(ctx, cfg), s.Stop()) })
	return nil
}

func (c *Cluster) startResolver(ctx context.Context, n int, r *readiness) error {
	name := fmt.Sprintf("resolver-%d", n)
	b, err := c.open(ctx, name)
	if err != nil {
		return err
	}
	s, err := c.register(b, "resolver", name, "Decides which operations may run, and why the others may not.")
	if err != nil {
		return err
	}
	cfg := resolver.Config{Bus: b, Name: name, Logger: c.opts.Logger, Ready: r.announce(name, s), Metrics: c.metrics.Resolver()}
	c.run(name, func(ctx context.Context) error { return errors.Join(resolver.Run(ctx, cfg), s.Stop()) })
	return nil
}

func (c *Cluster) startObserver(ctx context.Context, r *readiness) error {
	const name = "observer-1"
	b, err := c.open(ctx, name)
	if err != nil {
		return err
	}
	c.observer, err = observer.New(observer.Config{
		Bus: b, Name: name, Version: c.opts.Version, Logger: c.opts.Logger,
		Metrics: c.metrics.Observer(), Ready: r.announce(name, nil),
	})
	if err != nil {
		return err
	}
	if c.opts.HTTP != "" {
		if err := c.listen(ctx); err != nil {
			return err
		}
	}
	c.run(name, c.observer.Run)
	return nil
}
