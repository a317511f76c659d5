// Command takeover measures how long a system decides nothing after the resolver
// that owns every partition was killed, with another one standing by:
//
//	go run ./bench/takeover                 # 100 times, about ten minutes
//	go run ./bench/takeover -rounds 10 -lease 1s
//
// It starts a server and the roles as processes of their own, puts a light load on
// them, kills the owner with SIGKILL at a random moment of its lease, submits one
// operation to every partition, and waits until each is decided. The name of each
// owner is chosen so that every partition falls to it.
//
// It exits with 1 when p99 is above -goal, when anything acknowledged was lost, or
// when the history breaks an invariant: nothing may be decided twice.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/torture"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "part" {
		os.Exit(torture.Part(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := measure(ctx, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "takeover:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// report is what -json writes.
type report struct {
	Takeovers *torture.Takeovers `json:"takeovers"`
	Goal      time.Duration      `json:"goal"`
	Torture   *torture.Report    `json:"torture"`
}

func measure(ctx context.Context, w io.Writer) (ok bool, err error) {
	var t torture.TakeoverOptions
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	o := torture.Options{Self: []string{self, "part"}}
	flag.IntVar(&t.Rounds, "rounds", 100, "kills")
	flag.DurationVar(&t.Lease, "lease", 0, "of the resolvers; 0: their default")
	flag.Float64Var(&o.Rate, "rate", 30, "operations a second beside the ones that are measured")
	flag.Uint64Var(&o.Seed, "seed", 1, "of everything that is drawn")
	flag.IntVar(&o.Partitions, "partitions", 0, "of the system; 0: as many as by default")
	goal := flag.Duration("goal", 5*time.Second, "what p99 of the slowest partition may be")
	file := flag.String("json", "", "also write the report into this file")
	quiet := flag.Bool("q", false, "do not tell each kill")
	flag.Parse()
	if !*quiet {
		o.Say = func(text string) { fmt.Fprintln(os.Stderr, text) }
	}
	k, r, err := torture.MeasureTakeovers(ctx, o, t)
	if err != nil {
		return false, err
	}
	if *file != "" {
		text, err := json.MarshalIndent(report{k, *goal, r}, "", "  ")
		if err == nil {
			err = os.WriteFile(*file, append(text, '\n'), 0o600)
		}
		if err != nil {
			return false, err
		}
	}
	show(w, k, r)
	return r.OK() && k.All.P99 <= *goal, nil
}

func show(w io.Writer, k *torture.Takeovers, r *torture.Report) {
	fmt.Fprintf(w, "%d kills of the resolver that owns everything; seconds until it is decided what was submitted afterwards\n\n", k.Rounds)
	fmt.Fprintf(w, "%-28s %7s %7s %7s %7s\n", "", "min", "p50", "p99", "max")
	for _, row := range []struct {
		name string
		s    torture.Spread
	}{{"the first partition", k.First}, {"the last partition", k.All}, {"each partition", k.Each}} {
		fmt.Fprintf(w, "%-28s %7.2f %7.2f %7.2f %7.2f\n", row.name, row.s.Min.Seconds(), row.s.P50.Seconds(), row.s.P99.Seconds(), row.s.Max.Seconds())
	}
	fmt.Fprintf(w, "\n%d submissions accepted, %d lost, %d violations of the invariants over %d steps and %d decisions\n",
		r.Balance.Accepted, r.Balance.LostCount, r.Verify.Total, r.Verify.Steps, r.Verify.Decisions)
	for _, f := range r.Failures {
		fmt.Fprintln(w, "FAILED:", f)
	}
}
