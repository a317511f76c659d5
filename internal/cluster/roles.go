package cluster

import (
	"context"
	"fmt"

	"github.com/hierarchy-bus/hierarchy/internal/executor"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
)

// startRoles starts the roles, in the order in which they will be stopped, and
// waits until the resolvers serve every partition.
func (c *Cluster) startRoles(ctx context.Context) error {
	for i := range c.opts.Executors {
		if err := c.startExecutor(ctx, i+1); err != nil {
			return err
		}
	}
	ready := make(chan string, c.opts.Resolvers)
	for i := range c.opts.Resolvers {
		if err := c.startResolver(ctx, i+1, ready); err != nil {
			return err
		}
	}
	return c.await(ctx, ready)
}

func (c *Cluster) startExecutor(ctx context.Context, n int) error {
	name := fmt.Sprintf("executor-%d", n)
	b, err := c.open(ctx, name)
	if err != nil {
		return err
	}
	c.run(name, func(ctx context.Context) error {
		return executor.Run(ctx, executor.Config{Bus: b, Name: name, Logger: c.opts.Logger})
	})
	return nil
}

func (c *Cluster) startResolver(ctx context.Context, n int, ready chan<- string) error {
	name := fmt.Sprintf("resolver-%d", n)
	b, err := c.open(ctx, name)
	if err != nil {
		return err
	}
	told := false
	c.run(name, func(ctx context.Context) error {
		return resolver.Run(ctx, resolver.Config{
			Bus: b, Name: name, Logger: c.opts.Logger,
			Ready: func(is bool) {
				if is && !told {
					told = true
					ready <- name
				}
			},
		})
	})
	return nil
}

// await waits until every resolver has been ready once.
func (c *Cluster) await(ctx context.Context, ready <-chan string) error {
	for range c.opts.Resolvers {
		select {
		case <-ready:
		case err := <-c.failed:
			return err
		case <-ctx.Done():
			return fmt.Errorf("cluster: the resolvers were not ready in time: %w", ctx.Err())
		}
	}
	return nil
}
