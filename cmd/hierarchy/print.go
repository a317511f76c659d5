package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/mattn/go-isatty"
)

// The forms of output, chosen by -o.
const (
	asTable = "table"
	asJSON  = "json"
	asLines = "jsonl"
	asName  = "name"
)

// grid is a table of text. Columns named in right are numbers.
type grid struct {
	header []string
	right  []int // columns, from 0
	rows   [][]string
}

func (g *grid) add(cells ...string) { g.rows = append(g.rows, cells) }

// terminal reports whether w is one.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// write draws the grid: with lines on a terminal, in plain columns elsewhere,
// where programs read it.
func (g *grid) write(w io.Writer) {
	if !terminal(w) {
		g.plain(w)
		return
	}
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleRounded)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(row(g.header))
	for _, cells := range g.rows {
		t.AppendRow(row(cells))
	}
	var columns []table.ColumnConfig
	for _, i := range g.right {
		columns = append(columns, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	t.Render()
}

func row(cells []string) table.Row {
	r := make(table.Row, len(cells))
	for i, c := range cells {
		r[i] = c
	}
	return r
}

// plain writes columns two blanks apart. An empty cell is a dash, so that the
// number of columns is the same in every line.
func (g *grid) plain(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(g.header, "\t"))
	for _, cells := range g.rows {
		for i, c := range cells {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			if c == "" {
				c = "-"
			}
			fmt.Fprint(t, strings.ReplaceAll(c, "\t", " "))
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush() // errors of the writer underneath show at its next use
}

// print writes data in the form that -o asks for. show draws it for a person;
// names are what -o name prints, one a line.
func (a *app) print(v any, show func(io.Writer), names ...string) error {
	switch a.output {
	case asJSON:
		return writeJSON(a.out, v, "  ")
	case asLines:
		return writeJSON(a.out, v, "")
	case asName:
		for _, n := range names {
			fmt.Fprintln(a.out, n)
		}
	default:
		show(a.out)
	}
	return nil
}

// writeJSON writes v and a newline, without HTML escaping.
func writeJSON(w io.Writer, v any, indent string) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	return e.Encode(v)
}

// tick is the mark of something that holds, or not.
func tick(ok bool) string {
	if ok {
		return "✓"
	}
	return "✗"
}
