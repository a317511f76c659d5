// Command submitter takes operations over NATS and makes them durable. With -f it
// submits a file of operations, one JSON object a line, and ends.
package main

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/submitter"
)

// version is set by the linker.
var version string

func main() {
	var load submitter.Load
	daemon.Main(daemon.Role{
		Name: "submitter", Short: "Takes operations over NATS and makes them durable.", Version: version,
		Example: "  submitter --server nats://127.0.0.1:4222\n  submitter -f operations.ndjson\n  generate | submitter -f - --keep-going",
		Flags: func(f *pflag.FlagSet) {
			f.StringVarP(&load.File, "file", "f", "", "submit a file of operations, one JSON object a line, and end; - is the standard input")
			f.BoolVar(&load.KeepGoing, "keep-going", false, "with -f: report bad lines and go on; the default is to stop at the first")
		},
		Job: func() bool { return load.File != "" },
		Run: func(ctx context.Context, p *daemon.Process) error {
			s := submitter.New(submitter.Config{Bus: p.Bus, Metrics: p.Metrics.Submitter(), Logger: p.Logger})
			if load.File != "" {
				load.In, load.Out, load.Logger = p.In, p.Out, p.Logger
				return load.Run(ctx, s)
			}
			return submitter.Serve(ctx, submitter.ServeConfig{
				Submitter: s, Service: p.Service, Logger: p.Logger, DrainTimeout: p.DrainTimeout, Ready: p.SetReady,
			})
		},
	})
}
