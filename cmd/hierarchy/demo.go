package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/cluster"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/stress"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
)

func (a *app) demo() *cobra.Command {
	w := workload{profile: "demo"}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See the whole system work: a workload, a summary, every invariant checked; under 30 s",
		Long: `Starts a NATS server and every role in this process, in a directory that is removed
afterwards, puts the workload of the seed documents on it and checks the whole
history. Exits with 0 only if every invariant holds and every operation is
accounted for.`,
		Example: `  hierarchy demo
  hierarchy demo --duration 5s --seed 7
  hierarchy demo -o json > report.json`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.embedded(cmd.Context(), 2, func(ctx context.Context, c *cluster.Cluster) error {
				fmt.Fprintf(a.errs, "embedded NATS %s · %s · no socket, nothing is kept\n", versions().NATS, c.Roles())
				return a.runLoad(ctx, c.Bus(), &w)
			})
		},
	}
	w.flags(cmd)
	return cmd
}

func (a *app) stress() *cobra.Command {
	var w workload
	executors := 2
	cmd := &cobra.Command{
		Use:   "stress",
		Short: "Put a workload on a system, account for every operation and check the history",
		Long: `Without --server, --context or NATS_URL the system is started in this process, as
demo does. On a server of your own the whole journal is checked, with whatever
else is in it, and the entities of the run stay there.`,
		Example: `  hierarchy stress
  hierarchy stress --profile seed --duration 20s --json report.json
  hierarchy stress --server nats://127.0.0.1:4222`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.conn.Given() {
				return a.withBus(cmd.Context(), func(ctx context.Context, b *bus.Bus) error { return a.runLoad(ctx, b, &w) })
			}
			return a.embedded(cmd.Context(), executors, func(ctx context.Context, c *cluster.Cluster) error {
				fmt.Fprintf(a.errs, "embedded NATS %s · %s\n", versions().NATS, c.Roles())
				return a.runLoad(ctx, c.Bus(), &w)
			})
		},
	}
	w.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&w.profile, "profile", "seed", "workload: seed (60 s) or demo (15 s)")
	f.IntVar(&executors, "executors", executors, "executors of the embedded system")
	return cmd
}

// workload says what to put on a system.
type workload struct {
	profile  string
	duration time.Duration
	rate     float64
	targets  int
	seed     uint64
	file     string
}

func (w *workload) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&w.duration, "duration", 0, "of the submissions (default: the profile's)")
	f.Float64Var(&w.rate, "rate", 0, "operations a second (default: the profile's)")
	f.IntVar(&w.targets, "targets", 0, "entities that are competed for (default: the profile's)")
	f.Uint64Var(&w.seed, "seed", 1, "of the random choices; the same seed submits the same operations")
	f.StringVar(&w.file, "json", "", "also write the report into this file")
}

func (w *workload) choose() (stress.Profile, error) {
	p, ok := stress.ByName(w.profile)
	if !ok {
		return p, usagef("there is no profile %q; there are seed and demo", w.profile)
	}
	if w.duration != 0 {
		p.Duration = w.duration
	}
	if w.rate != 0 {
		p.Rate = w.rate
	}
	if w.targets != 0 {
		p.Targets = w.targets
	}
	if p.Duration < 0 || p.Rate <= 0 || p.Targets < 2 {
		return p, usagef("a workload needs a duration, a rate above 0 and at least 2 targets")
	}
	return p, nil
}

// loadReport is what demo and stress write as JSON.
type loadReport struct {
	*stress.Report
	Verify *verify.Result `json:"verify"`
}

// runLoad puts the workload on a system and judges it.
func (a *app) runLoad(ctx context.Context, b *bus.Bus, w *workload) error {
	p, err := w.choose()
	if err != nil {
		return err
	}
	fmt.Fprintf(a.errs, "%d entities · %.0f operations/s in bursts of %d to %d for %s · seed %d\n",
		p.Targets, p.Rate, p.BurstMin, p.BurstMax, p.Duration, w.seed)
	bar := newProgress(a.errs)
	rep, err := stress.Run(ctx, stress.Options{Bus: b, Profile: p, Seed: w.seed, Progress: func(s stress.Progress) { showLoad(bar, s) }})
	bar.end()
	if err != nil {
		return err
	}
	bar = newProgress(a.errs)
	res, err := verify.Run(ctx, b, verify.Options{Quiescent: true, Own: rep.Owns, Progress: func(read, last uint64) {
		bar.show(float64(read)/float64(last), fmt.Sprintf("checking entry %d of %d", read, last))
	}})
	bar.end()
	if err != nil {
		return err
	}
	report := loadReport{rep, res}
	if w.file != "" {
		if err := writeFile(w.file, report); err != nil {
			return err
		}
	}
	if err := a.print(report, report.show, rep.Run); err != nil {
		return err
	}
	return report.verdict()
}

func showLoad(bar *progress, s stress.Progress) {
	text := fmt.Sprintf("%4.1f s  %d submitted  %d succeeded  %d rejected  %d cancelled  %d open",
		s.Elapsed.Seconds(), s.Expected, s.Succeeded, s.Rejected, s.Cancelled, s.Open())
	if s.Draining {
		text += "  (waiting for the last ones)"
	}
	bar.show(s.Elapsed.Seconds()/s.Total.Seconds(), text)
}

// verdict is nil only if everything is as it has to be. A run in which too
// little succeeded proves nothing and fails as well.
func (r loadReport) verdict() error {
	switch {
	case !r.Verify.OK():
		return exitWith(daemon.ExitOther, "%d violations of the invariants", r.Verify.Total)
	case !r.accounted():
		return exitWith(daemon.ExitOther, "%d of %d operations are not accounted for, %d are open", r.Unaccounted, r.Submitted, r.Total.Open)
	case len(r.Verify.Lagging) > 0:
		return exitWith(daemon.ExitOther, "the views of the partitions %v lag behind the journal", r.Verify.Lagging)
	case r.Total.Succeeded*20 < r.Submitted:
		return exitWith(daemon.ExitOther, "only %d of %d operations succeeded: too little to prove anything", r.Total.Succeeded, r.Submitted)
	}
	return nil
}

func (r loadReport) accounted() bool { return r.Complete() && r.Total.Open == 0 }

// embedded runs f on a whole system in this process, with a store that is
// removed afterwards.
func (a *app) embedded(ctx context.Context, executors int, f func(context.Context, *cluster.Cluster) error) (err error) {
	dir, err := os.MkdirTemp("", "hierarchy-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c, err := cluster.Start(ctx, cluster.Options{StoreDir: dir, Port: cluster.NoListener, Executors: executors, Logger: a.logger(), Version: version})
	if err != nil {
		return err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		err = errors.Join(err, c.Stop(stop))
	}()
	work, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go frugal(work)
	go func() {
		select {
		case failure := <-c.Failed():
			cancel(failure)
		case <-work.Done():
		}
	}()
	if err = f(work, c); err != nil && work.Err() != nil && ctx.Err() == nil {
		return context.Cause(work)
	}
	return err
}

// writeFile writes v as indented JSON.
func writeFile(name string, v any) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(writeJSON(f, v, "  "), f.Close())
}
