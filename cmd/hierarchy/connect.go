package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// connection says which server to talk to and as whom.
type connection struct {
	server string
}

func (c *connection) flags(f *pflag.FlagSet) {
	f.StringVarP(&c.server, "server", "s", os.Getenv("NATS_URL"), "URLs of the NATS servers")
}

// given reports whether the user has named a server.
func (c *connection) given(cmd *cobra.Command) bool {
	return c.server != ""
}

func (a *app) connect() (*nats.Conn, error) {
	url := a.conn.server
	if url == "" {
		url = nats.DefaultURL
	}
	return nats.Connect(url, nats.Name("hierarchy"))
}

// withBus connects, runs f and disconnects.
func (a *app) withBus(ctx context.Context, f func(context.Context, *bus.Bus) error) error {
	nc, err := a.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	b, err := bus.Open(ctx, nc)
	if err != nil {
		return err
	}
	return f(ctx, b)
}

func (a *app) logger() *slog.Logger {
	if !a.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(a.errs, nil))
}
