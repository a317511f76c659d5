package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/cluster"
)

// devOptions are the flags of dev.
type devOptions struct {
	store     string
	host      string
	port      int
	http      string
	executors int
	resolvers int
	sync      bool
	urlFile   string
	drain     time.Duration
}

func (a *app) dev() *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole system in this process, until Ctrl-C",
		Long: `Starts a NATS server on loopback without a password, and every role. Without
--store everything is gone when it ends.`,
		Example: `  hierarchy dev
  hierarchy dev --store ./data            # keep everything across restarts
  hierarchy dev --port 0 --url-file url   # any free port; the address goes into a file`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runDev(cmd.Context(), &o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.store, "store", "", "directory that keeps everything; empty: a temporary one")
	f.StringVar(&o.host, "host", "127.0.0.1", "address to listen on; the server asks nobody for a password")
	f.IntVar(&o.port, "port", 4222, "port of the NATS server; 0 or -1 picks a free one")
	f.StringVar(&o.http, "http", "127.0.0.1:8080", "address of metrics and health; port 0 picks a free one, empty: none")
	f.IntVar(&o.executors, "executors", 2, "how many executors")
	f.IntVar(&o.resolvers, "resolvers", 1, "how many resolvers")
	f.BoolVar(&o.sync, "sync-always", false, "fsync every write before it is acknowledged")
	f.StringVar(&o.urlFile, "url-file", "", "write the server's URL into this file once everything is ready")
	f.DurationVar(&o.drain, "drain-timeout", 10*time.Second, "how long to finish what is under way after a signal")
	return cmd
}

// check refuses addresses that no machine has.
func (o *devOptions) check(ctx context.Context) error {
	if o.port < -1 || o.port > math.MaxUint16 {
		return usagef("--port %d: a port is 1 to %d; 0 or -1 picks a free one", o.port, math.MaxUint16)
	}
	if o.http == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(o.http)
	if err == nil {
		_, err = net.DefaultResolver.LookupPort(ctx, "tcp", port)
	}
	if err != nil {
		return usagef("--http %s is not HOST:PORT, such as 127.0.0.1:8080: %w", o.http, err)
	}
	return nil
}

func (a *app) runDev(ctx context.Context, o *devOptions) (err error) {
	if err := o.check(ctx); err != nil {
		return err
	}
	store := o.store
	if store == "" {
		if store, err = os.MkdirTemp("", "hierarchy-dev-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(store)) }()
	}
	go frugal(ctx)
	began := time.Now()
	c, err := cluster.Start(ctx, cluster.Options{
		StoreDir: store, Host: o.host, Port: max(o.port, 0), HTTP: o.http,
		Executors: o.executors, Resolvers: o.resolvers, SyncAlways: o.sync, Logger: a.logger(), Version: version,
	})
	if err != nil {
		return listenHint(err)
	}
	a.banner(a.errs, c, o, time.Since(began))
	if o.urlFile != "" {
		err = writeWhole(o.urlFile, c.ClientURL()+"\n")
	}
	if err == nil {
		err = a.serve(ctx, c)
	}
	fmt.Fprintln(a.errs, "stopping: what is under way is being finished")
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.drain)
	defer cancel()
	return errors.Join(err, c.Stop(stop))
}

// listenHint says what to do where an address cannot be listened on. It names both
// ways out: where another dev has the one port, it has the other one, too.
func listenHint(err error) error {
	var listen *net.OpError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return withHint(err, "another program listens there; `--port 0` takes any free port for NATS, and `--http ''` serves no pages")
	case errors.As(err, &listen) && listen.Op == "listen":
		return withHint(err, "--host and --port say where NATS listens, --http where the pages are")
	}
	return err
}

// serve waits for the signal that ends a good run.
func (a *app) serve(ctx context.Context, c *cluster.Cluster) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-c.Failed():
		return err
	}
}

// banner says where everything is, in five lines, and what to try.
func (a *app) banner(w io.Writer, c *cluster.Cluster, o *devOptions, took time.Duration) {
	url := c.ClientURL()
	at := ""
	if url != "nats://127.0.0.1:4222" {
		at = " -s " + url
	}
	web := "none (--http 127.0.0.1:8080)"
	metrics := "none"
	if h := c.HTTPAddr(); h != "" {
		web, metrics = "http://"+h, "http://"+h+"/metrics"
	}
	store := o.store
	if store == "" {
		store = "temporary: everything is lost on exit (keep it: --store ./data)"
	}
	fmt.Fprintf(w, "%s\n\n", versions())
	fmt.Fprintf(w, "  NATS     %s\n", url)
	fmt.Fprintf(w, "  HTTP     %s\n", web)
	fmt.Fprintf(w, "  Metrics  %s\n", metrics)
	fmt.Fprintf(w, "  Store    %s\n", store)
	fmt.Fprintf(w, "  Roles    %s · ready in %.1f s\n", c.Roles(), took.Seconds())
	fmt.Fprintf(w, `
Try, in another terminal:
  hierarchy%[1]s submit create_entity user-42 --set counter=0 --wait
  hierarchy%[1]s submit modify_field user-42 --set counter=1 --priority high --wait
  hierarchy%[1]s get @user-42
  hierarchy%[1]s watch
  nats%[1]s pub -J ops.submit.user-42 '{"op_type":"version_entity"}'
  nats%[1]s micro ls

`, at)
}

// writeWhole writes a file that appears with all its content or not at all, so
// that who waits for it never reads half of it.
func writeWhole(name, content string) error {
	tmp := name + ".part"
	if err := os.WriteFile(tmp, []byte(content), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}
