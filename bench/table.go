package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"
)

// printTable prints the medians and the ratio of each rate to the floor's.
func printTable(w io.Writer, names []string, all []measurement) error {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleRounded)
	t.AppendHeader(table.Row{
		"case", "ops/s", "min–max", "of floor", "effects/s", "idle p50/p99 ms", "500/s p50/p99 ms",
		"stored/op", "ops/step", "CPU s/1000", "RSS MB", "succeeded",
	})
	floor := median(pick(all, "floor", func(m measurement) float64 { return m.Rate }))
	for _, name := range names {
		of := func(f func(measurement) float64) float64 { return median(pick(all, name, f)) }
		rates := pick(all, name, func(m measurement) float64 { return m.Rate })
		ratio := "–"
		if floor > 0 {
			ratio = fmt.Sprintf("%.2f", median(rates)/floor)
		}
		t.AppendRow(table.Row{
			name, fmt.Sprintf("%.0f", median(rates)), fmt.Sprintf("%.0f–%.0f", slices.Min(rates), slices.Max(rates)), ratio,
			fmt.Sprintf("%.0f", of(func(m measurement) float64 { return m.Effects })),
			fmt.Sprintf("%.2f / %.2f", of(func(m measurement) float64 { return m.IdleP50 }), of(func(m measurement) float64 { return m.IdleP99 })),
			fmt.Sprintf("%.2f / %.2f", of(func(m measurement) float64 { return m.PacedP50 }), of(func(m measurement) float64 { return m.PacedP99 })),
			fmt.Sprintf("%.1f", of(func(m measurement) float64 { return m.Stored })),
			fmt.Sprintf("%.1f", of(func(m measurement) float64 { return m.Group })),
			fmt.Sprintf("%.3f", of(func(m measurement) float64 { return m.CPU })),
			fmt.Sprintf("%.0f", of(func(m measurement) float64 { return m.RSS })),
			fmt.Sprintf("%.0f %%", 100*of(func(m measurement) float64 { return m.SucceededPart })),
		})
	}
	t.Render()
	return nil
}

func pick(all []measurement, name string, f func(measurement) float64) []float64 {
	var v []float64
	for _, m := range all {
		if m.Case == name {
			v = append(v, f(m))
		}
	}
	return v
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// quantile returns the q-th quantile of v in the unit of v; v is sorted by it.
func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[min(len(v)-1, int(q*float64(len(v))))]
}
