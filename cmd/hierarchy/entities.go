package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/internal/observer"
)

func (a *app) get() *cobra.Command {
	return &cobra.Command{
		Use:   "get @ADDR",
		Short: "Read an entity, one of its versions, or a value inside it",
		Example: `  hierarchy get @user-42                 # the head
  hierarchy get @user-42.address.city    # a value
  hierarchy get @user-42~3 -o json       # version 3, the same bytes for ever
  hierarchy get @user-42~3.counter`,
		Args: exactly(1, "one address"),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := observer.ParseAddr(args[0])
			if err != nil {
				return err
			}
			return a.ask(cmd.Context(), func(ctx context.Context, b *bus.Bus) error { return a.read(ctx, b, addr) })
		},
	}
}

func (a *app) read(ctx context.Context, b *bus.Bus, addr entity.Addr) error {
	if len(addr.Path) > 0 || a.output == asJSON || a.output == asLines {
		v, err := observer.Value(ctx, b, addr)
		if err != nil {
			return err
		}
		return a.print(v, func(w io.Writer) { fmt.Fprintf(w, "%s\n", v) }, addr.ID)
	}
	e, err := observer.EntityAt(ctx, b, addr)
	if err != nil {
		return err
	}
	return a.print(e, func(w io.Writer) { showEntity(w, e) }, e.ID)
}

func showEntity(w io.Writer, e *entity.Entity) {
	fmt.Fprintf(w, "%s  version %d  revision %d", e.ID, e.Version, e.Revision)
	if e.Deleted {
		fmt.Fprint(w, "  DELETED")
	}
	fmt.Fprintln(w)
	switch {
	case e.ParentID != "":
		fmt.Fprintf(w, "  child of %s, root %s\n", e.ParentID, e.RootID)
	case len(e.Children) > 0:
		fmt.Fprintf(w, "  root of %s\n", strings.Join(e.Children, ", "))
	}
	fmt.Fprintf(w, "  modified %s by %s\n\n", e.LastModified.Local().Format(timeLayout), e.LastOpID)
	g := grid{header: []string{"FIELD", "VALUE", "BORROWED FROM"}}
	for _, name := range sortedKeys(e.Fields) {
		from := ""
		if s := e.AttributeSource[name]; s != nil {
			from = fmt.Sprintf("@%s~%d.%s", s.EntityID, s.Version, s.Field)
		}
		g.add(name, string(e.Fields[name]), from)
	}
	g.write(w)
}

func (a *app) history() *cobra.Command {
	limit := 0
	cmd := &cobra.Command{
		Use:   "history ENTITY",
		Short: "List every change of an entity, the oldest first, with who made it",
		Example: `  hierarchy history user-42
  hierarchy history user-42 --limit 20
  hierarchy history user-42 -o jsonl`,
		Args: exactly(1, "the id of an entity"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withBus(cmd.Context(), func(ctx context.Context, b *bus.Bus) error {
				h, err := observer.History(ctx, b, strings.TrimPrefix(args[0], "@"))
				if err != nil {
					return err
				}
				if limit > 0 && len(h) > limit {
					h = h[len(h)-limit:]
				}
				return a.tellHistory(h)
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 0, "only the last so many; 0: all")
	return cmd
}

func (a *app) tellHistory(h []observer.HistoryEntry) error {
	if a.output == asLines {
		for i := range h {
			if err := writeJSON(a.out, &h[i], ""); err != nil {
				return err
			}
		}
		return nil
	}
	var ids []string
	for i := range h {
		ids = append(ids, h[i].OpID)
	}
	return a.print(h, func(w io.Writer) {
		g := grid{header: []string{"REV", "VERSION", "AT", "CHANGE", "OPERATION", "TYPE", "BY", "WHAT"}, right: []int{0, 1}}
		for i := range h {
			e := &h[i]
			by := e.Submitter
			if e.CausedBy != "" {
				by = "because of " + e.CausedBy
			}
			g.add(number(e.Revision), number(e.Version), e.At.Local().Format(timeLayout), string(e.Kind), e.OpID, e.OpType, by, what(e))
		}
		g.write(w)
	}, ids...)
}

// what tells the fields that a change set, and its note.
func what(e *observer.HistoryEntry) string {
	var parts []string
	if e.Change != nil {
		for _, name := range sortedKeys(e.Change.Set) {
			parts = append(parts, name+"="+short(e.Change.Set[name]))
		}
	}
	if e.Note != "" && len(parts) == 0 {
		parts = append(parts, e.Note)
	}
	return strings.Join(parts, " ")
}

// short cuts a value for a table.
func short(v json.RawMessage) string {
	const most = 40
	if r := []rune(string(v)); len(r) > most {
		return string(r[:most]) + "…"
	}
	return string(v)
}
