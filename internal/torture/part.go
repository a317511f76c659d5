package torture

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/executor"
	"github.com/hierarchy-bus/hierarchy/internal/failpoint"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
	"github.com/hierarchy-bus/hierarchy/internal/observer"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
	"github.com/hierarchy-bus/hierarchy/internal/submitter"
)

// The parts that a process can play.
const (
	partResolver  = "resolver"
	partExecutor  = "executor"
	partSubmitter = "submitter"
	partObserver  = "observer"
	partOperator  = "operator"
	partSetup     = "setup"
	partServer    = "nats-server"
)

// Part plays one part as the whole process and returns its exit code: args are the
// part and its flags. It is what a torture starts. The process ends when its
// standard input does, so that nothing outlives the one who started it.
func Part(args []string) int {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "torture: which part?")
		return daemon.ExitUsage
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(daemon.ExitInterrupted)
	}()
	if err := failpoint.Enable(); err != nil {
		return told(daemon.Exit(daemon.ExitUsage, err))
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	var role daemon.Role
	switch args[0] {
	case partResolver:
		role = resolverPart()
	case partExecutor:
		role = executorPart()
	case partSubmitter:
		role = submitterPart()
	case partObserver:
		role = observerPart()
	case partOperator:
		role = operatorPart()
	case partSetup:
		return setupPart(args[1:])
	case partServer:
		return serverPart(args[1:], signals)
	default:
		fmt.Fprintf(os.Stderr, "torture: there is no part %q\n", args[0])
		return daemon.ExitUsage
	}
	streams := daemon.Streams{Args: args[1:], In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	return daemon.Execute(context.Background(), role, streams, signals, os.Exit)
}

func resolverPart() daemon.Role {
	var lease time.Duration
	var snapshots uint64
	return daemon.Role{
		Name: partResolver,
		Flags: func(f *pflag.FlagSet) {
			f.DurationVar(&lease, "lease", 0, "")
			f.Uint64Var(&snapshots, "snapshot-every", 0, "")
		},
		Run: func(ctx context.Context, p *daemon.Process) error {
			return resolver.Run(ctx, resolver.Config{
				Bus: p.Bus, Name: p.Name, Logger: p.Logger, LeaseTTL: lease, Ready: p.SetReady,
				Metrics: p.Metrics.Resolver(), SnapshotEvery: snapshots,
			})
		},
	}
}

func executorPart() daemon.Role {
	return daemon.Role{
		Name: partExecutor,
		Run: func(ctx context.Context, p *daemon.Process) error {
			return executor.Run(ctx, executor.Config{
				Bus: p.Bus, Name: p.Name, Logger: p.Logger, DrainTimeout: p.DrainTimeout,
				Ready: p.SetReady, Metrics: p.Metrics.Executor(),
			})
		},
	}
}

func submitterPart() daemon.Role {
	return daemon.Role{
		Name: partSubmitter,
		Run: func(ctx context.Context, p *daemon.Process) error {
			return submitter.Serve(ctx, submitter.ServeConfig{
				Submitter: submitter.New(submitter.Config{Bus: p.Bus, Metrics: p.Metrics.Submitter(), Logger: p.Logger}),
				Service:   p.Service, Logger: p.Logger, DrainTimeout: p.DrainTimeout, Ready: p.SetReady,
			})
		},
	}
}

func observerPart() daemon.Role {
	return daemon.Role{
		Name: partObserver, OwnService: true,
		Run: func(ctx context.Context, p *daemon.Process) error {
			o, err := observer.New(observer.Config{
				Bus: p.Bus, Name: p.Name, Version: p.Version, Logger: p.Logger, Metrics: p.Metrics.Observer(), Ready: p.SetReady,
			})
			if err != nil {
				return err
			}
			return o.Run(ctx)
		},
	}
}

// operatorPart changes the policy again and again. Now and then it writes one that
// is not valid, past every check, as a person with a bare client might.
func operatorPart() daemon.Role {
	var every time.Duration
	return daemon.Role{
		Name:  partOperator,
		Flags: func(f *pflag.FlagSet) { f.DurationVar(&every, "every", time.Second, "") },
		Run: func(ctx context.Context, p *daemon.Process) error {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for n := 0; ; n++ {
				text := policy(24*time.Hour - time.Duration(n%2)*time.Second)
				if n%3 == 2 {
					text = `{"no_such_rule":1}`
				}
				if _, err := p.Bus.PutPolicy(ctx, []byte(text)); err != nil && ctx.Err() == nil {
					p.Logger.Warn("the policy could not be put", "error", err)
				}
				select {
				case <-ctx.Done():
					_, err := p.Bus.PutPolicy(context.WithoutCancel(ctx), []byte(policy(24*time.Hour)))
					return err
				case <-tick.C:
				}
			}
		},
	}
}

// setupPart does what `hierarchy setup` does.
func setupPart(args []string) int {
	l := layout(1, bus.DefaultLayout().Partitions)
	var c daemon.Connection
	f := pflag.NewFlagSet(partSetup, pflag.ContinueOnError)
	c.Flags(f)
	f.IntVar(&l.Replicas, "replicas", l.Replicas, "")
	f.IntVar(&l.Partitions, "partitions", l.Partitions, "")
	if err := f.Parse(args); err != nil {
		return told(err)
	}
	nc, err := c.Connect()
	if err != nil {
		return told(err)
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err = bus.Setup(ctx, nc, l)
	return told(err)
}

func told(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return daemon.ExitCode(err)
}

// serverPart is a NATS server, until a signal comes.
func serverPart(args []string, signals <-chan os.Signal) int {
	o := natsd.Options{MaxStore: 64 << 30} // reservations, not use
	f := pflag.NewFlagSet(partServer, pflag.ContinueOnError)
	f.StringVar(&o.Name, "name", "", "")
	f.StringVar(&o.StoreDir, "store", "", "")
	f.IntVar(&o.Port, "port", 0, "")
	f.IntVar(&o.Monitor, "monitor", 0, "")
	f.IntVar(&o.ClusterPort, "cluster-port", 0, "")
	f.StringSliceVar(&o.Routes, "routes", nil, "")
	f.BoolVar(&o.SyncAlways, "sync", false, "")
	if err := f.Parse(args); err != nil {
		return told(err)
	}
	o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	s, err := natsd.Start(o)
	if err != nil {
		return told(err)
	}
	<-signals
	s.Stop()
	return daemon.ExitDone
}
