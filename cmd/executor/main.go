// Command executor runs the attempts that resolvers grant. Start as many as
// there is work for.
package main

import (
	"context"
	"time"

	"github.com/spf13/pflag"

	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/executor"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// version is set by the linker.
var version string

func main() {
	var (
		pool        string
		concurrency int
		hold        time.Duration
	)
	daemon.Main(daemon.Role{
		Name: "executor", Short: "Runs the attempts that the resolvers grant.", Version: version,
		Example: "  executor --server nats://127.0.0.1:4222\n  executor --concurrency 16 --http :8080\n  executor --pool gpu",
		Flags: func(f *pflag.FlagSet) {
			f.StringVar(&pool, "pool", op.DefaultPool, "pool of executors to be one of; the policy says which types it serves")
			f.IntVar(&concurrency, "concurrency", executor.DefaultConcurrency, "handlers that may run at once")
			f.DurationVar(&hold, "hold", 0, "wait this long in every attempt, to try out leases and faults")
		},
		Run: func(ctx context.Context, p *daemon.Process) error {
			stats := &executor.Stats{}
			var before func(op.Work) error
			if hold > 0 {
				before = func(op.Work) error { <-time.After(hold); return nil }
			}
			p.Service.Describe(func() any { return stats.Read() })
			return executor.Run(ctx, executor.Config{
				Bus: p.Bus, Name: p.Name, Logger: p.Logger, Pool: pool, Concurrency: concurrency, DrainTimeout: p.DrainTimeout,
				Ready: p.SetReady, Metrics: p.Metrics.Executor(), Stats: stats, Before: before,
			})
		},
	})
}
