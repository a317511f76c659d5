package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/observer"
)

func (a *app) export() *cobra.Command {
	return &cobra.Command{
		Use:   "export entities|operations|journal",
		Short: "Print everything of one kind, one JSON object a line",
		Example: `  hierarchy export entities
  hierarchy export operations
  hierarchy export journal > journal.ndjson`,
		Args:      exactly(1, "entities, operations or journal"),
		ValidArgs: []string{"entities", "operations", "journal"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withBus(cmd.Context(), func(ctx context.Context, b *bus.Bus) error {
				out := bufio.NewWriter(a.out)
				var err error
				switch args[0] {
				case "entities":
					err = exportView(out, b.Entities(ctx))
				case "operations":
					err = exportView(out, b.Records(ctx))
				case "journal":
					err = exportJournal(ctx, out, b)
				default:
					return usagef("there are entities, operations and journal, and no %q", args[0])
				}
				return errors.Join(err, ctx.Err(), out.Flush())
			})
		},
	}
}

func exportView(w io.Writer, values iter.Seq2[bus.KV, error]) error {
	for v, err := range values {
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s\n", v.Value); err != nil {
			return err
		}
	}
	return nil
}

// exportJournal prints each step with its sequence and the time at which the
// server stored it, which are not part of the step.
func exportJournal(ctx context.Context, w io.Writer, b *bus.Bus) error {
	for e, err := range b.JournalRead(ctx, -1, 0) {
		if err != nil {
			return err
		}
		err := writeJSON(w, struct {
			Seq    uint64          `json:"seq"`
			Stored string          `json:"stored"`
			Step   json.RawMessage `json:"step"`
		}{e.Seq, e.Time.UTC().Format("2006-01-02T15:04:05.000000000Z"), e.Data}, "")
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) lineage() *cobra.Command {
	return &cobra.Command{
		Use:   "lineage ENTITY",
		Short: "Show an entity's place in its tree, and where its values were borrowed",
		Example: `  hierarchy lineage user-42
  hierarchy lineage user-42 -o json`,
		Args: exactly(1, "the id of an entity"),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := observer.ParseAddr(args[0])
			if err != nil {
				return err
			}
			return a.ask(cmd.Context(), func(ctx context.Context, b *bus.Bus) error {
				t, err := observer.Lineage(ctx, b, addr.ID)
				if err != nil {
					return err
				}
				return a.print(t, func(w io.Writer) { showLineage(w, t) }, t.Entity.ID)
			})
		},
	}
}

// showLineage draws the tree from the root down to everything below the entity.
func showLineage(w io.Writer, t *observer.LineageTree) {
	indent := ""
	for i := len(t.Ancestors) - 1; i >= 0; i-- {
		fmt.Fprintln(w, indent+nodeLine(&t.Ancestors[i]))
		indent += "  "
	}
	showNode(w, &t.Entity, indent, "  ← this one")
	if t.Truncated {
		fmt.Fprintln(w, "… there is more")
	}
	for _, field := range sortedKeys(t.Borrowed) {
		s := t.Borrowed[field]
		fmt.Fprintf(w, "%s is borrowed from @%s~%d.%s\n", field, s.EntityID, s.Version, s.Field)
	}
}

func showNode(w io.Writer, n *observer.LineageNode, indent, mark string) {
	fmt.Fprintln(w, indent+nodeLine(n)+mark)
	for i := range n.Children {
		showNode(w, &n.Children[i], indent+"  ", "")
	}
}

func nodeLine(n *observer.LineageNode) string {
	switch {
	case n.Missing:
		return n.ID + " (does not exist)"
	case n.Deleted:
		return fmt.Sprintf("%s v%d (deleted)", n.ID, n.Version)
	}
	return fmt.Sprintf("%s v%d r%d", n.ID, n.Version, n.Revision)
}
