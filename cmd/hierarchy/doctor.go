package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/doctor"
)

func (a *app) doctor() *cobra.Command {
	o := doctor.Options{Version: version}
	strict := false
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at the server and the roles, and say which promises hold",
		Long: `Asks the server, every role and the monitoring ports it is told, changes nothing,
and says what is wrong, what to do about it, and which of the promises hold on
this system. The exit code is 1 if anything is bad; with --strict also if there
is a warning, or something that nobody can tell.

How often a server syncs its files is only told by its monitoring port. Without
--monitor port 8222 of the server is tried.`,
		Example: `  hierarchy doctor
  hierarchy doctor --monitor http://nats-1:8222 --monitor http://nats-2:8222 --monitor http://nats-3:8222
  hierarchy doctor --strict -o json`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, b *bus.Bus) error {
				f, err := doctor.Look(ctx, b, o)
				if err != nil {
					return err
				}
				r := doctor.Judge(f)
				if err := a.print(r, func(w io.Writer) { showReport(w, r) }, badChecks(r)...); err != nil {
					return err
				}
				if r.Level == doctor.Bad || strict && r.Level != doctor.OK {
					return silently(daemon.ExitOther)
				}
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.Monitors, "monitor", nil, "monitoring port of a server, such as http://127.0.0.1:8222; may be repeated")
	f.BoolVar(&o.NoMonitor, "no-monitor", false, "leave monitoring ports alone")
	f.BoolVar(&strict, "strict", false, "a warning is enough for exit code 1")
	return cmd
}

// marks are the signs of the levels.
var marks = map[doctor.Level]string{doctor.OK: "✓", doctor.Unknown: "?", doctor.Warning: "!", doctor.Bad: "✗"}

func showReport(w io.Writer, r *doctor.Report) {
	for i := range r.Findings {
		f := &r.Findings[i]
		fmt.Fprintf(w, "%s %-10s  %s\n", marks[f.Level], f.Check, f.Text)
		if f.Hint != "" {
			fmt.Fprintf(w, "  %-10s  → %s\n", "", f.Hint)
		}
	}
	fmt.Fprint(w, "\nPromises\n")
	for i := range r.Promises {
		p := &r.Promises[i]
		fmt.Fprintf(w, "%s %d %s: %s\n", marks[p.Level], p.Number, p.Promise, p.Text)
	}
}

// badChecks names the checks that are not all right, each once.
func badChecks(r *doctor.Report) []string {
	var names []string
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Level != doctor.OK && (len(names) == 0 || names[len(names)-1] != f.Check) {
			names = append(names, f.Check)
		}
	}
	return names
}
