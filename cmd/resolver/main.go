// Command resolver decides which operations may run, and why the others may not.
// Start several: they share the partitions and take over from each other.
package main

import (
	"context"
	"time"

	"github.com/spf13/pflag"

	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
)

// version is set by the linker.
var version string

func main() {
	var lease time.Duration
	daemon.Main(daemon.Role{
		Name: "resolver", Short: "Decides which operations may run, and why the others may not.", Version: version,
		Example: "  resolver --server nats://127.0.0.1:4222\n  resolver --name resolver-a --http :8080",
		Flags: func(f *pflag.FlagSet) {
			f.DurationVar(&lease, "lease", 2*time.Second, "how long a silent resolver counts as alive, at least 1s; only liveness depends on it")
		},
		Run: func(ctx context.Context, p *daemon.Process) error {
			return resolver.Run(ctx, resolver.Config{
				Bus: p.Bus, Name: p.Name, Logger: p.Logger, LeaseTTL: lease, Ready: p.SetReady,
				Metrics: p.Metrics.Resolver(),
			})
		},
	})
}
