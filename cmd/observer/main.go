// Command observer follows the journal: metrics, health, explanations and
// history. Nothing else depends on it.
package main

import (
	"context"
	"os"

	"github.com/spf13/pflag"

	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/observer"
)

// version is set by the linker.
var version string

func main() {
	var console bool
	daemon.Main(daemon.Role{
		Name: "observer", Short: "Follows the journal: metrics, health, explanations and history.", Version: version,
		Example:    "  observer --server nats://127.0.0.1:4222 --http 127.0.0.1:8080\n  observer --console",
		OwnService: true,
		Flags: func(f *pflag.FlagSet) {
			f.BoolVar(&console, "console", false, "print the live feed of verdicts on stdout")
		},
		Run: func(ctx context.Context, p *daemon.Process) error {
			cfg := observer.Config{
				Bus: p.Bus, Name: p.Name, Version: p.Version, Logger: p.Logger, Metrics: p.Metrics.Observer(), Ready: p.SetReady,
			}
			if console {
				cfg.Console = os.Stdout
			}
			o, err := observer.New(cfg)
			if err != nil {
				return err
			}
			p.Handle("GET /health", o.HealthHandler())
			p.Handle("GET /stats", o.StatsHandler())
			p.Handle("GET /trace", o.TraceHandler())
			return o.Run(ctx)
		},
	})
}
