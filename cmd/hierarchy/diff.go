package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/observer"
)

func (a *app) diff() *cobra.Command {
	return &cobra.Command{
		Use:   "diff ENTITY V1 [V2]",
		Short: "Say what changed between two versions of an entity, and who did it",
		Long: `Compares two versions as they were when they were made. Without V2 the second one
is the entity as it is now.`,
		Example: `  hierarchy diff user-42 1 3
  hierarchy diff user-42 3            # what has changed since version 3
  hierarchy diff user-42 1 3 -o json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 || len(args) > 3 {
				return usagef("diff takes an entity and one or two versions; see `hierarchy diff --help`")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			id := strings.TrimPrefix(args[0], "@")
			var versions [2]uint64
			for i, text := range args[1:] {
				n, err := strconv.ParseUint(strings.TrimPrefix(text, "~"), 10, 64)
				if err != nil || n == 0 {
					return usagef("%q is not a version; they count from 1", text)
				}
				versions[i] = n
			}
			return a.withBus(cmd.Context(), func(ctx context.Context, b *bus.Bus) error {
				d, err := observer.Diff(ctx, b, id, versions[0], versions[1])
				if err != nil {
					return err
				}
				var names []string
				for i := range d.Fields {
					names = append(names, d.Fields[i].Field)
				}
				return a.print(d, func(w io.Writer) { showDiff(w, d) }, names...)
			})
		},
	}
}

func showDiff(w io.Writer, d *observer.EntityDiff) {
	fmt.Fprintf(w, "%s  version %d revision %d → version %d revision %d, %s\n", d.ID,
		d.From.Version, d.From.Revision, d.To.Version, d.To.Revision, plural(len(d.Operations), "operation"))
	if len(d.Fields) == 0 {
		fmt.Fprintln(w, "no field is different")
		return
	}
	fmt.Fprintln(w)
	g := grid{header: []string{"FIELD", "CHANGE", "FROM", "TO", "BY"}}
	for i := range d.Fields {
		f := &d.Fields[i]
		to := side(f.To)
		if s := f.Borrowed; s != nil {
			to += fmt.Sprintf(" borrowed from @%s~%d.%s", s.EntityID, s.Version, s.Field)
		}
		g.add(f.Field, string(f.Change), side(f.From), to, f.By)
	}
	g.write(w)
}

// side is one side of a difference in a table: a value, or nothing.
func side(v json.RawMessage) string {
	if v == nil {
		return ""
	}
	return short(v)
}
