package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/rebuild"
)

func (a *app) rebuild() *cobra.Command {
	var o rebuild.Options
	cmd := &cobra.Command{
		Use:   "rebuild",
		Short: "Compute entities and records from the journal, and mend the views that differ",
		Long: `Reads the whole journal, computes what the buckets of the entities, the records
and the dead letters have to hold, and writes back what is missing or different.
A value of a later step is never replaced, so it can be run while resolvers work.
What the journal does not lead to is named and left alone.

With --dry-run it writes nothing and exits with 1 if there is a difference;
without, if something could not be written.`,
		Example: `  hierarchy rebuild --dry-run
  hierarchy rebuild
  hierarchy rebuild --dry-run -o json`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withBus(cmd.Context(), func(ctx context.Context, b *bus.Bus) error { return a.runRebuild(ctx, b, o) })
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.DryRun, "dry-run", false, "only list the differences")
	f.DurationVar(&o.Patience, "patience", 0, "how long to wait for what is under way (default 5s)")
	return cmd
}

func (a *app) runRebuild(ctx context.Context, b *bus.Bus, o rebuild.Options) error {
	bar := newProgress(a.errs)
	o.Progress = func(read, last uint64) {
		bar.show(float64(read)/float64(last), fmt.Sprintf("entry %d of %d", read, last))
	}
	r, err := rebuild.Run(ctx, b, o)
	bar.end()
	if err != nil {
		return err
	}
	var keys []string
	for i := range r.Differences {
		keys = append(keys, r.Differences[i].Key)
	}
	if err := a.print(r, func(w io.Writer) { showRebuild(w, r) }, keys...); err != nil {
		return err
	}
	if r.Left() > 0 {
		return silently(daemon.ExitOther)
	}
	return nil
}

func showRebuild(w io.Writer, r *rebuild.Result) {
	fmt.Fprintf(w, "journal %d to %d: %d steps; %d entities, %d records, %d dead letters\n", r.From, r.To, r.Steps, r.Entities, r.Operations, r.Dead)
	if len(r.Lagging) > 0 {
		fmt.Fprintf(w, "the partitions %v have steps that are not told yet; a resolver that is alive tells them by itself\n", r.Lagging)
	}
	if len(r.Differences) == 0 {
		fmt.Fprintln(w, "the views hold what the journal leads to")
		return
	}
	g := grid{header: []string{"VIEW", "KEY", "WHAT", "FIELDS", "ENTRY", "NOW"}, right: []int{4}}
	for i := range r.Differences {
		d := &r.Differences[i]
		if i == maxShown {
			break
		}
		now, entry := "as before", ""
		if d.Written {
			now = "mended"
		}
		if d.JournalSeq > 0 {
			entry = number(d.JournalSeq)
		}
		g.add(string(d.View), d.Key, string(d.Kind), strings.Join(d.Fields, " "), entry, now)
	}
	g.write(w)
	if more := len(r.Differences) - maxShown; more > 0 {
		fmt.Fprintf(w, "… and %d more; -o json has all\n", more)
	}
	missing, different, surplus := r.Count(rebuild.Missing), r.Count(rebuild.Different), r.Count(rebuild.Surplus)
	fmt.Fprintf(w, "%d missing, %d different, %d surplus; %d mended\n", missing, different, surplus, missing+different-r.Left())
}
