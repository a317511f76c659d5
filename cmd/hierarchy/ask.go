package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/observer"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use:   "status OP",
		Short: "Say where an operation is in its life",
		Example: `  hierarchy status 01a1ff7c-3943-7969-a04b-e04374343509
  hierarchy status 01a1ff7c-3943-7969-a04b-e04374343509 -o json`,
		Args: exactly(1, "the id of an operation"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, b *bus.Bus) error {
				r, err := observer.Status(ctx, b, args[0])
				if err != nil {
					return err
				}
				return a.print(r, func(w io.Writer) { showRecord(w, &r) }, r.OpID)
			})
		},
	}
}

// showRecord prints a record as pairs, without those that say nothing.
func showRecord(w io.Writer, r *op.Record) {
	g := grid{header: []string{"FIELD", "VALUE"}}
	add := func(name, value string) {
		if value != "" && value != "0" {
			g.add(name, value)
		}
	}
	add("op_id", r.OpID)
	add("op_type", r.OpType)
	add("target", r.Target)
	add("status", string(r.Status))
	if r.Reason != "" {
		add("reason", fmt.Sprintf("%s (%s)", r.Reason, r.Reason.Code()))
	}
	add("priority", priority(r.Priority))
	if r.Asked != 0 {
		add("asked for", priority(r.Asked))
	}
	if r.Effective != 0 {
		add("effective priority", priority(r.Effective))
	}
	add("winner", r.Winner)
	add("parent", r.Parent)
	add("caused by", r.CausedBy)
	add("submitter", r.Submitter)
	add("retry of", r.RetryOf)
	add("attempt", number(r.Attempt))
	add("retries", fmt.Sprintf("%d of %d", r.RetryCount, r.MaxRetries))
	add("preempted", number(r.Preemptions))
	for _, at := range []struct {
		name string
		when *time.Time
	}{{"comes back", r.RetryAt}, {"cancelled from", r.CancelAt}} {
		if at.when != nil {
			add(at.name, at.when.Local().Format(timeLayout))
		}
	}
	if r.RetryAfterMS > 0 {
		add("try again after", (time.Duration(r.RetryAfterMS) * time.Millisecond).String())
	}
	if r.Error != nil {
		add("error", r.Error.Message)
	}
	add("version", number(r.Version))
	add("revision", number(r.Revision))
	add("accepted", r.AcceptedAt.Local().Format(timeLayout))
	add("updated", r.UpdatedAt.Local().Format(timeLayout))
	add("partition", fmt.Sprintf("%d, step %d", r.Partition, r.Step))
	g.write(w)
}

const timeLayout = "2006-01-02 15:04:05.000"

func (a *app) explain() *cobra.Command {
	return &cobra.Command{
		Use:   "explain OP",
		Short: "Say why an operation is where it is: contenders, rule, winner",
		Example: `  hierarchy explain 01a1ff7c-3943-7969-a04b-e04374343509
  hierarchy explain 01a1ff7c-3943-7969-a04b-e04374343509 -o json`,
		Args: exactly(1, "the id of an operation"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, b *bus.Bus) error {
				x, err := observer.Explain(ctx, b, args[0])
				if err != nil {
					return err
				}
				return a.print(x, func(w io.Writer) { showExplanation(w, x) }, x.Record.OpID)
			})
		},
	}
}

func showExplanation(w io.Writer, x *observer.Explanation) {
	r := &x.Record
	fmt.Fprintf(w, "Operation %s  %s", r.OpID, r.Status)
	if r.Reason != "" {
		fmt.Fprintf(w, "  %s  %s", r.Reason, r.Reason.Code())
	}
	fmt.Fprintf(w, "\n  %s on %s, accepted %s\n\n", r.OpType, r.Target, r.AcceptedAt.Local().Format(timeLayout))
	for _, s := range x.Text {
		fmt.Fprintln(w, s)
	}
	if len(x.Contenders) > 0 {
		fmt.Fprintln(w)
		contenders(x).write(w)
		if more := x.Decision.Total - len(x.Contenders); more > 0 {
			fmt.Fprintf(w, "and %d more that stay staged\n", more)
		}
	}
	fmt.Fprintf(w, "\nNext  hierarchy history %s", r.Target)
	if r.Winner != "" {
		fmt.Fprintf(w, "     hierarchy explain %s", r.Winner)
	}
	fmt.Fprintln(w)
}

func contenders(x *observer.Explanation) *grid {
	g := &grid{header: []string{"CONTENDER", "TYPE", "OWN", "EFFECTIVE", "INHERITED FROM", "PLACE", "VERDICT", ""}}
	for i := range x.Contenders {
		c := &x.Contenders[i]
		verdict := string(c.Verdict)
		if c.Reason != "" {
			verdict += " " + string(c.Reason)
		}
		if c.Status != "" {
			verdict += " → " + string(c.Status)
		}
		mark := ""
		if c.This {
			mark = "← this one"
		}
		own, effective := priority(c.Priority), priority(c.Effective)
		if c.Asked > 0 {
			own += fmt.Sprintf(", asked %d", c.Asked)
		}
		if c.Boost > 0 {
			effective += fmt.Sprintf(", %d for waiting", c.Boost)
		}
		g.add(c.OpID, c.OpType, own, effective, inherited(&c.Inheritance),
			fmt.Sprintf("%d.%d", c.Seq, c.Index), verdict, mark)
	}
	return g
}

// inherited writes the path to the ancestor whose priority counts, and what
// ended the search.
func inherited(h *op.Inheritance) string {
	s := strings.Join(h.Path, " → ")
	switch {
	case h.Cycle:
		s += " (circle)"
	case h.Truncated:
		s += " (cut off)"
	case h.UnknownParent != "":
		s += " (unknown: " + h.UnknownParent + ")"
	}
	return strings.TrimSpace(s)
}
