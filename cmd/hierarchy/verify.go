package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
)

func (a *app) verify() *cobra.Command {
	var o verify.Options
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check the whole history: every decision, every entity, every view",
		Long: `Reads the journal once, recomputes every step and every entity from the recorded
inputs, and compares the views with the result. Exits with 1 if anything is
wrong. It only reads, and can be run at any time.`,
		Example: `  hierarchy verify
  hierarchy verify --quiescent       # nothing is being submitted: everything must have ended
  hierarchy verify -o json`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withBus(cmd.Context(), func(ctx context.Context, b *bus.Bus) error { return a.judge(ctx, b, o) })
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Quiescent, "quiescent", false, "demand that every operation has ended")
	f.DurationVar(&o.Patience, "patience", 0, "how long to wait for what is under way (default 15s)")
	return cmd
}

func (a *app) judge(ctx context.Context, b *bus.Bus, o verify.Options) error {
	bar := newProgress(a.errs)
	o.Progress = func(read, last uint64) {
		bar.show(float64(read)/float64(last), fmt.Sprintf("entry %d of %d", read, last))
	}
	r, err := verify.Run(ctx, b, o)
	bar.end()
	if err != nil {
		return err
	}
	var names []string
	for _, v := range r.Violations {
		names = append(names, v.Invariant)
	}
	if err := a.print(r, func(w io.Writer) { showVerify(w, r) }, names...); err != nil {
		return err
	}
	if !r.OK() {
		return exitWith(daemon.ExitOther, "%d violations of the invariants", r.Total)
	}
	return nil
}

// showVerify prints every invariant with a tick.
func showVerify(w io.Writer, r *verify.Result) {
	fmt.Fprintf(w, "journal %d to %d: %d steps, %d operations = %d succeeded + %d rejected + %d cancelled + %d open\n",
		r.From, r.To, r.Steps, r.Operations, r.Succeeded, r.Rejected, r.Cancelled, r.Open)
	fmt.Fprintf(w, "%d decisions, %d attempts, %d effects on %d entities; %d heads and %d records compared\n",
		r.Decisions, r.Attempts, r.Effects, r.Entities, r.Heads, r.Records)
	if len(r.Lagging) > 0 {
		fmt.Fprintf(w, "the views of the partitions %v lag behind and were not compared\n", r.Lagging)
	}
	for _, g := range groups() {
		fmt.Fprintf(w, "\n%s: %s\n", g, groupTexts[g])
		for _, inv := range audit.Invariants() {
			if groupOf(inv) != g {
				continue
			}
			n := r.ByInvariant[inv.Name]
			line := fmt.Sprintf("%s %-28s %s", tick(n == 0), inv.Name, inv.Text)
			if n > 0 {
				line += fmt.Sprintf("  [%s]", plural(n, "violation"))
			}
			fmt.Fprintln(w, line)
		}
	}
	if !r.OK() {
		fmt.Fprintln(w)
		showViolations(w, r)
	}
}
